// People at browsers: what the browser tests do on the chat page, and what they wait for there.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packages, root } from './server.mjs';

const { chromium } = packages('playwright-core');
const PATIENCE_MS = 30_000;
const artefacts = process.env.ARTEFACTS ?? join(root, 'artefacts');
const flags = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-quic'];
flags.push('--disable-component-update', '--disable-sync');

export const WIDE = { width: 1180, height: 760 };
export const PHONE = { width: 380, height: 800 };

/** Browsers with a profile of their own each, against one server. */
export class People {
  problems = [];
  #server;
  #closing = [];

  constructor(server) {
    this.#server = server;
    mkdirSync(artefacts, { recursive: true });
  }

  async browser(viewport = WIDE, colorScheme = 'light', timezoneId = 'UTC') {
    const profile = mkdtempSync(join(tmpdir(), 'ringpost-profile-'));
    const options = { executablePath: '/usr/bin/chromium', headless: true, args: flags, viewport, colorScheme, timezoneId };
    const context = await chromium.launchPersistentContext(profile, options);
    this.#closing.push(async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    });
    context.setDefaultTimeout(PATIENCE_MS);
    return context;
  }

  async end() {
    await Promise.all(this.#closing.map((close) => close()));
  }

  /** A tab on which `name` is signed in, and online. `device`: one that the page makes where there is none. */
  async signIn(context, name, device = '') {
    const page = await context.newPage();
    page.on('pageerror', (error) => this.problems.push(`${name}: ${error}`));
    page.on('console', (message) => {
      // A refused connection while the server is down is expected; a violated content policy never is.
      const bad = message.type() === 'error' && /Content Security|ringpost:/.test(message.text());
      if (bad) this.problems.push(`${name}: ${message.text()}`);
    });
    await page.goto(`http://${this.#server.listen}/`);
    await page.getByTestId('name-input').fill(name);
    await page.getByTestId('device-input').fill(device);
    await page.getByTestId('sign-in').click();
    await online(page);
    return page;
  }
}

export const shot = (page, name) => page.screenshot({ path: join(artefacts, `chat-${name}.png`) });

// On a phone the state stands in the other pane, hence attached and not visible.
export const online = (page) => page.locator('[data-testid=connection-state][data-state=online]').waitFor({ state: 'attached' });
export const offline = (page) => page.locator('[data-testid=connection-state]:not([data-state=online])').waitFor({ state: 'attached' });

/** The entry of the list with this name. */
export const item = (page, name) => page.getByTestId('conversation-item').filter({ has: page.locator('.name').getByText(name, { exact: true }) });

/** Opens the conversation with a user by typing the name. */
export async function open(page, peer) {
  await page.getByTestId('new-conversation-input').fill(peer);
  await page.getByTestId('new-conversation-open').click();
  await page.getByTestId('peer-name').filter({ hasText: peer }).waitFor();
}

/** Picks one from the list. */
export async function pick(page, name) {
  await item(page, name).click();
  await page.getByTestId('peer-name').filter({ hasText: name }).waitFor();
  await page.getByTestId('composer-input').or(page.getByTestId('closed')).filter({ visible: true }).first().waitFor();
}

export async function say(page, text) {
  await page.getByTestId('composer-input').fill(text);
  await page.getByTestId('composer-input').press('Enter');
}

/** The same for many texts, as fast as the page takes them. */
export const sayAll = (page, texts) =>
  page.evaluate(async (all) => {
    const text = document.getElementById('text');
    for (const value of all) {
      text.value = value;
      text.form.requestSubmit();
      await new Promise((resolve) => setTimeout(resolve));
    }
  }, texts);

export const message = (page, text) => page.getByTestId('message').filter({ has: page.locator('.text', { hasText: text }) });
export const arrives = (page, text) => message(page, text).waitFor();
export const texts = (page) => page.locator('[data-testid=message] .text').allTextContents();

/** The picture of a conversation in the list. */
export const pictured = (page, name, sign) => item(page, name).locator('.avatar').getByText(sign, { exact: true }).waitFor();

/** Waits until an own message has got so far. */
export const has = (page, text, status) => page.locator(`[data-testid=message][data-status=${status}]`).filter({ has: page.locator('.text', { hasText: text }) }).waitFor();

/** Waits for the number beside a conversation; 0: that there is none. */
export async function unread(page, name, count) {
  const badge = item(page, name).getByTestId('unread');
  if (count) await badge.filter({ hasText: new RegExp(`^${count}$`) }).waitFor();
  else await badge.waitFor({ state: 'detached' });
}

/** Waits for the line below the name in the head. */
export const head = (page, words) => page.getByTestId('peer-state').filter({ hasText: words }).waitFor({ state: 'attached' });

/** Controls that a screen reader could not name. */
export const nameless = (page) =>
  page.evaluate(() => {
    const name = (node) => node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.[0]?.textContent.trim();
    const all = [...document.querySelectorAll('button, input, textarea, select, a, dialog, [role=img]')];
    return all.filter((node) => node.checkVisibility() && !name(node)).map((node) => node.outerHTML);
  });

/** Opens the menu of a message and takes an entry. */
export async function act(page, text, entry) {
  await message(page, text).hover();
  await message(page, text).getByTestId('more').click();
  await page.getByTestId(entry).click();
}
