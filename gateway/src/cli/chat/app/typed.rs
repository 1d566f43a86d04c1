//! What was typed: messages and commands.

use super::super::command::{Command, HELP};
use super::super::show;
use super::own::Fate;
use super::{App, Now, Options, Output, messages};
use bytes::Bytes;
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::v1::client_frame::Request;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::{self, send};

impl App {
    pub(super) fn command(&mut self, now: Now, command: Command) {
        match command {
            Command::Nothing => {}
            Command::Say(text) => self.say(now, text),
            Command::To(peer) => {
                self.note(format!("writing to {}", show::peer(&peer)));
                self.current = Some(peer);
                self.watch_current();
                if self.options.reads {
                    self.read(now);
                }
            }
            Command::Create { name, members } => {
                let client_message_id = self.id(now);
                self.asks.create(Request::GroupCreate(v1::GroupCreate { client_message_id, name, members }));
            }
            Command::Add(users) => self.change(now, users, Request::GroupAdd),
            Command::Remove(users) => self.change(now, users, Request::GroupRemove),
            Command::Leave => match self.group() {
                Some(group) => {
                    let client_message_id = self.id(now);
                    self.asks.change(Request::GroupLeave(v1::GroupLeave { client_message_id, group }));
                }
                None => self.no_group(),
            },
            Command::Members => match self.group() {
                Some(group) => self.asks.group(group),
                None => self.no_group(),
            },
            Command::Edit(text) => self.about_own(now, Kind::Edit, text),
            Command::Erase => self.take_back(now),
            Command::React(sign) => self.about_heard(now, Kind::Reaction, sign),
            Command::Reply(text) => self.about_heard(now, Kind::Text, text),
            Command::Info => {
                if let (Some(seq), Some(peer)) = (self.named_own(), &self.current) {
                    self.asks.info(peer, seq);
                }
            }
            Command::Rename(name) => match self.group() {
                Some(group) => {
                    let client_message_id = self.id(now);
                    let update = v1::GroupUpdate { client_message_id, group, name: Some(name), ..Default::default() };
                    self.asks.change(Request::GroupUpdate(update));
                }
                None => self.no_group(),
            },
            Command::Role { user, admin } => self.role(now, user, admin),
            Command::Block { user, on } => self.asks.block(user, on),
            Command::List => self.asks.list(),
            Command::Unread => self.asks.unread(),
            Command::Mute(ms) => self.mute(now, ms),
            Command::Watch { users, on } => self.watch(users, on),
            Command::Settings(change) => self.asks.settings(*change),
            Command::Devices => self.asks.devices(),
            Command::Unlink(device) => self.asks.unlink(device),
            Command::History(count) => match &self.current {
                Some(peer) => self.asks.history(peer, count),
                None => self.nobody(),
            },
            Command::Read => self.read(now),
            Command::Who => self.who(),
            Command::Help => self.note(HELP.to_owned()),
            Command::Quit => self.quit(),
        }
    }

    fn role(&mut self, now: Now, user: String, admin: bool) {
        let Some(group) = self.group() else { return self.no_group() };
        let role = if admin { v1::role::Value::Admin } else { v1::role::Value::Member } as i32;
        let client_message_id = self.id(now);
        self.asks.change(Request::GroupRole(v1::GroupRole { client_message_id, group, user, role }));
    }

    fn mute(&mut self, now: Now, ms: u64) {
        let Some(peer) = self.current.clone() else { return self.nobody() };
        let until_ms = if ms == 0 { 0 } else { now.unix_ms.saturating_add(ms) };
        let mute = v1::settings::Mute { conversation: Some(v1::Peer { peer: Some(peer) }), until_ms };
        self.asks.settings(v1::Settings { mute: vec![mute], ..Default::default() });
    }

    fn nobody(&mut self) {
        self.not_done("no current conversation: /to NAME picks one".to_owned());
    }

    fn no_group(&mut self) {
        self.not_done(
            "the current conversation is no group: /group NAME WHO makes one, /to g:... picks one".to_owned(),
        );
    }

    fn group(&self) -> Option<Bytes> {
        match &self.current {
            Some(Peer::Group(id)) => Some(id.clone()),
            _ => None,
        }
    }

    fn id(&mut self, now: Now) -> Bytes {
        ClientMessageId::uuid_v7(now.unix_ms, (self.fresh)()).to_bytes()
    }

