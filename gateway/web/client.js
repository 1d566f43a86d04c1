// The ringpost wire client, JSON over WebSocket.
//
// Guarantees: a record is stored before it is acknowledged; nothing is shown twice (seq); a gap is fetched. Reconnects
// with back-off and full jitter, unless a close code forbids it. Never touches the page. Sending is the outbox's part.

import { Outbox } from './outbox.js';
import { account, touch } from './store.js';

const WELCOME_MS = 10_000;
const BACKOFF_MS = { least: 1_000, most: 60_000 };
const STABLE_MS = 10_000; // a session that lived so long ends a row of failures
const FETCH_RECORDS = 100;
const ACK_EVERY = 16; // pushes, while more are waiting to be stored; well inside the window
const ID_EPOCH_MS = Date.UTC(2024, 0, 1);

const CLOSE = { NORMAL: 1000, UNSUPPORTED: 1003, DRAINING: 4000, REPLACED: 4500, TOKEN_EXPIRED: 4502, DEVICE_IN_USE: 4504 };

/** Whether a client that was closed with `code` may come back by itself. */
export function mayReconnect(code) {
  if (code === CLOSE.TOKEN_EXPIRED) return true; // with a new token, which every attempt of ours gets
  return !(code >= 4500 && code < 4600) && code !== CLOSE.NORMAL && code !== CLOSE.UNSUPPORTED;
}

export class Client extends EventTarget {
  #url;
  #token;
  #store;
  #socket = null;
  #epoch = 0; // of the connection; what belongs to an older one is ignored
  #attempt = 0;
  #timers = { reconnect: 0, welcome: 0, beat: 0 };
  #requests = new Map(); // number -> what to do with the answer
  #nextId = 1;
  #outbox;
  #work = Promise.resolve();
  #queued = 0;
  #stored = 0; // the last push that is stored, and the last one acknowledged
  #acked = 0;
  #reconnectAfter = null;
  #welcomedAt = 0;
  #heardAt = 0;
  #welcome = null;

