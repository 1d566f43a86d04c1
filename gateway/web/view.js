// What the page shows. Owns the DOM; knows nothing of the wire. Text of users only ever becomes text nodes.

const $ = (id) => document.getElementById(id);

const STATES = {
  offline: 'Not connected',
  connecting: 'Connecting…',
  online: 'Connected',
  waiting: 'Reconnecting…',
  replaced: 'Open somewhere else',
  refused: 'Refused',
};
// States in which the page does nothing more by itself: title, explanation, what the button offers.
const STOPPED = {
  replaced: [
    'Open somewhere else',
    'You are using ringpost under this name in another tab or window. This one has stopped.',
    'Use it here',
  ],
  refused: ['The server said no', 'Nothing that you wrote is lost; it waits in this browser.', 'Try again'],
};
const TICKS = {
  waiting: ['tick-waiting', 'waiting to be sent'],
  sent: ['tick-sent', 'sent'],
  delivered: ['tick-two', 'delivered'],
  read: ['tick-two', 'read'],
  failed: ['tick-failed', 'not sent'],
};
const MINUTES_TOGETHER = 5; // messages of one person within this share a bubble group

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function symbol(name, className) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', className);
  svg.append(document.createElementNS('http://www.w3.org/2000/svg', 'use'));
  svg.firstChild.setAttribute('href', `#${name}`);
  return svg;
}

