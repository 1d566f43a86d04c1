// What this browser keeps for one device of one user: conversations with their positions, records, and the outbox.
//
// Owns the IndexedDB database `ringpost/<device>/<user>`. Every method that changes something resolves only when its
// transaction has committed, so that a caller may acknowledge afterwards. Conversations and outbox are mirrored in memory;
// records are read by range. Never talks to the network and decides nothing about the protocol.

const VERSION = 1;
const SERVER = 'server'; // the row beside the conversations that says of which store their positions are
const ABOUT = new Set(['EDIT', 'ERASE', 'REACTION']); // kinds that are about another record
const COUNTED = new Set(['TEXT', 'MEDIA', 'DATA']); // kinds that can be unread

/** @typedef {{key: string, seq: number, id?: string, from: string, kind: string, text: string, cmid?: string, ms: number,
 *   ref?: number, media?: object, change?: object, erased?: boolean, place?: number, about?: number}} Row */

/** Whether a record of this kind says something about another one, and is not shown by itself. */
export const isAbout = (kind) => ABOUT.has(kind);
export const counts = (kind) => COUNTED.has(kind);

/** The state of a conversation of which nothing is known yet. */
export function blank(key) {
  return {
    key,
    title: '', // of a group; of a user, the name in the profile
    avatar: '', // the picture, likewise
    have: null, // every seq up to here is accounted for; null: nothing received yet
    above: [], // accounted for beyond a gap: own messages, records that came early
    head: 0, // the highest seq that was seen
    oldest: null, // records from here on are in the store without a hole
    begun: false, // and that is the beginning of the conversation
    delivered: 0, // the others' ticks over our records; they only grow
    read: 0,
    excluded: [], // [from, to] of what was not delivered and will not be
    myRead: 0, // what this user has read, and how much of that the server has confirmed
    myReadDone: 0,
    unread: 0,
    counted: 0, // every record up to here is in `unread` or read
    muted: false,
    blocked: false,
    left: false, // this user is no member any more
    members: null, // of a group: [{user, admin}], as of `epoch`
    description: '',
    last: null, // what stands for the conversation in the list: a part of the row
    lastMs: Date.now(),
    changed: {}, // seq of the record that said the title, the block, the membership
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

/** Marks `seq` as accounted for and moves `have` over everything that is contiguous. */
export function account(conversation, seq) {
  if (conversation.have === null) conversation.have = seq - 1; // a device starts where its first push is
  if (seq > conversation.have && !conversation.above.includes(seq)) conversation.above.push(seq);
  conversation.above.sort((a, b) => a - b);
  while (conversation.above.length && conversation.above[0] <= conversation.have + 1) {
    conversation.have = Math.max(conversation.have, conversation.above.shift());
  }
}

/** Lets the newest record stand for the conversation in the list. What is about that record changes it. */
export function touch(conversation, { seq, from, kind, text, media, change, erased, ref, ms }) {
  conversation.head = Math.max(conversation.head, seq);
  const { last } = conversation;
  if (!isAbout(kind)) {
    if (last && seq < last.seq) return;
    conversation.last = { seq, from, kind, text, media, change, erased };
    conversation.lastMs = ms;
  } else if (last?.seq === ref && kind === 'EDIT' && !erased && !last.erased) {
    last.text = text;
  } else if (last?.seq === ref && kind === 'ERASE') {
    Object.assign(last, { erased: true, text: '' });
  }
}

/** What was taken back is not kept here either, nor an edit of it: that holds a text of its own. The server takes the edits
 *  back as well, but does not push that to the device which took the message back. */
function scrub(records, key, seq) {
  const empty = (row) => records.put({ ...row, text: '', media: undefined, erased: true });
  const request = records.get([key, seq]);
  request.onsuccess = () => request.result && empty(request.result);
  const about = records.index('about').getAll([key, seq]);
  about.onsuccess = () => about.result.filter((row) => row.kind === 'EDIT').forEach(empty);
}

/** A page that was asked for before, or SENT of what was repeated, may come after the erasure: no text returns with it. */
function scrubLate(records, key, { seq, kind, ref }) {
  for (const back of kind === 'EDIT' && ref ? [seq, ref] : [seq]) {
    const about = records.index('about').getAll([key, back]);
    about.onsuccess = () => about.result.some((row) => row.kind === 'ERASE') && scrub(records, key, back);
  }
}

export class Store {
  #db;
  /** @type {Map<string, ReturnType<typeof blank>>} by key */
  conversations = new Map();
  /** Messages without a SENT, oldest first, by base64 client message id. */
  outbox = new Map();
  /** Of the last welcome: which store the positions are of, and with what the session there resumes. */
  server = { incarnation: '', resumeToken: '' };

  static async open(user, device) {
    const request = indexedDB.open(`ringpost/${device}/${user}`, VERSION);
    request.onupgradeneeded = () => {
      const db = request.result;
      db.createObjectStore('conversations', { keyPath: 'key' });
      const records = db.createObjectStore('records', { keyPath: ['key', 'seq'] });
      records.createIndex('shown', ['key', 'place']); // what is a message of its own
      records.createIndex('about', ['key', 'about']); // edits, erasures and reactions, by what they are about
      db.createObjectStore('outbox', { keyPath: 'order' });
    };
    const store = new Store();
    store.#db = await settled(request);
    const tx = store.#db.transaction(['conversations', 'outbox']);
    const [conversations, outbox] = await Promise.all([
      settled(tx.objectStore('conversations').getAll()),
      settled(tx.objectStore('outbox').getAll()),
    ]);
    for (const row of conversations) {
      if (row.key === SERVER) store.server = row;
      else store.conversations.set(row.key, { ...blank(row.key), ...row });
    }
    for (const row of outbox) store.outbox.set(row.cmid, row);
    return store;
  }

  /** Deletes everything, the database too. Nothing can be stored afterwards. */
  async forget() {
    this.conversations.clear();
    this.outbox.clear();
    this.#db.close();
    await settled(indexedDB.deleteDatabase(this.#db.name));
  }

  putServer(server) {
    this.server = { key: SERVER, ...server };
    const tx = this.#db.transaction('conversations', 'readwrite');
    tx.objectStore('conversations').put(this.server);
    return committed(tx);
  }

  /** The conversation with this key, made in memory when it is new. */
  conversation(key) {
    let found = this.conversations.get(key);
    if (!found) this.conversations.set(key, (found = blank(key)));
    return found;
  }

  /** Newest first. */
  list() {
    return [...this.conversations.values()].sort((a, b) => b.lastMs - a.lastMs);
  }

  /** Stores records and the conversation's state together. `sent`: the outbox entries that these records settle. */
  put(key, rows = [], sent = []) {
    const tx = this.#db.transaction(['conversations', 'records', 'outbox'], 'readwrite');
    const records = tx.objectStore('records');
    for (const row of rows) {
      const place = isAbout(row.kind) ? { about: row.ref } : { place: row.seq };
      records.put({ ...row, ...place });
      if (row.kind === 'ERASE') scrub(records, key, row.ref);
      else scrubLate(records, key, row);
    }
    for (const entry of sent) {
      tx.objectStore('outbox').delete(entry.order);
      this.outbox.delete(entry.cmid);
    }
    tx.objectStore('conversations').put(this.conversation(key));
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

  /** Forgets every record beyond `head`: the log of the server does not have them. */
  truncate(key, head) {
    const tx = this.#db.transaction(['conversations', 'records'], 'readwrite');
    tx.objectStore('records').delete(IDBKeyRange.bound([key, head + 1], [key, Infinity]));
    tx.objectStore('conversations').put(this.conversation(key));
    return committed(tx);
  }

  /** The last `limit` records that are shown by themselves, oldest first, and all that is about them. `more`: there are older
   *  ones here. */
  async window(key, limit) {
    const oldest = this.conversation(key).oldest ?? 0;
    const records = this.#db.transaction('records').objectStore('records');
    const all = IDBKeyRange.bound([key, oldest], [key, Infinity]);
    const first = await new Promise((resolve, reject) => {
      const request = records.index('shown').openKeyCursor(all, 'prev');
      let jumped = false;
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor || jumped) return resolve(cursor ? cursor.key[1] : oldest);
        jumped = true;
        cursor.advance(limit);
      };
    });
    const range = IDBKeyRange.bound([key, first], [key, Infinity]);
    const [rows, about] = await Promise.all([
      settled(records.index('shown').getAll(range)),
      settled(records.index('about').getAll(range)),
    ]);
    return { rows: rows.slice(-limit), about, more: rows.length > limit };
  }

  /** @returns {Promise<Row | undefined>} */
  record(key, seq) {
    return settled(this.#db.transaction('records').objectStore('records').get([key, seq]));
  }

  /** How many messages of others lie beyond what was read. */
  async countUnread(key, me, readSeq) {
    const source = this.#db.transaction('records').objectStore('records').index('shown');
    const rows = await settled(source.getAll(IDBKeyRange.bound([key, readSeq + 1], [key, Infinity])));
    return rows.filter((row) => row.from !== me && counts(row.kind)).length;
  }
}
