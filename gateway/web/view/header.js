// The head of the open conversation: who it is with, what is known of them, what can be done.

import { $, paintAvatar, setText } from './dom.js';

/** `head`: {name, id, group, sign, sub, typing, online}. */
export function showHead({ name, id, group, sign, sub, typing, online }) {
  setText($('peer-name'), name);
  paintAvatar($('peer-avatar'), name, { id, group, sign });
  $('peer-dot').hidden = !online;
  setText($('peer-sub'), typing || sub);
  $('peer-sub').classList.toggle('typing', Boolean(typing));
  $('peer-open').setAttribute('aria-label', `${name}: ${typing || sub || 'open the menu'}`);
}

/** Where nothing can be written: why, and what to do about it. `none`: it can be. */
export function showClosed(reason) {
  $('composer').hidden = reason !== null;
  $('closed').hidden = reason === null;
  if (reason === null) return;
  setText($('closed-words'), reason.words);
  $('closed-act').hidden = !reason.offer;
  setText($('closed-act'), reason.offer ?? '');
}