/** A circle with the first letter of a name, in a colour that always is this name's. */
function paintAvatar(node, name) {
  let hash = 0x811c9dc5; // FNV-1a, with a last mix so that similar names differ
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 0;
  node.textContent = Array.from(name)[0]?.toUpperCase() ?? '?';
  node.style.setProperty('--hue', String(hash % 360));
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayOf = (ms) => new Date(ms).toDateString();

function dayName(ms) {
  if (dayOf(ms) === dayOf(Date.now())) return 'Today';
  if (dayOf(ms) === dayOf(Date.now() - 86_400_000)) return 'Yesterday';
  return day.format(ms);
}

export class View {
  #me = '';
  #items = new Map(); // peer -> list item
  #bubbles = new Map(); // key of a message -> list item
  #drafts = new Map();
  #peer = null;
  #on;

  /** `on`: signIn(name), leave(), open(peer | null), send(text), resend(cmid), earlier(), again() */
  constructor(on) {
    this.#on = on;
    const submit = (id, act) => $(id).addEventListener('submit', (event) => (event.preventDefault(), act()));
    submit('sign-in', () => on.signIn($('name').value));
    submit('new', () => this.#openNew());
    submit('composer', () => this.#sendDraft());
    $('leave').addEventListener('click', () => on.leave());
    $('back').addEventListener('click', () => on.open(null));
    $('earlier').addEventListener('click', () => on.earlier());
    $('again').addEventListener('click', () => on.again());
    $('text').addEventListener('input', () => this.#fit());
    $('text').addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#sendDraft();
    });
    $('list').addEventListener('keydown', (event) => this.#moveInList(event));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#peer !== null) on.open(null);
      if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey) || $('chat').hidden) return;
      event.preventDefault();
      on.open(null);
      $('new-name').focus();
    });
  }

  // ---- rooms

  askName(suggestion, problem = '') {
    $('welcome').hidden = false;
    $('chat').hidden = true;
    $('name').value = suggestion;
    $('sign-in-error').textContent = problem;
    $('sign-in-error').hidden = !problem;
    $('name').focus();
  }

  enter(me) {
    this.#me = me;
    $('welcome').hidden = true;
    $('chat').hidden = false;
    $('my-name').textContent = me;
    paintAvatar($('my-avatar'), me);
  }

  state(state, detail) {
    const words = detail ? `${STATES[state]}: ${detail}` : STATES[state];
    for (const node of [$('state'), $('state-small')]) {
      node.dataset.state = state;
      if (node.textContent !== words) node.textContent = words;
    }
    $('stopped').hidden = !(state in STOPPED);
    if ($('stopped').hidden) return;
    const [title, text, offer] = STOPPED[state];
    $('stopped-title').textContent = title;
    $('stopped-text').textContent = detail ? `It said: ${detail}. ${text}` : text;
    $('again').textContent = offer;
    $('again').focus();
  }

  // ---- the list of conversations

  list(conversations, { statusOf }) {
    $('list-empty').hidden = conversations.length > 0;
    $('list').hidden = conversations.length === 0;
    const nodes = conversations.map((conversation) => {
      let item = this.#items.get(conversation.peer);
      if (!item) this.#items.set(conversation.peer, (item = this.#newItem(conversation.peer)));
      this.#fillItem(item, conversation, statusOf(conversation));
      return item;
    });
    this.#arrange($('list'), nodes);
    const unread = conversations.reduce((sum, conversation) => sum + conversation.unread, 0);
    document.title = unread ? `(${unread}) ringpost` : 'ringpost';
  }

  #newItem(peer) {
    const item = element('li');
    const button = element('button', 'entry');
    button.dataset.testid = 'conversation-item';
    button.dataset.peer = peer;
    const avatar = element('span', 'avatar');
    avatar.setAttribute('aria-hidden', 'true');
    paintAvatar(avatar, peer);
    const middle = element('span', 'middle');
    middle.append(element('strong', 'name', peer), element('span', 'last'));
    const edge = element('span', 'edge');
    edge.append(element('time'), element('span', 'unread'));
    button.append(avatar, middle, edge);
    button.addEventListener('click', () => this.#on.open(peer));
    item.append(button);
    return item;
  }

  #fillItem(item, conversation, status) {
    const button = item.firstChild;
    button.setAttribute('aria-current', String(conversation.peer === this.#peer));
    const last = item.querySelector('.last');
    last.replaceChildren(document.createTextNode(conversation.lastText || 'No messages yet'));
    if (status) last.prepend(symbol(TICKS[status][0], `tick ${status}`));
    const today = dayOf(conversation.lastMs) === dayOf(Date.now());
    item.querySelector('time').textContent = (today ? clock : date).format(conversation.lastMs);
    const unread = item.querySelector('.unread');
    unread.textContent = conversation.unread > 99 ? '99+' : String(conversation.unread);
    unread.hidden = conversation.unread === 0;
    unread.setAttribute('aria-label', `${conversation.unread} unread`);
  }

  /** Puts exactly `nodes` into `parent`, moving as few as possible, so that focus and selection survive. */
  #arrange(parent, nodes) {
    nodes.forEach((node, index) => {
      if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    });
    while (parent.children.length > nodes.length) parent.lastElementChild.remove();
  }

  #moveInList(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...$('list').querySelectorAll('button')];
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
  }

  #openNew() {
    const peer = $('new-name').value;
    if (this.#on.open(peer)) $('new-name').value = '';
  }

  // ---- the open conversation

  show(peer) {
    if (this.#peer !== null) this.#drafts.set(this.#peer, $('text').value);
    this.#peer = peer;
    $('chat').dataset.open = String(peer !== null);
    $('open').hidden = peer === null;
    $('nothing').hidden = peer !== null;
    this.#bubbles.clear();
    $('messages').replaceChildren();
    if (peer === null) return;
    $('peer-name').textContent = peer;
    paintAvatar($('peer-avatar'), peer);
    $('text').value = this.#drafts.get(peer) ?? '';
    this.#fit();
    if (matchMedia('(hover: hover)').matches) $('text').focus();
  }

  /** `rows`: {key, own, text, ms, status, error, seq}, oldest first. */
  messages(rows, { more }) {
    const scroll = $('scroll');
    const fresh = $('messages').children.length === 0;
    const atEnd = fresh || scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
    const fromEnd = scroll.scrollHeight - scroll.scrollTop;
    const grewAtTop = !fresh && rows.length > 0 && !this.#bubbles.has(rows[0].key);
    $('earlier').hidden = !more;
    const nodes = [];
    rows.forEach((row, index) => {
      const before = rows[index - 1];
      const newDay = !before || dayOf(before.ms) !== dayOf(row.ms);
      if (newDay) nodes.push(this.#dayLine(row.ms));
      const together = !newDay && before.own === row.own && row.ms - before.ms < MINUTES_TOGETHER * 60_000;
      nodes.push(this.#bubble(row, together));
    });
    this.#arrange($('messages'), nodes);
    const ownLast = rows.at(-1)?.own && rows.at(-1)?.status === 'waiting';
    if (grewAtTop) scroll.scrollTop = scroll.scrollHeight - fromEnd;
    else if (atEnd || ownLast) scroll.scrollTop = scroll.scrollHeight;
  }

  #dayLine(ms) {
    const key = `day ${dayOf(ms)}`;
    if (!this.#bubbles.has(key)) this.#bubbles.set(key, element('li', 'day', dayName(ms)));
    return this.#bubbles.get(key);
  }

  #bubble(row, together) {
    let item = this.#bubbles.get(row.key);
    if (!item) {
      item = element('li', row.own ? 'message own' : 'message');
      item.dataset.testid = 'message';
      item.dataset.own = String(row.own);
      const bubble = element('div', 'bubble');
      const meta = element('span', 'meta');
      meta.append(element('time', '', clock.format(row.ms)));
      bubble.append(element('span', 'text', row.text), meta);
      item.append(bubble);
      this.#bubbles.set(row.key, item);
    }
    item.classList.toggle('together', together);
    if (row.seq) item.dataset.seq = String(row.seq);
    if (row.own && item.dataset.status !== row.status) this.#tick(item, row);
    return item;
  }

  #tick(item, row) {
    item.dataset.status = row.status;
    const [name, words] = TICKS[row.status];
    const tick = symbol(name, `tick ${row.status}`);
    tick.setAttribute('role', 'img');
    tick.setAttribute('aria-label', words);
    const meta = item.querySelector('.meta');
    meta.querySelector('svg')?.remove();
    meta.append(tick);
    item.querySelector('.again')?.remove();
    if (row.status !== 'failed') return;
    const again = element('button', 'again', `Not sent: ${row.error}. Try again`);
    again.addEventListener('click', () => this.#on.resend(row.key));
    item.append(again);
  }

  #sendDraft() {
    const text = $('text').value.trim();
    if (!text || !this.#on.send(text)) return;
    $('text').value = '';
    this.#fit();
    $('text').focus();
  }

  /** The composer grows with its text, up to a third of the window. */
  #fit() {
    const text = $('text');
    $('send').disabled = text.value.trim() === '';
    text.style.height = 'auto';
    text.style.height = `${Math.min(text.scrollHeight, innerHeight / 3)}px`;
  }
}
