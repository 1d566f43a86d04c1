//! How long things take inside a shard: turns of its loop, and messages from their arrival to SENT.
//!
//! Owns: when sends came that have no answer yet. Guarantees: every [`SAMPLE`]th send is timed, whatever happens to the ones
//! before it, so that a stall shows in proportion to those who waited; an idle session costs nothing. A send counts from the
//! turn that took it off the ring to the end of the turn that hands its SENT to the ring; what it waited in the ring before is
//! at most the turn before. Never does: time a refusal.

use super::stats::{Snapshot, Timing};
use hashbrown::HashMap;
use ringpost_router::ConnRef;
use std::time::Instant;

/// One send in so many.
const SAMPLE: u32 = 4;
/// Sends on their way that are timed at once.
const UNDER_WAY: usize = 4_096;
/// What has no answer by then never gets one: the connection went, or it was refused.
const GIVEN_UP_S: u64 = 60;

pub(super) struct Timings {
    turn: Instant,
    sends: u32,
    under_way: HashMap<(ConnRef, u64), (Timing, Instant)>,
    /// Answered in this turn: which they are, and when they came.
    answered: Vec<(Timing, Instant)>,
}

impl Default for Timings {
    fn default() -> Self {
        Self { turn: Instant::now(), sends: 0, under_way: HashMap::default(), answered: Vec::new() }
    }
}

impl Timings {
    pub fn turn_begins(&mut self) {
        self.turn = Instant::now();
    }

    /// A message came that wants an answer, to a group or a user.
    pub fn send(&mut self, conn: ConnRef, id: u64, to_group: bool) {
        self.sends = self.sends.wrapping_add(1);
        if id == 0 || !self.sends.is_multiple_of(SAMPLE) {
            return;
        }
        if self.under_way.len() >= UNDER_WAY {
            let turn = self.turn;
            self.under_way.retain(|_, (_, came)| turn.duration_since(*came).as_secs() < GIVEN_UP_S);
        }
        if self.under_way.len() < UNDER_WAY {
            let timing = if to_group { Timing::GroupSend } else { Timing::Send };
            self.under_way.insert((conn, id), (timing, self.turn));
        }
    }

    /// Its SENT is on the way out.
    pub fn sent(&mut self, conn: ConnRef, re: u64) {
        if !self.under_way.is_empty()
            && let Some(came) = self.under_way.remove(&(conn, re))
        {
            self.answered.push(came);
        }
    }

    /// It was answered with an error: not timed, and no longer in the way of others.
    pub fn refused(&mut self, conn: ConnRef, re: u64) {
        if !self.under_way.is_empty() {
            self.under_way.remove(&(conn, re));
        }
    }

    /// What was written in this turn is about to be submitted.
    pub fn turn_ends(&mut self, stats: &mut Snapshot) {
        let now = Instant::now();
        stats.observe(Timing::Turn, now.duration_since(self.turn));
        for (timing, came) in self.answered.drain(..) {
            stats.observe(timing, now.duration_since(came));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnRef {
        ConnRef { shard: 0, slot, generation: 1 }
    }

    #[test]
    fn one_send_in_some_is_timed_once_and_nothing_piles_up() {
        let (mut timings, mut stats) = (Timings::default(), Snapshot::default());
        for n in 1..=4 * u64::from(SAMPLE) {
            timings.send(conn(n as u32), n, n > 8);
        }
        timings.turn_ends(&mut stats);
        assert_eq!((stats.observed(Timing::Turn), stats.observed(Timing::Send)), (1, 0));
        for n in (1..=4 * u64::from(SAMPLE)).chain(1..=4) {
            timings.sent(conn(n as u32), n);
        }
        timings.turn_ends(&mut stats);
        assert_eq!([Timing::Turn, Timing::Send, Timing::GroupSend].map(|it| stats.observed(it)), [2, 2, 2]);
        // Whoever is refused again and again keeps nobody else from being timed.
        for n in 0..8 * UNDER_WAY as u64 {
            timings.send(conn(7), n + 1, false);
            timings.refused(conn(7), n + 1);
        }
        assert!(timings.under_way.is_empty());
        (0..1_000_000).for_each(|n| timings.send(conn(n), 1, false));
        assert!(timings.under_way.len() <= UNDER_WAY);
    }
}
