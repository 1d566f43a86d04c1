// Messages on their way: kept from the moment they were typed until the gateway said SENT.
//
// Guarantees: a message survives a reload; it is sent again with the same id and the same bytes until it has its place in
// the log, so that it is stored once; messages go out in the order in which they were typed. Never reads the socket.

import { account, touch } from './store.js';

const RETRY_MS = 5_000; // no SENT after this: send the same again
const PIPELINE = 16; // unanswered sends; the gateway stops reading at 32 requests
const ID_LIFE_MS = 24 * 3_600_000; // an older id is not retried blindly

/** A version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix milliseconds, the rest random. */
export function uuid7(ms = Date.now()) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, rest = ms; i >= 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return bytes;
}

const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

export class Outbox {
  #user;
  #store;
  #request;
  #changed;
  #online = false;
  #flying = new Map(); // client message id -> retry timer
  #lastOrder = 0;
  #hold = 0; // a timer: the gateway asked to wait

  /** `request(body, answer)`: sends a frame, false if it cannot; `changed(peer)`: something to show. */
  constructor({ user, store, request, changed }) {
    this.#user = user;
    this.#store = store;
    this.#request = request;
    this.#changed = changed;
    for (const entry of store.outbox.values()) this.#lastOrder = Math.max(this.#lastOrder, entry.order);
  }

  async add(peer, text) {
    const now = Date.now();
    const cmid = base64(uuid7(now));
    this.#lastOrder = Math.max(now, this.#lastOrder + 1);
    const frame = { to: { user: peer }, clientMessageId: cmid, text, clientTimeMs: String(now) };
    const conversation = this.#store.conversation(peer);
    Object.assign(conversation, { lastText: text, lastFrom: this.#user, lastMs: Math.max(now, conversation.lastMs) });
    await this.#store.putOutbox({ order: this.#lastOrder, cmid, peer, frame, ms: now, error: '' });
    this.#changed(peer);
    this.#pump();
  }

  /** Sends a refused or expired message anew, under a new id. */
  async resend(cmid) {
    const entry = this.#store.outbox.get(cmid);
    if (!entry) return;
    await this.#store.dropOutbox(entry);
    await this.add(entry.peer, entry.frame.text);
  }

  connected() {
    this.#online = true;
    this.#pump();
  }

  disconnected() {
    this.#online = false;
    clearTimeout(this.#hold);
    this.#hold = 0;
    for (const timer of this.#flying.values()) clearTimeout(timer);
    this.#flying.clear();
  }

  #pump() {
    if (!this.#online || this.#hold) return;
    for (const entry of this.#store.outbox.values()) {
      if (this.#flying.size >= PIPELINE) break;
      if (entry.error || this.#flying.has(entry.cmid)) continue;
      if (Date.now() - entry.ms > ID_LIFE_MS) this.#askFirst(entry);
      else this.#transmit(entry);
    }
  }

  #transmit(entry) {
    const retry = setTimeout(() => {
      this.#flying.delete(entry.cmid);
      this.#pump();
    }, RETRY_MS);
    this.#flying.set(entry.cmid, retry);
    this.#request({ send: entry.frame }, ({ sent, error }) => {
      if (sent) return this.#settle(entry, sent);
      if (error) return this.#refused(entry, error);
    });
  }

  /** SENT: the message has its place in the log. */
  async #settle(entry, sent) {
    this.#landed(entry);
    if (!this.#store.outbox.has(entry.cmid)) return;
    const { peer, cmid, frame } = entry;
    const conversation = this.#store.conversation(peer);
    const seq = Number(sent.seq);
    if (conversation.have === null) conversation.above.push(seq);
    else account(conversation, seq);
    const row = { peer, seq, id: sent.id, from: this.#user, text: frame.text, cmid, ms: Number(sent.serverTimeMs) };
    touch(conversation, row);
    await this.#store.put(peer, [row], [entry]);
    this.#changed(peer);
    this.#pump();
  }

  async #refused(entry, error) {
    this.#landed(entry);
    if (error.code === 'EXPIRED') return this.#askFirst(entry);
    if (error.retryable) return this.#wait(Number(error.retryAfterMs ?? 0) || 1_000);
    entry.error = error.message || error.code;
    await this.#store.putOutbox(entry);
    this.#changed(entry.peer);
    this.#pump();
  }

  /** The whole outbox waits, so that the order of messages stays. */
  #wait(ms) {
    clearTimeout(this.#hold);
    this.#hold = setTimeout(() => {
      this.#hold = 0;
      this.#pump();
    }, ms);
  }

  #landed(entry) {
    clearTimeout(this.#flying.get(entry.cmid));
    this.#flying.delete(entry.cmid);
  }

  /** The id is too old to be retried: ask whether it arrived, and only then send anew under a new one. */
  #askFirst(entry) {
    this.#flying.set(entry.cmid, 0);
    const ask = { conversation: { user: entry.peer }, clientMessageIds: [entry.cmid] };
    this.#request({ lookup: ask }, async ({ lookupResult }) => {
      this.#landed(entry);
      if (!lookupResult) return;
      const found = lookupResult.found?.[0];
      if (found) return this.#settle(entry, found);
      await this.resend(entry.cmid);
    });
  }
}
