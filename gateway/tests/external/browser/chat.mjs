// People in browsers chat through the page that `serve --dev` gives out.
//
// Text arrives, with ticks; typing, presence, edits, answers, reactions and deletions show at the other side; a group of three
// with unread counts, removals and a new name; a second device of one user; blocks; one page is reloaded, the server is killed
// with -9 and started again, a second tab takes over. At the end every side shows every message once. Screenshots go to
// artefacts/.

import assert from 'node:assert/strict';
import { Server } from '../lib/server.mjs';
import * as people from '../lib/people.mjs';
import { pictures, quietHours } from './profile.mjs';
import { PHONE, act, arrives, has, head, item, message, offline, online, open, pick, say, sayAll, shot, texts, unread } from '../lib/people.mjs';

const server = await new Server().start();
const they = new people.People(server);
const { problems } = they;

async function step(name, play) {
  const started = Date.now();
  await play();
  console.log(`  ok    ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

const said = []; // between alice and bob
async function sayBoth(from, to, text) {
  said.push(text);
  await say(from, text);
  await arrives(to, text);
}

async function two(alice, bob, phone) {
  await step('one tick: sent to someone who has never been here', async () => {
    await shot(alice, 'empty');
    await open(alice, 'bob');
    said.push('Are you there yet?');
    await say(alice, 'Are you there yet?');
    await has(alice, 'Are you there yet?', 'sent');
  });
  bob.page = await they.signIn(phone, 'bob');
  await step('two ticks: delivered, not read, and one unread at the other side', async () => {
    await item(bob.page, 'alice').getByText('Are you there yet?').waitFor();
    await has(alice, 'Are you there yet?', 'delivered');
    await unread(bob.page, 'alice', 1);
  });
  await step('blue: read when the conversation is opened', async () => {
    await pick(bob.page, 'alice');
    await arrives(bob.page, 'Are you there yet?');
    await has(alice, 'Are you there yet?', 'read');
    await unread(bob.page, 'alice', 0);
  });
  await step('text goes both ways', async () => {
    await sayBoth(bob.page, alice, 'Just arrived. Nice place!');
    await sayBoth(alice, bob.page, 'Lunch at noon? The one by the river, with the green door.');
    await sayBoth(bob.page, alice, 'Perfect, I’ll be there');
    await sayBoth(alice, bob.page, '<img src=x onerror=alert(1)> is only text');
  });
  await step('who is there is online; typing appears, and vanishes when the text goes', async () => {
    await head(alice, 'online');
    await bob.page.getByTestId('composer-input').pressSequentially('I wo');
    await head(alice, 'typing…');
    await shot(alice, 'typing');
    await bob.page.getByTestId('composer-input').fill('');
    await head(alice, 'online');
  });
}

async function aGroup(alice, bob, carol) {
  const group = 'Thursday climbing';
  await step('a group of three: unread counts rise, and fall where it is opened', async () => {
    await bob.getByTestId('back-button').click();
    await alice.getByTestId('new-group').click();
    await alice.getByTestId('group-name').fill(group);
    await alice.getByTestId('group-members').fill('bob, carol');
    await alice.getByTestId('group-create').click();
    await alice.getByTestId('peer-name').filter({ hasText: group }).waitFor();
    await say(alice, 'Who has the rope?');
    for (const page of [bob, carol]) await unread(page, group, 1);
    await say(alice, 'And the shoes?');
    for (const page of [bob, carol]) await unread(page, group, 2);
    await shot(bob, 'phone-unread');
    for (const page of [bob, carol]) await pick(page, group);
    for (const page of [bob, carol]) await arrives(page, 'And the shoes?');
    await has(alice, 'And the shoes?', 'read');
    await carol.getByTestId('notice').filter({ hasText: 'alice made the group' }).waitFor();
  });
  await step('an answer, a reaction, an edit: each shows at the other sides', async () => {
    await message(carol, 'Who has the rope?').hover();
    await message(carol, 'Who has the rope?').getByTestId('reply').click();
    await say(carol, 'I do, forty metres');
    await message(bob, 'I do, forty metres').getByTestId('quote').filter({ hasText: 'Who has the rope?' }).waitFor();
    await message(alice, 'I do, forty metres').hover();
    await message(alice, 'I do, forty metres').getByTestId('react').click();
    await alice.locator('[data-sign="❤️"]').click();
    for (const page of [bob, carol]) await message(page, 'forty metres').getByRole('button', { name: '❤️ from alice' }).waitFor();
    await act(carol, 'I do, forty metres', 'menu-edit');
    await say(carol, 'I do, sixty metres');
    for (const page of [alice, bob]) await message(page, 'I do, sixty metres').getByTestId('edited').waitFor();
    assert.equal(await message(alice, 'forty metres').count(), 0);
    await message(alice, 'sixty metres').getByRole('button', { name: 'from you' }).click();
    await message(carol, 'sixty metres').getByTestId('reactions').waitFor({ state: 'detached' });
  });
  await pictures(step, alice, bob, carol);
  await step('in a group the typing line says who; a message taken back is gone at every side', async () => {
    await carol.getByTestId('composer-input').pressSequentially('Never mind');
    await head(alice, 'carol is typing…');
    await say(carol, 'Never mind the shoes');
    await head(alice, '3 members, 2 online');
    await arrives(bob, 'Never mind the shoes');
    await act(carol, 'Never mind the shoes', 'menu-erase');
    await carol.getByTestId('confirm').click();
    for (const page of [alice, bob, carol]) await arrives(page, 'This message was deleted');
    assert.deepEqual(await texts(alice), await texts(bob));
    await shot(alice, 'group');
    await shot(bob, 'phone-group');
  });
  await step('a new name, a new admin, one member removed, who gets nothing any more', async () => {
    await alice.getByTestId('conversation-menu').click();
    await alice.getByTestId('menu-group').click();
    await alice.getByTestId('rename-input').fill('Friday climbing');
    await alice.getByTestId('rename-save').click();
    for (const page of [bob, carol]) await page.getByTestId('peer-name').filter({ hasText: 'Friday climbing' }).waitFor();
    const member = (name) => alice.locator(`[data-testid=member][data-user=${name}]`);
    await member('bob').getByTestId('member-menu').click();
    await alice.getByTestId('toggle-admin').click();
    await member('bob').getByText('admin').waitFor();
    await shot(alice, 'group-dialog');
    await member('carol').getByTestId('member-menu').click();
    await alice.getByTestId('remove-member').click();
    await member('carol').waitFor({ state: 'detached' });
    await alice.getByTestId('dialog-close').click();
    await carol.getByTestId('closed').filter({ hasText: 'no longer a member' }).waitFor();
    await say(alice, 'Only for the two of us');
    await arrives(bob, 'Only for the two of us');
    assert.equal(await message(carol, 'Only for the two of us').count(), 0);
  });
  await step('the last admin but one leaves, and stays out', async () => {
    await bob.getByRole('button', { name: 'Friday climbing' }).click();
    await bob.getByTestId('leave-group').click();
    await bob.getByTestId('confirm').click();
    await bob.getByTestId('group-dialog').getByTestId('dialog-close').click();
    await bob.getByTestId('closed').waitFor();
    await alice.getByTestId('notice').filter({ hasText: 'bob left the group' }).waitFor();
  });
}

async function devices(alice, carol) {
  const india = await they.browser({ width: 900, height: 700 }, 'dark', 'Asia/Kolkata');
  const tablet = await they.signIn(india, 'alice', 'tablet');
  await step('a second device of one user gets the past, its messages, and what is read on the other', async () => {
    await pick(tablet, 'bob');
    await arrives(tablet, said[0]);
    await arrives(tablet, said.at(-1));
    assert.deepEqual(await texts(tablet), said);
    await pick(alice, 'bob');
    said.push('From my tablet');
    await say(tablet, 'From my tablet');
    await arrives(alice, 'From my tablet');
    await open(carol, 'alice');
    await say(carol, 'The figures are in.');
    for (const page of [alice, tablet]) await unread(page, 'carol', 1);
    await pick(tablet, 'carol');
    await unread(alice, 'carol', 0);
    await has(carol, 'The figures are in.', 'read');
  });
  return tablet;
}

async function unlinking(alice, tablet) {
  await step('a device that is unlinked says so, keeps nothing, and comes back when it is asked to', async () => {
    await alice.getByTestId('settings').click();
    await alice.locator('[data-testid=device][data-device=tablet]').getByTestId('unlink').click();
    await shot(alice, 'devices');
    await alice.getByTestId('confirm').click();
    await alice.locator('[data-testid=device][data-device=tablet]').waitFor({ state: 'detached' });
    await alice.getByTestId('settings-dialog').getByTestId('dialog-close').click();
    await tablet.getByTestId('stopped').filter({ hasText: 'This device was unlinked' }).waitFor();
    await tablet.waitForFunction(async () => (await indexedDB.databases()).length === 0);
    assert.equal(await tablet.getByTestId('message').count(), 0);
    await tablet.getByTestId('use-here').click();
    await online(tablet);
    await pick(tablet, 'bob');
    await arrives(tablet, said.at(-1));
    assert.deepEqual(await texts(tablet), said);
  });
}

async function blocks(alice, carol) {
  await step('what a blocked user writes is not seen, and keeps one tick', async () => {
    await pick(alice, 'carol');
    await alice.getByTestId('conversation-menu').click();
    await alice.getByTestId('menu-block').click();
    await alice.getByTestId('confirm').click();
    await alice.getByTestId('closed').filter({ hasText: 'You have blocked carol' }).waitFor();
    await say(carol, 'Can you hear me?');
    await has(carol, 'Can you hear me?', 'sent');
    await alice.getByTestId('closed-act').click();
    await alice.getByTestId('composer-input').waitFor();
    await say(carol, 'And now?');
    await arrives(alice, 'And now?');
    await has(carol, 'And now?', 'read');
    await has(carol, 'Can you hear me?', 'sent');
    assert.equal(await message(alice, 'Can you hear me?').count(), 0);
  });
}

async function keyboard(alice, carol) {
  await step('with the keyboard alone: to somebody, a text, a reaction, an edit, and out again', async () => {
    await alice.keyboard.press('Control+k');
    await alice.keyboard.type('carol');
    await alice.keyboard.press('Enter');
    await alice.getByTestId('peer-name').filter({ hasText: 'carol' }).waitFor();
    await alice.keyboard.type('Typed in the dark');
    await alice.keyboard.press('Enter');
    await arrives(carol, 'Typed in the dark');
    await has(alice, 'Typed in the dark', 'read');
    for (const key of ['Shift+ArrowUp', 'Enter', 'ArrowRight', 'Enter']) await alice.keyboard.press(key);
    await message(carol, 'Typed in the dark').getByRole('button', { name: '❤️ from alice' }).waitFor();
    await alice.getByTestId('composer-input').focus();
    await alice.keyboard.press('ArrowUp');
    await alice.keyboard.type(' room');
    await alice.keyboard.press('Enter');
    await message(carol, 'Typed in the dark room').getByTestId('edited').waitFor();
    await alice.keyboard.press('Escape');
    await alice.locator('#nothing').waitFor();
  });
  await step('every control has a name', async () => {
    await pick(alice, 'carol');
    for (const button of ['settings', 'new-group']) {
      await alice.getByTestId(button).click();
      assert.deepEqual(await people.nameless(alice), []);
      await alice.keyboard.press('Escape');
    }
    await message(alice, 'Typed in the dark room').getByTestId('more').focus();
    assert.deepEqual(await people.nameless(alice), []);
  });
}

async function accidents(alice, bob) {
  await step('a reloaded page shows the same messages, and is the same device', async () => {
    await pick(alice, 'bob');
    await bob.getByTestId('back-button').click();
    await pick(bob, 'alice');
    await bob.getByTestId('composer-input').fill('Half a thought');
    await bob.reload();
    await online(bob);
    assert.equal(await bob.getByTestId('composer-input').inputValue(), 'Half a thought');
    await arrives(bob, said.at(-1));
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
    await alice.getByTestId('banner').filter({ hasText: /Reconnecting|Connecting/ }).waitFor();
    await shot(alice, 'reconnecting');
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
    await pick(alice, 'Friday climbing');
    await message(alice, 'I do, sixty metres').getByTestId('edited').waitFor();
    await arrives(alice, 'This message was deleted');
    await pick(alice, 'bob');
  });
}

async function longOne(alice) {
  await step('a long conversation: in order at both ends, earlier messages when one scrolls there', async () => {
    const page = await they.signIn(await they.browser({ width: 700, height: 700 }), 'erin');
    await open(page, 'alice');
    const many = Array.from({ length: 130 }, (_, number) => `number ${number + 1} of all`);
    await sayAll(page, many);
    await has(page, many.at(-1), 'delivered');
    await pick(alice, 'erin');
    await arrives(alice, many.at(-1));
    assert.deepEqual(await texts(alice), many.slice(-60));
    for (const at of [alice, page]) {
      for (let scrolls = 0; scrolls < 3; scrolls++) {
        await at.locator('#scroll').evaluate((node) => node.scrollTo(0, 0));
        if (scrolls < 2) await at.locator('[data-testid=message]').nth(60 * (scrolls + 1)).waitFor();
      }
      await arrives(at, many[0]);
      assert.deepEqual(await texts(at), many);
    }
  });
}

async function takeOver(alice, desktop) {
  await step('a second tab takes over; the first says so and stays away', async () => {
    const second = await they.signIn(desktop, 'alice');
    await alice.getByTestId('stopped').filter({ hasText: 'Open somewhere else' }).waitFor();
    await shot(alice, 'replaced');
    await second.waitForTimeout(3_000); // longer than the first back-off: a page that came back would take over again
    assert.equal(await second.getByTestId('connection-state').getAttribute('data-state'), 'online');
    await alice.getByTestId('use-here').click();
    await online(alice);
    await second.getByTestId('stopped').filter({ hasText: 'Open somewhere else' }).waitFor();
  });
}

async function story() {
  const [desktop, phone, third] = await Promise.all([they.browser(), they.browser(PHONE, 'dark'), they.browser({ width: 800, height: 700 })]);
  const alice = await they.signIn(desktop, 'alice');
  const bob = {};
  await two(alice, bob, phone);
  const carol = await they.signIn(third, 'carol');
  await aGroup(alice, bob.page, carol);
  const tablet = await devices(alice, carol);
  await quietHours(step, alice, tablet);
  await unlinking(alice, tablet);
  await blocks(alice, carol);
  await keyboard(alice, carol);
  await tablet.close();
  await accidents(alice, bob.page);
  await step('screenshots', async () => {
    await shot(alice, 'desktop');
    await shot(bob.page, 'phone');
    await bob.page.getByTestId('back-button').click();
    await shot(bob.page, 'phone-list');
    await alice.emulateMedia({ colorScheme: 'dark' });
    await shot(alice, 'desktop-dark');
    await alice.emulateMedia({ colorScheme: 'light' });
  });
  await bob.page.close();
  await longOne(alice);
  await step('who has gone is offline, after the time in which one could come back', async () => {
    await pick(alice, 'bob');
    await head(alice, 'last seen');
  });
  await takeOver(alice, desktop);
  assert.deepEqual(problems, []);
}

let failure = null;
try {
  await story();
} catch (error) {
  failure = error;
  console.log('  FAIL ', error, problems);
}
await they.end();
await server.end();
console.log(failure ? '0 passed, 1 failed' : '1 passed, 0 failed');
process.exit(failure ? 1 : 0);
