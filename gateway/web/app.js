// The chat page: names and rooms. Joins the wire client, the store and the view; holds which conversation is open.

import { Client } from './client.js';
import { Store, deviceId } from './store.js';
import { View } from './view.js';

const encoder = new TextEncoder();
const NAME_BYTES = 64;
const TEXT_BYTES = 65_536; // until welcome says otherwise, which it does not do by default
const PAGE = 100; // records in the view; "earlier" adds as many

/** A user name as the gateway accepts it, or null. */
function userName(typed) {
  const name = typed.normalize('NFC').trim();
  const bytes = encoder.encode(name).length;
  return bytes >= 1 && bytes <= NAME_BYTES && !/\p{Cc}/u.test(name) ? name : null;
}

/** A development token. `refused`: asking again would not help. */
async function devToken(user, device) {
  const body = JSON.stringify({ user, device });
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch('/v1/dev/token', { method: 'POST', headers, body });
  if (answer.ok) return (await answer.json()).token;
  const message = answer.status === 404 ? 'this server runs without --dev' : (await answer.text()).slice(0, 200);
  throw Object.assign(new Error(message), { refused: answer.status >= 400 && answer.status < 429 });
}

class App {
  #me;
  #client;
  #store;
  #view;
  #peer = null;
  #shown = PAGE;
  #first = 1; // position of the first record that the server has of the open conversation, as far as known
  #due = false;

  constructor() {
    this.#view = new View({
      signIn: (typed) => this.#signIn(typed),
      leave: () => this.#leave(),
      open: (typed) => this.#go(typed),
      send: (text) => this.#send(text),
      resend: (cmid) => this.#client.resend(cmid),
      earlier: () => this.#earlier(),
      again: () => location.reload(),
    });
    const name = sessionStorage.getItem('ringpost.name');
    if (name) this.#enter(name);
    else this.#view.askName(localStorage.getItem('ringpost.name') ?? '');
  }

  #signIn(typed) {
    const name = userName(typed);
    if (!name) return this.#view.askName(typed, `A name has 1 to ${NAME_BYTES} bytes and no control characters.`);
    sessionStorage.setItem('ringpost.name', name);
    localStorage.setItem('ringpost.name', name);
    this.#enter(name);
  }

  #leave() {
    sessionStorage.removeItem('ringpost.name');
    location.hash = '';
    location.reload();
  }

  async #enter(me) {
    this.#me = me;
    this.#view.enter(me);
    this.#store = await Store.open(me);
    const device = deviceId(me);
    const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/connect`;
    this.#client = new Client({ url, user: me, device, store: this.#store, token: () => devToken(me, device) });
    this.#client.addEventListener('change', () => this.#refresh());
    this.#client.addEventListener('state', () => this.#stateChanged());
    addEventListener('hashchange', () => this.#route());
    addEventListener('focus', () => this.#refresh());
    document.addEventListener('visibilitychange', () => this.#refresh());
    navigator.storage?.persist?.();
    this.#client.start();
    this.#route();
  }

  #stateChanged() {
    this.#view.state(this.#client.state, this.#client.detail);
    if (this.#client.state === 'online' && this.#peer !== null) this.#loadHistory(0);
  }

  // ---- which conversation is open lives in the address, so that "back" and a reload work

  #go(typed) {
    if (typed === null) {
      if (location.hash) location.hash = '';
      return true;
    }
    const peer = userName(typed);
    if (peer) location.hash = `u=${encodeURIComponent(peer)}`;
    return peer !== null;
  }

  #route() {
    const [, typed] = /^#u=(.+)$/.exec(location.hash) ?? [];
    let peer = null;
    try {
      peer = typed ? userName(decodeURIComponent(typed)) : null;
    } catch {
      // not an address of ours
    }
    this.#peer = peer;
    this.#shown = PAGE;
    this.#first = 1;
    this.#view.show(peer);
    this.#refresh();
    if (peer !== null) this.#loadHistory(0);
  }

  async #loadHistory(beforeSeq) {
    const peer = this.#peer;
    const first = await this.#client.history(peer, beforeSeq, PAGE);
    if (peer !== this.#peer) return;
    if (first) this.#first = first;
    this.#refresh();
  }

  async #earlier() {
    const [oldest] = await this.#store.records(this.#peer, this.#shown);
    this.#shown += PAGE;
    this.#refresh();
    if (oldest) await this.#loadHistory(oldest.seq);
  }

  #send(text) {
    if (encoder.encode(text).length > TEXT_BYTES) {
      this.#view.state(this.#client.state, 'this message is too long');
      return false;
    }
    this.#client.send(this.#peer, text);
    return true;
  }

  // ---- drawing, at most once a frame (a page in the background draws too: the title counts unread messages)

  #refresh() {
    if (this.#due) return;
    this.#due = true;
    setTimeout(async () => {
      this.#due = false;
      await this.#drawMessages();
      this.#view.list(this.#store.list(), { statusOf: (conversation) => this.#lastStatus(conversation) });
    }, 16);
  }

  async #drawMessages() {
    const peer = this.#peer;
    if (peer === null) return;
    const records = await this.#store.records(peer, this.#shown);
    if (peer !== this.#peer) return;
    const conversation = this.#store.conversations.get(peer);
    const more = records.length > 0 && records[0].seq > this.#first;
    const stored = records.map((row) => {
      const own = row.from === this.#me;
      const key = own && row.cmid ? row.cmid : `seq ${row.seq}`;
      return { ...row, key, own, status: own ? this.#status(conversation, row.seq) : '' };
    });
    const waiting = [...this.#store.outbox.values()]
      .filter((entry) => entry.peer === peer)
      .map(({ cmid, frame, ms, error }) => {
        return { key: cmid, own: true, text: frame.text, ms, error, status: error ? 'failed' : 'waiting' };
      });
    this.#view.messages([...stored, ...waiting], { more });
    const last = records.at(-1);
    const seen = document.visibilityState === 'visible';
    if (last && seen) this.#client.read(peer, last.seq);
  }

  #status({ read, delivered }, seq) {
    if (seq <= read) return 'read';
    return seq <= delivered ? 'delivered' : 'sent';
  }

  /** The ticks of the last message in the list of conversations, if it is one's own. */
  #lastStatus(conversation) {
    if (conversation.lastFrom !== this.#me) return '';
    const waiting = [...this.#store.outbox.values()].filter((entry) => entry.peer === conversation.peer);
    if (waiting.some((entry) => entry.error)) return 'failed';
    return waiting.length ? 'waiting' : this.#status(conversation, conversation.lastSeq);
  }
}

new App();
