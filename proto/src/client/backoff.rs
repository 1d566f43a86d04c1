//! When to connect again.
//!
//! Owns: the number of failed attempts and the client's randomness. Guarantees: every delay is drawn uniformly from
//! 0 to a cap ("full jitter"), which doubles from 1 s to 60 s, so that clients that were cut together do not come back
//! together. Never does: decide whether to reconnect at all (close codes do).

/// The first cap and the last, milliseconds.
pub const FIRST_MS: u64 = 1_000;
pub const LAST_MS: u64 = 60_000;
/// A session that lived this long ends a row of failures, milliseconds.
pub const STABLE_MS: u64 = 10_000;

/// SplitMix64: 8 bytes of state, seeded by the caller.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..=most.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(n) => self.draw() % n,
            None => self.draw(),
        }
    }
}

/// Failed attempts in a row.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u8,
}

impl Backoff {
    /// A session ended after `lived_ms` (0: it never opened).
    pub fn ended(&mut self, lived_ms: u64) {
        if lived_ms >= STABLE_MS {
            self.failures = 0;
        }
    }

    /// How long to wait before the next attempt. `floor_cap_ms`: the first attempt is spread over at least this long (the
    /// crash slot of welcome).
    pub fn delay(&mut self, random: &mut Random, floor_cap_ms: u64) -> u64 {
        let cap = (FIRST_MS << self.failures.min(6)).min(LAST_MS);
        let cap = if self.failures == 0 { cap.max(floor_cap_ms) } else { cap };
        self.failures = self.failures.saturating_add(1);
        random.up_to(cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_spread_over_a_cap_that_doubles_to_a_minute() {
        for (failures, cap) in [(0, 1_000), (1, 2_000), (3, 8_000), (5, 32_000), (6, 60_000), (200, 60_000)] {
            let mut random = Random::new(7);
            let delays: Vec<u64> = (0..2_000).map(|_| Backoff { failures }.delay(&mut random, 0)).collect();
            assert!(delays.iter().all(|&d| d <= cap));
            for quarter in 0..4 {
                let (from, to) = (cap * quarter / 4, cap * (quarter + 1) / 4);
                let count = delays.iter().filter(|&&d| (from..=to).contains(&d)).count();
                assert!((400..600).contains(&count), "{count} of 2000 between {from} and {to}");
            }
        }
    }

    #[test]
    fn only_a_session_that_lived_ends_a_row_of_failures() {
        let mut backoff = Backoff { failures: 5 };
        backoff.ended(STABLE_MS - 1);
        assert_eq!(backoff.failures, 5);
        backoff.ended(STABLE_MS);
        assert_eq!(backoff.failures, 0);
    }

    #[test]
    fn the_first_attempt_after_a_crash_is_spread_over_the_crash_slot() {
        let mut random = Random::new(1);
        let first: Vec<u64> = (0..100).map(|_| Backoff::default().delay(&mut random, 20_000)).collect();
        assert!(first.iter().any(|&d| d > 15_000) && first.iter().any(|&d| d < 5_000));
    }
}
