// Who is signed in at this tab, and as which device. Each tab may be another one.
//
// The user and device of a tab live in sessionStorage, and what is half written there, so that a reload is the same; what was
// used last in this browser is the suggestion for the next tab.

const KEY = 'ringpost.session';
const DRAFTS = 'ringpost.drafts';

function stored(storage) {
  try {
    const { user, device } = JSON.parse(storage.getItem(KEY) ?? 'null') ?? {};
    return typeof user === 'string' && typeof device === 'string' ? { user, device } : null;
  } catch {
    return null;
  }
}

/** {user, device} of this tab, or null. */
export const current = () => stored(sessionStorage);

/** What to suggest. A browser has one device name of its own for each user, until another one is typed. */
export const suggested = () => stored(localStorage) ?? { user: '', device: '' };

/** The device of this browser for a user who named none. */
export function ownDevice(user) {
  const key = `ringpost.device.${user}`;
  let device = localStorage.getItem(key);
  if (!device) {
    const random = crypto.getRandomValues(new Uint8Array(4));
    device = `web-${Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
    localStorage.setItem(key, device);
  }
  return device;
}

export function enter(user, device) {
  const session = JSON.stringify({ user, device });
  sessionStorage.setItem(KEY, session);
  localStorage.setItem(KEY, session);
}

export function leave() {
  forgetDrafts();
  sessionStorage.removeItem(KEY);
}

/** What is half written, by conversation. */
export function drafts() {
  try {
    return new Map(JSON.parse(sessionStorage.getItem(DRAFTS) ?? '[]'));
  } catch {
    return new Map();
  }
}

export function keepDrafts(drafts) {
  try {
    sessionStorage.setItem(DRAFTS, JSON.stringify([...drafts]));
  } catch {
    // more than the browser gives; they are in the page still
  }
}

export const forgetDrafts = () => sessionStorage.removeItem(DRAFTS);

/** A development token. `refused`: asking again would not help. */
export async function devToken(user, device) {
  const body = JSON.stringify({ user, device });
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch('/v1/dev/token', { method: 'POST', headers, body });
  if (answer.ok) return (await answer.json()).token;
  const message = answer.status === 404 ? 'this server runs without --dev' : (await answer.text()).slice(0, 200);
  throw Object.assign(new Error(message), { refused: answer.status >= 400 && answer.status < 429 });
}
