// What a user sets: name, who sees what, devices. And who has read a message.

import { avatar, h, icon } from './dom.js';
import { attempt, confirmed, openDialog } from './dialog.js';
import { lastSeen, momentOf, capital } from './words.js';
import { pictureField } from './picture.js';
import { timeHere, utcMinute } from './hours.js';

const AUDIENCES = [['EVERYONE', 'Everyone'], ['CONTACTS', 'People I have written to'], ['NOBODY', 'Nobody']];

function choice(label, hint, testid) {
  const select = h('select', { testid }, AUDIENCES.map(([value, text]) => h('option', { value, text })));
  return { node: h('label', { class: 'field' }, h('span', { text: label }), select, h('small', { text: hint })), select };
}

const NIGHT = ['22:00', '07:00'];

/** Returns {node, fill(quiet), chosen()}; `chosen` is null where the two are the same time. */
function quietField() {
  const on = h('input', { type: 'checkbox', testid: 'quiet-on' });
  const time = (testid, label) => h('input', { type: 'time', required: true, testid, 'aria-label': label });
  const [from, to] = [time('quiet-from', 'Quiet from'), time('quiet-to', 'Quiet until')];
  const row = h('div', { class: 'hours', role: 'group', 'aria-label': 'Quiet hours' }, from, 'to', to);
  const words = 'Devices that notify you are to stay silent in these hours. They are kept in UTC: set them anew when the clocks change.';
  const node = h('div', { class: 'field' }, h('label', { class: 'check' }, on, 'Quiet hours'), row, h('small', { text: words }));
  const show = () => {
    row.hidden = !on.checked;
    from.disabled = to.disabled = !on.checked;
  };
  const fill = (quiet) => {
    on.checked = quiet !== null;
    [from.value, to.value] = quiet ? [timeHere(quiet.fromMinute), timeHere(quiet.toMinute)] : NIGHT;
    show();
  };
  const chosen = () => {
    if (!on.checked) return { fromMinute: 0, toMinute: 0 };
    return from.value === to.value ? null : { fromMinute: utcMinute(from.value), toMinute: utcMinute(to.value) };
  };
  on.addEventListener('change', show);
  fill(null);
  return { node, fill, chosen };
}

/** `requests` as of the client; `me`: {user, device}; `saved(settings)`; `unlinked(device)`. */
export function settingsDialog({ requests, me, saved }) {
  const name = h('input', { testid: 'profile-name', maxlength: '100', autocomplete: 'off', placeholder: me.user });
  const nameField = h('label', { class: 'field' }, h('span', { text: 'Your name' }), name, h('small', { text: `Shown to others beside ${me.user}.` }));
  const seen = choice('Who sees when you are online', 'Also when you were last seen.', 'privacy-last-seen');
  const picture = pictureField();
  const quiet = quietField();
  const receipts = choice('Who sees what you have read', 'The second tick still says that a message has arrived.', 'privacy-receipts');
  const save = h('button', { class: 'primary', testid: 'settings-save', text: 'Save' });
  const form = h('form', {}, nameField, picture.node, seen.node, receipts.node, quiet.node, h('div', { class: 'buttons' }, save));
  const devices = h('ul', { class: 'people', testid: 'device-list' });
  const devicesProblem = h('p', { class: 'hint', text: 'Asking the server…' });
  const section = h('section', {}, h('h3', { text: 'Your devices' }), devicesProblem, devices);
  const dialog = openDialog({ title: 'Settings', testid: 'settings-dialog', body: [form, section] });
  const fill = (settings) => {
    name.value = settings.name;
    picture.fill(settings.avatar, settings.name || me.user);
    quiet.fill(settings.quiet);
    seen.select.value = settings.lastSeen;
    receipts.select.value = settings.readReceipts;
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const quietHours = quiet.chosen();
    if (!quietHours) return dialog.problem('Quiet hours begin and end at different times.');
    const profile = { name: name.value.trim(), avatar: picture.chosen() };
    const change = { profile, lastSeen: seen.select.value, readReceipts: receipts.select.value, quietHours };
    const settings = await attempt(dialog, save, () => requests.settings(change));
    if (!settings) return;
    saved(settings);
    dialog.close();
  });
  attempt(dialog, save, () => requests.settings()).then((settings) => settings && fill(settings));
  showDevices({ requests, me, list: devices, hint: devicesProblem, dialog });
}

async function showDevices({ requests, me, list, hint, dialog }) {
  const draw = (devices) => {
    hint.textContent = devices.length ? '' : 'The server knows of none.';
    hint.hidden = devices.length > 0;
    // The primary device may unlink any, another one itself.
    const primary = devices.some((device) => device.primary && device.device === me.device);
    const may = ({ device }) => primary || device === me.device;
    list.replaceChildren(...devices.map((device) => deviceRow(device, me, may(device) ? unlink : null)));
  };
  const unlink = async ({ device }, button) => {
    const here = device === me.device;
    const words = here ? 'You are signed out here, and what this browser has stored is deleted.' : 'It is signed out at once, and is sent nothing any more.';
    if (!(await confirmed({ title: `Unlink “${device}”?`, words, offer: 'Unlink' }))) return;
    const devices = await attempt(dialog, button, () => requests.unlink(device));
    if (devices) draw(devices);
  };
  try {
    draw(await requests.devices());
  } catch (error) {
    hint.textContent = `Devices cannot be shown: ${error.message}.`;
  }
}

function deviceRow(device, me, unlink) {
  const here = device.device === me.device;
  const words = [here ? 'this device' : device.lastSeenMs && lastSeen(device.lastSeenMs), device.primary && 'primary'].filter(Boolean).join(', ');
  const row = h('li', { class: 'person', testid: 'device', data: { device: device.device } });
  row.append(icon('icon-device', 'sign'), h('span', { class: 'grow' }, h('span', { text: device.device }), h('small', { text: capital(words) })));
  if (!unlink) return row;
  const button = h('button', { type: 'button', class: 'plain danger', testid: 'unlink', text: 'Unlink', 'aria-label': `Unlink ${device.device}` });
  button.addEventListener('click', () => unlink(device, button));
  row.append(button);
  return row;
}

const STATES = { SENT: 'On the way', DELIVERED: 'Delivered', READ: 'Read', HIDDEN: 'Not told' };

/** Who has received and read one of the own messages. */
export async function infoDialog({ requests, key, message, nameOf, signOf }) {
  const list = h('ul', { class: 'people', testid: 'record-info' });
  const hint = h('p', { class: 'hint', text: 'Asking the server…' });
  const dialog = openDialog({ title: 'Who has it', testid: 'info-dialog', body: [hint, list] });
  const members = await attempt(dialog, null, () => requests.recordInfo(key, message.seq));
  if (!members) return;
  hint.textContent = `Sent ${momentOf(message.ms)}`;
  const rows = members.map(({ user, state, atMs }) => {
    const words = `${STATES[state] ?? state}${atMs ? `, ${momentOf(atMs)}` : ''}`;
    return h('li', { class: 'person', data: { user, state } }, avatar(nameOf(user), { id: user, sign: signOf(user) }), h('span', { class: 'grow' }, h('span', { text: nameOf(user) }), h('small', { text: words })));
  });
  list.replaceChildren(...rows);
}
