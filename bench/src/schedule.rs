//! When what is sent: an open loop.
//!
//! Owns: the times of all sends, fixed by rate and start alone. Guarantees: no answer and no stall moves a send; a latency
//! measured from the scheduled time therefore holds the time that a message had to wait because earlier ones were late
//! (no coordinated omission). Never does: reading a clock; time is an argument, in nanoseconds of one monotonic clock.

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// One worker's share of the sends: every `workers`-th of the whole schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: u64,
    end: u64,
    /// Sends per 1,000 s of the whole schedule, so that a fractional rate is exact.
    rate_milli: u64,
    workers: u64,
    next: u64,
    /// Sends of the whole schedule at most.
    most: u64,
}

impl Schedule {
    /// The sends that worker number `worker` of `workers` makes of a schedule of `rate` per second from `start` up to and
    /// without `start + duration` (nanoseconds). A rate of 0 sends nothing.
    pub fn new(rate: f64, start: u64, duration: u64, worker: u64, workers: u64) -> Self {
        let rate_milli = (rate.clamp(0.0, 1e9) * 1_000.0).round() as u64;
        Self {
            start,
            end: start.saturating_add(duration),
            rate_milli,
            workers: workers.max(1),
            next: worker,
            most: u64::MAX,
        }
    }

    /// The same, with so many sends of the whole schedule at most.
    pub fn up_to(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// When the next send is scheduled; `None` when all were taken.
    pub fn peek(&self) -> Option<u64> {
        let nanos = (u128::from(self.next) * NANOS_PER_SECOND * 1_000).checked_div(u128::from(self.rate_milli))?;
        let at = self.start.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
        (at < self.end && self.next < self.most).then_some(at)
    }

    /// Takes the next send if it is due at `now`, and gives the time it was scheduled for, which may long have passed.
    pub fn take_due(&mut self, now: u64) -> Option<u64> {
        let at = self.peek().filter(|&at| at <= now)?;
        self.next += self.workers;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn all(mut schedule: Schedule, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take_due(now)).collect()
    }

    #[test]
    fn a_rate_is_kept_exactly() {
        let sends = all(Schedule::new(333.5, 5, 10 * SECOND, 0, 1), u64::MAX);
        assert_eq!(sends.len(), 3_335);
        assert_eq!(sends[0], 5);
        assert!(sends.is_sorted() && *sends.last().unwrap() < 5 + 10 * SECOND);
    }

    #[test]
    fn workers_share_one_schedule_without_gap_or_overlap() {
        let mut shared: Vec<u64> =
            (0..3).flat_map(|worker| all(Schedule::new(1_000.0, 0, SECOND, worker, 3), u64::MAX)).collect();
        shared.sort_unstable();
        assert_eq!(shared, all(Schedule::new(1_000.0, 0, SECOND, 0, 1), u64::MAX));
    }

    #[test]
    fn workers_share_a_number_of_sends_exactly() {
        let sends = |worker| all(Schedule::new(1_000.0, 0, 60 * SECOND, worker, 3).up_to(100), u64::MAX).len();
        assert_eq!((0..3).map(sends).collect::<Vec<_>>(), [34, 33, 33]);
    }

    #[test]
    fn a_stall_moves_no_send() {
        let mut schedule = Schedule::new(10.0, 0, SECOND, 0, 1);
        assert_eq!(schedule.take_due(0), Some(0));
        assert_eq!(schedule.take_due(SECOND / 20), None); // the next is due at 100 ms
        // Nothing is asked for half a second: the five that were due meanwhile keep their times.
        let late: Vec<u64> = std::iter::from_fn(|| schedule.take_due(SECOND / 2)).collect();
        assert_eq!(late, [1, 2, 3, 4, 5].map(|tenth| tenth * SECOND / 10));
    }

    #[test]
    fn nothing_is_sent_at_rate_zero_or_after_the_end() {
        assert_eq!(Schedule::new(0.0, 0, SECOND, 0, 1).peek(), None);
        assert_eq!(Schedule::new(1.0, 0, SECOND, 1, 2).peek(), None); // the second send would be at the end
    }
}
