// Pictures of people and groups. A picture is a media id; this page has no media to ask for, so it offers signs, `sign:🦊`.
// What is no sign is drawn as the letter of the name, and kept until another one is chosen.

import { h, letterOf } from './dom.js';

const OFFERED = ['🦊', '🐻', '🐼', '🐙', '🦉', '🐝', '🌵', '🌻', '🍉', '🏔️', '🚀', '🎸', '⚽', '📚', '☕', '🎲', '🦋'];
const SIGN = /^sign:(\p{RGI_Emoji})$/v;

/** The sign that a picture is; empty where it is none. */
export const signOf = (picture = '') => SIGN.exec(picture)?.[1] ?? '';

/** A field to choose one. Returns {node, fill(picture, name), chosen()}; `chosen` is undefined where it stays as it was. */
export function pictureField() {
  const row = h('div', { class: 'pictures' });
  const node = h('fieldset', { class: 'field', testid: 'pictures' }, h('legend', { text: 'Picture' }), row);
  let before = '';
  const choice = (sign, letter) => {
    const props = { type: 'radio', name: 'picture', value: sign, 'aria-label': sign || 'The first letter of the name', checked: sign === before };
    return h('label', { title: sign || 'The first letter' }, h('input', props), h('span', { class: 'avatar', 'aria-hidden': 'true', text: sign || letter }));
  };
  const fill = (picture, name) => {
    before = signOf(picture);
    const signs = OFFERED.includes(before) || !before ? OFFERED : [before, ...OFFERED];
    row.replaceChildren(...['', ...signs].map((sign) => choice(sign, letterOf(name))));
  };
  const chosen = () => {
    const sign = row.querySelector('input:checked')?.value ?? before;
    if (sign === before) return undefined;
    return sign ? `sign:${sign}` : '';
  };
  fill('', '');
  return { node, fill, chosen };
}
