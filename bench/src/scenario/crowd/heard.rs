//! What came, and what it means to the ledger.

use super::{Crowd, Lead};
use crate::load::Links;
use crate::load::worker::User;
use crate::progress::Counters;
use crate::sent::{Acknowledged, To};
use crate::text::Recognised;
use crate::verify::Event as Seen;
use ringpost_proto::client::{Event, Outcome};
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::v1::{self, peer::Peer, push::Item, record::Body, send, server_frame::Answer};

impl Crowd<'_> {
    /// What the client will not tell: pushes that it drops because it has the record, and answers that are not for it.
    pub(super) fn watch<L: Lead>(&mut self, lead: &mut L, epoch: u32, user: User, frame: &mut v1::ServerFrame) {
        match &mut frame.answer {
            Some(Answer::Push(push)) => {
                // Records of earlier runs may be of other conversations.
                let Some(Item::Record(v1::Record { seq, body: Some(Body::Text(text)), .. })) = &push.item else {
                    return;
                };
                let Some(number) = self.texts.number(text) else { return };
                self.ledger.pushed(number, user, epoch, *seq);
                lead.pushed(&mut self.ledger, user, number);
            }
            // The server spreads those that come back after a crash; a load tool may be told to be quicker.
            Some(Answer::Welcome(welcome)) => {
                let within = self.settings.reconnect.map_or(u64::MAX, |within| within.as_millis() as u64);
                welcome.crash_slot_ms = welcome.crash_slot_ms.min(within);
            }
            Some(Answer::Group(group)) => {
                let is_right = self.groups.created(frame.re, &group.group);
                if !is_right {
                    self.ledger.damaged();
                }
            }
            Some(Answer::Error(error)) => {
                self.shed += u64::from(error.retryable);
                self.groups.refused(frame.re);
            }
            _ => {}
        }
    }

    pub(super) fn events<L: Lead>(&mut self, lead: &mut L, links: &mut Links<'_>, user: User, now: u64) {
        while let Some(event) = self.talkers.get_mut(user as usize).and_then(|talker| talker.client.poll_event()) {
            match event {
                Event::Connect => links.want(user),
                Event::Drop => links.give_up(user, "given up by the client: silent, or pushes misnumbered"),
                Event::Welcome { .. } => self.welcome(links, user, now),
                Event::Record { delivery, record } => {
                    self.stored(user, delivery, self.settings.ack_every);
                    self.record(user, &record, now);
                }
                Event::Outcome { send, outcome } => self.outcome(user, &send, outcome, now),
                Event::Synced => {
                    self.synced(user, now);
                    lead.synced(&mut self.ledger, user, now);
                }
                Event::Error(error) => links.complain(user, &format!("error {:?}: {}", error.code(), error.message)),
                Event::Reset { .. } => links.complain(user, "the log ends before what was received"),
                Event::Tick { delivery, .. } | Event::ReadMark { delivery, .. } => self.stored(user, delivery, 1),
                Event::TokenWanted { .. } | Event::Stopped { .. } => {}
            }
        }
    }

    /// Where records are acknowledged together, this tells the client when: once there are so many.
    fn stored(&mut self, user: User, delivery: u64, many: u32) {
        if self.settings.ack_every > 1
            && let Some(talker) = self.talkers.get_mut(user as usize)
            && delivery >= talker.stored + u64::from(many)
        {
            talker.stored = delivery;
            talker.client.stored(delivery);
        }
    }

    fn welcome(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        links.established(user);
        if let Some(talker) = self.talkers.get_mut(user as usize) {
            talker.online = true;
            Counters::raise(&self.shared.counters.established);
            if talker.back > 0 {
                self.to_welcome.record(talker.back, now);
            }
        }
    }

    /// The user has synced for the first time, or has failed.
    pub(super) fn settle(&mut self, user: User) {
        if let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| !talker.settled) {
            talker.settled = true;
            self.unsettled -= 1;
        }
    }

    fn synced(&mut self, user: User, now: u64) {
        self.settle(user);
        let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| talker.back > 0) else { return };
        self.to_synced.record(talker.back, now);
        (talker.back, talker.since) = (0, now);
        self.returning -= 1;
    }

    fn record(&mut self, user: User, record: &v1::Record, now: u64) {
        let Some(Body::Text(text)) = &record.body else { return self.news(user, record) };
        match self.texts.recognise(text) {
            Recognised::Ours(number) => self.delivered(number, user, record, now),
            Recognised::Damaged => self.ledger.damaged(),
            Recognised::Foreign => self.ledger.foreign(),
        }
    }

    fn delivered(&mut self, number: u32, user: User, record: &v1::Record, now: u64) {
        Counters::raise(&self.shared.counters.delivered);
        let Some((room, from)) = self.ledger.route(number) else { return self.ledger.damaged() };
        let group = self.groups.id(room);
        let named = match (record.conversation.as_ref().and_then(|peer| peer.peer.as_ref()), &group) {
            (Some(Peer::User(name)), None) => self.names.is(from, name),
            (Some(Peer::Group(id)), Some(group)) => id == group,
            _ => false,
        };
        if !named || !self.names.is(from, &record.from) {
            return self.ledger.damaged();
        }
        let Seen::First { scheduled, last } = self.ledger.delivered(number, user, record.seq) else { return };
        let was_there = self.talkers.get(user as usize).is_some_and(|talker| talker.since <= scheduled);
        let times = if group.is_some() { &mut self.group } else { &mut self.direct };
        let is_measured = self.shared.is_measured(scheduled);
        if was_there && is_measured {
            times.to_push.record(scheduled, now);
            self.slices.push(scheduled, now);
        }
        if last && is_measured && group.is_some() {
            self.to_last.record(scheduled, now);
        }
    }

    /// A record without a text: of ours only those that tell a member of its group.
    fn news(&mut self, user: User, record: &v1::Record) {
        let Some(Peer::Group(group)) = record.conversation.as_ref().and_then(|peer| peer.peer.as_ref()) else {
            return self.ledger.foreign();
        };
        match self.groups.room(group) {
            Some(room) if self.ledger.is_member(room, user) => self.groups.told(),
            Some(_) => self.ledger.damaged(),
            None => self.ledger.foreign(),
        }
    }

    fn outcome(&mut self, user: User, send: &v1::Send, outcome: Outcome, now: u64) {
        let Some(send::Body::Text(text)) = &send.body else { return };
        let number = self.texts.number(text);
        let sent = match outcome {
            Outcome::Sent(sent) => sent,
            Outcome::Failed(error) => return self.fail(number, &format!("{:?}", error.code())),
        };
        let (Some(number), Some(cmid)) = (number, ClientMessageId::from_bytes(&send.client_message_id)) else { return };
        Counters::raise(&self.shared.counters.acknowledged);
        let Some((room, _)) = self.ledger.route(number) else { return };
        let group = self.groups.id(room);
        if let Seen::First { scheduled, .. } = self.ledger.acknowledged(number, sent.seq, sent.id) {
            match self.talkers.get(user as usize) {
                Some(talker) if talker.since <= scheduled && self.shared.is_measured(scheduled) => {
                    let times = if group.is_some() { &mut self.group } else { &mut self.direct };
                    times.to_sent.record(scheduled, now);
                    self.slices.sent(scheduled, now);
                }
                _ => self.unmeasured += 1,
            }
        }
        let other = self.sent_log.is_some().then(|| self.names.name(self.other(room, user)));
        if let (Some(log), Some(other)) = (&mut self.sent_log, other) {
            let from = self.names.name(user);
            let to = group.as_deref().map_or(To::User(&other), To::Group);
            let message = Acknowledged { from: &from, to, seq: sent.seq, id: sent.id, cmid, text };
            log.push(&message, self.shared.clock.instant(now));
        }
    }
}
