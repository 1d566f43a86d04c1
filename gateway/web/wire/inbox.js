// What comes of conversations: pushes, pages, the list. Stored first, then shown.
//
// Guarantees: a record is in the store when its push is handled; nothing is counted twice (seq); a gap is fetched. Never
// sends a message.

import { keyOf, isGroup, peerOf } from './names.js';
import { account, blank, counts, touch } from './store.js';

const FETCH_RECORDS = 100;
const LIST_PAGE = 50;
const ID_EPOCH_MS = Date.UTC(2024, 0, 1);
const RANGES = 1_024; // of what was not delivered, more than a server tells; beyond that the oldest ones merge

/** Adds [from, to] to sorted ranges. */
export function addRange(ranges, from, to) {
  const all = [...ranges, [from, to]].sort(([a], [b]) => a - b);
  const merged = [];
  for (const [start, end] of all) {
    const last = merged.at(-1);
    if (last && start <= last[1] + 1) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  while (merged.length > RANGES) merged.splice(0, 2, [merged[0][0], merged[1][1]]);
  return merged;
}

export class Inbox {
  #user;
  #store;
  #request;
  #ack;
  #changed;
  #groupMoved;
  #listTimer = 0;

  /** `request(body, answer)` as of the connection; `ack()`: acknowledges what is stored; `changed(key)`: something to show;
   *  `groupMoved(key)`: who is in a group, or what it is called, has changed. */
  constructor({ user, store, request, ack, changed, groupMoved }) {
    this.#user = user;
    this.#store = store;
    this.#request = request;
    this.#ack = ack;
    this.#changed = changed;
    this.#groupMoved = groupMoved;
  }

  /** How far each conversation that moved lately was received. */
  have() {
    const known = this.#store.list().filter((conversation) => conversation.have > 0);
    return known.slice(0, 100).map(({ key, have }) => ({ conversation: peerOf(key), seq: String(have) }));
  }

  async welcomed(welcome) {
    const keys = new Set((welcome.reset ?? []).map(({ conversation }) => keyOf(conversation)));
    const { storeIncarnation: incarnation = '', resumeToken = '' } = welcome;
    const { incarnation: before } = this.#store.server;
    // Hello names the recent ones only.
    if (before && before !== incarnation) for (const key of this.#store.conversations.keys()) keys.add(key);
    for (const key of keys) if (key) await this.#reset(key);
    await this.#store.putServer({ incarnation, resumeToken });
    this.list();
    for (const conversation of this.#store.conversations.values()) {
      this.#fillGap(conversation);
      this.#tellRead(conversation);
    }
  }

  /** The server's log is another one than ours: what is stored of it goes, and it begins anew with what comes next. */
  async #reset(key) {
    const conversation = this.#store.conversation(key);
    const { have, above, head, oldest, begun, delivered, read, excluded, myRead, myReadDone, unread, counted, changed } = blank(key);
    Object.assign(conversation, { have, above, head, oldest, begun, delivered, read, excluded, myRead, myReadDone, unread, counted, changed });
    if (conversation.last) conversation.last.seq = 0;
    await this.#store.truncate(key, 0);
  }

  disconnected() {
    clearTimeout(this.#listTimer);
    this.#listTimer = 0;
  }

  async pushed({ record, tick, readMark }) {
    const key = keyOf((record ?? tick ?? readMark)?.conversation);
    if (!key) return; // something that this page does not know
    if (record) return this.#keep(key, [record], { live: true });
    const conversation = this.#store.conversation(key);
    if (tick) this.#ticked(conversation, tick);
    else await this.#readElsewhere(conversation, Number(readMark.seq ?? 0));
    await this.#store.put(key);
    this.#changed(key);
  }

  #ticked(conversation, tick) {
    const read = Number(tick.readSeq ?? 0);
    conversation.delivered = Math.max(conversation.delivered, Number(tick.deliveredSeq ?? 0), read);
    conversation.read = Math.max(conversation.read, read);
    for (const { fromSeq, toSeq } of tick.excluded ?? []) {
      conversation.excluded = addRange(conversation.excluded, Number(fromSeq), Number(toSeq));
    }
  }

  async #readElsewhere(conversation, seq) {
    if (seq <= conversation.myRead) return;
    conversation.myRead = seq;
    conversation.unread = await this.#store.countUnread(conversation.key, this.#user, seq);
    // Not everything that is unread needs to be in the store; the server knows.
    if (seq < conversation.head || conversation.oldest > seq + 1) this.#listSoon();
  }

  /** The user has seen everything up to `seq`. */
  async read(key, seq) {
    const conversation = this.#store.conversation(key);
    if (seq <= conversation.myRead && conversation.unread === 0) return;
    conversation.myRead = Math.max(conversation.myRead, seq);
    conversation.unread = 0;
    conversation.counted = Math.max(conversation.counted, seq);
    this.#changed(key);
    await this.#store.put(key);
    this.#tellRead(conversation);
  }

  #tellRead(conversation) {
    const seq = conversation.myRead;
    if (seq <= conversation.myReadDone || conversation.left) return;
    this.#ack(); // a position beyond what was acknowledged would be clamped
    this.#request({ read: { conversation: peerOf(conversation.key), seq: String(seq) } }, async ({ ok }) => {
      if (!ok) return; // told again after the next welcome
      conversation.myReadDone = Math.max(conversation.myReadDone, seq);
      await this.#store.put(conversation.key);
    });
  }

  /** Brings up to `limit` records before `before` (0: the newest) into the store. Resolves with whether it was answered. */
  history(key, before, limit) {
    const ask = { history: { conversation: peerOf(key), beforeSeq: String(before), limit } };
    return new Promise((resolve) => {
      const asked = this.#request(ask, async ({ page }) => {
        if (!page) return resolve(false);
        const conversation = this.#store.conversation(key);
        const records = page.records ?? [];
        const first = records.length ? Number(records.at(-1).seq) : null;
        if (first !== null) conversation.oldest = Math.min(conversation.oldest ?? first, first);
        if (Number(page.nextBeforeSeq ?? 0) === 0) conversation.begun = true;
        // In the order of the log, so that what was edited is not shown as it was before.
        await this.#keep(key, [...records].reverse(), { live: false });
        resolve(true);
      });
      if (!asked) resolve(false);
    });
  }

  /** One record that is not in the store; it is not kept. Null where there is none for this user. */
  fetchOne(key, seq) {
    const range = { conversation: peerOf(key), fromSeq: String(seq), toSeq: String(seq) };
    return new Promise((resolve) => {
      const asked = this.#request({ fetch: range }, ({ page }) => {
        resolve(page?.records?.[0] ? this.#row(key, page.records[0]) : null);
      });
      if (!asked) resolve(null);
    });
  }

  /** Stores records. `live`: they move the position; records of a history page fill the view only. */
  async #keep(key, records, { live }) {
    const conversation = this.#store.conversation(key);
    const rows = [];
    for (const record of records) {
      const seq = Number(record.seq);
      const known = conversation.have !== null && (seq <= conversation.have || conversation.above.includes(seq));
      if (live) account(conversation, seq);
      if (live && known) continue;
      const row = this.#row(key, record);
      if (live) this.#count(conversation, row);
      if (live) conversation.oldest ??= seq;
      if (row.change) this.#learn(conversation, row, live);
      touch(conversation, row);
      rows.push(row);
    }
    const settled = rows.map((row) => this.#store.outbox.get(row.cmid)).filter(Boolean);
    await this.#store.put(key, rows, settled);
    if (live) this.#fillGap(conversation);
    this.#changed(key);
  }

  #count(conversation, { seq, from, kind }) {
    if (seq <= conversation.counted || seq <= conversation.myRead) return;
    conversation.counted = seq;
    if (from !== this.#user && counts(kind)) conversation.unread += 1;
  }

  #row(key, record) {
    const { seq, id, from, fromDevice, kind = 'TEXT', text, clientMessageId: cmid, serverTimeMs, refSeq } = record;
    const row = { key, seq: Number(seq), id, from, device: fromDevice, kind, cmid, ms: Number(serverTimeMs ?? 0) };
    const body = text ?? (record.payload ? '(a message that this page cannot show)' : '');
    const { media, change, erased } = record;
    return { ...row, text: body, ref: refSeq ? Number(refSeq) : undefined, media, change, erased };
  }

  /** What a change says of the conversation itself; the newest one holds, in whatever order they are read. */
  #learn(conversation, { seq, from, change }, live) {
    const newest = (what) => seq >= (conversation.changed[what] ?? 0) && ((conversation.changed[what] = seq), true);
    const name = change.created?.name ?? change.updated?.name;
    if (name && newest('title')) conversation.title = name;
    if (change.blocked && from === this.#user && newest('blocked')) conversation.blocked = change.blocked.on === true;
    const gone = change.removed?.users?.includes(this.#user) || (change.left && from === this.#user);
    const here = change.created || change.added?.users?.includes(this.#user);
    if ((gone || here) && newest('left')) conversation.left = Boolean(gone);
    if (live && isGroup(conversation.key)) this.#groupMoved(conversation.key);
  }

  #fillGap(conversation) {
    if (conversation.have === null || !conversation.above.length) return;
    const { key, have, above } = conversation;
    const toSeq = Math.min(above[0] - 1, have + FETCH_RECORDS);
    const range = { conversation: peerOf(key), fromSeq: String(have + 1), toSeq: String(toSeq) };
    this.#request({ fetch: range }, async ({ page }) => {
      if (!page) return; // asked again after the next welcome
      for (const skip of page.skips ?? []) {
        const last = Math.min(Number(skip.toSeq), toSeq);
        for (let seq = Math.max(Number(skip.fromSeq), have + 1); seq <= last; seq++) account(conversation, seq);
      }
      if (page.records?.length || page.skips?.length) await this.#keep(key, page.records ?? [], { live: true });
    });
  }

  #listSoon() {
    this.#listTimer ||= setTimeout(() => {
      this.#listTimer = 0;
      this.list();
    }, 300);
  }

  /** The list of conversations: what this device has never seen, and what the server counts as unread. */
  list(cursor = '') {
    this.#request({ conversations: { cursor, limit: LIST_PAGE } }, async ({ conversationPage }) => {
      for (const entry of conversationPage?.entries ?? []) await this.#listed(entry);
      if (conversationPage?.cursor) this.list(conversationPage.cursor);
    });
  }

  async #listed(entry) {
    const key = keyOf(entry.conversation);
    if (!key) return;
    const conversation = this.#store.conversation(key);
    const [lastSeq, readSeq] = [Number(entry.lastSeq ?? 0), Number(entry.readSeq ?? 0)];
    if (entry.title) conversation.title = entry.title;
    conversation.muted = entry.muted ?? false;
    // What was read here and is not confirmed, or came here meanwhile, the server has not counted.
    if (readSeq >= conversation.myRead && lastSeq >= conversation.head) {
      conversation.unread = entry.unread ?? 0;
      conversation.counted = Math.max(conversation.counted, lastSeq);
    }
    conversation.myRead = Math.max(conversation.myRead, readSeq);
    if (lastSeq > conversation.head) {
      const lastMs = Number(BigInt(entry.lastId ?? 0) >> 22n) + ID_EPOCH_MS;
      const last = { seq: conversation.last?.seq ?? 0, from: '', kind: 'TEXT', text: entry.preview ?? '' };
      Object.assign(conversation, { lastMs, last });
      this.history(key, 0, LIST_PAGE);
    }
    if (isGroup(key) && !conversation.members && !conversation.left) this.#groupMoved(key);
    await this.#store.put(key);
    this.#changed(key);
  }
}
