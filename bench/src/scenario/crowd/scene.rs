//! A crowd on its connections: events in, frames out, and the clients' time-outs.

use super::{Crowd, Lead};
use crate::load::worker::User;
use crate::load::{Down, Links, Scenario, Stage};
use crate::progress::Counters;
use bytes::Bytes;
use ringpost_proto::client::ABNORMAL;
use ringpost_proto::wire::{Encoding, decode_server};

/// How often all clients' time-outs are looked at.
const SCAN_EVERY: u64 = 50_000_000;

/// A crowd and who leads it.
pub struct Scene<'a, L> {
    pub crowd: Crowd<'a>,
    pub lead: L,
}

impl<L: Lead> Scenario for Scene<'_, L> {
    fn opened(&mut self, _links: &mut Links<'_>, user: User) {
        let now_ms = self.crowd.now_ms();
        if let Some(talker) = self.crowd.talkers.get_mut(user as usize) {
            talker.client.connected(now_ms, String::new());
        }
        self.crowd.touch(user);
    }

    fn message(&mut self, links: &mut Links<'_>, user: User, payload: Bytes, now: u64) {
        let mut frame = match decode_server(Encoding::Protobuf, payload) {
            Ok(frame) => frame,
            Err(error) => return links.complain(user, &format!("undecodable frame: {error}")),
        };
        self.crowd.watch(&mut self.lead, links.epoch(user), user, &mut frame);
        if let Some(talker) = self.crowd.talkers.get_mut(user as usize) {
            talker.client.frame(now / 1_000_000, frame);
        }
        self.crowd.events(&mut self.lead, links, user, now);
        self.crowd.touch(user);
    }

    fn activity(&mut self, user: User, now: u64) {
        if let Some(talker) = self.crowd.talkers.get_mut(user as usize) {
            talker.client.activity(now / 1_000_000);
        }
    }

    fn down(&mut self, links: &mut Links<'_>, user: User, why: &Down) {
        let crowd = &mut self.crowd;
        let now = crowd.shared.clock.now();
        let Some(talker) = crowd.talkers.get_mut(user as usize) else { return };
        if std::mem::take(&mut talker.online) {
            Counters::lower(&crowd.shared.counters.established);
        } else {
            Counters::raise(&crowd.shared.counters.failed);
        }
        if *why == Down::Left {
            return crowd.parted(user);
        }
        crowd.setbacks += u64::from(talker.back > 0);
        if crowd.settings.reconnect.is_some() || talker.back > 0 {
            talker.client.disconnected(now / 1_000_000, why.code().unwrap_or(ABNORMAL));
            crowd.events(&mut self.lead, links, user, now);
        } else {
            crowd.settle(user);
        }
    }

    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        let crowd = &mut self.crowd;
        let now = crowd.shared.clock.now();
        if now >= crowd.scanned + SCAN_EVERY {
            crowd.scan(&mut self.lead, links, now);
        }
        let turn = self.lead.turn(crowd, links, stage, began);
        crowd.transmit(links);
        if let Some(log) = &mut crowd.sent_log {
            log.flush(crowd.shared.clock.instant(now));
        }
        turn
    }
}

impl Crowd<'_> {
    fn scan<L: Lead>(&mut self, lead: &mut L, links: &mut Links<'_>, now: u64) {
        self.scanned = now;
        let now_ms = now / 1_000_000;
        for user in 0..self.users() {
            let Some(talker) = self.talkers.get_mut(user as usize) else { return };
            if talker.client.next_timeout_ms().is_some_and(|due| due <= now_ms) {
                talker.client.timeout(now_ms);
                self.touch(user);
                self.events(lead, links, user, now);
            }
        }
    }

    fn transmit(&mut self, links: &mut Links<'_>) {
        let now_ms = self.now_ms();
        for user in std::mem::take(&mut self.dirty) {
            let Some(talker) = self.talkers.get_mut(user as usize) else { continue };
            talker.dirty = false;
            while let Some(frame) = talker.client.poll_transmit(now_ms) {
                links.send(user, &frame);
            }
        }
    }
}
