// What people choose to be seen as, and when they want to be left alone. A part of chat.mjs.

import assert from 'node:assert/strict';
import { item, pick, pictured, shot } from '../lib/people.mjs';

const picture = (page, sign) => page.getByTestId('pictures').getByRole('radio', { name: sign, exact: true });

/** Waits until the list shows a conversation as muted, or as not. */
const muted = (page, name, on) => item(page, name).getByRole('img', { name: 'muted' }).waitFor({ state: on ? 'visible' : 'detached' });

/** Mutes a conversation, or ends that. */
async function mute(page, name, on) {
  await pick(page, name);
  await page.getByTestId('conversation-menu').click();
  await page.getByTestId('menu-mute').click();
  await muted(page, name, on);
}

/** Comes back to the page, as from another tab. */
const look = (page) => page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));

/** At the end all three are in the group again. */
export async function pictures(step, alice, bob, carol) {
  await step('a picture that is chosen shows at the others; so does that of a group', async () => {
    await alice.getByTestId('settings').click();
    await picture(alice, '🦊').check();
    await alice.getByTestId('quiet-on').check();
    await alice.getByTestId('quiet-from').fill('22:30');
    await alice.getByTestId('quiet-to').fill('22:30');
    await alice.getByTestId('settings-save').click();
    await alice.getByTestId('dialog-problem').filter({ hasText: 'different times' }).waitFor();
    await alice.getByTestId('quiet-to').fill('07:00');
    await shot(alice, 'settings');
    await alice.getByTestId('settings-save').click();
    await alice.getByTestId('my-avatar').getByText('🦊').waitFor();
    await bob.getByTestId('back-button').click();
    await pictured(bob, 'alice', '🦊');
    await pick(bob, 'Thursday climbing');
    await alice.getByTestId('peer-open').click();
    await picture(alice, '🏔️').check();
    await alice.getByTestId('rename-save').click();
    for (const page of [alice, bob, carol]) await page.getByTestId('notice').filter({ hasText: 'changed the picture' }).waitFor();
    for (const page of [alice, bob, carol]) await page.getByTestId('peer-avatar').getByText('🏔️').waitFor();
    await alice.getByTestId('group-dialog').getByTestId('dialog-close').click();
    // In a group one sees whom one has never written to.
    await carol.getByTestId('peer-open').click();
    await carol.locator('[data-testid=member][data-user=alice] .avatar').getByText('🦊').waitFor();
    await carol.getByTestId('group-dialog').getByTestId('dialog-close').click();
  });
}

export async function quietHours(step, alice, tablet) {
  await step('quiet hours stand on another device at the time that it is there; what is set there shows here when one looks again', async () => {
    await tablet.getByTestId('my-avatar').getByText('🦊').waitFor();
    await tablet.getByTestId('settings').click();
    await tablet.getByTestId('quiet-on').and(tablet.locator(':checked')).waitFor();
    assert.equal(await tablet.getByTestId('quiet-from').inputValue(), '04:00');
    assert.equal(await tablet.getByTestId('quiet-to').inputValue(), '12:30');
    assert.ok(await picture(tablet, '🦊').isChecked());
    await tablet.getByTestId('quiet-on').uncheck();
    await picture(tablet, '🐼').check();
    await tablet.getByTestId('settings-save').click();
    await tablet.getByTestId('settings-dialog').waitFor({ state: 'detached' });
    await mute(tablet, 'carol', true);
    await look(alice);
    await alice.getByTestId('my-avatar').getByText('🐼').waitFor();
    await muted(alice, 'carol', true);
    await mute(tablet, 'carol', false);
    await look(alice);
    await muted(alice, 'carol', false);
    await alice.getByTestId('settings').click();
    await picture(alice, '🐼').and(alice.locator(':checked')).waitFor({ state: 'attached' });
    assert.ok(!(await alice.getByTestId('quiet-on').isChecked()));
    await alice.getByTestId('settings-dialog').getByTestId('dialog-close').click();
  });
}
