// The store of the chat page for tests without a browser.

/** What store.js promises, in memory. */
export class Memory {
  #blank;
  conversations = new Map();
  outbox = new Map();
  #records = new Map();
  server = { incarnation: '', resumeToken: '' };

  /** `blank` of store.js. */
  constructor(blank) {
    this.#blank = blank;
  }

  conversation(key) {
    if (!this.conversations.has(key)) this.conversations.set(key, this.#blank(key));
    return this.conversations.get(key);
  }

  list = () => [...this.conversations.values()].sort((a, b) => b.lastMs - a.lastMs);

  async put(key, rows = [], sent = []) {
    for (const row of rows) this.#records.set(`${key}/${row.seq}`, row);
    for (const { cmid } of sent) this.outbox.delete(cmid);
  }

  /** The positions that are stored, in no order that counts. */
  rows = (key) => [...this.#records.values()].filter((row) => row.key === key).map(({ seq }) => seq);

  putOutbox = async (entry) => void this.outbox.set(entry.cmid, entry);
  dropOutbox = async (entry) => void this.outbox.delete(entry.cmid);

  async truncate(key, head) {
    for (const [at, row] of this.#records) if (row.key === key && row.seq > head) this.#records.delete(at);
  }

  putServer = async (server) => void (this.server = server);
  countUnread = async () => 0;
}
