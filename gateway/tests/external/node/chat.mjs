// Two users chat through npm `ws`, in JSON and in protobuf (protobufjs): send, receive, ack, be cut, resume.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Server, packages, root } from '../lib/server.mjs';

const WebSocket = packages('ws');
const protobuf = packages('protobufjs');
const PATIENCE_MS = 20_000;

const types = new protobuf.Root();
types.resolvePath = (_, path) => join(root, 'proto/proto', path);
types.loadSync('ringpost/v1/frames.proto');
const ClientFrame = types.lookupType('ringpost.v1.ClientFrame');
const ServerFrame = types.lookupType('ringpost.v1.ServerFrame');

const codecs = {
  json: {
    subprotocol: 'ringpost.v1.json',
    encode: (frame) => JSON.stringify(frame),
    decode: (data, binary) => (assert(!binary), JSON.parse(data)),
  },
  protobuf: {
    subprotocol: 'ringpost.v1',
    encode: (frame) => ClientFrame.encode(ClientFrame.fromObject(frame)).finish(),
    decode(data, binary) {
      assert(binary);
      return ServerFrame.toObject(ServerFrame.decode(data), { longs: String, bytes: String, enums: String });
    },
  },
};

function uuid7() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return bytes.toString('base64');
}

const within = (promise, what) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not within ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });

/** One connection that said hello. Pushes wait in order; nothing is acknowledged by itself. */
class Session {
  #codec;
  #socket;
  #answers = new Map();
  #next = 1;
  #pushes = [];
  #wake = () => {};

  static async open(server, user, codec, hello = {}) {
    const session = new Session();
    session.#codec = codec;
    const token = await server.token(user, 'node');
    const socket = new WebSocket(`ws://${server.listen}/v1/connect`, [codec.subprotocol, `bearer.${token}`]);
    session.#socket = socket;
    socket.on('message', (data, binary) => session.#receive(codec.decode(data, binary)));
    socket.on('error', () => {});
    await within(new Promise((resolve) => socket.once('open', resolve)), 'open');
    assert.equal(socket.protocol, codec.subprotocol);
    ({ welcome: session.welcome } = await session.request({ hello: { client: 'external-node/1', ...hello } }));
    assert.equal(session.welcome?.user, user);
    return session;
  }

  #receive(frame) {
    if (frame.push) {
      this.#pushes.push(frame.push);
      this.#wake();
    }
    this.#answers.get(String(frame.re))?.(frame);
  }

  tell = (body) => this.#socket.send(this.#codec.encode(body));

  request(body) {
    const id = String(this.#next++);
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.tell({ id, ...body });
    return within(answer, JSON.stringify(body));
  }

  async send(user, text, clientMessageId = uuid7()) {
    for (;;) {
      const { sent, error } = await this.request({ send: { to: { user }, clientMessageId, text } });
      if (sent) return { ...sent, seq: Number(sent.seq) };
      assert(error?.retryable, JSON.stringify(error));
      await new Promise((resolve) => setTimeout(resolve, Number(error.retryAfterMs ?? 200)));
    }
  }

  ack = (n) => this.tell({ ack: { push: String(n) } });

  async push() {
    if (!this.#pushes.length) await within(new Promise((resolve) => (this.#wake = resolve)), 'a push');
    return this.#pushes.shift();
  }

  async record() {
    for (;;) {
      const { n, record } = await this.push();
      if (record) return { n, ...record, seq: Number(record.seq) };
    }
  }

  async tick(delivered, read = 0) {
    for (;;) {
      const { n, tick } = await this.push();
      this.ack(n);
      if (tick && Number(tick.deliveredSeq ?? 0) >= delivered && Number(tick.readSeq ?? 0) >= read) return tick;
    }
  }

  cut = () => this.#socket.terminate();
}

async function chat(server, name) {
  const codec = codecs[name];
  const [a, b] = [`alice-${name}`, `bob-${name}`];
  const alice = await Session.open(server, a, codec);
  let bob = await Session.open(server, b, codec);
  for (const seq of [1, 2, 3]) assert.equal((await alice.send(b, `text ${seq}`)).seq, seq);
  const pushed = [await bob.record(), await bob.record(), await bob.record()];
  assert.deepEqual(pushed.map((record) => record.text), ['text 1', 'text 2', 'text 3']);
  assert(pushed.every((record) => record.from === a && record.conversation.user === a && !record.clientMessageId));
  bob.ack(pushed[1].n);
  assert.equal(Number((await alice.tick(2)).deliveredSeq), 2);

  const { resumeToken } = bob.welcome;
  bob.cut();
  for (let seq = 4; seq <= 20; seq++) await alice.send(b, `text ${seq}`);
  bob = await Session.open(server, b, codec, { resumeToken, have: [{ conversation: { user: a }, seq: '2' }] });
  for (let seq = 3; seq <= 20; seq++) {
    const record = await bob.record();
    assert.deepEqual([record.seq, record.text], [seq, `text ${seq}`]);
    bob.ack(record.n);
  }
  await alice.tick(20);
  assert((await bob.request({ read: { conversation: { user: a }, seq: '20' } })).ok);
  await alice.tick(20, 20);

  const cmid = uuid7();
  const [first, again] = [await bob.send(a, 'an answer', cmid), await bob.send(a, 'an answer', cmid)];
  assert.deepEqual([first.seq, again.seq, first.id === again.id, again.duplicate], [21, 21, true, true]);
  const { page } = await alice.request({ history: { conversation: { user: b }, limit: 50 } });
  assert.deepEqual(page.records.map((record) => Number(record.seq)), Array.from({ length: 21 }, (_, i) => 21 - i));
  alice.cut();
  bob.cut();
}

const server = await new Server().start();
let failed = 0;
for (const name of Object.keys(codecs)) {
  try {
    await chat(server, name);
    console.log(`  ok    ${name}: two users send, receive, ack, are cut, resume`);
  } catch (error) {
    failed += 1;
    console.log(`  FAIL  ${name}:`, error);
  }
}
await server.end();
console.log(`${Object.keys(codecs).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
