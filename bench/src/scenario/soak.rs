//! A chat with storms in it: at fixed times a share of all sessions drops at once and comes back at once.
//!
//! Owns: when storms are, whom they meet, and who of those is not back yet. Guarantees: times follow from the beginning of the
//! load alone, the same for all workers; only who is there is met. Never does: who writes, comes and goes otherwise; that is
//! the chat's.

use super::chat::{Chat, chance};
use super::crowd::{Crowd, Lead};
use crate::load::worker::User;
use crate::load::{Links, Stage};
use crate::text::mix;
use crate::verify::Ledger;
use std::time::Duration;

/// The times of the storms, since the load began: every so long, but not at its end. None where `every` is zero.
pub fn times(every: Duration, duration: Duration) -> impl Iterator<Item = Duration> {
    (1..).map_while(move |n| every.checked_mul(n).filter(|&at| at < duration && at > Duration::ZERO))
}

/// The lead of one worker's soak.
pub struct Soak {
    chat: Chat,
    storms: Storms,
    returning: Vec<bool>,
    met: Vec<User>,
    /// Sessions that were dropped by storms.
    pub dropped: u64,
    /// The longest that it took until everybody whom a storm had met had synced, nanoseconds.
    pub slowest: u64,
}

impl Soak {
    /// A chat whose load lasts for `duration`; every `every` this share of those who are there, 0 to 1, is met.
    pub fn new(chat: Chat, (every, duration): (Duration, Duration), share: f64, seed: u64) -> Self {
        let storms =
            Storms { left: times(every, duration).map(nanos).collect(), share, drawn: mix(seed), out: 0, at: 0 };
        Self { chat, storms, returning: Vec::new(), met: Vec::new(), dropped: 0, slowest: 0 }
    }

    fn storm(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, began: u64) {
        let now = crowd.shared.clock.now();
        let mut met = std::mem::take(&mut self.met);
        self.storms.turn(now, began, crowd.users(), |user| crowd.is_present(user), &mut met);
        self.returning.resize(crowd.users() as usize, false);
        self.dropped += met.len() as u64;
        for &user in &met {
            crowd.leave(links, user);
            if let Some(returning) = self.returning.get_mut(user as usize) {
                *returning = true;
            }
        }
        // All are gone before the first comes back.
        for user in met.drain(..) {
            crowd.come_back(links, user);
        }
        self.met = met;
    }
}

impl Lead for Soak {
    fn turn(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        if stage == Stage::Load {
            self.storm(crowd, links, began);
        }
        let (is_done, next) = self.chat.turn(crowd, links, stage, began);
        (is_done, if stage == Stage::Load { next.min(self.storms.next(began)) } else { next })
    }

    fn synced(&mut self, _ledger: &mut Ledger, user: User, now: u64) {
        if self.returning.get_mut(user as usize).is_some_and(std::mem::take)
            && let Some(took) = self.storms.back(now)
        {
            self.slowest = self.slowest.max(took);
        }
    }
}

/// See the module's page.
#[derive(Debug)]
struct Storms {
    /// Nanoseconds since the load began, of those that are still to come.
    left: std::collections::VecDeque<u64>,
    share: f64,
    drawn: u64,
    /// Who was met and is not back.
    out: u64,
    /// When the last one was.
    at: u64,
}

impl Storms {
    /// Enters into `met` whom the storms that are due meet.
    fn turn(&mut self, now: u64, began: u64, users: u32, is_present: impl Fn(User) -> bool, met: &mut Vec<User>) {
        // Several that are due are one: this tool stood still.
        let mut is_due = false;
        while self.left.pop_front_if(|at| began.saturating_add(*at) <= now).is_some() {
            is_due = true;
        }
        if !is_due {
            return;
        }
        for user in 0..users {
            self.drawn = mix(self.drawn);
            if chance(self.drawn, self.share) && is_present(user) {
                met.push(user);
            }
        }
        self.out += met.len() as u64;
        self.at = now;
    }

    /// When the next one is due; `u64::MAX`: there is none.
    fn next(&self, began: u64) -> u64 {
        self.left.front().map_or(u64::MAX, |at| began.saturating_add(*at))
    }

    /// One of those who were met has synced. Gives how long it took since the storm, where it is the last.
    fn back(&mut self, now: u64) -> Option<u64> {
        self.out = self.out.saturating_sub(1);
        (self.out == 0).then(|| now.saturating_sub(self.at))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn storms(share: f64) -> Storms {
        let left = times(Duration::from_secs(10), Duration::from_secs(30)).map(nanos).collect();
        Storms { left, share, drawn: 7, out: 0, at: 0 }
    }

    #[test]
    fn storms_come_at_fixed_times_and_none_at_the_end() {
        let of = |every, duration| times(Duration::from_secs(every), Duration::from_secs(duration)).collect::<Vec<_>>();
        assert_eq!(of(5, 20), [5, 10, 15].map(Duration::from_secs));
        assert!(of(0, 20).is_empty() && of(20, 20).is_empty());
    }

    #[test]
    fn each_storm_meets_its_share_of_those_who_are_there_once() {
        let (mut storms, mut met, began) = (storms(0.1), Vec::new(), 100 * SECOND);
        let mut at = Vec::new();
        for tick in 0..=400 {
            let now = began + tick * SECOND / 10;
            storms.turn(now, began, 10_000, |user| user % 2 == 0, &mut met);
            if !met.is_empty() {
                // A tenth of 5,000, within six standard deviations.
                assert!((373..=627).contains(&met.len()), "{}", met.len());
                assert!(met.iter().all(|user| user % 2 == 0) && met.is_sorted());
                at.push((now - began) / SECOND);
                met.clear();
            }
        }
        assert_eq!(at, [10, 20]);
        assert_eq!(storms.next(began), u64::MAX);
    }

    #[test]
    fn storms_that_are_late_are_one() {
        let (mut storms, mut met) = (storms(1.0), Vec::new());
        assert_eq!(storms.next(5), 5 + 10 * SECOND);
        storms.turn(25 * SECOND, 0, 3, |_| true, &mut met);
        assert_eq!(met, [0, 1, 2]);
        storms.turn(26 * SECOND, 0, 3, |_| true, &mut met);
        assert_eq!(met.len(), 3);
    }

    #[test]
    fn a_storm_is_over_when_the_last_one_is_back() {
        let (mut storms, mut met) = (storms(1.0), Vec::new());
        storms.turn(10 * SECOND, 0, 2, |_| true, &mut met);
        assert_eq!(storms.back(11 * SECOND), None);
        assert_eq!(storms.back(13 * SECOND), Some(3 * SECOND));
    }
}
