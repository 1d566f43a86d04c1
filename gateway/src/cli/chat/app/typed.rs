//! What was typed: messages and commands.

use super::super::command::{Command, HELP};
use super::super::show;
use super::{App, Now, Options, Output, messages, uuid_v7};
use bytes::Bytes;
use ringpost_proto::v1::{self, send};

impl App {
    pub(super) fn command(&mut self, now: Now, command: Command) {
        match command {
            Command::Nothing => {}
            Command::Say(text) => self.say(now, text),
            Command::To(peer) => {
                self.note(format!("writing to {}", show::peer(&peer)));
                self.current = Some(peer);
                if self.options.reads {
                    self.read(now);
                }
            }
            Command::List => self.asks.list(),
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

    fn nobody(&mut self) {
        self.note("no current conversation: /to NAME picks one".to_owned());
    }

    fn say(&mut self, now: Now, text: String) {
        let Some(to) = self.current.clone() else {
            return self.fail("nobody to send it to: say --to NAME, or /to NAME before it".to_owned());
        };
        let send = v1::Send {
            to: Some(v1::Peer { peer: Some(to) }),
            client_message_id: Bytes::copy_from_slice(&uuid_v7(now.unix_ms, (self.fresh)())),
            body: Some(send::Body::Text(text)),
            client_time_ms: now.unix_ms,
            ..v1::Send::default()
        };
        match self.client.send(send.clone()) {
            Ok(()) => {
                self.state.outbox.push(send);
                self.said = true;
            }
            Err(full) => self.fail(full.to_string()),
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
        let unsent = self.client.unsent();
        let outcome = if unsent == 0 { self.verdict() } else { Err(self.unsent_line(unsent)) };
        self.exit(outcome);
    }
}
