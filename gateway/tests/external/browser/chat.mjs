// Two people in two browsers chat through the page that `serve --dev` gives out.
//
// Text arrives; one tick, two ticks, blue; one page is reloaded, the server is killed with -9 and started again, a second
// tab takes over. At the end both sides show every message once. Screenshots go to artefacts/.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, packages, root } from '../lib/server.mjs';

const { chromium } = packages('playwright-core');
const PATIENCE_MS = 30_000;
const artefacts = process.env.ARTEFACTS ?? join(root, 'artefacts');
const flags = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-quic'];
flags.push('--disable-component-update', '--disable-sync');
mkdirSync(artefacts, { recursive: true });

const server = await new Server().start();
const closing = [() => server.end()];
const problems = [];

async function browser(viewport, colorScheme) {
  const profile = mkdtempSync(join(tmpdir(), 'ringpost-profile-'));
  const options = { executablePath: '/usr/bin/chromium', headless: true, args: flags, viewport, colorScheme };
  const context = await chromium.launchPersistentContext(profile, options);
  closing.unshift(async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  });
  context.setDefaultTimeout(PATIENCE_MS);
  return context;
}

async function signIn(context, name) {
  const page = await context.newPage();
  page.on('pageerror', (error) => problems.push(`${name}: ${error}`));
  page.on('console', (message) => {
    // A refused connection while the server is down is expected; a violated content policy never is.
    if (message.type() === 'error' && /Content Security|ringpost:/.test(message.text())) problems.push(`${name}: ${message.text()}`);
  });
  await page.goto(`http://${server.listen}/`);
  await page.getByTestId('name-input').fill(name);
  await page.getByTestId('sign-in').click();
  await online(page);
  return page;
}

// On a phone the state stands in the other pane, hence attached and not visible.
const online = (page) => page.locator('[data-testid=connection-state][data-state=online]').waitFor({ state: 'attached' });

const offline = (page) => page.locator('[data-testid=connection-state]:not([data-state=online])').waitFor({ state: 'attached' });

async function open(page, peer) {
  await page.getByTestId('new-conversation-input').fill(peer);
  await page.getByTestId('new-conversation-open').click();
  await page.getByTestId('peer-name').filter({ hasText: peer }).waitFor();
}

async function say(page, text) {
  await page.getByTestId('composer-input').fill(text);
  await page.getByTestId('composer-input').press('Enter');
}

const message = (page, text) => page.getByTestId('message').filter({ has: page.getByText(text, { exact: true }) });
const arrives = (page, text) => message(page, text).waitFor();
const has = (page, text, status) => page.locator(`[data-testid=message][data-status=${status}]`).filter({ has: page.getByText(text, { exact: true }) }).waitFor();
const texts = (page) => page.locator('[data-testid=message] .text').allTextContents();

