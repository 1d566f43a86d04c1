// Records folded into messages as they are to be shown: edits, erasures and reactions applied, waiting ones included.
//
// Pure. The result does not depend on the order in which records were read, only on their positions.

import { isAbout } from './store.js';
import { rowOf } from './outbox.js';

/** @typedef {{id: string, seq: number, own: boolean, from: string, kind: string, text: string, ms: number, ref?: number,
 *   media?: object, change?: object, erased: boolean, edited: boolean, reactions: {sign: string,
 *   users: string[], mine: boolean}[], status: string, error?: string}} Message */

/** `rows`: what is shown by itself, oldest first; `about`: what is about them; `waiting`: outbox entries of the conversation.
 *  @returns {Message[]} */
export function fold({ rows, about, waiting, me, conversation }) {
  const pending = waiting.map((entry) => ({ ...rowOf(entry, me, Infinity), error: entry.error }));
  const saying = [...about, ...pending.filter((row) => isAbout(row.kind))].sort((a, b) => a.seq - b.seq);
  const erased = new Set(saying.filter((row) => row.kind === 'ERASE').map((row) => row.ref));
  const bySeq = new Map();
  const messages = rows.map((row) => {
    const own = row.from === me;
    const id = own && row.cmid ? row.cmid : `seq ${row.seq}`;
    const gone = Boolean(row.erased) || erased.has(row.seq);
    const message = { ...row, id, own, erased: gone, edited: false, reactions: [] };
    message.status = own && row.kind !== 'CHANGE' ? status(conversation, row.seq) : '';
    if (gone) Object.assign(message, { text: '', media: undefined });
    bySeq.set(row.seq, message);
    return message;
  });
  for (const row of saying) {
    const message = bySeq.get(row.ref);
    if (!message || message.erased) continue;
    if (row.kind === 'REACTION') react(message, row, me);
    if (row.kind !== 'EDIT' || row.erased || erased.has(row.seq)) continue;
    Object.assign(message, { text: row.text, edited: true });
  }
  const unsent = pending.filter((row) => !isAbout(row.kind)).map((row) => {
    const own = { id: row.cmid, seq: 0, own: true, erased: false, edited: false, reactions: [] };
    return { ...row, ...own, status: row.error ? 'failed' : 'waiting' };
  });
  return [...messages, ...unsent];
}

/** How far the others are with an own message. */
export function status({ read, delivered, excluded }, seq) {
  if (excluded.some(([from, to]) => from <= seq && seq <= to)) return 'sent';
  if (seq <= read) return 'read';
  return seq <= delivered ? 'delivered' : 'sent';
}

/** A user has one reaction to a message, or none: the last one counts. */
function react(message, { from, text }, me) {
  for (const reaction of message.reactions) reaction.users = reaction.users.filter((user) => user !== from);
  if (text) {
    let found = message.reactions.find((reaction) => reaction.sign === text);
    if (!found) message.reactions.push((found = { sign: text, users: [] }));
    found.users.push(from);
  }
  message.reactions = message.reactions.filter((reaction) => reaction.users.length > 0);
  for (const reaction of message.reactions) reaction.mine = reaction.users.includes(me);
}
