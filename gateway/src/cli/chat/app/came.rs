//! What came from the server: how it is shown, and what is remembered of it.

use super::super::ask::{Answered, list};
use super::super::show;
use super::own::{self, Fate, Own, counts};
use super::{App, Now, Output, REMEMBERED, error_line, messages};
use ringpost_proto::client::{ABNORMAL, Event, Outcome};
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1::{self, peer::Peer};

impl App {
    pub(super) fn welcomed(&mut self, welcome: &v1::Welcome) {
        if welcome.user != self.options.user || welcome.device != self.options.device {
            let (user, device) = (show::safe(&welcome.user), show::safe(&welcome.device));
            return self.exit(Err(format!("the token is for {user} on {device}, not for the user and device named")));
        }
        self.server = show::safe(&welcome.node);
        self.watch_again();
        self.last_error.clear();
    }

    pub(super) fn event(&mut self, now: Now, event: Event) {
        match event {
            Event::Connect => self.outputs.push_back(Output::Connect),
            Event::Drop => self.outputs.push_back(Output::Drop),
            Event::Welcome { .. } => {
                let store = self.client.store().map(|(store, token)| (store, token.to_vec()));
                let before = self.state.store.as_ref().map(|(store, _)| *store);
                if before != store.as_ref().map(|(store, _)| *store) {
                    // Of what has a position a reset follows; the ticks of the others are of the store before.
                    self.state.conversations.retain(|known| known.seq > 0 || before.is_none());
                    self.dirty = true;
                }
                self.state.store = store;
                self.note("connected".to_owned());
            }
            Event::Record { delivery, record } => self.record(now, delivery, &record),
            Event::Tick { delivery, peer, delivered, read, excluded } => {
                self.took(delivery);
                self.tick(&peer, delivered, read, &excluded);
            }
            Event::ReadMark { delivery, peer, seq } => {
                self.took(delivery);
                let known = self.state.conversation(&peer);
                if seq >= known.seq {
                    known.unread = 0;
                }
            }
            Event::Outcome { send, outcome } => self.outcome(now, &send, outcome),
            Event::Reset { peer, head } => {
                self.forget(&peer);
                let peer = show::peer(&peer);
                self.note(match head {
                    0 => format!("the server was restored: what was said with {peer} is read again"),
                    _ => format!("the server's log with {peer} ends at {head}: what came after it is lost there"),
                });
            }
            Event::Synced => {
                self.synced = true;
                self.say_held_behind(now);
            }
            Event::TokenWanted { exp_ms } => self.outputs.push_back(Output::Token { exp_ms }),
            Event::Error(error) => {
                self.last_error = error_line(&error);
                let line = self.last_error.clone();
                self.note(line);
            }
            Event::Stopped { code } => {
                let outcome = match code {
                    _ if code == CloseCode::DeviceRevoked as u16 => Err(self.unlinked()),
                    // Everything was done before bye was said, and how the connection ends after that says nothing.
                    ABNORMAL if self.leaving => self.verdict(),
                    _ if code == CloseCode::Normal as u16 && self.ending.is_some() => self.verdict(),
                    _ => Err(self.stopped_line(code)),
                };
                self.exit(outcome);
            }
        }
    }

    /// An unlinked device keeps nothing; the next start links it anew, and it begins where that finds it.
    fn unlinked(&mut self) -> String {
        self.state.conversations.clear();
        self.state.outbox.clear();
        self.state.store = None;
        self.dirty = true;
        let lost = match self.client.unsent() {
            0 => String::new(),
            unsent => format!("; {} not sent, and not kept", messages(unsent)),
        };
        format!("this device was unlinked (4503): what it remembered is deleted{lost}")
    }

    fn record(&mut self, now: Now, delivery: u64, record: &v1::Record) {
        self.took(delivery);
        let Some(peer) = record.conversation.as_ref().and_then(|peer| peer.peer.clone()) else { return };
        self.types_no_more(&peer, &record.from);
        self.advance(&peer);
        if !self.takes_back_an_edit(&peer, record) {
            self.show_record(record);
        }
        if record.kind() == v1::kind::Value::Edit {
            self.remember_edit(&peer, record.seq);
        }
        if !counts(record.kind()) {
            return;
        }
        if record.from == self.options.user {
            return self.own_came(peer, record.seq, show::body(record));
        }
        self.heard.retain(|(of, _)| *of != peer);
        self.heard.push_back((peer.clone(), record.seq));
        if self.heard.len() > REMEMBERED {
            self.heard.pop_front();
        }
        if self.options.reads && self.current.as_ref() == Some(&peer) {
            self.client.read(now.ms, &peer, record.seq);
        } else {
            self.state.conversation(&peer).unread += 1;
        }
    }

    fn takes_back_an_edit(&self, peer: &Peer, record: &v1::Record) -> bool {
        let is_about = |(of, seq): &(Peer, u64)| of == peer && *seq == record.ref_seq;
        record.kind() == v1::kind::Value::Erase && self.edits.iter().any(is_about)
    }

    fn show_record(&mut self, record: &v1::Record) {
        let Some(peer) = record.conversation.as_ref().and_then(|peer| peer.peer.as_ref()) else { return };
        let time = self.time(record.server_time_ms);
        let from = show::safe(&record.from);
        let who = match peer {
            Peer::User(_) if record.from != self.options.user => from,
            peer => format!("{from} to {}", show::peer(peer)),
        };
        self.outputs.push_back(Output::Show(format!("{time} {who}: {}", show::body(record))));
    }

