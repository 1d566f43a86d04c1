// The messages of the open conversation: days, bubbles, where one is in them, and the way through them by keys.

import { $, arrange, h } from './dom.js';
import { drawMessage } from './bubble.js';
import { dayName, dayOf } from './words.js';

const TOGETHER_MS = 5 * 60_000; // messages of one person within this stand close together
const NEAR_TOP_PX = 240;
const NEAR_END_PX = 80;

export class Messages {
  #items = new Map(); // id of a message, or of a line between -> list item
  #rows = [];
  #on;
  #more = false;
  #loading = false;
  #cursor = null; // the message that Tab reaches

  /** `on`: earlier(), returning a promise; and what bubbles need: menu, reactMenu, reply, react, jump, resend, drop. */
  constructor(on) {
    this.#on = on;
    $('earlier').addEventListener('click', () => this.#loadEarlier());
    $('scroll').addEventListener('scroll', () => this.#scrolled(), { passive: true });
    $('to-end').addEventListener('click', () => this.toEnd());
    $('messages').addEventListener('keydown', (event) => this.#key(event));
    $('messages').addEventListener('focusin', (event) => this.#focused(event.target.closest('li')));
    // The composer that grows, a keyboard that appears: who reads the end goes on reading it.
    let height = 0;
    new ResizeObserver(([{ contentRect }]) => {
      const atEnd = this.#fromEnd() < NEAR_END_PX + Math.abs(contentRect.height - height);
      height = contentRect.height;
      if (atEnd) this.toEnd();
    }).observe($('scroll'));
  }

  clear() {
    this.#items.clear();
    this.#rows = [];
    this.#cursor = null;
    $('messages').replaceChildren();
  }

  /** `messages`: oldest first; `context`: {more, newFrom, group, nameOf, quoted(seq), canReact}. */
  show(messages, context) {
    const scroll = $('scroll');
    const fresh = this.#rows.length === 0;
    const atEnd = fresh || this.#fromEnd() < NEAR_END_PX;
    const fromEnd = scroll.scrollHeight - scroll.scrollTop;
    const grewAtTop = !fresh && messages.length > 0 && !this.#items.has(messages[0].id);
    this.#rows = messages;
    this.#more = context.more;
    $('earlier').hidden = !context.more;
    arrange($('messages'), this.#nodes(messages, context));
    const ownLast = messages.at(-1)?.status === 'waiting' && !atEnd;
    if (grewAtTop) scroll.scrollTop = scroll.scrollHeight - fromEnd;
    else if (atEnd || ownLast) this.toEnd();
    this.#scrolled();
  }

  #nodes(messages, context) {
    const nodes = [];
    let newFrom = context.newFrom;
    messages.forEach((message, index) => {
      const before = messages[index - 1];
      const newDay = !before || dayOf(before.ms) !== dayOf(message.ms);
      if (newDay) nodes.push(this.#line(`day ${dayOf(message.ms)}`, 'day', dayName(message.ms)));
      const isNew = newFrom && message.seq >= newFrom && !message.own && message.kind !== 'CHANGE';
      if (isNew) {
        nodes.push(this.#line('new', 'new-line', 'New messages'));
        newFrom = 0;
      }
      const close = before && before.from === message.from && before.kind !== 'CHANGE' && message.ms - before.ms < TOGETHER_MS;
      const quoted = message.ref ? context.quoted(message.ref) : null;
      nodes.push(this.#bubble(message, { ...context, quoted, together: Boolean(!newDay && !isNew && close) }));
    });
    return nodes;
  }

  #line(id, className, text) {
    if (!this.#items.has(id)) this.#items.set(id, h('li', { class: className, text }));
    return this.#items.get(id);
  }

  #bubble(message, context) {
    let item = this.#items.get(message.id);
    if (!item) this.#items.set(message.id, (item = h('li', { tabindex: '-1', data: { id: message.id } })));
    drawMessage(item, message, { ...context, on: this.#on });
    return item;
  }

  // ---- scrolling

  #fromEnd() {
    const scroll = $('scroll');
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
  }

  toEnd() {
    $('scroll').scrollTop = $('scroll').scrollHeight;
  }

  #scrolled() {
    $('to-end').hidden = this.#fromEnd() < 400;
    const scrolls = $('scroll').scrollHeight > $('scroll').clientHeight;
    if (scrolls && $('scroll').scrollTop < NEAR_TOP_PX && this.#fromEnd() > 0) this.#loadEarlier();
  }

  async #loadEarlier() {
    if (this.#loading || !this.#more) return;
    this.#loading = true;
    const before = this.#rows.length;
    await this.#on.earlier();
    this.#loading = false;
    // Who has gone on to the top meanwhile has more to come.
    if (this.#rows.length > before) this.#scrolled();
  }

  /** Whether that message is here; shows it for a moment. */
  flash(seq) {
    const item = $('messages').querySelector(`[data-seq="${seq}"]`);
    if (!item) return false;
    item.scrollIntoView({ block: 'center' });
    item.focus({ preventScroll: true });
    item.classList.remove('flash');
    void item.offsetWidth; // begins the animation anew
    item.classList.add('flash');
    return true;
  }

  // ---- keys: up and down through the messages, Enter for what can be done with one

  /** The way in from the composer. */
  focusLast() {
    [...$('messages').querySelectorAll('li.message')].at(-1)?.focus();
  }

  #focused(item) {
    if (!item?.classList.contains('message') || item === this.#cursor) return;
    this.#cursor?.setAttribute('tabindex', '-1');
    item.setAttribute('tabindex', '0');
    this.#cursor = item;
  }

  #key(event) {
    const item = event.target.closest('li.message');
    if (!item) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const items = [...$('messages').querySelectorAll('li.message')];
      const next = items[items.indexOf(item) + step];
      if (next) next.focus();
      else if (step === 1) $('text').focus();
      return;
    }
    if (event.target !== item) return;
    const message = this.#rows.find((row) => row.id === item.dataset.id);
    if (!message?.seq || message.erased) return;
    if (event.key === 'Enter' || event.key === ' ' || event.key === 'ContextMenu') {
      event.preventDefault();
      this.#on.menu(message, item.querySelector('.bubble'));
    } else if (event.key.toLowerCase() === 'r' && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.#on.reply(message);
    }
  }
}
