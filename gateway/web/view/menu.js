// One menu at a time, beside what opened it: moved through with arrow keys, closed by Escape or a click elsewhere.

import { $, h, icon } from './dom.js';

// It moves into an open dialog, and may be gone from the page with it.
const menu = $('menu');
let opener = null;

/** `items`: {icon, label, act, danger?} or null for what is not offered; `signs`: a row of reactions, with `react(sign)`. */
export function openMenu(anchor, items, { signs = [], mine = '', react } = {}) {
  const choose = (act) => () => {
    closeMenu();
    act();
  };
  const entry = ({ icon: name, label, act, danger, testid }) =>
    h('button', { type: 'button', role: 'menuitem', tabindex: '-1', testid, class: danger ? 'danger' : '', on: { click: choose(act) } }, icon(name), label);
  const sign = (text) => {
    const label = text === mine ? `Take ${text} back` : `React with ${text}`;
    const props = { type: 'button', role: 'menuitem', tabindex: '-1', class: 'sign', 'aria-label': label, 'aria-pressed': String(text === mine) };
    return h('button', { ...props, testid: 'sign', data: { sign: text }, on: { click: choose(() => react(text === mine ? '' : text)) } }, text);
  };
  const row = signs.length ? h('div', { class: 'signs', role: 'group', 'aria-label': 'React' }, signs.map(sign)) : null;
  menu.replaceChildren(...[row, ...items.filter(Boolean).map(entry)].filter(Boolean));
  opener = anchor;
  // What is outside an open dialog cannot be used.
  (anchor.closest('dialog') ?? document.body).append(menu);
  menu.showPopover();
  place(anchor);
  menu.querySelector('button')?.focus();
}

export const isMenuOpen = () => menu.matches(':popover-open');

export function closeMenu() {
  if (isMenuOpen()) menu.hidePopover();
}

/** Below the anchor, or above it where there is more room; always inside the window. */
function place(anchor) {
  const at = anchor.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = at.bottom + 6 + height <= innerHeight - 8;
  const top = below ? at.bottom + 6 : Math.max(8, at.top - 6 - height);
  const left = at.left + at.width / 2 > innerWidth / 2 ? at.right - width : at.left;
  menu.style.top = `${top}px`;
  menu.style.left = `${Math.min(Math.max(8, left), innerWidth - width - 8)}px`;
}

/** Called once. */
export function setUpMenu() {
  menu.addEventListener('keydown', (event) => {
    const buttons = [...menu.querySelectorAll('button')];
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === 'Tab') closeMenu();
    if (!step) return;
    event.preventDefault();
    buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length)?.focus();
  });
  // Focus goes back to what opened it, unless something else has taken it.
  menu.addEventListener('toggle', (event) => {
    if (event.newState === 'closed' && document.activeElement === document.body) (opener?.closest('button, li') ?? opener)?.focus();
  });
}
