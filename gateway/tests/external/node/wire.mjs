// The chat page's outbox and inbox, against a server that is played: what waits, what a restored server voids, and what is
// kept of what was taken back.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { indexedDB } from '../lib/indexeddb.mjs';
import { Memory } from '../lib/memory.mjs';
import { pageModules } from '../lib/modules.mjs';

globalThis.indexedDB ??= indexedDB;
const { Inbox, Outbox, Store, blank } = await pageModules('wire/inbox.js', 'wire/outbox.js', 'wire/store.js');

/** An outbox, and the requests that it has made: {body, answer}. */
function outbox(store = new Memory(blank)) {
  const [said, told] = [[], []];
  const request = (body, answer) => Boolean(said.push({ body, answer }));
  const refused = (key, why) => told.push([key, why]);
  return { box: new Outbox({ user: 'alice', store, request, changed: () => {}, refused }), said, told, store };
}

const texts = (said) => said.map(({ body }) => body.send.text);

test('a conversation that has to wait for hours holds up no other, is said to, and keeps its order', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.UTC(2026, 0, 1) });
  const { box, said, told } = outbox();
  box.connected();
  await box.add('u:stranger', { text: 'hello' });
  await said[0].answer({ error: { code: 'RATE_LIMITED', retryable: true, retryAfterMs: '72000000', message: 'too many' } });
  await box.add('u:stranger', { text: 'are you there?' });
  await box.add('u:bob', { text: 'lunch?' });
  assert.deepEqual(texts(said), ['hello', 'lunch?']);
  assert.deepEqual(told, [['u:stranger', 'too many; it is tried again in 20 h']]);
  await said[1].answer({ sent: { seq: '1', id: '1', serverTimeMs: '1' } });
  // Not before that either, whatever becomes of the connection.
  box.disconnected();
  box.connected();
  t.mock.timers.tick(71_999_999);
  assert.equal(said.length, 2);
  t.mock.timers.tick(1);
  assert.deepEqual(texts(said.slice(2)), ['hello', 'are you there?']);
});

/** A store with these positions: key -> have. */
function known(haves) {
  const store = new Memory(blank);
  for (const [key, have] of Object.entries(haves)) {
    Object.assign(store.conversation(key), { have, head: have, oldest: 1, begun: true, counted: have, myRead: have, myReadDone: have });
  }
  store.server = { incarnation: 'one', resumeToken: 'token' };
  return store;
}

const inbox = (store, request = () => true) => new Inbox({ user: 'alice', store, request, ack: () => {}, changed: () => {}, groupMoved: () => {} });
const record = (seq) => ({ record: { conversation: { user: 'bob' }, seq: String(seq), id: '1', from: 'bob', text: 'hi', serverTimeMs: '1' } });

const list = (entry) => ({ conversationPage: { entries: [{ conversation: { user: 'bob' }, ...entry }] } });

test('after a reset what is pushed next counts, though positions of before were beyond it', async () => {
  const store = known({ 'u:bob': 5 });
  const said = [];
  const box = inbox(store, (body, answer) => said.push({ body, answer }));
  // Of a log that was restored to 3 and has gone on to 6 since.
  await box.welcomed({ storeIncarnation: 'two', resumeToken: 'next', reset: [{ conversation: { user: 'bob' }, headSeq: '6' }] });
  await said[0].answer(list({ lastSeq: '6', lastId: '1', readSeq: '3', unread: 3 }));
  for (const seq of [4, 5, 6]) await box.pushed(record(seq));
  const { have, unread, myRead } = store.conversation('u:bob');
  assert.deepEqual([have, unread, myRead, store.rows('u:bob')], [6, 3, 3, [4, 5, 6]]);
  assert.deepEqual(store.server, { incarnation: 'two', resumeToken: 'next' });
});

test('a server that was restored voids the positions that hello did not name', async () => {
  const store = known({ 'u:bob': 9, 'u:carl': 4 });
  const box = inbox(store);
  await box.welcomed({ storeIncarnation: 'two', resumeToken: 'other', reset: [{ conversation: { user: 'carl' }, headSeq: '3' }] });
  assert.deepEqual([store.conversation('u:bob').have, store.conversation('u:carl').have], [null, null]);
  await box.pushed(record(7));
  const { have, unread, begun } = store.conversation('u:bob');
  assert.deepEqual([have, unread, begun], [7, 1, false]);
  // The same server again: nothing is void.
  await box.welcomed({ storeIncarnation: 'two', resumeToken: 'third' });
  assert.equal(store.conversation('u:bob').have, 7);
});

const [OWN, OTHER] = [1, 4];

/** A store with a message of alice and one of bob, each with two edits, and a reaction: positions 1 to 7. */
async function edited() {
  const store = await Store.open('alice', 'phone');
  const row = (seq, from, kind, ref) => ({ key: 'u:bob', seq, from, kind, text: `secret ${seq}`, ms: seq, ref });
  const of = (seq, from) => [row(seq, from, 'TEXT'), row(seq + 1, from, 'EDIT', seq), row(seq + 2, from, 'EDIT', seq)];
  await store.put('u:bob', [...of(OWN, 'alice'), ...of(OTHER, 'bob'), row(7, 'bob', 'REACTION', OWN)]);
  Object.assign(store.conversation('u:bob'), { have: 7, head: 7, oldest: 1, begun: true });
  return store;
}

/** The positions of which a text is stored. */
async function withText(store) {
  const rows = await Promise.all([1, 2, 3, 4, 5, 6, 7].map((seq) => store.record('u:bob', seq)));
  return rows.filter((row) => row.text).map((row) => row.seq);
}

const erasure = (seq, from, refSeq) => {
  const { record: other } = record(seq);
  return { record: { ...other, from, kind: 'ERASE', text: undefined, refSeq: String(refSeq) } };
};

test('the device that takes a message back keeps no edit of it: it is not pushed the erasures of those', async () => {
  const store = await edited();
  const { box, said } = outbox(store);
  box.connected();
  await box.add('u:bob', { kind: 'ERASE', ref: OWN });
  await said[0].answer({ sent: { seq: '10', id: '1', serverTimeMs: '1' } });
  assert.deepEqual(await withText(store), [4, 5, 6, 7]);
});

test('who receives an erasure of a message keeps no edit of it; one of an edit takes back only that', async () => {
  const store = await edited();
  const box = inbox(store);
  await box.pushed(erasure(8, 'bob', OTHER + 1));
  assert.deepEqual(await withText(store), [1, 2, 3, 4, 6, 7]);
  await box.pushed(erasure(9, 'bob', OTHER));
  assert.deepEqual(await withText(store), [1, 2, 3, 7]);
});

test('what was taken back does not return with an answer that comes late', async () => {
  const store = await edited();
  const late = await Promise.all([OWN, OWN + 1].map((seq) => store.record('u:bob', seq)));
  const box = inbox(store);
  await box.pushed(erasure(8, 'alice', OWN));
  for (const row of late) await store.put('u:bob', [row]);
  await store.put('u:bob', [{ key: 'u:bob', seq: 9, from: 'alice', kind: 'EDIT', text: '', ms: 9, erased: true }]); // of nothing
  assert.deepEqual(await withText(store), [4, 5, 6, 7]);
});
