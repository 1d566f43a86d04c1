// What is never stored: who is there, who is typing.
//
// Guarantees: without a connection nothing is known of anybody; typing of others ends by itself; what is watched is watched
// again after a reconnect. Sends typing at most every few seconds.

import { keyOf, peerOf } from './names.js';

const TYPING_MS = 6_000; // without news
const COMPOSE_EVERY_MS = 3_000;
const PAUSE_MS = 5_000; // after the last key

export class Ephemera {
  #ask;
  #tell;
  #changed;
  #online = false;
  #most = 200;
  #watched = new Set();
  #states = new Map(); // user -> {online, lastSeenMs, name, avatar}
  #typing = new Map(); // key -> Map of user -> timer
  #composing = { key: null, toldAt: 0, timer: 0 };

  /** `ask(body)`, `tell(body)` as of the connection; `changed(key, what)`: what is one of presence and typing. */
  constructor({ ask, tell, changed }) {
    this.#ask = ask;
    this.#tell = tell;
    this.#changed = changed;
  }

  welcomed(welcome) {
    this.#online = true;
    this.#most = welcome.limits?.watchedUsers ?? this.#most;
    this.#watch([...this.#watched]);
    this.seen();
  }

  disconnected() {
    this.#online = false;
    this.#states.clear();
    for (const users of this.#typing.values()) for (const timer of users.values()) clearTimeout(timer);
    this.#typing.clear();
    clearTimeout(this.#composing.timer);
    this.#composing = { key: null, toldAt: 0, timer: 0 };
    this.#changed(null, 'presence');
  }

  /** Says whether somebody is at the screen. */
  seen() {
    const state = document.visibilityState === 'visible' ? 'ACTIVE' : 'AWAY';
    this.#tell({ presence: { state } });
  }

  // ---- presence

  /** These users are on the screen, the most important first. */
  watch(users) {
    const wanted = new Set(users.slice(0, this.#most));
    const gone = [...this.#watched].filter((user) => !wanted.has(user));
    const come = [...wanted].filter((user) => !this.#watched.has(user));
    this.#watched = wanted;
    for (const user of gone) this.#states.delete(user);
    if (!this.#online) return;
    if (gone.length) this.#ask({ unwatch: { users: gone } });
    this.#watch(come);
  }

  async #watch(users) {
    if (!users.length) return;
    const { presenceStates } = await this.#ask({ watch: { users } });
    for (const state of presenceStates?.states ?? []) this.state(state);
  }

  state({ user, online = false, lastSeenMs = 0, profile }) {
    if (!this.#watched.has(user)) return;
    const { name = '', avatar = '' } = profile ?? {};
    this.#states.set(user, { online, lastSeenMs: Number(lastSeenMs), name, avatar });
    this.#changed(`u:${user}`, 'presence');
  }

  /** Undefined: nothing is known. */
  presence(user) {
    return this.#states.get(user);
  }

  // ---- typing of others

  typingEvent({ conversation, user, state }) {
    const key = keyOf(conversation);
    if (!key) return;
    this.stopped(key, user);
    if (state !== 'COMPOSING') return;
    if (!this.#typing.has(key)) this.#typing.set(key, new Map());
    this.#typing.get(key).set(user, setTimeout(() => this.stopped(key, user), TYPING_MS));
    this.#changed(key, 'typing');
  }

  /** Somebody has said what was being typed, or types no more. */
  stopped(key, user) {
    const users = this.#typing.get(key);
    if (!users?.has(user)) return;
    clearTimeout(users.get(user));
    users.delete(user);
    this.#changed(key, 'typing');
  }

  typing(key) {
    return [...(this.#typing.get(key)?.keys() ?? [])];
  }

  // ---- typing of this user

  compose(key) {
    if (this.#composing.key !== key) this.pause();
    const now = Date.now();
    if (now - this.#composing.toldAt >= COMPOSE_EVERY_MS) {
      this.#tell({ typing: { conversation: peerOf(key), state: 'COMPOSING' } });
      this.#composing.toldAt = now;
    }
    this.#composing.key = key;
    clearTimeout(this.#composing.timer);
    this.#composing.timer = setTimeout(() => this.pause(), PAUSE_MS);
  }

  pause() {
    const { key, timer } = this.#composing;
    if (key === null) return;
    clearTimeout(timer);
    this.#composing = { key: null, toldAt: 0, timer: 0 };
    this.#tell({ typing: { conversation: peerOf(key) } });
  }
}
