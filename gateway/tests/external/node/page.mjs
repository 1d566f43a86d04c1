// The chat page's own modules (client.js, outbox.js) outside a browser, as user `probe`, for `ringpost check-client`.
//
// Sends a message to `peer` every half second. IndexedDB is replaced by memory, the browser's WebSocket by npm `ws`, and the
// development token by one that nobody has signed. Ends when the client is told to stay away.

import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packages, root } from '../lib/server.mjs';

globalThis.WebSocket = packages('ws');
globalThis.addEventListener = () => {};
globalThis.document = { addEventListener: () => {}, visibilityState: 'visible' };

/** What store.js promises, in memory. */
class Memory {
  conversations = new Map();
  outbox = new Map();
  #records = new Map();

  conversation(peer) {
    const blank = { peer, have: null, above: [], delivered: 0, read: 0, myRead: 0, myReadDone: 0, unread: 0, lastSeq: 0 };
    if (!this.conversations.has(peer)) this.conversations.set(peer, { ...blank, lastMs: Date.now() });
    return this.conversations.get(peer);
  }

  list = () => [...this.conversations.values()].sort((a, b) => b.lastMs - a.lastMs);

  async put(peer, rows = [], sent = []) {
    for (const row of rows) this.#records.set(`${peer}/${row.seq}`, row);
    for (const { cmid } of sent) this.outbox.delete(cmid);
  }

  putOutbox = async (entry) => void this.outbox.set(entry.cmid, entry);
  dropOutbox = async (entry) => void this.outbox.delete(entry.cmid);

  async truncate(peer, head) {
    for (const [key, row] of this.#records) if (row.peer === peer && row.seq > head) this.#records.delete(key);
  }

  countUnread = async () => 0;
}

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
let tokens = 0;
const token = async () => `${base64url({ alg: 'none' })}.${base64url({ sub: 'probe', dev: 'page', jti: String(tokens++) })}.x`;

// Browsers take the files for modules because the page says so; here a package has to.
const place = await mkdtemp(join(tmpdir(), 'ringpost-page-'));
await cp(join(root, 'gateway/web'), place, { recursive: true });
await writeFile(join(place, 'package.json'), '{"type": "module"}');
const { Client } = await import(pathToFileURL(join(place, 'client.js')));
await rm(place, { recursive: true });

const url = `${process.env.RINGPOST_URL}/v1/connect`;
const client = new Client({ url, user: 'probe', device: 'page', token, store: new Memory() });
client.addEventListener('state', () => console.error(`page: ${client.state} ${client.detail}`));
client.start();
let count = 0;
setInterval(() => client.send('peer', `hi ${count++}`), 500);
