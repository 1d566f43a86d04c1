// The list of conversations: who, what was said last, how much of it is unread.

import { $, arrange, avatar, h, icon, paintAvatar, setText } from './dom.js';
import { tick } from './bubble.js';
import { shortTime } from './words.js';

export class List {
  #items = new Map(); // key -> list item
  #open;

  /** `open(key)`: a conversation was chosen. */
  constructor(open) {
    this.#open = open;
    $('list').addEventListener('keydown', (event) => this.#move(event));
  }

  /** `entries`: {key, name, group, sign, current, online, muted, unread, words, status, typing, ms}, newest first. */
  show(entries) {
    $('list-empty').hidden = entries.length > 0;
    $('list').hidden = entries.length === 0;
    arrange($('list'), entries.map((entry) => this.#item(entry)));
    const unread = entries.reduce((sum, entry) => sum + (entry.muted ? 0 : entry.unread), 0);
    document.title = unread ? `(${unread}) ringpost` : 'ringpost';
  }

  #item(entry) {
    let item = this.#items.get(entry.key);
    const { current, ...shown } = entry;
    if (!item) {
      const button = h('button', { type: 'button', class: 'entry', testid: 'conversation-item', on: { click: () => this.#open(entry.key) } });
      if (!entry.group) button.dataset.peer = entry.key.slice(2);
      this.#items.set(entry.key, (item = h('li', {}, button)));
    }
    item.firstChild.setAttribute('aria-current', String(current));
    const signature = JSON.stringify([shown, shortTime(entry.ms)]);
    if (item.signature === signature) return item;
    item.signature = signature;
    item.firstChild.replaceChildren(...this.#content(entry));
    return item;
  }

  #content({ key, name, group, sign, online, muted, unread, words, status, typing, ms }) {
    const face = h('span', { class: 'face' }, avatar(name, { id: key.slice(2), group, sign }));
    if (online) face.append(h('span', { class: 'dot', role: 'img', 'aria-label': 'online', testid: 'online' }));
    const last = h('span', { class: `last${typing ? ' typing' : ''}` });
    if (status && !typing) last.append(tick(status));
    last.append(typing || words || 'No messages yet');
    const title = h('strong', { class: 'name', text: name });
    const middle = h('span', { class: 'middle' }, h('span', { class: 'title' }, title, muted ? this.#muted() : null), last);
    const count = unread > 99 ? '99+' : String(unread);
    const props = { class: `unread${muted ? ' quiet' : ''}`, text: count, role: 'img', 'aria-label': `${unread} unread`, testid: 'unread' };
    const edge = h('span', { class: 'edge' }, h('time', { text: shortTime(ms) }), unread ? h('span', props) : null);
    return [face, middle, edge];
  }

  #muted() {
    const sign = icon('icon-muted', 'muted');
    sign.setAttribute('role', 'img');
    sign.setAttribute('aria-label', 'muted');
    sign.removeAttribute('aria-hidden');
    return sign;
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...$('list').querySelectorAll('button')];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) next.focus();
    else if (step === -1) $('new-name').focus();
  }
}

/** Who one is, above the list. */
export function showMe({ name, sign, user, device }) {
  paintAvatar($('my-avatar'), name || user, { id: user, sign });
  setText($('my-name'), name || user);
  $('my-name').title = `${user}, on device ${device}`;
  setText($('my-device'), device);
}