async function step(name, act) {
  const started = Date.now();
  await act();
  console.log(`  ok    ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

const said = [];
async function sayBoth(from, to, text) {
  said.push(text);
  await say(from, text);
  await arrives(to, text);
}

async function story() {
  const desktop = await browser({ width: 1180, height: 760 }, 'light');
  const phone = await browser({ width: 390, height: 844 }, 'dark');
  const alice = await signIn(desktop, 'alice');
  await alice.screenshot({ path: join(artefacts, 'chat-empty.png') });

  await step('one tick: sent to someone who has never been here', async () => {
    await open(alice, 'bob');
    said.push('Are you there yet?');
    await say(alice, 'Are you there yet?');
    await has(alice, 'Are you there yet?', 'sent');
  });
  const bob = await signIn(phone, 'bob');
  await step('two ticks: delivered, not read', async () => {
    await bob.getByTestId('conversation-item').filter({ hasText: 'Are you there yet?' }).waitFor();
    await has(alice, 'Are you there yet?', 'delivered');
  });
  await step('blue: read when the conversation is opened', async () => {
    await bob.getByTestId('conversation-item').filter({ hasText: 'alice' }).click();
    await arrives(bob, 'Are you there yet?');
    await has(alice, 'Are you there yet?', 'read');
  });
  await step('text goes both ways', async () => {
    await sayBoth(bob, alice, 'Just arrived. Nice place!');
    await sayBoth(alice, bob, 'Lunch at noon? The one by the river, with the green door.');
    await sayBoth(bob, alice, 'Perfect, I’ll be there');
    await sayBoth(alice, bob, '<img src=x onerror=alert(1)> is only text');
  });
  await step('a reloaded page shows the same messages, and is the same device', async () => {
    await bob.reload();
    await online(bob);
    await arrives(bob, 'Perfect, I’ll be there');
    assert.deepEqual(await texts(bob), said);
    await sayBoth(alice, bob, 'Still with me after the reload?');
    await sayBoth(bob, alice, 'Of course.');
  });
  await step('what is typed without a connection survives a reload', async () => {
    let cut = true;
    await alice.routeWebSocket(/connect/, (socket) => (cut ? socket.close() : socket.connectToServer()));
    await alice.reload();
    await offline(alice);
    said.push('Typed without a connection');
    await say(alice, 'Typed without a connection');
    await has(alice, 'Typed without a connection', 'waiting');
    await alice.reload();
    await has(alice, 'Typed without a connection', 'waiting');
    cut = false;
    await has(alice, 'Typed without a connection', 'read');
    await arrives(bob, 'Typed without a connection');
  });
  await step('the server is killed with -9; what is typed meanwhile waits', async () => {
    await server.kill9();
    await offline(alice);
    said.push('Typed while the server was away');
    await say(alice, 'Typed while the server was away');
    await has(alice, 'Typed while the server was away', 'waiting');
    await alice.screenshot({ path: join(artefacts, 'chat-reconnecting.png') });
  });
  await step('it starts again: both come back by themselves, the message arrives', async () => {
    await server.start();
    await Promise.all([online(alice), online(bob)]);
    await has(alice, 'Typed while the server was away', 'read');
    await sayBoth(bob, alice, 'And here it is.');
    await sayBoth(alice, bob, 'Nothing lost, then.');
  });
  await step('nothing is missing or doubled, before and after a reload of both', async () => {
    for (const page of [alice, bob]) assert.deepEqual(await texts(page), said);
    await Promise.all([alice.reload(), bob.reload()]);
    for (const page of [alice, bob]) {
      await online(page);
      await arrives(page, 'Nothing lost, then.');
      assert.deepEqual(await texts(page), said);
    }
  });
  await step('a browser without a past gets the history', async () => {
    const other = await browser({ width: 900, height: 700 }, 'dark');
    const page = await signIn(other, 'alice');
    await page.getByTestId('conversation-item').filter({ hasText: 'bob' }).click();
    await arrives(page, said[0]);
    await arrives(page, said.at(-1));
    assert.deepEqual(await texts(page), said);
    await sayBoth(page, alice, 'From my other device');
    await arrives(bob, 'From my other device');
    await page.close();
  });
  await step('screenshots', async () => {
    for (const [peer, text] of [['carol', 'The figures are in.'], ['dave', 'Thanks!'], ['Zoë', 'See you at eight']]) {
      const page = await signIn(await browser({ width: 600, height: 600 }, 'light'), peer);
      await open(page, 'alice');
      await say(page, text);
      await has(page, text, 'delivered');
    }
    await alice.screenshot({ path: join(artefacts, 'chat-desktop.png') });
    await bob.screenshot({ path: join(artefacts, 'chat-phone.png') });
    await bob.getByTestId('back-button').click();
    await bob.screenshot({ path: join(artefacts, 'chat-phone-list.png') });
    await alice.emulateMedia({ colorScheme: 'dark' });
    await alice.screenshot({ path: join(artefacts, 'chat-desktop-dark.png') });
  });
  await step('a long conversation: in order at both ends, earlier messages on request', async () => {
    const page = await signIn(await browser({ width: 700, height: 700 }, 'light'), 'erin');
    await open(page, 'alice');
    const many = Array.from({ length: 130 }, (_, number) => `number ${number + 1}`);
    for (const text of many) await say(page, text);
    await has(page, many.at(-1), 'delivered');
    await alice.getByTestId('conversation-item').filter({ hasText: 'erin' }).click();
    await arrives(alice, many.at(-1));
    assert.deepEqual(await texts(alice), many.slice(-100));
    await alice.getByTestId('load-earlier').click();
    await arrives(alice, many[0]);
    for (const at of [alice, page]) {
      if (await at.getByTestId('load-earlier').isVisible()) await at.getByTestId('load-earlier').click();
      await arrives(at, many[0]);
      assert.deepEqual(await texts(at), many);
    }
  });
  await step('a second tab takes over; the first says so and stays away', async () => {
    const second = await desktop.newPage();
    await second.goto(`http://${server.listen}/`);
    await second.getByTestId('name-input').fill('alice');
    await second.getByTestId('sign-in').click();
    await online(second);
    await alice.getByTestId('stopped').filter({ hasText: 'Open somewhere else' }).waitFor();
    await alice.screenshot({ path: join(artefacts, 'chat-replaced.png') });
    await second.waitForTimeout(3_000); // longer than the first back-off: a page that came back would take over again
    assert.equal(await second.getByTestId('connection-state').getAttribute('data-state'), 'online');
    await alice.getByTestId('use-here').click();
    await online(alice);
    await second.getByTestId('stopped').filter({ hasText: 'Open somewhere else' }).waitFor();
  });
  assert.deepEqual(problems, []);
}

let failure = null;
try {
  await story();
} catch (error) {
  failure = error;
  console.log('  FAIL ', error, problems);
}
for (const close of closing) await close();
console.log(failure ? '0 passed, 1 failed' : '1 passed, 0 failed');
process.exit(failure ? 1 : 0);
