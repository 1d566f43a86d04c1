//! Readers who are written to in bursts, first while they read and then while they do not.
//!
//! Owns: who writes to whom, and the bursts. Guarantees: the same bursts both times; a writer has a bounded number of messages
//! without an answer, so that a server that is slower than the bursts stretches them and loses nothing. Never does: reading
//! slowly; that is done outside of the crowd, on the same devices, while the crowd's are away.

use super::crowd::{Crowd, Lead};
use crate::load::worker::User;
use crate::load::{Links, Stage};
use crate::verify::{Ledger, Room};
use std::time::Duration;

/// Messages without an answer, of all writers of a worker for each.
const MOST_UNANSWERED: u64 = 128;

/// What the writers do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Readers of a unit; each unit has one writer.
    pub readers: u32,
    /// A unit is a group, which a message reaches as a whole; otherwise each reader is written to by itself.
    pub grouped: bool,
    /// Messages to each reader in a burst.
    pub burst: u64,
    pub every: Duration,
    pub duration: Duration,
}

/// Bursts on a fixed schedule; what could not be sent in time is sent as soon as it can be.
#[derive(Clone, Debug)]
struct Bursts {
    began: u64,
    every: u64,
    /// Messages of a burst, and of all.
    size: u64,
    all: u64,
    taken: u64,
}

impl Bursts {
    fn new(began: u64, every: u64, duration: u64, size: u64) -> Self {
        let count = duration.div_ceil(every.max(1));
        Self { began, every, size, all: size * count, taken: 0 }
    }

    /// When the next message is scheduled; `None`: all were taken.
    fn peek(&self) -> Option<u64> {
        let burst = self.taken.checked_div(self.size)?;
        (self.taken < self.all).then(|| self.began.saturating_add(burst.saturating_mul(self.every)))
    }

    /// The next message that is due: its number within its burst, and its scheduled time.
    fn take_due(&mut self, now: u64) -> Option<(u64, u64)> {
        let at = self.peek().filter(|&at| at <= now)?;
        let number = self.taken % self.size;
        self.taken += 1;
        Some((number, at))
    }
}

/// The lead of one worker.
pub struct Slow {
    settings: Settings,
    rooms: Vec<(Room, User)>,
    /// Of each reader the rooms that it reads, as a range of `rooms`.
    reads: Vec<(u32, u32)>,
    readers: Vec<User>,
    writers: u64,
    bursts: Option<(Stage, Bursts)>,
    have_left: bool,
    are_back: bool,
    /// Of the bursts to those who do not read: when they began, and when the last was answered; 0: not yet.
    pub began: u64,
    pub ended: u64,
}

impl Slow {
    /// Enters the conversations into the crowd: of each unit its first user writes.
    pub fn new(crowd: &mut Crowd<'_>, settings: Settings) -> Self {
        let users = crowd.users();
        let mut this = Self {
            rooms: Vec::new(),
            reads: vec![(0, 0); users as usize],
            readers: Vec::new(),
            writers: 0,
            bursts: None,
            have_left: false,
            are_back: false,
            began: 0,
            ended: 0,
            settings,
        };
        for writer in (0..users).step_by(this.settings.readers as usize + 1) {
            let readers = writer + 1..(writer + 1 + this.settings.readers).min(users);
            this.writers += 1;
            if this.settings.grouped {
                let members: Vec<User> = std::iter::once(writer).chain(readers.clone()).collect();
                this.rooms.push((crowd.group(&members, 0), writer));
            }
            for reader in readers {
                if !this.settings.grouped {
                    this.rooms.push((crowd.pair(writer, reader), writer));
                }
                if let Some(reads) = this.reads.get_mut(reader as usize) {
                    *reads = (this.rooms.len() as u32 - 1, this.rooms.len() as u32);
                }
                this.readers.push(reader);
            }
        }
        this
    }

    /// The users who read, in the order in which their kinds are given out.
    pub fn readers(settings: &Settings, users: u32) -> impl Iterator<Item = User> {
        let unit = settings.readers + 1;
        (0..users).filter(move |user| user % unit != 0)
    }

