// Messages on their way: kept from the moment they were typed until the gateway said SENT.
//
// Guarantees: a message survives a reload; it is sent again with the same id and the same bytes until it has its place in
// the log, so that it is stored once; the messages of a conversation go out in the order in which they were typed, and one that
// has to wait, perhaps for hours, holds up its own conversation only. Never reads the socket.

import { peerOf, uuid7 } from './names.js';
import { account, isAbout, touch } from './store.js';

const RETRY_MS = 5_000; // no SENT after this: send the same again
const PIPELINE = 16; // unanswered sends; the gateway stops reading at 32 requests
const LONG_MS = 60_000; // a wait that the user is told of
const ID_LIFE_MS = 24 * 3_600_000; // an older id is not retried blindly

/** The record that a send becomes. */
export function rowOf({ key, frame, cmid, ms }, user, seq) {
  const { kind = 'TEXT', text = '', refSeq } = frame;
  return { key, seq, from: user, kind, text, cmid, ms, ref: refSeq ? Number(refSeq) : undefined };
}

const timeOf = (ms) => (ms < 5_400_000 ? `${Math.ceil(ms / 60_000)} min` : `${Math.ceil(ms / 3_600_000)} h`);

export class Outbox {
  #user;
  #store;
  #request;
  #changed;
  #refusedAbout;
  #online = false;
  #flying = new Map(); // client message id -> retry timer
  #lastOrder = 0;
  #held = new Map(); // key of a conversation -> timer: the gateway asked to wait

  /** `request(body, answer)`: sends a frame, false if it cannot; `changed(key)`: something to show; `refused(key, why)`: an
   *  edit, erasure or reaction will not be, or a message has to wait for long. */
  constructor({ user, store, request, changed, refused }) {
    this.#user = user;
    this.#store = store;
    this.#request = request;
    this.#changed = changed;
    this.#refusedAbout = refused;
    for (const entry of store.outbox.values()) this.#lastOrder = Math.max(this.#lastOrder, entry.order);
  }

  /** `ref`: the seq that an edit, erasure or reaction is about, or that a text answers. */
  async add(key, { kind = 'TEXT', text = '', ref = 0 }) {
    const now = Date.now();
    const cmid = uuid7(now);
    this.#lastOrder = Math.max(now, this.#lastOrder + 1);
    const frame = { to: peerOf(key), clientMessageId: cmid, text, clientTimeMs: String(now) };
    if (kind !== 'TEXT') frame.kind = kind;
    if (ref) frame.refSeq = String(ref);
    const entry = { order: this.#lastOrder, cmid, key, frame, ms: now, error: '' };
    const conversation = this.#store.conversation(key);
    // Until it has its place, it stands where the last one does.
    const seq = conversation.last?.seq ?? 0;
    if (!isAbout(kind)) touch(conversation, { ...rowOf(entry, this.#user, seq), ms: Math.max(now, conversation.lastMs) });
    await this.#store.putOutbox(entry);
    this.#changed(key);
    this.#pump();
  }

  /** Sends a refused or expired message anew, under a new id. */
  async resend(cmid) {
    const entry = this.#store.outbox.get(cmid);
    if (!entry) return;
    const { kind, text, refSeq } = entry.frame;
    await this.#store.dropOutbox(entry);
    await this.add(entry.key, { kind, text, ref: Number(refSeq ?? 0) });
  }

  /** Gives a refused message up. */
  async drop(cmid) {
    const entry = this.#store.outbox.get(cmid);
    if (!entry) return;
    await this.#store.dropOutbox(entry);
    this.#changed(entry.key);
  }

  connected() {
    this.#online = true;
    this.#pump();
  }

  disconnected() {
    this.#online = false;
    for (const timer of this.#flying.values()) clearTimeout(timer);
    this.#flying.clear();
  }

  #pump() {
    if (!this.#online) return;
    for (const entry of this.#store.outbox.values()) {
      if (this.#flying.size >= PIPELINE) break;
      if (entry.error || this.#flying.has(entry.cmid) || this.#held.has(entry.key)) continue;
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
    const conversation = this.#store.conversation(entry.key);
    const seq = Number(sent.seq);
    if (conversation.have === null) conversation.above.push(seq);
    else account(conversation, seq);
    const row = { ...rowOf(entry, this.#user, seq), id: sent.id, ms: Number(sent.serverTimeMs) };
    touch(conversation, row);
    await this.#store.put(entry.key, [row], [entry]);
    this.#changed(entry.key);
    this.#pump();
  }

  async #refused(entry, error) {
    this.#landed(entry);
    if (error.code === 'EXPIRED') return this.#askFirst(entry);
    const why = error.message || error.code;
    if (error.retryable) return this.#wait(entry.key, Number(error.retryAfterMs ?? 0) || 1_000, why);
    if (isAbout(entry.frame.kind)) {
      await this.#store.dropOutbox(entry);
      this.#refusedAbout(entry.key, why);
    } else {
      entry.error = why;
      await this.#store.putOutbox(entry);
    }
    this.#changed(entry.key);
    this.#pump();
  }

  /** The whole conversation waits, so that the order of its messages stays; also over a reconnect. */
  #wait(key, ms, why) {
    if (ms >= LONG_MS && !this.#held.has(key)) this.#refusedAbout(key, `${why}; it is tried again in ${timeOf(ms)}`);
    clearTimeout(this.#held.get(key));
    const again = setTimeout(() => {
      this.#held.delete(key);
      this.#pump();
    }, ms);
    this.#held.set(key, again);
    this.#pump();
  }

  #landed(entry) {
    clearTimeout(this.#flying.get(entry.cmid));
    this.#flying.delete(entry.cmid);
  }

  /** The id is too old to be retried: ask whether it arrived, and only then send anew under a new one. */
  #askFirst(entry) {
    this.#flying.set(entry.cmid, 0);
    const ask = { conversation: peerOf(entry.key), clientMessageIds: [entry.cmid] };
    this.#request({ lookup: ask }, async ({ lookupResult }) => {
      this.#landed(entry);
      if (!lookupResult) return;
      const found = lookupResult.found?.[0];
      if (found) return this.#settle(entry, found);
      await this.resend(entry.cmid);
    });
  }
}
