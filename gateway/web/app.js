// The chat page: signing in, which conversation is open, and drawing what has changed. What a user does is in acts.js.

import * as session from './session.js';
import { Acts } from './acts.js';
import { $ } from './view/dom.js';
import { Client } from './wire/client.js';
import { Composer } from './view/composer.js';
import { List, showMe } from './view/list.js';
import { Messages } from './view/messages.js';
import { Store, counts } from './wire/store.js';
import { checkedKey, deviceName, isGroup, userKey, userName, userOf } from './wire/names.js';
import { fold, status } from './wire/fold.js';
import { presenceWords, snippet, typingWords } from './view/words.js';
import { setUpMenu } from './view/menu.js';
import { showClosed, showHead } from './view/header.js';
import { showState } from './view/state.js';
import { signOf } from './view/picture.js';
import { toast } from './view/dialog.js';

const PAGE = 60; // messages in the view at first; "earlier" adds as many
const WATCHED = 50; // users whose presence the list shows, and members of the open group that are known by what they chose

class App {
  me;
  client;
  store;
  key = null; // of the open conversation
  messages = []; // of it, as shown
  #shown = PAGE;
  #moreHere = false; // the store has older ones
  #newFrom = 0; // the first message that was unread when the conversation was opened
  #quotes = new Map(); // seq -> message that others answer and that is not shown; null while it is being asked for
  #due = false;
  #sign = ''; // the own picture
  #list;
  #view;
  #composer;
  #acts = new Acts(this);

