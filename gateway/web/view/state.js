// The state of the connection, said as it is: under one's name, above the messages, and over everything when it has ended.

import { $, setText } from './dom.js';

const STATES = {
  offline: 'Not connected',
  connecting: 'Connecting…',
  online: 'Connected',
  waiting: 'Reconnecting…',
  ended: 'Ended',
  replaced: 'Open somewhere else',
  busy: 'In use somewhere else',
  revoked: 'Unlinked',
  refused: 'Refused',
};
const KEPT = 'Nothing that you wrote is lost; it waits in this browser.';
// States in which the page does nothing more by itself: title, explanation, what the button offers.
const STOPPED = {
  ended: ['The server ended the session', KEPT, 'Connect again'],
  replaced: ['Open somewhere else', 'This device is in use in another tab or window. This one has stopped.', 'Use it here'],
  busy: ['In use somewhere else', 'This device was taken over several times within a minute, so the server refuses more. Close the other windows, or sign in as another device.', 'Try again'],
  revoked: ['This device was unlinked', 'What this browser had stored for it is deleted. It gets nothing any more until you link it again.', 'Link it again'],
  refused: ['The server said no', KEPT, 'Try again'],
};

let ticking = 0;

/** `state`, `detail` and `retryAt` as of the client. */
export function showState({ state, detail, retryAt }) {
  clearInterval(ticking);
  const draw = () => {
    const seconds = Math.ceil((retryAt - Date.now()) / 1_000);
    const when = state === 'waiting' && seconds > 2 ? ` in ${seconds} s` : '';
    const short = state === 'waiting' && when ? `Reconnecting${when}` : STATES[state];
    setText($('state'), short);
    setText($('banner-words'), detail && state !== 'online' ? `${short} (${detail})` : short);
  };
  for (const node of [$('state'), $('banner')]) node.dataset.state = state;
  $('banner').hidden = state === 'online' || state in STOPPED;
  draw();
  if (state === 'waiting') ticking = setInterval(draw, 1_000);
  const ended = state in STOPPED;
  $('stopped').hidden = !ended;
  $('chat').inert = ended;
  if (ended) for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  if (ended) stopped(STOPPED[state], detail);
}

function stopped([title, text, offer], detail) {
  setText($('stopped-title'), title);
  setText($('stopped-text'), detail ? `${text} The server says: ${detail}.` : text);
  setText($('again'), offer);
  $('again').focus();
}
