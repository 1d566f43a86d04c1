// How the page puts things: times, presence, what became of a group. Pure.

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

export const dayOf = (ms) => new Date(ms).toDateString();
export const timeOf = (ms) => clock.format(ms);
export const momentOf = (ms) => full.format(ms);

const isToday = (ms) => dayOf(ms) === dayOf(Date.now());
const isYesterday = (ms) => dayOf(ms) === dayOf(Date.now() - 86_400_000);

export const shortTime = (ms) => (isToday(ms) ? clock : date).format(ms);

export function dayName(ms) {
  if (isToday(ms)) return 'Today';
  return isYesterday(ms) ? 'Yesterday' : weekday.format(ms);
}

export function lastSeen(ms) {
  const ago = Date.now() - ms;
  if (ago < 60_000) return 'last seen just now';
  if (ago < 3_600_000) return `last seen ${Math.floor(ago / 60_000)} min ago`;
  if (isToday(ms)) return `last seen at ${clock.format(ms)}`;
  return isYesterday(ms) ? `last seen yesterday at ${clock.format(ms)}` : `last seen on ${date.format(ms)}`;
}

/** Nothing where nothing is known. */
export function presenceWords(presence) {
  if (!presence) return '';
  if (presence.online) return 'online';
  return presence.lastSeenMs ? lastSeen(presence.lastSeenMs) : '';
}

export function typingWords(names, group) {
  if (names.length === 0) return '';
  if (!group) return 'typing…';
  if (names.length > 2) return `${names.length} people are typing…`;
  return `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} typing…`;
}

export function listed(names) {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** What a change says; `nameOf(user)` is "you" for oneself. */
export function changeWords(from, change, nameOf) {
  const who = subject(nameOf(from));
  const names = (users = []) => listed(users.map(nameOf));
  const { created, updated, added, removed, left, role, blocked, promoted } = change;
  let words = `${who} changed the group`;
  if (created) words = created.members?.length ? `${who} made the group “${created.name}” with ${names(created.members)}` : `${who} made the group “${created.name}”`;
  else if (updated?.name) words = `${who} named the group “${updated.name}”`;
  else if (updated?.description !== undefined) words = `${who} changed the description`;
  else if (updated?.avatar !== undefined) words = `${who} changed the picture`;
  else if (added) words = `${who} added ${names(added.users)}`;
  else if (removed) words = `${who} removed ${names(removed.users)}`;
  else if (left) words = `${who} left the group`;
  else if (role?.user) words = role.role === 'ADMIN' ? `${who} made ${nameOf(role.user)} an admin` : `${who} made ${nameOf(role.user)} a member again`;
  else if (blocked) words = blocked.on ? `${who} blocked this person` : `${who} unblocked this person`;
  if (!promoted) return words;
  const heir = nameOf(promoted);
  return `${words}. ${subject(heir)} ${heir === 'you' ? 'are' : 'is'} an admin now`;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** At the beginning of a sentence; names stay as they are. */
export const subject = (name) => (name === 'you' ? 'You' : name);

/** One line for a message: in the list, in a quote. */
export function snippet(row, nameOf) {
  if (!row) return '';
  if (row.erased) return 'Message deleted';
  if (row.kind === 'CHANGE') return changeWords(row.from, row.change ?? {}, nameOf);
  if (row.kind === 'MEDIA') return row.media?.name || row.text || 'A file';
  return row.text || (row.kind === 'TEXT' ? '' : 'A message that this page cannot show');
}

export function size(bytes) {
  const units = ['B', 'KB', 'MB', 'GB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log(Math.max(1, bytes)) / Math.log(1024)));
  return `${(bytes / 1024 ** step).toFixed(step && bytes / 1024 ** step < 10 ? 1 : 0)} ${units[step]}`;
}
