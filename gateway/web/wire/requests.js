// What a user asks for and waits for: groups, blocks, settings, devices, who has read a message.
//
// Guarantees: a change of a group that was not answered goes out under the same id when it is asked for again, so that it is
// made once. Every method resolves with the answer, or rejects with a `Refused` that says why in words.

import { groupId, groupKey, peerOf, uuid7 } from './names.js';

const NO_CONNECTION = 'there is no connection; try again when there is';

/** Why a request was not answered as hoped. `code`: of the wire, empty without a connection. */
export class Refused extends Error {
  constructor(error) {
    const unknown = error?.code === 'UNIMPLEMENTED';
    super(unknown ? 'this server cannot do that yet' : error?.message || error?.code || NO_CONNECTION);
    this.code = error?.code ?? '';
  }
}

export class Requests {
  #ask;
  #ids = new Map(); // a change that is not answered -> its client message id

  /** `ask(body)` as of the connection. */
  constructor(ask) {
    this.#ask = ask;
  }

  async #answer(body, name) {
    const frame = await this.#ask(body);
    if (frame[name] === undefined) throw new Refused(frame.error);
    return frame[name];
  }

  async #change(kind, body) {
    const same = JSON.stringify([kind, body]);
    const clientMessageId = this.#ids.get(same) ?? uuid7();
    this.#ids.set(same, clientMessageId);
    try {
      const group = groupOf(await this.#answer({ [kind]: { clientMessageId, ...body } }, 'group'));
      this.#ids.delete(same);
      return group;
    } catch (error) {
      if (error.code) this.#ids.delete(same);
      throw error;
    }
  }

  createGroup = (name, members) => this.#change('groupCreate', { name, members });
  updateGroup = (key, change) => this.#change('groupUpdate', { group: groupId(key), ...change });
  addToGroup = (key, users) => this.#change('groupAdd', { group: groupId(key), users });
  removeFromGroup = (key, users) => this.#change('groupRemove', { group: groupId(key), users });
  leaveGroup = (key) => this.#change('groupLeave', { group: groupId(key) });
  setRole = (key, user, admin) => this.#change('groupRole', { group: groupId(key), user, role: admin ? 'ADMIN' : 'MEMBER' });
  group = async (key) => groupOf(await this.#answer({ groupGet: { group: groupId(key) } }, 'group'));

  block = (user, on) => this.#answer({ [on ? 'block' : 'unblock']: { user } }, 'ok');

  /** Who of the members has received and read a record. */
  async recordInfo(key, seq) {
    const { members = [] } = await this.#answer({ recordInfo: { conversation: peerOf(key), seq: String(seq) } }, 'recordInfo');
    return members.map(({ user, state = 'SENT', atMs = 0 }) => ({ user, state, atMs: Number(atMs) }));
  }

  /** Changes what is named, and resolves with all of it. `quiet`: in minutes of the day, UTC; null: none. */
  async settings(change = {}) {
    const answer = await this.#answer({ settings: change }, 'settings');
    const { profile = {}, lastSeen = 'EVERYONE', readReceipts = 'EVERYONE', mute = [], quietHours } = answer;
    const { fromMinute = 0, toMinute = 0 } = quietHours ?? {};
    const quiet = fromMinute === toMinute ? null : { fromMinute, toMinute };
    return { name: profile.name ?? '', avatar: profile.avatar ?? '', lastSeen, readReceipts, mute, quiet };
  }

  mute = (key, untilMs) => this.settings({ mute: [{ conversation: peerOf(key), untilMs: String(untilMs) }] });

  async devices() {
    return devicesOf(await this.#answer({ devices: {} }, 'deviceList'));
  }

  async unlink(device) {
    return devicesOf(await this.#answer({ deviceUnlink: { device } }, 'deviceList'));
  }
}

function groupOf({ group, name = '', description = '', avatar = '', epoch = 0, members = [] }) {
  const who = members.map(({ user, role }) => ({ user, admin: role === 'ADMIN' }));
  return { key: groupKey(group), name, description, avatar, epoch, members: who };
}

function devicesOf({ devices = [] }) {
  return devices.map(({ device, primary = false, lastSeenMs = 0 }) => ({ device, primary, lastSeenMs: Number(lastSeenMs) }));
}
