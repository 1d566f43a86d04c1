//! When a source of keys is fetched. Pure: time is an argument, in milliseconds of any clock that does not go back.
//!
//! At once, then every so often; sooner after a failure, with back-off; and once when a token names a key that nobody knows,
//! at most every [`ASKED_EVERY_MS`], because anybody can send such a token.

/// Fetches because of unknown keys are at least so far apart.
pub const ASKED_EVERY_MS: u64 = 10_000;
/// From a first failure to the next attempt; doubled with each further one, up to the regular interval.
pub const RETRY_MS: u64 = 2_000;

#[derive(Debug)]
pub struct Schedule {
    every_ms: u64,
    /// `None` while a fetch is under way.
    next_ms: Option<u64>,
    asked_ms: Option<u64>,
    failures: u32,
    /// The last success; before the first one, when the source became known.
    fresh_ms: u64,
}

impl Schedule {
    pub fn new(every_ms: u64, now_ms: u64) -> Self {
        Self { every_ms, next_ms: Some(now_ms), asked_ms: None, failures: 0, fresh_ms: now_ms }
    }

    /// A token named an unknown key. Without effect too soon after the last time, or while a fetch is under way.
    pub fn ask(&mut self, now_ms: u64) {
        let too_soon = self.asked_ms.is_some_and(|asked| now_ms < asked + ASKED_EVERY_MS);
        if let (Some(next), false) = (&mut self.next_ms, too_soon) {
            *next = now_ms;
            self.asked_ms = Some(now_ms);
        }
    }

    /// Whether to start a fetch now; if so, [`Self::succeeded`] or [`Self::failed`] must follow.
    pub fn start(&mut self, now_ms: u64) -> bool {
        let due = self.next_ms.is_some_and(|next| next <= now_ms);
        if due {
            self.next_ms = None;
        }
        due
    }

    pub fn succeeded(&mut self, now_ms: u64) {
        self.failures = 0;
        self.fresh_ms = now_ms;
        self.next_ms = Some(now_ms + self.every_ms);
    }

    pub fn failed(&mut self, now_ms: u64) {
        let wait = RETRY_MS << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.next_ms = Some(now_ms + wait.min(self.every_ms));
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub fn fresh_ms(&self) -> u64 {
        self.fresh_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: u64 = 600_000;

    #[test]
    fn it_is_fetched_at_once_and_then_every_so_often() {
        let mut schedule = Schedule::new(EVERY, 5);
        assert!(schedule.start(5));
        assert!(!schedule.start(EVERY * 9), "one fetch at a time");
        schedule.succeeded(1_000);
        assert!(!schedule.start(1_000 + EVERY - 1));
        assert!(schedule.start(1_000 + EVERY));
        assert_eq!(schedule.fresh_ms(), 1_000);
    }

    #[test]
    fn failures_are_retried_with_back_off_up_to_the_interval() {
        let mut schedule = Schedule::new(EVERY, 0);
        let (mut now, mut waits) = (0, Vec::new());
        assert!(schedule.start(now));
        for _ in 0..40 {
            schedule.failed(now);
            assert!(schedule.is_failing());
            let before = now;
            while !schedule.start(now) {
                now += 1_000;
            }
            waits.push(now - before);
        }
        assert_eq!(&waits[..3], [RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS]);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits.last(), Some(&EVERY));
        assert_eq!(schedule.fresh_ms(), 0);
        schedule.succeeded(now);
        assert!(!schedule.is_failing());
    }

    #[test]
    fn unknown_keys_bring_a_fetch_forward_but_not_often() {
        let mut schedule = Schedule::new(EVERY, 0);
        assert!(schedule.start(0));
        schedule.succeeded(0);
        let mut fetches = 0;
        // A minute of such tokens, one every 100 ms.
        for now in (0..60_000).step_by(100) {
            schedule.ask(now);
            if schedule.start(now) {
                fetches += 1;
                schedule.succeeded(now);
            }
        }
        assert_eq!(fetches, 60_000 / ASKED_EVERY_MS);
    }

    #[test]
    fn an_unknown_key_during_a_fetch_may_ask_again_after_it() {
        let mut schedule = Schedule::new(EVERY, 0);
        assert!(schedule.start(0));
        schedule.ask(10);
        schedule.succeeded(20);
        assert!(!schedule.start(20));
        schedule.ask(30);
        assert!(schedule.start(30));
    }
}
