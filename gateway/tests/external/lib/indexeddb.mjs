// IndexedDB for tests without a browser: as much of it as store.js needs to open, put and get.
//
// Requests of a transaction are carried out one after another, and it commits when none is left. Transactions do not wait
// for each other: a test awaits one before it begins the next. A key with a hole in it throws, as it does in a browser.

const keyOf = (row, path) => (Array.isArray(path) ? path.map((part) => row[part]) : row[path]);
const whole = (key) => {
  if ([key].flat().includes(undefined)) throw new Error('DataError: no valid key');
  return key;
};
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

class Transaction {
  #waiting = [];

  constructor(tables) {
    this.objectStore = (name) => tables.get(name).within(this);
    setImmediate(() => this.#next());
  }

  ask(work) {
    const request = {};
    this.#waiting.push(() => {
      request.result = structuredClone(work());
      request.onsuccess?.();
    });
    return request;
  }

  #next() {
    const work = this.#waiting.shift();
    if (!work) return this.oncomplete?.();
    work();
    setImmediate(() => this.#next());
  }
}

class Table {
  #path;
  #rows = new Map();
  #indexes = new Map();

  constructor(path) {
    this.#path = path;
  }

  createIndex(name, path) {
    this.#indexes.set(name, path);
  }

  within(tx) {
    const [rows, path] = [this.#rows, this.#path];
    const ask = (key, work) => {
      const text = JSON.stringify(whole(key));
      return tx.ask(() => work(text));
    };
    const of = (name, key) => [...rows.values()].filter((row) => same(keyOf(row, this.#indexes.get(name)), key));
    return {
      put: (row, copy = structuredClone(row)) => ask(keyOf(row, path), (text) => void rows.set(text, copy)),
      get: (key) => ask(key, (text) => rows.get(text)),
      delete: (key) => ask(key, (text) => void rows.delete(text)),
      getAll: () => tx.ask(() => [...rows.values()]),
      index: (name) => ({ getAll: (key) => ask(key, () => of(name, key)) }),
    };
  }
}

/** What a page finds as `indexedDB`: every database that is opened is new and empty. */
export const indexedDB = {
  open() {
    const [tables, request] = [new Map(), {}];
    const createObjectStore = (name, { keyPath }) => tables.set(name, new Table(keyPath)).get(name);
    setImmediate(() => {
      request.result = { createObjectStore, transaction: () => new Transaction(tables) };
      request.onupgradeneeded();
      request.onsuccess();
    });
    return request;
  },
};
