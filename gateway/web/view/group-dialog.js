// Dialogs of groups: making one; its name, description and members, and what an admin may do with them.

import { avatar, h, icon, iconButton } from './dom.js';
import { attempt, confirmed, openDialog } from './dialog.js';
import { openMenu } from './menu.js';
import { pictureField, signOf } from './picture.js';
import { userNames } from '../wire/names.js';

const NOT_NAMES = 'Names have 1 to 64 bytes; commas or spaces stand between them.';

function field(label, props) {
  const input = h(props.rows ? 'textarea' : 'input', { autocomplete: 'off', ...props });
  return { node: h('label', { class: 'field' }, h('span', { text: label }), input), input };
}

const names = (props) => field('Members', { placeholder: 'bob, carol', autocapitalize: 'none', spellcheck: 'false', ...props });

/** `create(name, members)`: resolves when the group is there. */
export function newGroupDialog(create) {
  const name = field('Name of the group', { testid: 'group-name', maxlength: '100', required: true });
  const who = names({ testid: 'group-members' });
  const make = h('button', { class: 'primary', testid: 'group-create', text: 'Make group' });
  const form = h('form', {}, name.node, who.node, h('p', { class: 'hint', text: 'You will be its admin.' }), h('div', { class: 'buttons' }, make));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const members = userNames(who.input.value);
    if (!members) return dialog.problem(NOT_NAMES);
    const made = await attempt(dialog, make, () => create(name.input.value.trim(), members).then(() => true));
    if (made) dialog.close();
  });
  const dialog = openDialog({ title: 'New group', testid: 'new-group-dialog', body: form });
  name.input.focus();
}

/** `state()`: {key, title, description, avatar, members, me, left}; `on`: update, add, remove, setRole, leave, write(user), nameOf,
 *  signOf(user).
 *  Returns {refresh, close}. */
export function groupDialog(state, on, closed) {
  const body = h('div', { class: 'group-dialog' });
  const dialog = openDialog({ title: 'Group', testid: 'group-dialog', body, closed });
  const run = async (button, act) => {
    await attempt(dialog, button, act);
    draw();
  };
  let shown = '';
  const draw = () => {
    const group = state();
    const signature = JSON.stringify([group, group.members?.map(({ user }) => [on.nameOf(user), on.signOf(user)])]);
    // What is being typed stays.
    if (signature === shown) return;
    shown = signature;
    const admin = group.members?.some(({ user, admin: is }) => is && user === group.me) ?? false;
    const parts = [about(group, admin && !group.left, run, on), memberList(group, admin && !group.left, run, on, dialog)];
    if (admin && !group.left) parts.push(addForm(run, on, dialog));
    if (!group.left) parts.push(leaveButton(run, on, group));
    body.replaceChildren(...parts);
  };
  draw();
  return { refresh: draw, close: dialog.close };
}

function about(group, admin, run, on) {
  if (!admin) {
    const words = group.description || 'No description';
    return h('div', { class: 'group-about' }, avatar(group.title, { id: group.key.slice(2), group: true, sign: signOf(group.avatar) }), h('div', {}, h('h3', { text: group.title }), h('p', { class: 'hint', text: words })));
  }
  const name = field('Name', { testid: 'rename-input', maxlength: '100', required: true });
  const description = field('Description', { testid: 'describe-input', rows: '2', maxlength: '500' });
  const picture = pictureField();
  picture.fill(group.avatar, group.title);
  name.input.value = group.title;
  description.input.value = group.description;
  const save = h('button', { class: 'plain', testid: 'rename-save', text: 'Save' });
  const form = h('form', { class: 'group-edit' }, name.node, description.node, picture.node, h('div', { class: 'buttons' }, save));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const change = {};
    if (name.input.value.trim() !== group.title) change.name = name.input.value.trim();
    if (description.input.value.trim() !== group.description) change.description = description.input.value.trim();
    if (picture.chosen() !== undefined) change.avatar = picture.chosen();
    if (Object.keys(change).length) run(save, () => on.update(change));
  });
  return form;
}

function memberList(group, admin, run, on) {
  const members = group.members ?? [];
  const sorted = [...members].sort((a, b) => Number(b.admin) - Number(a.admin) || a.user.localeCompare(b.user));
  const rows = sorted.map((member) => {
    const me = member.user === group.me;
    const label = me ? 'You' : on.nameOf(member.user);
    const row = h('li', { class: 'person', testid: 'member', data: { user: member.user } }, avatar(label === 'You' ? member.user : label, { id: member.user, sign: on.signOf(member.user) }), h('span', { class: 'grow', text: label }));
    if (member.admin) row.append(h('span', { class: 'badge', text: 'admin' }));
    if (!me) row.append(iconButton('icon-more', `What to do with ${member.user}`, { testid: 'member-menu', 'aria-haspopup': 'menu', on: { click: (event) => openMenu(event.currentTarget, memberMenu(member, admin, run, on)) } }));
    return row;
  });
  const title = group.left ? 'Members are not shown to those who have left' : `${members.length} member${members.length === 1 ? '' : 's'}`;
  return h('section', {}, h('h3', { testid: 'member-count', text: title }), h('ul', { class: 'people', testid: 'member-list' }, group.left ? [] : rows));
}

function memberMenu({ user, admin: isAdmin }, admin, run, on) {
  return [
    { icon: 'icon-send', label: 'Write to this person', act: () => on.write(user) },
    admin && { icon: 'icon-star', label: isAdmin ? 'Make a member again' : 'Make an admin', testid: 'toggle-admin', act: () => run(null, () => on.setRole(user, !isAdmin)) },
    admin && { icon: 'icon-leave', label: 'Remove from the group', danger: true, testid: 'remove-member', act: () => run(null, () => on.remove([user])) },
  ].filter(Boolean);
}

function addForm(run, on, dialog) {
  const input = h('input', { testid: 'add-input', 'aria-label': 'Names of people to add', placeholder: 'Add people…', autocapitalize: 'none', spellcheck: 'false', autocomplete: 'off' });
  const add = h('button', { class: 'plain', testid: 'add-members' }, icon('icon-plus'), 'Add');
  const form = h('form', { class: 'row' }, input, add);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const users = userNames(input.value);
    if (!users) return dialog.problem(NOT_NAMES);
    if (users.length) run(add, () => on.add(users));
  });
  return form;
}

function leaveButton(run, on, group) {
  const leave = async () => {
    const words = 'You keep what was said so far, and get nothing of what is said afterwards.';
    if (await confirmed({ title: `Leave “${group.title}”?`, words, offer: 'Leave' })) on.leave();
  };
  return h('button', { type: 'button', class: 'plain danger wide', testid: 'leave-group', on: { click: leave } }, icon('icon-leave'), 'Leave the group');
}