    fn change(&mut self, now: Now, users: Vec<String>, request: fn(v1::GroupUsers) -> Request) {
        let Some(group) = self.group() else { return self.no_group() };
        let client_message_id = self.id(now);
        self.asks.change(request(v1::GroupUsers { client_message_id, group, users }));
    }

    /// About the last message of this user in the current conversation.
    fn about_own(&mut self, now: Now, kind: Kind, text: String) {
        if let Some(seq) = self.named_own() {
            self.send(now, kind, seq, text);
        }
    }

    /// Its edits go with it, and what is said about the last message is about the one before from now on.
    fn take_back(&mut self, now: Now) {
        let Some(own) = self.last_own().and_then(|at| self.own.remove(at)) else { return self.said_nothing() };
        match own.seq() {
            Some(seq) => self.send(now, Kind::Erase, seq, String::new()),
            None => self.not_done(format!("{} was not sent: nothing is taken back", show::snippet(&own.text))),
        }
    }

    /// The position of the last one; where there is none, that is said: the one before was not meant.
    fn named_own(&mut self) -> Option<u64> {
        let Some(own) = self.last_own().and_then(|at| self.own.get(at)) else {
            self.said_nothing();
            return None;
        };
        let seq = own.seq();
        if seq.is_none() {
            let text = show::snippet(&own.text);
            self.not_done(format!("{text}, your last message here, was not sent: /erase goes on to the one before it"));
        }
        seq
    }

    fn said_nothing(&mut self) {
        self.not_done("you have said nothing here since the start".to_owned());
    }

    /// About the last message of somebody else in the current conversation.
    fn about_heard(&mut self, now: Now, kind: Kind, text: String) {
        match self.last_heard() {
            Some(seq) => self.send(now, kind, seq, text),
            None if self.current.is_none() => self.nobody(),
            None => self.fail(format!("{}: nobody else has said something here since the start", show::snippet(&text))),
        }
    }

    /// The last message of somebody else in the current conversation.
    pub(super) fn last_heard(&self) -> Option<u64> {
        let current = self.current.as_ref();
        self.heard.iter().rev().find(|(peer, _)| Some(peer) == current).map(|(_, seq)| *seq)
    }

    fn say(&mut self, now: Now, text: String) {
        self.send(now, Kind::Text, 0, text);
    }

    fn send(&mut self, now: Now, kind: Kind, ref_seq: u64, text: String) {
        let Some(to) = self.current.clone() else {
            return self.fail("nobody to send it to: say --to NAME, or /to NAME before it".to_owned());
        };
        let send = v1::Send {
            to: Some(v1::Peer { peer: Some(to) }),
            client_message_id: self.id(now),
            kind: kind as i32,
            ref_seq,
            body: Some(send::Body::Text(text)),
            client_time_ms: now.unix_ms,
            ..v1::Send::default()
        };
        self.typed_out();
        match self.client.send(send.clone()) {
            Ok(()) => {
                self.own_typed(&send, Fate::Open);
                self.state.outbox.push(send);
                self.said = true;
            }
            Err(full) => {
                self.own_typed(&send, Fate::Refused);
                self.fail(full.to_string());
            }
        }
    }

    pub(super) fn read(&mut self, now: Now) {
        let Some(peer) = &self.current else { return self.nobody() };
        if let Some((received, _)) = self.client.position(peer).filter(|(received, _)| *received > 0) {
            self.client.read(now.ms, peer, received);
            self.state.conversation(&peer.clone()).unread = 0;
            self.dirty = true;
        }
    }

    fn who(&mut self) {
        let Options { user, device, .. } = &self.options;
        let place = if self.client.is_online() { format!("online at {}", self.server) } else { "offline".to_owned() };
        let mut line = format!("{user} on {device}, {place}; {} without a tick", messages(self.client.unsent()));
        if let Some(peer) = &self.current {
            let known = self.state.known(peer);
            let (seq, delivered, read) = known.map_or((0, 0, 0), |c| (c.seq, c.delivered, c.read));
            let peer = show::peer(peer);
            line += &format!("; writing to {peer}: {seq} messages here, received to {delivered}, read to {read}");
        }
        self.outputs.push_back(Output::Show(line));
    }

    fn quit(&mut self) {
        let why = self.held_for();
        self.drop_held(why);
        if !self.asks.is_empty() {
            self.not_done("what was asked for last has no answer yet: nobody knows whether it was done".to_owned());
        }
        let unsent = self.client.unsent();
        let outcome = if unsent == 0 { self.verdict() } else { Err(self.unsent_line(unsent)) };
        self.exit(outcome);
    }
}