  constructor() {
    setUpMenu();
    $('sign-in').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#signIn($('name').value, $('device').value);
    });
    const known = session.current();
    if (known) this.#enter(known);
    else this.#askName(session.suggested());
  }

  #askName({ user, device }, problem = '') {
    $('welcome').hidden = false;
    $('name').value = user;
    $('device').value = device;
    $('sign-in-error').textContent = problem;
    $('sign-in-error').hidden = !problem;
    $('name').focus();
  }

  #signIn(typedName, typedDevice) {
    const asked = { user: typedName, device: typedDevice };
    const user = userName(typedName);
    if (!user) return this.#askName(asked, 'A name has 1 to 64 bytes and no control characters.');
    // A device belongs to a user: the one that was suggested is of whoever was here last.
    const others = typedDevice && typedDevice === session.suggested().device && user !== session.suggested().user;
    const device = typedDevice.trim() && !others ? deviceName(typedDevice) : session.ownDevice(user);
    if (!device) return this.#askName(asked, 'A device name has 1 to 32 of the letters a to z, digits and . _ -');
    session.enter(user, device);
    this.#enter({ user, device });
  }

  leave() {
    session.leave();
    location.hash = '';
    location.reload();
  }

  async #enter(me) {
    this.me = me;
    $('welcome').hidden = true;
    $('chat').hidden = false;
    this.showAs({});
    this.#list = new List((key) => this.go(key));
    this.#view = new Messages({ ...this.#acts.ofMessages(), earlier: () => this.#earlier(), jump: (seq) => this.#jump(seq) });
    this.#composer = new Composer({ ...this.#acts.ofComposer(), keepDrafts: session.keepDrafts }, session.drafts());
    this.#acts.setUp(this.#composer, this.#view);
    this.store = await Store.open(me.user, me.device);
    const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/connect`;
    const token = () => session.devToken(me.user, me.device);
    this.client = new Client({ url, ...me, store: this.store, token });
    this.client.addEventListener('change', () => this.refresh());
    this.client.addEventListener('ephemera', ({ detail }) => this.#noticed(detail));
    this.client.addEventListener('refused', ({ detail }) => toast(`That did not work: ${detail.why}.`));
    this.client.addEventListener('state', () => this.#stateChanged());
    addEventListener('hashchange', () => this.#route());
    addEventListener('focus', () => this.refresh());
    document.addEventListener('visibilitychange', () => this.#lookedAt());
    navigator.storage?.persist?.();
    this.client.start();
    this.#route();
  }

  /** What was set on another device is told to nobody: it is asked for when somebody looks here again. */
  #lookedAt() {
    this.refresh();
    if (document.visibilityState !== 'visible' || this.client.state !== 'online') return;
    this.#acts.online();
    this.client.relist();
  }

  #stateChanged() {
    showState(this.client);
    if (this.client.state === 'revoked') return this.#forget();
    if (this.client.state !== 'online') return this.refresh();
    if (this.key !== null) this.#load();
    this.#acts.online();
  }

  /** An unlinked device keeps nothing. */
  async #forget() {
    this.key = null;
    this.messages = [];
    this.#view.clear();
    this.#list.show([]);
    session.forgetDrafts();
    await this.store.forget();
  }

  /** Presence brings the name and the picture that a user has chosen. */
  #noticed({ key, what }) {
    const presence = key && what === 'presence' && this.client.ephemera.presence(userOf(key));
    const conversation = this.store.conversations.get(key);
    const differs = presence && conversation && (conversation.title !== presence.name || conversation.avatar !== presence.avatar);
    if (differs) {
      Object.assign(conversation, { title: presence.name, avatar: presence.avatar });
      this.store.put(key);
    }
    this.refresh();
  }

  /** What this user has chosen to be shown as. */
  showAs({ name = '', avatar = '' }) {
    this.#sign = signOf(avatar);
    showMe({ name, sign: this.#sign, ...this.me });
  }

  // ---- names and pictures: as last heard, also of members of a group to whom one has never written

  nameOf(user) {
    return this.store.conversations.get(userKey(user))?.title || this.client.ephemera.presence(user)?.name || user;
  }

  signOf = (user) => {
    const kept = this.store.conversations.get(userKey(user))?.avatar;
    return user === this.me.user ? this.#sign : signOf(kept || this.client.ephemera.presence(user)?.avatar);
  };

  /** Of a conversation. */
  #signOfKey(key) {
    return isGroup(key) ? signOf(this.store.conversations.get(key)?.avatar) : this.signOf(userOf(key));
  }

  /** Of a conversation. */
  titleOf(key) {
    return isGroup(key) ? this.store.conversations.get(key)?.title || 'Group' : this.nameOf(userOf(key));
  }

  /** In a sentence. */
  youOr = (user) => (user === this.me.user ? 'you' : this.nameOf(user));

  // ---- which conversation is open lives in the address, so that "back" and a reload work

  go(key) {
    const hash = key === null ? '' : `#${encodeURIComponent(key)}`;
    if (location.hash !== hash) location.hash = hash;
  }

  #route() {
    let key = null;
    try {
      key = checkedKey(decodeURIComponent(location.hash.slice(1)));
    } catch {
      // not an address of ours
    }
    this.client.ephemera.pause();
    this.key = key;
    this.messages = [];
    this.#shown = PAGE;
    this.#quotes.clear();
    const conversation = this.store.conversations.get(key);
    this.#newFrom = conversation?.unread ? conversation.myRead + 1 : 0;
    $('chat').dataset.open = String(key !== null);
    $('open').hidden = key === null;
    $('nothing').hidden = key !== null;
    this.#view.clear();
    this.#composer.open(key);
    // At once: the head of one conversation never stands above the messages of another.
    this.#drawHead();
    this.#drawList();
    this.refresh();
    if (key !== null) this.#load();
  }

  async #load() {
    const { key } = this;
    this.client.refreshGroup(key);
    await this.client.history(key, 0, PAGE);
    this.refresh();
  }

  async #earlier() {
    const { key } = this;
    const conversation = this.store.conversation(key);
    const { rows } = await this.store.window(key, this.#shown + PAGE);
    if (rows.length < this.#shown + PAGE && !conversation.begun) await this.client.history(key, conversation.oldest ?? 0, PAGE);
    if (key !== this.key) return;
    this.#shown += PAGE;
    await this.#drawMessages();
  }

  /** Shows a message that may be far above. */
  async #jump(seq) {
    const { key } = this;
    for (let pages = 0; key === this.key && !this.#view.flash(seq); pages += 1) {
      if (pages > 50 || !this.#hasMore()) return toast('That message cannot be shown.');
      const before = this.messages.length;
      await this.#earlier();
      if (this.messages.length === before && !this.#hasMore()) return toast('That message cannot be shown.');
    }
  }

  // ---- drawing, at most once a frame (a page in the background draws too: the title counts unread messages)

  refresh() {
    if (this.#due) return;
    this.#due = true;
    setTimeout(async () => {
      this.#due = false;
      await this.#drawMessages();
      this.#drawHead();
      this.#drawList();
      this.#acts.refreshed();
    }, 16);
  }

  #hasMore() {
    return this.messages.length > 0 && (this.#moreHere || !this.store.conversations.get(this.key)?.begun);
  }

  async #drawMessages() {
    const { key } = this;
    if (key === null) return;
    const conversation = this.store.conversation(key);
    const { rows, about, more } = await this.store.window(key, this.#shown);
    if (key !== this.key) return;
    this.#moreHere = more;
    const waiting = [...this.store.outbox.values()].filter((entry) => entry.key === key);
    this.messages = fold({ rows, about, waiting, me: this.me.user, conversation });
    this.#view.show(this.messages, {
      more: this.#hasMore(),
      newFrom: this.#newFrom,
      group: isGroup(key),
      nameOf: this.youOr,
      canReact: this.closedBecause(conversation) === null,
      quoted: (seq) => this.#quoted(seq),
    });
    if (document.visibilityState === 'visible' && conversation.head > 0) this.client.read(key, conversation.head);
  }

  /** The message that another one answers; null while it is not known. */
  #quoted(seq) {
    const shown = this.messages.find((message) => message.seq === seq);
    if (shown || this.#quotes.has(seq)) return shown ?? this.#quotes.get(seq);
    const { key } = this;
    this.#quotes.set(seq, null);
    const found = async () => (await this.store.record(key, seq)) ?? (await this.client.fetchOne(key, seq));
    found().then((row) => {
      if (!row || key !== this.key) return;
      this.#quotes.set(seq, row);
      this.refresh();
    });
    return null;
  }

  #drawHead() {
    const { key } = this;
    if (key === null) return;
    const conversation = this.store.conversation(key);
    const group = isGroup(key);
    const presence = group ? undefined : this.client.ephemera.presence(userOf(key));
    const typing = typingWords(this.client.ephemera.typing(key).map((user) => this.nameOf(user)), group);
    const shared = { name: this.titleOf(key), id: key.slice(2), group, sign: this.#signOfKey(key), typing, online: presence?.online };
    showHead({ ...shared, sub: group ? membersWords(conversation, this.#online(conversation)) : directWords(conversation, presence, userOf(key)) });
    showClosed(this.closedBecause(conversation));
  }

  /** How many of the others of a group are there; 0 where not all of them are watched. */
  #online({ members }) {
    if (!members || members.length > WATCHED) return 0;
    return members.filter(({ user }) => user !== this.me.user && this.client.ephemera.presence(user)?.online).length;
  }

  /** Why nothing can be written to a conversation, or null. */
  closedBecause({ key, left, blocked }) {
    if (left) return { words: 'You are no longer a member of this group.' };
    if (!blocked) return null;
    return { words: `You have blocked ${this.titleOf(key)}.`, offer: 'Unblock' };
  }

  #drawList() {
    const conversations = this.store.list();
    const unsent = [...this.store.outbox.values()];
    this.#list.show(conversations.map((conversation) => this.#entry(conversation, unsent)));
    const users = conversations.slice(0, WATCHED).map(({ key }) => userOf(key));
    const members = (this.store.conversations.get(this.key)?.members ?? []).map(({ user }) => user);
    const others = members.filter((user) => user !== this.me.user).slice(0, WATCHED);
    this.client.ephemera.watch([...new Set([this.key && userOf(this.key), ...users, ...others])].filter(Boolean));
  }

  #entry(conversation, unsent) {
    const { key, last, unread, muted, lastMs } = conversation;
    const group = isGroup(key);
    const own = last?.from === this.me.user;
    const words = snippet(last, this.youOr);
    const by = group && last?.from && last.kind !== 'CHANGE' && !last.erased ? `${own ? 'You' : this.nameOf(last.from)}: ` : '';
    const typing = typingWords(this.client.ephemera.typing(key).map((user) => this.nameOf(user)), group);
    const ticks = own && counts(last.kind) && !last.erased ? this.#lastStatus(conversation, unsent) : '';
    const online = !group && this.client.ephemera.presence(userOf(key))?.online === true;
    const shared = { key, group, sign: this.#signOfKey(key), unread, muted, typing, online, ms: lastMs, current: key === this.key };
    return { ...shared, name: this.titleOf(key), words: words && by + words, status: ticks };
  }

  /** The ticks of the last message, which is one's own. */
  #lastStatus(conversation, unsent) {
    const waiting = unsent.filter((entry) => entry.key === conversation.key);
    if (waiting.some((entry) => entry.error)) return 'failed';
    return waiting.length ? 'waiting' : status(conversation, conversation.last.seq);
  }
}

function membersWords({ members, left, description }, online) {
  if (left || !members) return description;
  const count = `${members.length} member${members.length === 1 ? '' : 's'}${online ? `, ${online} online` : ''}`;
  return [count, description].filter(Boolean).join(' · ');
}

/** The name by which one writes to somebody stands beside the name that was chosen. */
function directWords({ title, muted }, presence, user) {
  return [title && title !== user ? user : '', presenceWords(presence), muted ? 'muted' : ''].filter(Boolean).join(' · ');
}

new App();
