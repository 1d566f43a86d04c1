// What a user does: to messages, conversations, groups, settings. Each act is sent by the client and told in a dialog or toast.

import { $ } from './view/dom.js';
import { closeMenu, isMenuOpen, openMenu } from './view/menu.js';
import { confirmed, toast } from './view/dialog.js';
import { groupDialog, newGroupDialog } from './view/group-dialog.js';
import { infoDialog, settingsDialog } from './view/settings-dialog.js';
import { isGroup, userKey, userName, userOf } from './wire/names.js';
import { snippet } from './view/words.js';

const SIGNS = ['👍', '❤️', '😂', '😮', '😢', '🙏'];
const FOR_EVER_MS = Date.UTC(2200, 0, 1); // a mute until somebody ends it
const encoder = new TextEncoder();

export class Acts {
  #app;
  #composer;
  #view;
  #group = null; // the open dialog of a group

  constructor(app) {
    this.#app = app;
  }

  /** Called once, when somebody is signed in. */
  setUp(composer, view) {
    this.#composer = composer;
    this.#view = view;
    const click = (id, act) => $(id).addEventListener('click', act);
    click('leave', () => this.#app.leave());
    click('settings', () => this.#settings());
    click('new-group', () => this.#newGroup());
    click('back', () => this.#app.go(null));
    click('again', () => location.reload());
    click('peer-menu', (event) => this.#conversationMenu(event.currentTarget));
    click('peer-open', () => (isGroup(this.#app.key) ? this.#openGroup() : this.#conversationMenu($('peer-menu'))));
    click('closed-act', () => this.#block(false));
    $('new').addEventListener('submit', (event) => {
      event.preventDefault();
      const user = userName($('new-name').value);
      if (!user) return toast('A name has 1 to 64 bytes and no control characters.');
      $('new-name').value = '';
      this.#app.go(userKey(user));
    });
    document.addEventListener('keydown', (event) => this.#key(event));
  }

  #key(event) {
    const busy = document.querySelector('dialog[open]') || isMenuOpen() || !$('stopped').hidden;
    if (event.key === 'Escape' && this.#app.key !== null && !busy && !event.defaultPrevented) this.#app.go(null);
    if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey) || busy) return;
    event.preventDefault();
    this.#app.go(null);
    $('new-name').focus();
  }

  /** The connection is there: what the server keeps for this user is shown. */
  async online() {
    const { client } = this.#app;
    const settings = await client.requests.settings().catch(() => null);
    if (settings) this.#app.showAs(settings);
  }

  refreshed() {
    this.#group?.refresh();
  }

  // ---- messages

  ofMessages() {
    return {
      menu: (message, anchor) => this.#messageMenu(message, anchor),
      reactMenu: (message, anchor) => this.#openSigns(message, anchor, []),
      reply: (message) => this.#reply(message),
      react: (message, sign) => this.#react(message, sign),
      resend: (cmid) => this.#app.client.resend(cmid),
      drop: (cmid) => this.#app.client.drop(cmid),
    };
  }

  ofComposer() {
    return {
      send: (text, ref) => this.#send(text, ref),
      edit: (message, text) => this.#edit(message, text),
      typing: () => this.#app.client.ephemera.compose(this.#app.key),
      paused: () => this.#app.client.ephemera.pause(),
      editLast: () => this.#editLast(),
      up: () => this.#view.focusLast(),
    };
  }

  #fits(text) {
    if (encoder.encode(text).length <= this.#app.client.limits.textBytes) return true;
    toast('This message is too long.');
    return false;
  }

  #send(text, ref) {
    if (!this.#fits(text)) return false;
    this.#app.client.send(this.#app.key, { text, ref });
    this.#app.client.ephemera.pause();
    return true;
  }

  #edit(message, text) {
    if (!this.#fits(text)) return false;
    if (text !== message.text) this.#app.client.send(this.#app.key, { kind: 'EDIT', text, ref: message.seq });
    return true;
  }

  #canEdit({ own, kind, erased, ms, seq }) {
    return own && seq > 0 && kind === 'TEXT' && !erased && Date.now() - ms < this.#app.client.limits.editMs;
  }

  #editLast() {
    const last = this.#app.messages.findLast((message) => message.own && message.kind !== 'CHANGE');
    if (last && this.#canEdit(last)) this.#composer.edit(last);
  }

  #reply(message) {
    this.#composer.reply(message, this.#app.youOr(message.from), snippet(message, this.#app.youOr));
  }

  #react(message, sign) {
    this.#app.client.send(this.#app.key, { kind: 'REACTION', text: sign, ref: message.seq });
  }

  #openSigns(message, anchor, items) {
    const mine = message.reactions.find((reaction) => reaction.mine)?.sign ?? '';
    const signs = mine && !SIGNS.includes(mine) ? [mine, ...SIGNS.slice(1)] : SIGNS;
    openMenu(anchor, items, { signs, mine, react: (sign) => this.#react(message, sign) });
  }

  #messageMenu(message, anchor) {
    const app = this.#app;
    const conversation = app.store.conversation(app.key);
    const writable = app.closedBecause(conversation) === null;
    const items = [
      writable && { icon: 'icon-reply', label: 'Reply', testid: 'menu-reply', act: () => this.#reply(message) },
      writable && this.#canEdit(message) && { icon: 'icon-edit', label: 'Edit', testid: 'menu-edit', act: () => this.#composer.edit(message) },
      message.text && { icon: 'icon-copy', label: 'Copy', testid: 'menu-copy', act: () => this.#copy(message.text) },
      message.own && { icon: 'icon-info', label: 'Who has it', testid: 'menu-info', act: () => this.#info(message) },
      writable && this.#canErase(message, conversation) && { icon: 'icon-bin', label: 'Delete for everyone', danger: true, testid: 'menu-erase', act: () => this.#erase(message) },
    ];
    if (writable) this.#openSigns(message, anchor, items.filter(Boolean));
    else openMenu(anchor, items.filter(Boolean));
  }

  async #copy(text) {
    await navigator.clipboard.writeText(text).then(() => toast('Copied.'), () => toast('This browser does not let the page copy.'));
  }

  #info(message) {
    const { client, key, youOr, signOf: sign } = this.#app;
    infoDialog({ requests: client.requests, key, message, nameOf: youOr, signOf: sign });
  }

  #canErase({ own, ms }, { members }) {
    const admin = members?.some(({ user, admin: is }) => is && user === this.#app.me.user);
    return admin || (own && Date.now() - ms < this.#app.client.limits.eraseMs);
  }

  /** Its edits go with it. */
  async #erase(message) {
    const { client, key } = this.#app;
    if (!(await confirmed({ title: 'Delete this message?', words: 'Nobody can read it any more, neither you.', offer: 'Delete' }))) return;
    client.send(key, { kind: 'ERASE', ref: message.seq });
  }

  // ---- conversations

  #conversationMenu(anchor) {
    const { key, store } = this.#app;
    const { muted, blocked } = store.conversation(key);
    const mute = { icon: 'icon-muted', label: muted ? 'Unmute' : 'Mute', testid: 'menu-mute', act: () => this.#mute(!muted) };
    if (isGroup(key)) return openMenu(anchor, [{ icon: 'icon-group', label: 'Group and members', testid: 'menu-group', act: () => this.#openGroup() }, mute]);
    const block = { icon: 'icon-block', label: blocked ? 'Unblock' : 'Block', danger: !blocked, testid: 'menu-block', act: () => this.#askBlock(!blocked) };
    openMenu(anchor, [mute, userOf(key) === this.#app.me.user ? null : block]);
  }

  async #mute(on) {
    const { client, key, store } = this.#app;
    await this.#told(async () => {
      await client.requests.mute(key, on ? FOR_EVER_MS : 0);
      store.conversation(key).muted = on;
      await store.put(key);
    });
    this.#app.refresh();
  }

  async #askBlock(on) {
    const name = this.#app.titleOf(this.#app.key);
    const words = 'You will get nothing that is written to you, and are not told of it later. Nobody is told that you did this.';
    if (on && !(await confirmed({ title: `Block ${name}?`, words, offer: 'Block' }))) return;
    await this.#block(on);
  }

  async #block(on) {
    const { client, key, store } = this.#app;
    await this.#told(async () => {
      await client.requests.block(userOf(key), on);
      store.conversation(key).blocked = on;
      await store.put(key);
      client.changedHere(key);
    });
    this.#app.refresh();
  }

  async #told(act) {
    try {
      await act();
    } catch (error) {
      toast(`That did not work: ${error.message}.`);
    }
  }

  // ---- groups

  #newGroup() {
    newGroupDialog(async (name, members) => {
      const { client } = this.#app;
      const group = await client.requests.createGroup(name, members);
      await client.keepGroup(group);
      this.#app.go(group.key);
    });
  }

  #openGroup() {
    const { client, key, store, me, nameOf, signOf: sign } = this.#app;
    const { requests } = client;
    const change = async (answer) => {
      await client.keepGroup(await answer);
      client.changedHere(key);
    };
    const state = () => {
      const { title, description, avatar, members, left } = store.conversation(key);
      return { key, title: title || 'Group', description, avatar, members, left, me: me.user };
    };
    const on = {
      nameOf: (user) => nameOf.call(this.#app, user),
      signOf: sign,
      update: (fields) => change(requests.updateGroup(key, fields)),
      add: (users) => change(requests.addToGroup(key, users)),
      remove: (users) => change(requests.removeFromGroup(key, users)),
      setRole: (user, admin) => change(requests.setRole(key, user, admin)),
      leave: () => this.#told(() => change(requests.leaveGroup(key))),
      write: (user) => {
        this.#group?.close();
        this.#app.go(userKey(user));
      },
    };
    client.refreshGroup(key);
    this.#group = groupDialog(state, on, () => (this.#group = null));
  }

  #settings() {
    const { client, me } = this.#app;
    closeMenu();
    const saved = (settings) => {
      this.#app.showAs(settings);
      toast('Saved.');
    };
    settingsDialog({ requests: client.requests, me, saved });
  }
}