    fn outcome(&mut self, now: Now, send: &v1::Send, outcome: Outcome) {
        self.state.outbox.retain(|kept| kept.client_message_id != send.client_message_id);
        self.dirty = true;
        let Some(peer) = send.to.as_ref().and_then(|to| to.peer.clone()) else { return };
        let text = own::text(send);
        match outcome {
            Outcome::Sent(sent) => {
                let time = self.time(if sent.server_time_ms == 0 { now.unix_ms } else { sent.server_time_ms });
                let said = show::said(send.kind(), send.ref_seq, text);
                let line = format!("{time} {} to {}: {said} \u{2713}", self.options.user, show::peer(&peer));
                self.outputs.push_back(Output::Show(line));
                self.advance(&peer);
                self.own_settled(&send.client_message_id, Fate::Sent(sent.seq));
                if send.kind() == v1::kind::Value::Edit {
                    self.remember_edit(&peer, sent.seq);
                }
            }
            Outcome::Failed(error) => {
                self.advance(&peer);
                self.own_settled(&send.client_message_id, Fate::Refused);
                self.fail(format!("{} to {}: {}", show::snippet(text), show::peer(&peer), error_line(&error)));
            }
        }
        self.say_held_behind(now);
    }

    /// `excluded`: what of it was not delivered and will not be; nothing is said of that.
    fn tick(&mut self, peer: &Peer, delivered: u64, read: u64, excluded: &[(u64, u64)]) {
        let known = self.state.conversation(peer);
        let before = (known.delivered, known.read);
        (known.delivered, known.read) = (before.0.max(delivered), before.1.max(read));
        // What was read was received: of that nothing less is said.
        let received = before.0.max(known.read);
        self.progress(peer, (before.1, read), ("has read", "\u{2713}\u{2713} read"), excluded);
        self.progress(peer, (received, delivered), ("has received", "\u{2713}\u{2713}"), excluded);
    }

    /// Names the last message of what lies beyond `from`, up to `to`.
    fn progress(&mut self, peer: &Peer, (from, to): (u64, u64), (verb, sign): (&str, &str), excluded: &[(u64, u64)]) {
        let excludes = |seq: u64| excluded.iter().find(|(first, last)| (*first..=*last).contains(&seq));
        let to = excludes(to).map_or(to, |(first, _)| first.saturating_sub(1));
        if to <= from {
            return;
        }
        let is_told =
            |own: &&Own| own.peer == *peer && own.seq().is_some_and(|seq| seq <= to && excludes(seq).is_none());
        let last = self.own.iter().filter(is_told).max_by_key(|own| own.seq());
        // Edits, and what others say, move it too: of the message before them that was said already.
        if last.and_then(Own::seq).is_some_and(|seq| seq <= from) {
            return;
        }
        let but = if excluded.iter().any(|(_, last)| *last > from) { ", but not all" } else { "" };
        let what = last.map_or_else(|| format!("your messages up to {to}{but}"), |own| show::snippet(&own.text));
        self.outputs.push_back(Output::Show(format!("{} {verb} {what} {sign}", show::peer(peer))));
    }

    pub(super) fn answered(&mut self, now: Now, answered: Answered) {
        match answered {
            Answered::List(page) => {
                let unread = |peer: &Peer| self.state.known(peer).map_or(0, |known| known.unread);
                let lines = list(&page, unread, true);
                self.outputs.extend(lines.into_iter().map(Output::Show));
            }
            Answered::Records(records) => {
                records.iter().for_each(|record| self.show_record(record));
                if self.options.reads {
                    self.read(now);
                }
            }
            Answered::Group(group) => self.outputs.push_back(Output::Show(show::group(&group))),
            Answered::Created(group) => {
                // Its record comes by itself to the other devices only.
                self.outputs.push_back(Output::Show(show::group(&group)));
                self.current = Some(Peer::Group(group.group));
                self.watch_current();
                self.say_held(now);
            }
            Answered::Changed(group) => {
                self.outputs.push_back(Output::Show(show::group(&group)));
                self.say_held(now);
            }
            Answered::Done => {
                self.note("done".to_owned());
                self.say_held(now);
            }
            Answered::Refused(error) => {
                self.not_done(error_line(&error));
                self.change_failed(now, "the change before it was not made");
            }
            Answered::Unread(page) => {
                let unread = |peer: &Peer| self.state.known(peer).map_or(0, |known| known.unread);
                let lines = list(&page, unread, false);
                self.outputs.extend(lines.into_iter().map(Output::Show));
            }
            Answered::Info(members) => self.outputs.extend(show::info(&members).into_iter().map(Output::Show)),
            Answered::Settings(settings) => self.outputs.push_back(Output::Show(show::settings(&settings))),
            Answered::Devices(list) => {
                let lines = show::devices(&list, &self.options.device);
                self.outputs.extend(lines.into_iter().map(Output::Show));
            }
            Answered::Presence(states) => states.iter().for_each(|state| self.presence(state)),
            Answered::Error(error) => self.not_done(error_line(&error)),
            Answered::Unknown => self.note("an answer that this version does not know".to_owned()),
        }
    }
}
