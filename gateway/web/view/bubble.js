// One message as an element. Built anew when what it shows has changed; the list item stays, and with it focus and place.

import { h, hueOf, icon, iconButton, linked } from './dom.js';
import { changeWords, listed, momentOf, size, snippet, subject, timeOf } from './words.js';

export const TICKS = {
  waiting: ['tick-waiting', 'waiting to be sent'],
  sent: ['tick-sent', 'sent'],
  delivered: ['tick-two', 'delivered'],
  read: ['tick-two', 'read'],
  failed: ['tick-failed', 'not sent'],
};

export function tick(status) {
  const [name, words] = TICKS[status];
  const svg = icon(name, `tick ${status}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', words);
  svg.removeAttribute('aria-hidden');
  return svg;
}

/** `context`: {group, together, quoted, nameOf, on}; `quoted`: the message that this one answers, null where there is none. */
export function drawMessage(item, message, context) {
  const { group, together, quoted, nameOf, canReact } = context;
  const { own, status, erased, edited, text, reactions, error, kind } = message;
  const author = group && !own && !together ? nameOf(message.from) : '';
  const shown = [status, erased, edited, text, reactions, error, author, together, canReact, quoted && [quoted.from, snippet(quoted, nameOf)]];
  const signature = JSON.stringify([shown, kind === 'CHANGE' && changeWords(message.from, message.change ?? {}, nameOf)]);
  if (item.signature === signature) return;
  item.signature = signature;
  if (kind === 'CHANGE') return drawChange(item, message, nameOf);
  item.className = `message${own ? ' own' : ''}${together ? ' together' : ''}${erased ? ' erased' : ''}`;
  Object.assign(item.dataset, { testid: 'message', own: String(own), status });
  if (message.seq) item.dataset.seq = String(message.seq);
  const parts = [bubble(message, author, quoted, context)];
  if (reactions.length) parts.push(reactionRow(message, context));
  if (status === 'failed') parts.push(failure(message, context.on));
  item.replaceChildren(...parts);
}

function drawChange(item, message, nameOf) {
  item.className = 'notice';
  item.dataset.testid = 'notice';
  item.textContent = changeWords(message.from, message.change ?? {}, nameOf);
  item.title = momentOf(message.ms);
}

function bubble(message, author, quoted, context) {
  const meta = h('span', { class: 'meta' });
  if (message.edited && !message.erased) meta.append(h('span', { class: 'edited', testid: 'edited', text: 'edited' }));
  meta.append(h('time', { text: timeOf(message.ms), datetime: new Date(message.ms).toISOString(), title: momentOf(message.ms) }));
  if (message.status) meta.append(tick(message.status));
  const node = h('div', { class: 'bubble' });
  if (author) {
    const name = h('span', { class: 'author', text: author });
    name.style.setProperty('--hue', String(hueOf(message.from)));
    node.append(name);
  }
  if (message.ref && !message.erased) node.append(quote(message, quoted, context));
  if (message.media) node.append(file(message.media));
  node.append(body(message), meta);
  const usable = message.seq > 0 && !message.erased;
  return h('div', { class: 'line' }, node, usable ? tools(message, context) : null);
}

function body(message) {
  if (message.erased) return h('span', { class: 'text gone', text: 'This message was deleted' });
  const words = message.text || (message.media ? '' : 'A message that this page cannot show');
  return h('span', { class: 'text' }, linked(words));
}

function quote(message, quoted, { nameOf, on }) {
  const words = quoted ? snippet(quoted, nameOf) : 'An earlier message';
  const props = { type: 'button', class: 'quote', testid: 'quote', 'aria-label': `Answers: ${words}. Show it` };
  const node = h('button', { ...props, on: { click: () => on.jump(message.ref) } });
  if (quoted) {
    const name = h('strong', { text: subject(nameOf(quoted.from)) });
    node.style.setProperty('--hue', String(hueOf(quoted.from)));
    node.append(name);
  }
  node.append(h('span', { text: words }));
  return node;
}

function file({ name, mime, bytes, thumbnail }) {
  const picture = /^image\/(png|jpeg|webp|gif)$/.test(mime ?? '') && thumbnail;
  const sign = picture ? h('img', { src: `data:${mime};base64,${thumbnail}`, alt: '' }) : icon('icon-file');
  const what = [mime, bytes && size(Number(bytes))].filter(Boolean).join(', ');
  return h('span', { class: 'file' }, sign, h('span', {}, h('strong', { text: name || 'A file' }), h('small', { text: what })));
}

/** Shown when the message is under the pointer or has the focus; on a touch screen the last one is always there. */
function tools(message, { on, canReact }) {
  const open = (event) => on.menu(message, event.currentTarget);
  const row = h('span', { class: 'tools' });
  if (canReact) {
    row.append(iconButton('icon-smile', 'React', { testid: 'react', class: 'icon tool quick', on: { click: (event) => on.reactMenu(message, event.currentTarget) } }));
    row.append(iconButton('icon-reply', 'Reply', { testid: 'reply', class: 'icon tool quick', on: { click: () => on.reply(message) } }));
  }
  row.append(iconButton('icon-more', 'More about this message', { testid: 'more', class: 'icon tool', 'aria-haspopup': 'menu', on: { click: open } }));
  return row;
}

function reactionRow(message, { nameOf, on, canReact }) {
  const row = h('div', { class: 'reactions', testid: 'reactions' });
  for (const { sign, users, mine } of message.reactions) {
    const who = listed(users.map(nameOf));
    const label = `${sign} from ${who}${mine && canReact ? '; take yours back' : ''}`;
    const props = { type: 'button', class: 'reaction', 'aria-pressed': String(mine), 'aria-label': label, title: who, disabled: !canReact };
    const click = () => on.react(message, mine ? '' : sign);
    row.append(h('button', { ...props, on: { click } }, sign, users.length > 1 ? h('span', { text: String(users.length) }) : null));
  }
  return row;
}

function failure(message, on) {
  const again = h('button', { type: 'button', class: 'again', text: `Not sent: ${message.error}. Try again`, on: { click: () => on.resend(message.id) } });
  const drop = h('button', { type: 'button', class: 'again', text: 'Discard', on: { click: () => on.drop(message.id) } });
  return h('div', { class: 'failure' }, again, drop);
}