    fn write(&mut self, crowd: &mut Crowd<'_>, stage: Stage, began: u64) -> (bool, u64) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = crowd.shared.clock.now();
        let (every, duration) = (nanos(self.settings.every), nanos(self.settings.duration));
        let size = self.settings.burst * self.rooms.len() as u64;
        if self.bursts.as_ref().is_none_or(|(of, _)| *of != stage) {
            self.bursts = Some((stage, Bursts::new(began, every, duration, size)));
        }
        let Some((_, bursts)) = &mut self.bursts else { return (true, u64::MAX) };
        while crowd.ledger.unanswered() < MOST_UNANSWERED * self.writers
            && let Some((number, at)) = bursts.take_due(now)
            && let Some(&(room, writer)) = self.rooms.get((number % self.rooms.len().max(1) as u64) as usize)
        {
            crowd.say(room, writer, at);
        }
        let next = bursts.peek();
        (next.is_none() && crowd.ledger.is_answered(), next.filter(|&at| at > now).unwrap_or(u64::MAX))
    }

    fn leave(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>) {
        if !std::mem::replace(&mut self.have_left, true) {
            self.readers.iter().for_each(|&reader| crowd.leave(links, reader));
        }
    }

    fn come_back(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>) {
        if !std::mem::replace(&mut self.are_back, true) {
            self.readers.iter().for_each(|&reader| crowd.come_back(links, reader));
        }
    }
}

impl Lead for Slow {
    fn turn(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        match stage {
            Stage::Connect => (crowd.is_settled(), u64::MAX),
            Stage::Groups => (crowd.create_groups(links), u64::MAX),
            Stage::Load => {
                let (is_said, next) = self.write(crowd, stage, began);
                (is_said && crowd.ledger.is_settled(), next)
            }
            Stage::Away => {
                self.leave(crowd, links);
                (true, u64::MAX)
            }
            Stage::Slow => {
                let (is_said, next) = self.write(crowd, stage, began);
                self.began = began;
                if is_said && self.ended == 0 {
                    self.ended = crowd.shared.clock.now();
                }
                (is_said, next)
            }
            Stage::Return => {
                self.come_back(crowd, links);
                (crowd.is_back(), u64::MAX)
            }
            Stage::Settle => (crowd.ledger.is_settled(), u64::MAX),
            Stage::Hold | Stage::PingAll | Stage::Finish => (false, u64::MAX),
        }
    }

    fn synced(&mut self, ledger: &mut Ledger, user: User, _now: u64) {
        let (first, end) = self.reads.get(user as usize).copied().unwrap_or_default();
        let rooms = self.rooms.get(first as usize..end as usize).unwrap_or_default();
        if self.are_back && rooms.iter().any(|&(room, _)| ledger.is_behind(room, user)) {
            ledger.synced_early();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_comes_at_once_and_what_is_late_keeps_its_time() {
        let mut bursts = Bursts::new(100, 10, 25, 2);
        assert_eq!(bursts.take_due(99), None);
        assert_eq!(
            (bursts.take_due(100), bursts.take_due(100), bursts.take_due(100)),
            (Some((0, 100)), Some((1, 100)), None)
        );
        let rest: Vec<_> = std::iter::from_fn(|| bursts.take_due(1_000)).collect();
        assert_eq!(rest, [(0, 110), (1, 110), (0, 120), (1, 120)]);
        assert_eq!(bursts.peek(), None);
    }

    #[test]
    fn nobody_to_write_to_is_nothing_to_send() {
        assert_eq!(Bursts::new(0, 10, 25, 0).peek(), None);
        assert_eq!(Bursts::new(0, 10, 0, 5).peek(), None);
    }

    #[test]
    fn of_each_unit_all_but_the_first_read() {
        let every = Duration::from_secs(2);
        let settings = Settings { readers: 2, grouped: false, burst: 1, every, duration: every };
        assert_eq!(Slow::readers(&settings, 8).collect::<Vec<_>>(), [1, 2, 4, 5, 7]);
    }
}
