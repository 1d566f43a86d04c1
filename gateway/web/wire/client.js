// The ringpost client of the page: joins the connection, the inbox, the outbox and what is asked.
//
// Guarantees: a record is stored before it is acknowledged; nothing is shown twice. Never touches the page: tells it by the
// events `state`, `change` {key}, `ephemera` {key, what} and `refused` {key, why}.

import { Connection } from './connection.js';
import { Ephemera } from './ephemera.js';
import { Inbox } from './inbox.js';
import { isGroup } from './names.js';
import { Outbox } from './outbox.js';
import { Requests } from './requests.js';

const GROUP_SOON_MS = 50; // changes of a group come in rows
const DAY_MS = 86_400_000;

export class Client extends EventTarget {
  #connection;
  #store;
  #inbox;
  #outbox;
  #groupTimers = new Map();
  /** Presence and typing. */
  ephemera;
  /** What is asked and answered. */
  requests;
  /** What the server said in welcome. */
  limits = { textBytes: 65_536, editMs: DAY_MS, eraseMs: 2 * DAY_MS };

  /** `token`: () => Promise<string>, asked before every connection; `store`: an opened Store. */
  constructor({ url, user, device, token, store }) {
    super();
    Object.assign(this, { user, device });
    this.#store = store;
    const request = (body, answer) => this.#connection.request(body, answer);
    const changed = (key) => this.#emit('change', { key });
    const refused = (key, why) => this.#emit('refused', { key, why });
    const groupMoved = (key) => this.#groupSoon(key);
    this.#inbox = new Inbox({ user, store, request, changed, groupMoved, ack: () => this.#connection.ack() });
    this.#outbox = new Outbox({ user, store, request, changed, refused });
    this.requests = new Requests((body) => this.#connection.ask(body));
    this.ephemera = new Ephemera({
      ask: (body) => this.#connection.ask(body),
      tell: (body) => this.#connection.tell(body),
      changed: (key, what) => this.#emit('ephemera', { key, what }),
    });
    this.#connection = new Connection({ url, token, on: this.#handlers(store) });
  }

  #handlers(store) {
    return {
      hello: () => ({ client: 'ringpost-web/2', resumeToken: store.server.resumeToken, have: this.#inbox.have() }),
      welcome: (welcome) => this.#welcomed(welcome),
      push: async (push) => {
        await this.#inbox.pushed(push);
        this.#heard(push.record);
      },
      other: ({ presenceState, typingEvent }) => {
        if (presenceState) this.ephemera.state(presenceState);
        if (typingEvent) this.ephemera.typingEvent(typingEvent);
      },
      lost: () => {
        this.#inbox.disconnected();
        this.#outbox.disconnected();
        this.ephemera.disconnected();
      },
      changed: () => this.#emit('state', {}),
    };
  }

  get state() {
    return this.#connection.state;
  }

  get detail() {
    return this.#connection.detail;
  }

  get retryAt() {
    return this.#connection.retryAt;
  }

  start() {
    document.addEventListener('visibilitychange', () => this.ephemera.seen());
    this.#connection.start();
  }

  async #welcomed(welcome) {
    for (const [name, value] of Object.entries(welcome.limits ?? {})) this.limits[name] = Number(value);
    await this.#inbox.welcomed(welcome);
    this.#outbox.connected();
    this.ephemera.welcomed(welcome);
  }

  /** Who has said something types no more. */
  #heard(record) {
    const row = record?.from && record.conversation;
    if (row) this.ephemera.typingEvent({ conversation: row, user: record.from, state: 'PAUSED' });
  }

  /** Keeps a message and sends it as soon as possible. Resolves when it is kept. `said`: {kind?, text?, ref?}. */
  send = (key, said) => this.#outbox.add(key, said);
  /** Tries a message again that was refused. */
  resend = (cmid) => this.#outbox.resend(cmid);
  /** Gives a refused message up. */
  drop = (cmid) => this.#outbox.drop(cmid);
  /** The user has seen everything up to `seq`. */
  read = (key, seq) => this.#inbox.read(key, seq);
  history = (key, before = 0, limit = 50) => this.#inbox.history(key, before, limit);
  fetchOne = (key, seq) => this.#inbox.fetchOne(key, seq);
  /** What the server says of all conversations, anew. */
  relist = () => this.#inbox.list();

  // ---- groups: what is known of one is asked again when a record says that it has changed

  #groupSoon(key) {
    if (this.#groupTimers.has(key)) return;
    const timer = setTimeout(async () => {
      this.#groupTimers.delete(key);
      await this.refreshGroup(key);
    }, GROUP_SOON_MS);
    this.#groupTimers.set(key, timer);
  }

  /** Resolves when what the server says of the group is stored. */
  async refreshGroup(key) {
    if (!isGroup(key)) return;
    try {
      await this.keepGroup(await this.requests.group(key));
    } catch (error) {
      if (error.code === 'NOT_MEMBER') this.#store.conversation(key).left = true;
      this.#emit('change', { key });
    }
  }

  /** What this device has changed is not pushed to it. */
  changedHere = (key) => this.history(key, 0, 20);

  /** What an answer said of a group. */
  async keepGroup({ key, name, description, avatar, epoch, members }) {
    const conversation = this.#store.conversation(key);
    const left = !members.some(({ user }) => user === this.user);
    Object.assign(conversation, { title: name, description, avatar, epoch, members, left });
    await this.#store.put(key);
    this.#emit('change', { key });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
