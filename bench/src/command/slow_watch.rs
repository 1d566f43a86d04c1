//! What the gateway says of itself while readers do not read, and what those readers take meanwhile.

use super::run::Run;
use crate::load::slow::{Pace, Slow as Session};
use crate::series::Series;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at sockets, and between two readings of the metrics.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const READ_EVERY: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// What the gateway said at one moment. Bytes, but for the first and the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Since the watch began.
    pub seconds: f64,
    pub rss: f64,
    /// Of it, memory tables of the store: its disk decides how many there are, not who reads.
    pub tables: f64,
    /// Of it, what the allocator has beside what it was asked for.
    pub kept: f64,
    /// Kept for sockets that have not taken it.
    pub outbound: f64,
    /// Sessions closed 4002 so far.
    pub closed: f64,
}

impl Reading {
    /// `None` where the gateway does not answer.
    pub fn of(run: &Run, began: Instant) -> Option<Self> {
        let page = run.metrics().ok().flatten()?;
        Some(Self {
            seconds: began.elapsed().as_secs_f64(),
            rss: page.sum(Series::RESIDENT),
            tables: page.sum(Series::TABLE_BYTES),
            kept: page.sum(Series::ALLOCATOR),
            outbound: page.sum(Series::OUTBOUND),
            closed: page.sum(Series::CLOSED_SLOW),
        })
    }

    /// Resident memory without the store's tables and what the allocator keeps for a moment: buffers that have just grown.
    pub fn aside(&self) -> f64 {
        self.rss - self.tables - self.kept
    }
}

/// The readings of a time.
#[derive(Clone, Debug, Default)]
pub struct Seen(Vec<Reading>);

impl Seen {
    fn first(&self) -> Reading {
        self.0.first().copied().unwrap_or_default()
    }

    /// See [`Reading::aside`].
    pub fn before(&self) -> f64 {
        self.first().aside()
    }

    /// The most that memory was above its beginning, the store's tables aside.
    pub fn growth(&self) -> f64 {
        self.0.iter().map(Reading::aside).fold(0.0, f64::max) - self.before()
    }

    pub fn outbound_peak(&self) -> f64 {
        self.0.iter().map(|reading| reading.outbound).fold(0.0, f64::max)
    }

    /// Sessions closed meanwhile, and when the first and the last of them was seen to be, in seconds.
    pub fn closed(&self) -> (f64, Option<f64>, Option<f64>) {
        let before = self.first().closed;
        let all = self.0.last().map_or(0.0, |last| last.closed - before);
        let when = |least: f64| self.0.iter().find(|reading| reading.closed >= before + least).map(|it| it.seconds);
        if all < 1.0 { (0.0, None, None) } else { (all, when(1.0), when(all)) }
    }
}

/// Runs `load`, which may ask how many sessions were closed 4002 so far, and reads meanwhile: the gateway's metrics, and of the
/// sessions what their pace says.
pub fn watch<T>(run: &Run, sessions: &mut [Session], load: impl FnOnce(&dyn Fn() -> u64) -> T) -> (Seen, T) {
    let (began, over, closed) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = Seen::default();
    seen.0.extend(Reading::of(run, began));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut read, mut dripped) = (Instant::now(), Instant::now());
            while !over.load(Ordering::Relaxed) {
                let drip = dripped.elapsed() >= SECOND;
                for session in sessions.iter_mut() {
                    match session.pace() {
                        Pace::Mute => drop(session.all()),
                        Pace::Trickle if drip => session.byte(),
                        Pace::Trickle | Pace::Stopped => {}
                    }
                }
                if drip {
                    dripped = Instant::now();
                }
                if read.elapsed() >= READ_EVERY {
                    read = Instant::now();
                    seen.0.extend(Reading::of(run, began));
                    closed.store(seen.closed().0 as u64, Ordering::Relaxed);
                }
                std::thread::sleep(LOOK_EVERY);
            }
            seen.0.extend(Reading::of(run, began));
        });
        let result = load(&|| closed.load(Ordering::Relaxed));
        over.store(true, Ordering::Relaxed);
        result
    });
    (seen, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_closes_are_told_against_the_beginning() {
        let reading =
            |seconds, rss, outbound, closed| Reading { seconds, rss, tables: 0.0, kept: 0.0, outbound, closed };
        let seen = Seen(vec![
            reading(0.0, 100.0, 0.0, 7.0),
            reading(1.0, 180.0, 60.0, 7.0),
            reading(2.0, 150.0, 40.0, 8.0),
            reading(3.0, 120.0, 0.0, 10.0),
            reading(4.0, 110.0, 0.0, 10.0),
        ]);
        assert_eq!((seen.before(), seen.growth(), seen.outbound_peak()), (100.0, 80.0, 60.0));
        assert_eq!(seen.closed(), (3.0, Some(2.0), Some(3.0)));
        assert_eq!(Seen::default().closed(), (0.0, None, None));
        assert_eq!(Seen::default().growth(), 0.0);
        let seen = Seen(vec![
            Reading { rss: 100.0, tables: 30.0, ..Reading::default() },
            Reading { rss: 190.0, tables: 100.0, ..Reading::default() },
        ]);
        assert_eq!(seen.growth(), 20.0);
    }
}