  /** `token`: () => Promise<string>, asked before every connection; `store`: an opened Store. */
  constructor({ url, user, device, token, store }) {
    super();
    Object.assign(this, { user, device, state: 'offline', detail: '' });
    this.#url = url;
    this.#token = token;
    this.#store = store;
    this.#outbox = new Outbox({
      user,
      store,
      request: (body, answer) => this.#request(body, answer),
      changed: (peer) => this.#changed(peer),
    });
  }

  start() {
    addEventListener('online', () => this.#hurry());
    addEventListener('offline', () => this.#socket && this.#abandon());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#hurry());
    this.#connect();
  }

  // ---- what the page asks for

  /** Keeps the message and sends it as soon as possible. Resolves when it is kept. */
  send = (peer, text) => this.#outbox.add(peer, text);

  /** Tries a message again that was refused. */
  resend = (cmid) => this.#outbox.resend(cmid);

  /** The user has seen everything up to `seq`. */
  async read(peer, seq) {
    const conversation = this.#store.conversation(peer);
    if (seq <= conversation.myRead && conversation.unread === 0) return;
    conversation.myRead = Math.max(conversation.myRead, seq);
    conversation.unread = 0;
    this.#changed(peer);
    await this.#store.put(peer);
    this.#tellRead(conversation);
  }

  /** Brings up to `limit` records before `beforeSeq` (0: the newest) into the store. Resolves with the position of the first
   *  record of the conversation if that was reached, else 0; null when it could not be asked. */
  history(peer, beforeSeq = 0, limit = 50) {
    const ask = { history: { conversation: { user: peer }, beforeSeq: String(beforeSeq), limit } };
    return new Promise((resolve) => {
      const asked = this.#request(ask, async ({ page }) => {
        if (page) await this.#keep(peer, page.records ?? [], { counts: false });
        const end = Number(page?.nextBeforeSeq ?? 0) === 0;
        resolve(page ? (end && Number(page.records?.at(-1)?.seq ?? 1)) || 0 : null);
      });
      if (!asked) resolve(null);
    });
  }

  // ---- the connection

  async #connect() {
    const epoch = ++this.#epoch;
    clearTimeout(this.#timers.reconnect);
    this.#set('connecting');
    let token;
    try {
      token = await this.#token();
    } catch (error) {
      if (epoch !== this.#epoch) return;
      return error.refused ? this.#set('refused', error.message) : this.#retryLater();
    }
    if (epoch !== this.#epoch) return;
    const socket = (this.#socket = new WebSocket(this.#url, ['ringpost.v1.json', `bearer.${token}`]));
    this.#timers.welcome = setTimeout(() => this.#abandon(), WELCOME_MS);
    socket.onopen = () => this.#hello();
    socket.onmessage = ({ data }) => {
      this.#heardAt = Date.now();
      this.#queued += 1;
      this.#inTurn(epoch, async () => {
        this.#queued -= 1;
        await this.#handle(JSON.parse(data));
      });
    };
    socket.onclose = ({ code, reason }) => this.#inTurn(epoch, () => this.#closed(code, reason));
  }

  /** Frames are handled one after the other, each stored before the next. A failure to store ends the connection unacked. */
  #inTurn(epoch, job) {
    this.#work = this.#work
      .then(() => (epoch === this.#epoch ? job() : (this.#queued = 0)))
      .catch((error) => {
        console.error('ringpost:', error);
        if (epoch === this.#epoch) this.#abandon();
      });
  }

  #hello() {
    const have = this.#store
      .list()
      .filter((conversation) => conversation.have > 0)
      .slice(0, 100)
      .map(({ peer, have: seq }) => ({ conversation: { user: peer }, seq: String(seq) }));
    this.#request({ hello: { client: 'ringpost-web/1', have } }, ({ welcome, error }) => {
      if (welcome) return this.#welcomed(welcome);
      this.detail = error?.message ?? '';
    });
  }

  async #welcomed(welcome) {
    clearTimeout(this.#timers.welcome);
    this.#welcome = welcome;
    this.#stored = this.#acked = 0;
    for (const { conversation: { user } = {}, headSeq } of welcome.reset ?? []) {
      if (!user) continue;
      const head = Number(headSeq ?? 0);
      Object.assign(this.#store.conversation(user), { have: head, above: [], lastSeq: head });
      await this.#store.truncate(user, head);
    }
    this.#welcomedAt = Date.now();
    this.#set('online');
    const beatMs = Number(welcome.heartbeatMs ?? 30_000);
    clearInterval(this.#timers.beat);
    this.#timers.beat = setInterval(() => this.#beat(beatMs), beatMs / 3);
    this.#outbox.connected();
    this.#list('');
    for (const conversation of this.#store.conversations.values()) {
      this.#fillGap(conversation);
      this.#tellRead(conversation);
    }
  }

  /** Browsers cannot ping: a silent connection is asked, and given up when it does not answer. */
  #beat(beatMs) {
    const silentMs = Date.now() - this.#heardAt;
    if (silentMs > 2 * beatMs) this.#abandon();
    else if (silentMs > 0.6 * beatMs) this.#request({ ping: {} }, () => {});
  }

  #closed(code, reason) {
    this.#drop();
    if (mayReconnect(code)) return this.#retryLater();
    if (code === CLOSE.REPLACED || code === CLOSE.DEVICE_IN_USE) return this.#set('replaced');
    this.#set(code === CLOSE.NORMAL ? 'offline' : 'refused', reason || this.detail);
  }

  /** Gives a connection up without waiting for the other side. */
  #abandon() {
    const socket = this.#socket;
    this.#epoch += 1;
    this.#drop();
    socket?.close();
    this.#retryLater();
  }

  #drop() {
    clearTimeout(this.#timers.welcome);
    clearInterval(this.#timers.beat);
    this.#outbox.disconnected();
    const waiting = [...this.#requests.values()];
    this.#requests.clear();
    this.#socket = null;
    this.#queued = 0;
    for (const answer of waiting) answer({});
  }

  /** Back-off with full jitter. After a crash the first attempt is spread over the slot that welcome gave. */
  #retryLater() {
    if (this.#welcomedAt && Date.now() - this.#welcomedAt >= STABLE_MS) this.#attempt = 0;
    this.#welcomedAt = 0;
    const slot = Number(this.#welcome?.crashSlotMs ?? 0);
    const ceiling = Math.min(BACKOFF_MS.most, BACKOFF_MS.least * 2 ** this.#attempt);
    const spread = this.#attempt === 0 ? Math.max(ceiling, slot) : ceiling;
    const waitMs = this.#reconnectAfter ?? Math.random() * spread;
    // A slot that drain gave is no failure.
    if (this.#reconnectAfter === null) this.#attempt = Math.min(this.#attempt + 1, 10);
    this.#reconnectAfter = null;
    clearTimeout(this.#timers.reconnect);
    this.#timers.reconnect = setTimeout(() => this.#connect(), waitMs);
    this.#set('waiting');
  }

  /** The network came back, or the user did: do not wait out a long back-off. */
  #hurry() {
    if (this.state !== 'waiting' || this.#attempt < 3) return;
    clearTimeout(this.#timers.reconnect);
    this.#connect();
  }

  /** Whether the request could be sent. A connection that ends answers it with `{}`. */
  #request(body, answer) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    const id = this.#nextId++;
    this.#requests.set(String(id), answer);
    this.#socket.send(JSON.stringify({ id: String(id), ...body }));
    return true;
  }

  // ---- frames

  async #handle(frame) {
    if (frame.push) {
      await this.#pushed(frame.push);
      this.#stored = Number(frame.push.n);
    } else if (frame.drain) {
      this.#reconnectAfter = Number(frame.drain.reconnectAfterMs ?? 0);
    } else if (frame.renewSoon) {
      this.#renew();
    } else if (frame.re && frame.re !== '0') {
      const answer = this.#requests.get(frame.re);
      this.#requests.delete(frame.re);
      await answer?.(frame);
    }
    if (this.#queued === 0 || this.#stored - this.#acked >= ACK_EVERY) this.#ack();
  }

  #ack() {
    if (this.#stored <= this.#acked || this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify({ ack: { push: String(this.#stored) } }));
    this.#acked = this.#stored;
  }

  async #pushed({ record, tick, readMark }) {
    const peer = (record ?? tick ?? readMark)?.conversation?.user;
    if (!peer) return; // a kind of conversation that this page does not know
    if (record) return this.#keep(peer, [record], { counts: true });
    const conversation = this.#store.conversation(peer);
    if (tick) {
      const delivered = Math.max(Number(tick.deliveredSeq ?? 0), Number(tick.readSeq ?? 0));
      conversation.delivered = Math.max(conversation.delivered, delivered);
      conversation.read = Math.max(conversation.read, Number(tick.readSeq ?? 0));
    } else {
      conversation.myRead = Math.max(conversation.myRead, Number(readMark.seq ?? 0));
      conversation.unread = await this.#store.countUnread(peer, this.user, conversation.myRead);
    }
    await this.#store.put(peer);
    this.#changed(peer);
  }

  /** Stores records. `counts`: they move the position; records of a history page fill the view only. */
  async #keep(peer, records, { counts }) {
    const conversation = this.#store.conversation(peer);
    const rows = [];
    for (const record of records) {
      const seq = Number(record.seq);
      const known = conversation.have !== null && (seq <= conversation.have || conversation.above.includes(seq));
      if (counts) account(conversation, seq);
      if (counts && known) continue;
      const row = this.#row(peer, record);
      if (counts && row.from !== this.user && seq > conversation.myRead) conversation.unread += 1;
      touch(conversation, row);
      rows.push(row);
    }
    const settled = rows.map((row) => this.#store.outbox.get(row.cmid)).filter(Boolean);
    await this.#store.put(peer, rows, settled);
    if (counts) this.#fillGap(conversation);
    this.#changed(peer);
  }

  #row(peer, record) {
    const { seq, id, from, text, kind, clientMessageId: cmid, serverTimeMs } = record;
    const body = text ?? (record.payload ? '(a message that this page cannot show)' : '');
    return { peer, seq: Number(seq), id, from, text: body, kind, cmid, ms: Number(serverTimeMs ?? 0) };
  }

  #fillGap(conversation) {
    if (conversation.have === null || !conversation.above.length) return;
    const { peer, have, above } = conversation;
    const toSeq = Math.min(above[0] - 1, have + FETCH_RECORDS);
    const range = { conversation: { user: peer }, fromSeq: String(have + 1), toSeq: String(toSeq) };
    this.#request({ fetch: range }, async ({ page }) => {
      if (!page) return; // asked again after the next welcome
      for (const skip of page.skips ?? []) {
        const last = Math.min(Number(skip.toSeq), toSeq);
        for (let seq = Math.max(Number(skip.fromSeq), have + 1); seq <= last; seq++) account(conversation, seq);
      }
      if (page.records?.length || page.skips?.length) await this.#keep(peer, page.records ?? [], { counts: true });
    });
  }

  /** The list of conversations, for what this device has never seen. */
  #list(cursor) {
    this.#request({ conversations: { cursor, limit: 50 } }, async ({ conversationPage }) => {
      for (const entry of conversationPage?.entries ?? []) {
        const peer = entry.conversation?.user;
        if (!peer) continue;
        const conversation = this.#store.conversation(peer);
        conversation.myRead = Math.max(conversation.myRead, Number(entry.readSeq ?? 0));
        if (Number(entry.lastSeq ?? 0) <= conversation.lastSeq) continue;
        const lastMs = Number(BigInt(entry.lastId ?? 0) >> 22n) + ID_EPOCH_MS;
        Object.assign(conversation, { lastMs, lastText: entry.preview ?? conversation.lastText });
        await this.#store.put(peer);
        if (!entry.preview) this.history(peer);
        this.#changed(peer);
      }
      if (conversationPage?.cursor) this.#list(conversationPage.cursor);
    });
  }

  #tellRead(conversation) {
    const seq = conversation.myRead;
    if (seq <= conversation.myReadDone) return;
    this.#ack(); // a position beyond what was acknowledged would be clamped
    this.#request({ read: { conversation: { user: conversation.peer }, seq: String(seq) } }, async ({ ok }) => {
      if (!ok) return; // told again after the next welcome
      conversation.myReadDone = Math.max(conversation.myReadDone, seq);
      await this.#store.put(conversation.peer);
    });
  }

  async #renew() {
    const token = await this.#token().catch(() => null);
    if (token) this.#request({ renew: { token } }, () => {});
  }

  // ---- events

  #set(state, detail = '') {
    Object.assign(this, { state, detail });
    this.dispatchEvent(new CustomEvent('state'));
  }

  #changed(peer) {
    this.dispatchEvent(new CustomEvent('change', { detail: { peer } }));
  }
}
