// Small helpers to build the page. Text of users only ever becomes text nodes.

export const $ = (id) => document.getElementById(id);

/** An element. `props`: `class`, `text`, `testid`, `on` {event: handler}, `data` {name: value}; the rest are attributes, where
 *  false and undefined leave one out. Children are nodes or strings. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  const { class: className, text, testid, on = {}, data = {}, ...attributes } = props;
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (testid) node.dataset.testid = testid;
  Object.assign(node.dataset, data);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : String(value));
  }
  for (const [event, handler] of Object.entries(on)) node.addEventListener(event, handler);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ''));
  return node;
}

/** One of the symbols of index.html. */
export function icon(name, className = '') {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  if (className) svg.setAttribute('class', className);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(document.createElementNS('http://www.w3.org/2000/svg', 'use'));
  svg.firstChild.setAttribute('href', `#${name}`);
  return svg;
}

export function iconButton(name, label, props = {}) {
  return h('button', { type: 'button', class: 'icon', 'aria-label': label, title: label, ...props }, icon(name));
}

/** The colour that always is this name's, a hue of 0 to 359. */
export function hueOf(name) {
  let hash = 0x811c9dc5; // FNV-1a, with a last mix so that similar names differ
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  return (Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 0) % 360;
}

export const letterOf = (name) => Array.from(name)[0]?.toUpperCase() ?? '?';

/** Makes `node` a circle with a sign, or else the first letter of a name; `id` gives the colour. */
export function paintAvatar(node, name, { id = name, group = false, sign = '' } = {}) {
  setText(node, sign || letterOf(name));
  node.style.setProperty('--hue', String(hueOf(id)));
  node.classList.toggle('group', group);
  node.classList.toggle('sign-of', sign !== '');
}

export function avatar(name, options) {
  const node = h('span', { class: 'avatar', 'aria-hidden': 'true' });
  paintAvatar(node, name, options);
  return node;
}

/** Puts exactly `nodes` into `parent`, moving as few as possible, so that focus and selection survive. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

/** Sets a text only where it differs, so that a live region does not repeat itself. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Text with its addresses as links. */
export function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/u).map((part, index) => {
    if (index % 2 === 0) return document.createTextNode(part);
    return h('a', { href: part, target: '_blank', rel: 'noopener noreferrer', text: part });
  });
}
