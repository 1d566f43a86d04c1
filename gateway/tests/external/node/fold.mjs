// Units of the chat page: records folded into messages, names and keys, ranges that were not delivered, pictures, quiet hours.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pageModules } from '../lib/modules.mjs';

const files = ['wire/fold.js', 'wire/names.js', 'wire/store.js', 'wire/inbox.js', 'view/words.js', 'view/picture.js', 'view/hours.js'];
const { account, addRange, blank, changeWords, checkedKey, fold, keyOf, peerOf, touch, userName, userNames, uuid7, signOf, timeHere, utcMinute } = await pageModules(...files);

const conversation = blank('u:bob');
const text = (seq, from, words, more = {}) => ({ key: 'u:bob', seq, from, kind: 'TEXT', text: words, ms: seq, ...more });
const about = (seq, from, kind, ref, words = '') => ({ ...text(seq, from, words), kind, ref });
const folded = (rows, said, waiting = []) => fold({ rows, about: said, waiting, me: 'alice', conversation });

test('edits and reactions apply in the order of the log, in whatever order they were read', () => {
  const rows = [text(1, 'alice', 'one')];
  const said = [about(4, 'alice', 'EDIT', 1, 'three'), about(2, 'alice', 'EDIT', 1, 'two'), about(5, 'bob', 'REACTION', 1, '+'), about(3, 'bob', 'REACTION', 1, '-')];
  const [message] = folded(rows, said);
  assert.deepEqual([message.text, message.edited], ['three', true]);
  assert.deepEqual(message.reactions, [{ sign: '+', users: ['bob'], mine: false }]);
});

test('a reaction that is empty takes the last one back; the same one of two users is one', () => {
  const said = [about(2, 'bob', 'REACTION', 1, '+'), about(3, 'alice', 'REACTION', 1, '+'), about(4, 'bob', 'REACTION', 1)];
  assert.deepEqual(folded([text(1, 'bob', 'hi')], said.slice(0, 2))[0].reactions, [{ sign: '+', users: ['bob', 'alice'], mine: true }]);
  assert.deepEqual(folded([text(1, 'bob', 'hi')], said)[0].reactions, [{ sign: '+', users: ['alice'], mine: true }]);
});

test('what was taken back shows nothing of itself, its edits and its reactions', () => {
  const said = [about(2, 'bob', 'EDIT', 1, 'secret too'), about(3, 'alice', 'REACTION', 1, '+'), about(4, 'bob', 'ERASE', 1)];
  const [message] = folded([text(1, 'bob', 'secret')], said);
  assert.deepEqual([message.text, message.erased, message.edited, message.reactions], ['', true, false, []]);
  const [again] = folded([text(1, 'bob', '', { erased: true })], []);
  assert.equal(again.erased, true);
});

test('what waits to be sent shows at once: a message at the end, an edit in its place', () => {
  const entry = (cmid, frame) => ({ key: 'u:bob', cmid, frame, ms: 9, error: '' });
  const waiting = [entry('a', { text: 'new' }), entry('b', { kind: 'EDIT', text: 'better', refSeq: '1' })];
  const [first, last] = folded([text(1, 'alice', 'good', { cmid: 'x' })], [], waiting);
  assert.deepEqual([first.text, first.edited], ['better', true]);
  assert.deepEqual([last.id, last.text, last.status], ['a', 'new', 'waiting']);
});

test('ticks of own messages: read, delivered, sent, and one tick where it was not delivered and will not be', () => {
  const progress = { ...conversation, read: 1, delivered: 3, excluded: [[2, 2]] };
  const rows = [1, 2, 3, 4].map((seq) => text(seq, 'alice', 'x'));
  const shown = fold({ rows, about: [], waiting: [], me: 'alice', conversation: progress });
  assert.deepEqual(shown.map((message) => message.status), ['read', 'sent', 'delivered', 'sent']);
});

