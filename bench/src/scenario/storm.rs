//! Users who all leave at once, are written to, and all come back.
//!
//! Owns: who writes, who is away, and when each comes back. Guarantees: whoever is away returns only when everything that
//! was written meanwhile is acknowledged; so what each must be given before its syncDone, and in which order of
//! conversations, is known. Never does: measuring; the crowd does.

use super::crowd::{Crowd, Lead};
use crate::load::worker::User;
use crate::load::{Links, Stage};
use crate::schedule::Schedule;
use crate::verify::{Ledger, Room};
use std::time::Duration;

/// What a storm is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Users of a unit: those who leave.
    pub leavers: u32,
    /// Users of a unit who stay and write.
    pub writers: u32,
    /// Groups of a unit, each of all its leavers and one of its writers, in turn.
    pub groups: u32,
    /// Written while they are away, by this worker's writers in turn.
    pub messages: u64,
    /// Messages per second of this worker.
    pub rate: f64,
    /// They stay away for so long at least.
    pub away: Duration,
    /// They come back spread over this time.
    pub spread: Duration,
    /// Conversations come newest first.
    pub in_order: bool,
}

/// The lead of one worker's storm.
pub struct Storm {
    settings: Settings,
    /// The groups of this worker, each with its writer.
    rooms: Vec<(Room, User)>,
    /// Per user: the groups that it reads, as a range of `rooms`; empty for writers.
    reads: Vec<(u32, u32)>,
    /// Per user: the newest record id of the conversation that came last.
    last_id: Vec<u64>,
    leavers: Vec<User>,
    schedule: Option<Schedule>,
    written: u64,
    /// Of `leavers`, those told to come back.
    returned: usize,
    /// When the return began, and when the last one had synced.
    began: u64,
    ended: u64,
}

impl Storm {
    /// Enters the groups into the crowd.
    pub fn new(crowd: &mut Crowd<'_>, settings: Settings) -> Self {
        let users = crowd.users();
        let (mut rooms, mut leavers, mut reads) = (Vec::new(), Vec::new(), vec![(0, 0); users as usize]);
        let unit = (settings.leavers + settings.writers).max(1);
        for first in (0..users).step_by(unit as usize) {
            let (writers, end) = (first + settings.writers, (first + unit).min(users));
            let read = (rooms.len() as u32, rooms.len() as u32 + settings.groups);
            for group in 0..settings.groups {
                let writer = first + group % settings.writers.max(1);
                let members: Vec<User> = std::iter::once(writer).chain(writers..end).collect();
                rooms.push((crowd.group(&members, 0), writer));
            }
            for user in writers..end {
                leavers.push(user);
                if let Some(reads) = reads.get_mut(user as usize) {
                    *reads = read;
                }
            }
        }
        let last_id = vec![u64::MAX; users as usize];
        Self { settings, rooms, reads, last_id, leavers, schedule: None, written: 0, returned: 0, began: 0, ended: 0 }
    }

    /// Seconds from the beginning of the return until the last one had synced.
    pub fn took(&self) -> f64 {
        self.ended.saturating_sub(self.began) as f64 / 1e9
    }

    fn away(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, began: u64) -> (bool, u64) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = crowd.shared.clock.now();
        if self.schedule.is_none() {
            for &user in &self.leavers {
                if crowd.is_present(user) {
                    crowd.leave(links, user);
                }
            }
        }
        let (rate, most) = (self.settings.rate, self.settings.messages);
        let schedule = self.schedule.get_or_insert_with(|| Schedule::new(rate, began, u64::MAX, 0, 1));
        while self.written < most {
            let Some(at) = schedule.take_due(now) else { break };
            let Some(&(room, writer)) = self.rooms.get((self.written % self.rooms.len().max(1) as u64) as usize) else {
                break;
            };
            crowd.say(room, writer, at);
            self.written += 1;
        }
        let over = began + nanos(self.settings.away);
        let is_written = self.written >= most || self.rooms.is_empty();
        // With the time over, an answer is what is waited for.
        let next = if !is_written { schedule.peek() } else { Some(over).filter(|&over| over > now) };
        (is_written && crowd.ledger.is_answered() && now >= over, next.unwrap_or(u64::MAX))
    }

    fn come_back(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, began: u64) -> (bool, u64) {
        let now = crowd.shared.clock.now();
        let spread = u64::try_from(self.settings.spread.as_nanos()).unwrap_or(u64::MAX);
        let due =
            |index: usize| began + (u128::from(spread) * index as u128 / self.leavers.len().max(1) as u128) as u64;
        while let Some(&user) = self.leavers.get(self.returned).filter(|_| due(self.returned) <= now) {
            crowd.come_back(links, user);
            self.returned += 1;
        }
        let all = self.returned >= self.leavers.len();
        if self.began == 0 {
            self.began = began;
        }
        (all && crowd.is_back(), if all { u64::MAX } else { due(self.returned) })
    }

    fn rooms_of(&self, user: User) -> &[(Room, User)] {
        let (first, end) = self.reads.get(user as usize).copied().unwrap_or_default();
        self.rooms.get(first as usize..end as usize).unwrap_or_default()
    }
}

impl Lead for Storm {
    fn turn(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        match stage {
            Stage::Connect => (crowd.is_settled(), u64::MAX),
            Stage::Groups => (crowd.create_groups(links), u64::MAX),
            Stage::Away => self.away(crowd, links, began),
            Stage::Return => self.come_back(crowd, links, began),
            Stage::Settle => (crowd.ledger.is_settled(), u64::MAX),
            Stage::Hold | Stage::PingAll | Stage::Load | Stage::Slow | Stage::Finish => (false, u64::MAX),
        }
    }

    fn pushed(&mut self, ledger: &mut Ledger, user: User, number: u32) {
        let Some(last) = self.last_id.get_mut(user as usize).filter(|_| self.settings.in_order) else { return };
        let newest = ledger.route(number).map_or(0, |(room, _)| ledger.newest(room));
        if newest > *last {
            ledger.older_first();
        }
        *last = newest;
    }

    fn synced(&mut self, ledger: &mut Ledger, user: User, now: u64) {
        if self.began == 0 {
            return;
        }
        self.ended = self.ended.max(now);
        if self.rooms_of(user).iter().any(|&(room, _)| ledger.is_behind(room, user)) {
            ledger.synced_early();
        }
    }
}
