//! Rates: how often something may happen, with a burst. The generic cell rate algorithm: one number, no timer.
//!
//! Guarantees: over any time t at most burst + rate x t are let through; what is refused costs nothing.

use crate::frozen::frozen;

/// So many a second, so many at once. `per_second` 0: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    /// At least 1 is let through.
    pub burst: u32,
}

/// What one user or device has used of a rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// When the next would be due if they came evenly; monotonic microseconds.
    due_us: u64,
}

impl Used {
    /// Lets one through, or says after how many milliseconds it may be tried again (1 at least).
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        if rate.per_second == 0 {
            return Ok(());
        }
        let (now_us, every_us) = (now_ms * 1_000, 1_000_000 / u64::from(rate.per_second));
        let ahead_us = every_us * u64::from(rate.burst.saturating_sub(1));
        if self.due_us > now_us + ahead_us {
            return Err((self.due_us - now_us - ahead_us).div_ceil(1_000));
        }
        self.due_us = self.due_us.max(now_us) + every_us;
        Ok(())
    }
}

impl Used {
    /// Whether it says more than that nothing was used.
    pub fn is_hot(&self, now_ms: u64) -> bool {
        self.due_us > now_ms * 1_000
    }
}

frozen!(Used { due_us });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_a_refusal_costs_nothing() {
        let (mut used, rate) = (Used::default(), Rate { per_second: 10, burst: 3 });
        assert!((0..3).all(|_| used.take(rate, 1_000).is_ok()));
        for _ in 0..100 {
            assert_eq!(used.take(rate, 1_000), Err(100));
        }
        assert!(used.take(rate, 1_100).is_ok());
        assert_eq!(used.take(rate, 1_150), Err(50));
        // After a while the whole burst is there again, and no more.
        assert_eq!((0..10).filter(|_| used.take(rate, 60_000).is_ok()).count(), 3);
        assert!((0..1_000).all(|_| used.take(Rate::default(), 60_000).is_ok()));
    }
}
