//! The one clock of a run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the start of the run, the same in all threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    unix: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), unix }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Unix milliseconds at `nanos` of this clock.
    pub fn unix_ms(&self, nanos: u64) -> u64 {
        u64::try_from((self.unix + Duration::from_nanos(nanos)).as_millis()).unwrap_or(u64::MAX)
    }

    pub fn unix_seconds(&self) -> u64 {
        self.unix.as_secs()
    }

    /// The point of this clock as an `Instant`.
    pub fn instant(&self, nanos: u64) -> Instant {
        self.origin + Duration::from_nanos(nanos)
    }
}
