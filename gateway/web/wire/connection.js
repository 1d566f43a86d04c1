// One session with the gateway, JSON over WebSocket, and the next one when it ends.
//
// Guarantees: frames are handled one after the other, and a push is acknowledged when its handler is done; back-off with
// full jitter, unless a close code forbids to come back. Knows requests and answers, not what they are about.

const WELCOME_MS = 10_000;
const BACKOFF_MS = { least: 1_000, most: 60_000 };
const STABLE_MS = 10_000; // a session that lived so long ends a row of failures
const ACK_EVERY = 16; // pushes, while more are waiting to be stored; well inside the window

const CLOSE = { NORMAL: 1000, UNSUPPORTED: 1003, REPLACED: 4500, TOKEN_EXPIRED: 4502, DEVICE_REVOKED: 4503, DEVICE_IN_USE: 4504 };
// States in which this device stays away until the user asks.
const ENDS = {
  [CLOSE.NORMAL]: 'ended',
  [CLOSE.REPLACED]: 'replaced',
  [CLOSE.DEVICE_REVOKED]: 'revoked',
  [CLOSE.DEVICE_IN_USE]: 'busy',
};
const WHY = {
  4000: 'the server is restarting',
  4001: 'the connection went silent',
  4002: 'this browser was too slow',
  4003: 'the server has too much to do',
  4004: 'the server had a fault',
  4502: 'a new token is needed',
};

/** Whether a client that was closed with `code` may come back by itself. */
export function mayReconnect(code) {
  if (code === CLOSE.TOKEN_EXPIRED) return true; // with a new token, which every attempt of ours gets
  return !(code >= 4500 && code < 4600) && code !== CLOSE.NORMAL && code !== CLOSE.UNSUPPORTED;
}

export class Connection {
  /** offline, connecting, online, waiting (until `retryAt`); or ended, replaced, revoked, busy, refused: until the user asks. */
  state = 'offline';
  detail = ''; // why
  retryAt = 0;
  #url;
  #token;
  #on;
  #socket = null;
  #epoch = 0; // of the connection; what belongs to an older one is ignored
  #attempt = 0;
  #timers = { reconnect: 0, welcome: 0, beat: 0 };
  #requests = new Map(); // number -> what to do with the answer
  #nextId = 1;
  #work = Promise.resolve();
  #queued = 0;
  #stored = 0; // the last push that is stored, and the last one acknowledged
  #acked = 0;
  #reconnectAfter = null;
  #welcomedAt = 0;
  #heardAt = 0;
  #welcome = null;
  #error = ''; // what the server said last, before it closed

  /** `token`: () => Promise<string>, asked before every connection. `on`: hello() gives the frame; welcome(welcome), push(push)
   *  and other(frame) may be async; lost(): no answer comes any more; changed(): the state. */
  constructor({ url, token, on }) {
    this.#url = url;
    this.#token = token;
    this.#on = on;
  }

  start() {
    addEventListener('online', () => this.#hurry());
    addEventListener('offline', () => this.#socket && this.#abandon());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#hurry());
    this.#connect();
  }

  /** Whether the request could be sent. A connection that ends answers it with `{}`. */
  request(body, answer) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    const id = this.#nextId++;
    this.#requests.set(String(id), answer);
    this.#socket.send(JSON.stringify({ id: String(id), ...body }));
    return true;
  }

  /** The answer; `{}` when there is none. */
  ask(body) {
    return new Promise((resolve) => {
      if (!this.request(body, resolve)) resolve({});
    });
  }

  /** What has no answer. */
  tell(body) {
    if (this.state === 'online' && this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(body));
  }

  /** Acknowledges what is stored. */
  ack() {
    if (this.#stored <= this.#acked || this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify({ ack: { push: String(this.#stored) } }));
    this.#acked = this.#stored;
  }

  async #connect() {
    const epoch = ++this.#epoch;
    clearTimeout(this.#timers.reconnect);
    this.#set('connecting', this.detail);
    let token;
    try {
      token = await this.#token();
    } catch (error) {
      if (epoch !== this.#epoch) return;
      return error.refused ? this.#set('refused', error.message) : this.#retryLater('the server cannot be reached');
    }
    if (epoch !== this.#epoch) return;
    this.#error = '';
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
    this.request({ hello: this.#on.hello() }, ({ welcome, error }) => {
      if (welcome) return this.#welcomed(welcome);
      this.#error = error?.message ?? '';
    });
  }

  async #welcomed(welcome) {
    clearTimeout(this.#timers.welcome);
    this.#welcome = welcome;
    this.#stored = this.#acked = 0;
    this.#welcomedAt = Date.now();
    const beatMs = Number(welcome.heartbeatMs ?? 30_000);
    clearInterval(this.#timers.beat);
    this.#timers.beat = setInterval(() => this.#beat(beatMs), beatMs / 3);
    this.state = 'online';
    await this.#on.welcome(welcome);
    this.#set('online');
  }

  /** Browsers cannot ping: a silent connection is asked, and given up when it does not answer. */
  #beat(beatMs) {
    const silentMs = Date.now() - this.#heardAt;
    if (silentMs > 2 * beatMs) this.#abandon();
    else if (silentMs > 0.6 * beatMs) this.request({ ping: {} }, () => {});
  }

  async #handle(frame) {
    if (frame.push) {
      await this.#on.push(frame.push);
      this.#stored = Number(frame.push.n);
    } else if (frame.drain) {
      this.#reconnectAfter = Number(frame.drain.reconnectAfterMs ?? 0);
    } else if (frame.renewSoon) {
      this.#renew();
    } else if (frame.re && frame.re !== '0') {
      const answer = this.#requests.get(frame.re);
      this.#requests.delete(frame.re);
      await answer?.(frame);
    } else {
      if (frame.error) this.#error = frame.error.message ?? frame.error.code;
      await this.#on.other(frame);
    }
    if (this.#queued === 0 || this.#stored - this.#acked >= ACK_EVERY) this.ack();
  }

  async #renew() {
    const token = await this.#token().catch(() => null);
    if (token) this.request({ renew: { token } }, () => {});
  }

  #closed(code, reason) {
    this.#drop();
    if (mayReconnect(code)) return this.#retryLater(WHY[code] ?? 'no connection');
    this.#set(ENDS[code] ?? 'refused', reason || this.#error || `close code ${code}`);
  }

  /** Gives a connection up without waiting for the other side. */
  #abandon() {
    const socket = this.#socket;
    this.#epoch += 1;
    this.#drop();
    socket?.close();
    this.#retryLater('no connection');
  }

  #drop() {
    clearTimeout(this.#timers.welcome);
    clearInterval(this.#timers.beat);
    this.#on.lost();
    const waiting = [...this.#requests.values()];
    this.#requests.clear();
    this.#socket = null;
    this.#queued = 0;
    for (const answer of waiting) answer({});
  }

  /** Back-off with full jitter. After a crash the first attempt is spread over the slot that welcome gave. */
  #retryLater(why) {
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
    this.retryAt = Date.now() + waitMs;
    this.#set('waiting', why);
  }

  /** The network came back, or the user did: do not wait out a long back-off. */
  #hurry() {
    if (this.state !== 'waiting' || this.#attempt < 3) return;
    clearTimeout(this.#timers.reconnect);
    this.#connect();
  }

  #set(state, detail = '') {
    Object.assign(this, { state, detail });
    this.#on.changed();
  }
}
