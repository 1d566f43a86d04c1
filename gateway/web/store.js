// What this browser keeps for one user: conversations with their positions, records, and the outbox.
//
// Owns the IndexedDB database `ringpost/<user>`. Every method that changes something resolves only when its transaction
// has committed, so that a caller may acknowledge afterwards. Conversations and outbox are mirrored in memory; records
// are read by range. Never talks to the network and decides nothing about the protocol.

const VERSION = 1;

/** @typedef {{peer: string, seq: number, id?: string, from: string, text: string, cmid?: string, ms: number, kind?: string}} Row */

/** The state of a conversation that nobody has written to yet. */
function blank(peer) {
  return {
    peer,
    have: null, // every seq up to here is accounted for; null: nothing received yet
    above: [], // accounted for beyond a gap: own messages, records that came early
    delivered: 0, // the other side's ticks over our records; they only grow
    read: 0,
    myRead: 0, // what this user has read, and how much of that the server has confirmed
    myReadDone: 0,
    unread: 0,
    lastSeq: 0,
    lastText: '',
    lastFrom: '',
    lastMs: Date.now(),
  };
}

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const committed = (tx) =>
  new Promise((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onerror = tx.onabort = () => reject(tx.error ?? new Error('the browser did not store the message'));
  });

/** A stable device id for this browser profile and name: a reload is the same device, another profile another one. */
export function deviceId(user) {
  const key = `ringpost.device.${user}`;
  let device = localStorage.getItem(key);
  if (!device) {
    const random = crypto.getRandomValues(new Uint8Array(8));
    device = `web-${Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
    localStorage.setItem(key, device);
  }
  return device;
}

/** Marks `seq` as accounted for and moves `have` over everything that is contiguous. */
export function account(conversation, seq) {
  if (conversation.have === null) conversation.have = seq - 1; // a device starts where its first push is
  if (seq > conversation.have && !conversation.above.includes(seq)) conversation.above.push(seq);
  conversation.above.sort((a, b) => a - b);
  while (conversation.above.length && conversation.above[0] <= conversation.have + 1) {
    conversation.have = Math.max(conversation.have, conversation.above.shift());
  }
}

/** Lets the newest record stand for the conversation in the list. */
export function touch(conversation, { seq, text, from, ms }) {
  if (seq < conversation.lastSeq) return;
  Object.assign(conversation, { lastSeq: seq, lastText: text, lastFrom: from, lastMs: ms });
}

export class Store {
  #db;
  /** @type {Map<string, ReturnType<typeof blank>>} by peer */
  conversations = new Map();
  /** Messages without a SENT, oldest first, by base64 client message id. */
  outbox = new Map();

  static async open(user) {
    const request = indexedDB.open(`ringpost/${user}`, VERSION);
    request.onupgradeneeded = () => {
      const db = request.result;
      db.createObjectStore('conversations', { keyPath: 'peer' });
      db.createObjectStore('records', { keyPath: ['peer', 'seq'] });
      db.createObjectStore('outbox', { keyPath: 'order' });
    };
    const store = new Store();
    store.#db = await settled(request);
    const tx = store.#db.transaction(['conversations', 'outbox']);
    const [conversations, outbox] = await Promise.all([
      settled(tx.objectStore('conversations').getAll()),
      settled(tx.objectStore('outbox').getAll()),
    ]);
    for (const row of conversations) store.conversations.set(row.peer, { ...blank(row.peer), ...row });
    for (const row of outbox) store.outbox.set(row.cmid, row);
    return store;
  }

  /** The conversation with `peer`, made in memory when it is new. */
  conversation(peer) {
    let found = this.conversations.get(peer);
    if (!found) this.conversations.set(peer, (found = blank(peer)));
    return found;
  }

  /** Newest first. */
  list() {
    return [...this.conversations.values()].sort((a, b) => b.lastMs - a.lastMs);
  }

  /** Stores records and the conversation's state together. `sent`: the outbox entries that these records settle. */
  put(peer, rows = [], sent = []) {
    const tx = this.#db.transaction(['conversations', 'records', 'outbox'], 'readwrite');
    for (const row of rows) tx.objectStore('records').put(row);
    for (const entry of sent) {
      tx.objectStore('outbox').delete(entry.order);
      this.outbox.delete(entry.cmid);
    }
    tx.objectStore('conversations').put(this.conversation(peer));
    return committed(tx);
  }

  putOutbox(entry) {
    this.outbox.set(entry.cmid, entry);
    const tx = this.#db.transaction('outbox', 'readwrite');
    tx.objectStore('outbox').put(entry);
    return committed(tx);
  }

  dropOutbox(entry) {
    this.outbox.delete(entry.cmid);
    const tx = this.#db.transaction('outbox', 'readwrite');
    tx.objectStore('outbox').delete(entry.order);
    return committed(tx);
  }

  /** Forgets every record of `peer` beyond `head`: the log of the server does not have them. */
  truncate(peer, head) {
    const tx = this.#db.transaction(['conversations', 'records'], 'readwrite');
    tx.objectStore('records').delete(IDBKeyRange.bound([peer, head + 1], [peer, Infinity]));
    tx.objectStore('conversations').put(this.conversation(peer));
    return committed(tx);
  }

  /** @returns {Promise<Row[]>} what is here of the last `limit` positions of `peer`, oldest first. */
  records(peer, limit) {
    const from = Math.max(0, this.conversation(peer).lastSeq - limit + 1);
    const source = this.#db.transaction('records').objectStore('records');
    return settled(source.getAll(IDBKeyRange.bound([peer, from], [peer, Infinity])));
  }

  /** How many records of others lie beyond what was read. */
  async countUnread(peer, me, readSeq) {
    const source = this.#db.transaction('records').objectStore('records');
    const rows = await settled(source.getAll(IDBKeyRange.bound([peer, readSeq + 1], [peer, Infinity])));
    return rows.filter((row) => row.from !== me).length;
  }
}
