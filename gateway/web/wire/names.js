// What things are called: conversations on the wire and as keys in this browser, users, devices, ids of messages.
//
// A key is `u:NAME` for the conversation with a user and `g:HEX` for a group. Pure but for randomness.

const encoder = new TextEncoder();
const NAME_BYTES = 64;

/** A user name as the gateway accepts it, or null. */
export function userName(typed) {
  const name = typed.normalize('NFC').trim();
  return name && encoder.encode(name).length <= NAME_BYTES && !/\p{Cc}/u.test(name) ? name : null;
}

/** A device name as the gateway accepts it, or null. */
export function deviceName(typed) {
  const name = typed.trim();
  return /^[A-Za-z0-9._-]{1,32}$/.test(name) ? name : null;
}

/** Several names, separated by commas or spaces; null when one is none. */
export function userNames(typed) {
  const names = typed.split(/[\s,]+/u).filter(Boolean).map(userName);
  return names.includes(null) ? null : [...new Set(names)];
}

export const userKey = (name) => `u:${name}`;
export const isGroup = (key) => key.startsWith('g:');
/** The user of a direct conversation. */
export const userOf = (key) => (isGroup(key) ? null : key.slice(2));

export const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const unhex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

/** The key of a group's 16 bytes, which are base64 on the wire. */
export const groupKey = (id) => `g:${Array.from(atob(id), (c) => c.charCodeAt(0).toString(16).padStart(2, '0')).join('')}`;
/** The 16 bytes of a group, for the wire. */
export const groupId = (key) => base64(unhex(key.slice(2)));

/** The key of a conversation as the wire names it; null for what this page does not know. */
export function keyOf(peer) {
  if (peer?.user) return userKey(peer.user);
  return peer?.group ? groupKey(peer.group) : null;
}

/** A conversation as the wire names it. */
export const peerOf = (key) => (isGroup(key) ? { group: groupId(key) } : { user: key.slice(2) });

/** A key that came from outside, or null. */
export function checkedKey(text) {
  if (/^g:[0-9a-f]{32}$/.test(text)) return text;
  const name = text.startsWith('u:') && userName(text.slice(2));
  return name ? userKey(name) : null;
}

/** A version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix milliseconds, the rest random. Base64, as the wire wants it. */
export function uuid7(ms = Date.now()) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, rest = ms; i >= 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return base64(bytes);
}
