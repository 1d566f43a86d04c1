// The chat page's own client (web/wire) outside a browser, as user `probe`, for `ringpost check-client`.
//
// Sends a message to `peer` every half second. IndexedDB is replaced by memory, the browser's WebSocket by npm `ws`, and the
// development token by one that nobody has signed. Ends when the client is told to stay away.

import { Memory } from '../lib/memory.mjs';
import { packages } from '../lib/server.mjs';
import { pageModules } from '../lib/modules.mjs';

globalThis.WebSocket = packages('ws');
globalThis.addEventListener = () => {};
globalThis.document = { addEventListener: () => {}, visibilityState: 'visible' };
const { Client, blank } = await pageModules('wire/client.js', 'wire/store.js');

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
let tokens = 0;
const token = async () => `${base64url({ alg: 'none' })}.${base64url({ sub: 'probe', dev: 'page', jti: String(tokens++) })}.x`;

const url = `${process.env.RINGPOST_URL}/v1/connect`;
const client = new Client({ url, user: 'probe', device: 'page', token, store: new Memory(blank) });
client.addEventListener('state', () => console.error(`page: ${client.state} ${client.detail}`));
client.start();
let count = 0;
setInterval(() => client.send('u:peer', { text: `hi ${count++}` }), 500);