test('ranges merge and stay bounded', () => {
  assert.deepEqual(addRange([[1, 2], [8, 9]], 3, 4), [[1, 4], [8, 9]]);
  const added = (count) => Array.from({ length: count }, (_, n) => 3 * n + 1).reduce((ranges, at) => addRange(ranges, at, at), []);
  // As many as a server may tell of a group stay apart: what lies between them was delivered.
  assert.equal(added(1_024).length, 1_024);
  const ranges = added(1_500);
  assert.deepEqual([ranges.length, ranges[0], ranges[1]], [1_024, [1, 1_429], [1_432, 1_432]]);
});

test('conversations have the same name on the wire, as keys and in the address', () => {
  const group = { group: 'AAECAwQFBgcICQoLDA0ODw==' };
  assert.equal(keyOf(group), 'g:000102030405060708090a0b0c0d0e0f');
  assert.deepEqual(peerOf(keyOf(group)), group);
  assert.equal(checkedKey(keyOf(group)), keyOf(group));
  assert.equal(checkedKey('u:bob'), 'u:bob');
  for (const bad of ['', 'bob', 'u:', 'g:12', `u:${'x'.repeat(65)}`, 'u:a\u0000']) assert.equal(checkedKey(bad), null);
});

test('names are those that the gateway takes', () => {
  assert.equal(userName(' Zoe\u0308 '), 'Zo\u00eb');
  assert.equal(userName('\u00e9'.repeat(33)), null);
  assert.deepEqual(userNames('bob,carol  bob'), ['bob', 'carol']);
  assert.equal(userNames('bob, \u0007'), null);
  const bytes = atob(uuid7(1_700_000_000_123));
  assert.deepEqual([bytes.length, bytes.charCodeAt(6) >> 4, bytes.charCodeAt(8) >> 6], [16, 7, 2]);
});

test('positions move over what is contiguous, and the list over what is a message', () => {
  const one = blank('u:bob');
  for (const seq of [4, 6, 5]) account(one, seq);
  assert.deepEqual([one.have, one.above], [6, []]);
  touch(one, text(6, 'bob', 'hi'));
  touch(one, about(7, 'alice', 'REACTION', 6, '+'));
  assert.deepEqual([one.last.text, one.head], ['hi', 7]);
  touch(one, about(8, 'bob', 'EDIT', 6, 'hello'));
  assert.equal(one.last.text, 'hello');
  touch(one, about(9, 'bob', 'ERASE', 6));
  touch(one, about(8, 'bob', 'EDIT', 6, 'hello')); // SENT of what was repeated
  assert.deepEqual([one.last.text, one.last.erased], ['', true]);
});

test('changes of a group in words', () => {
  const nameOf = (user) => (user === 'alice' ? 'you' : user);
  assert.equal(changeWords('bob', { removed: { users: ['alice', 'carl'] } }, nameOf), 'bob removed you and carl');
  assert.equal(changeWords('alice', { left: {}, promoted: 'bob' }, nameOf), 'You left the group. bob is an admin now');
});

test('a picture is drawn only where it is one sign; any other media id is a letter', () => {
  assert.deepEqual(['sign:🦊', 'sign:🏔️', 'sign:👩‍🚀'].map(signOf), ['🦊', '🏔️', '👩‍🚀']);
  assert.deepEqual(['', 'sign:', 'sign:x', 'sign:🦊🦊', 'sign:🦊 and more', '🦊', 'd41d8cd98f'].map(signOf), Array(7).fill(''));
  assert.equal(signOf(undefined), '');
});

test('quiet hours are kept in UTC and shown as a clock here shows them', () => {
  const [utc, kolkata, newYork, kiritimati] = [0, -330, 240, -840];
  assert.deepEqual([utc, kolkata, newYork, kiritimati].map((offset) => utcMinute('22:30', offset)), [1350, 1020, 150, 510]);
  assert.deepEqual([utc, kolkata, newYork, kiritimati].map((offset) => timeHere(1350, offset)), ['22:30', '04:00', '18:30', '12:30']);
  for (const offset of [utc, kolkata, newYork, kiritimati]) assert.equal(timeHere(utcMinute('00:05', offset), offset), '00:05');
});
