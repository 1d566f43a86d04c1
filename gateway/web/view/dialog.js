// Dialogs: with a title, a way out, and a place for what went wrong. One that asks may stand above another.

import { $, h, iconButton } from './dom.js';

/** Opens a dialog around `body` nodes. Returns {close, problem(text), body}. `testid` names it for tests. */
export function openDialog({ title, testid, body, closed = () => {} }) {
  const problem = h('p', { class: 'problem', role: 'alert', testid: 'dialog-problem', hidden: true });
  const close = () => dialog.open && dialog.close();
  const heading = h('h2', { text: title });
  const head = h('header', { class: 'dialog-head' }, heading, iconButton('icon-close', 'Close', { testid: 'dialog-close', on: { click: close } }));
  const room = h('div', { class: 'dialog-body' }, body);
  const dialog = h('dialog', { class: 'dialog', testid, 'aria-label': title }, head, room, problem);
  dialog.addEventListener('close', () => {
    dialog.remove();
    closed();
  });
  // A click beside it closes it.
  dialog.addEventListener('click', (event) => event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  const say = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  return { close, problem: say, body: room };
}

/** Runs what the user asked for: the button waits meanwhile, and what goes wrong is said in the dialog. */
export async function attempt(dialog, button, act) {
  dialog.problem('');
  if (button) button.disabled = true;
  try {
    return await act();
  } catch (error) {
    dialog.problem(`That did not work: ${error.message}.`);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

/** Asks before something that cannot be undone. Resolves with whether to do it. */
export function confirmed({ title, words, offer }) {
  return new Promise((resolve) => {
    let sure = false;
    const yes = h('button', {
      type: 'button',
      class: 'primary danger',
      testid: 'confirm',
      text: offer,
      on: { click: () => ((sure = true), dialog.close()) },
    });
    const no = h('button', { type: 'button', class: 'plain', text: 'Cancel', on: { click: () => dialog.close() } });
    const body = [h('p', { text: words }), h('div', { class: 'buttons' }, no, yes)];
    const dialog = openDialog({ title, testid: 'confirm-dialog', body, closed: () => resolve(sure) });
    no.focus();
  });
}

/** A line for what happened elsewhere on the page; gone after a while. */
export function toast(text) {
  const node = $('toast');
  clearTimeout(node.timer);
  node.textContent = text;
  node.hidden = false;
  node.timer = setTimeout(() => (node.hidden = true), 6_000);
}
