//! How a run goes forward: stages, the same for all workers.
//!
//! Owns: the present stage and who has done it. Guarantees: a stage begins for every worker and is left when all have done
//! it or its time is up. Never does: I/O.

use super::Clock;
use crate::progress::{Counters, Progress};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the main thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a worker is to do. A command goes through some of these, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stage {
    /// Open all connections; done when each is established or has failed.
    Connect,
    /// Create the groups; done when every member knows of its own.
    Groups,
    /// Keep them; never done by itself.
    Hold,
    /// Every session asks for a pong; done when all have answered.
    PingAll,
    /// The load itself; done when everything was sent (and, where the load is closed, answered).
    Load,
    /// Those who are to be away leave; done when what is sent meanwhile is acknowledged.
    Away,
    /// Those who do not read are written to; done when everything was sent and answered.
    Slow,
    /// Those who are away come back; done when all have synced.
    Return,
    /// Wait for what is outstanding.
    Settle,
    /// Leave.
    Finish,
}

const STAGES: [Stage; 10] = [
    Stage::Connect,
    Stage::Groups,
    Stage::Hold,
    Stage::PingAll,
    Stage::Load,
    Stage::Away,
    Stage::Slow,
    Stage::Return,
    Stage::Settle,
    Stage::Finish,
];

/// What the threads of a run share.
#[derive(Debug)]
pub struct Shared {
    pub clock: Clock,
    pub counters: Counters,
    stage: AtomicU8,
    /// What the command calls the present stage.
    name: Mutex<&'static str>,
    /// When the present stage began, nanoseconds.
    began: AtomicU64,
    /// Per stage: workers that have done it.
    done: [AtomicU64; STAGES.len()],
    workers: u64,
    /// A worker has ended with an error: the run is over.
    broken: AtomicBool,
    /// What was scheduled from and before these times counts for latencies.
    measured: [AtomicU64; 2],
}

impl Shared {
    pub fn new(workers: u64) -> Self {
        Self {
            clock: Clock::start(),
            counters: Counters::default(),
            stage: AtomicU8::new(Stage::Connect as u8),
            name: Mutex::new("start"),
            began: AtomicU64::new(0),
            done: Default::default(),
            workers,
            broken: AtomicBool::new(false),
            measured: [AtomicU64::new(0), AtomicU64::new(u64::MAX)],
        }
    }

    /// The present stage and when it began.
    pub fn stage(&self) -> (Stage, u64) {
        let stage = STAGES.get(usize::from(self.stage.load(Ordering::Acquire))).copied().unwrap_or(Stage::Finish);
        (stage, self.began.load(Ordering::Acquire))
    }

    /// What the command calls the present stage; `start` before the first.
    pub fn name(&self) -> &'static str {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn workers(&self) -> u64 {
        self.workers
    }

    /// A worker has done `stage`. Called once per worker and stage.
    pub fn done(&self, stage: Stage) {
        self.count(stage).fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all workers have done `stage`.
    pub fn is_done(&self, stage: Stage) -> bool {
        self.count(stage).load(Ordering::Acquire) >= self.workers
    }

    /// A worker cannot go on: no stage is waited for any longer.
    pub fn broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    #[allow(clippy::indexing_slicing, reason = "one element per stage")]
    fn count(&self, stage: Stage) -> &AtomicU64 {
        &self.done[stage as usize]
    }

    /// Latencies count for what is scheduled from this time on; without it for all.
    pub fn measure_from(&self, at: u64) {
        let [first, _] = &self.measured;
        first.store(at, Ordering::Release);
    }

    /// Latencies do not count for what is scheduled at this time or later.
    pub fn measure_until(&self, at: u64) {
        let [_, end] = &self.measured;
        end.store(at, Ordering::Release);
    }

    /// Whether the latency of something that was scheduled for `at` counts.
    pub fn is_measured(&self, at: u64) -> bool {
        let [first, end] = &self.measured;
        (first.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&at)
    }

    /// Begins `stage`, which nobody waits for here.
    pub fn begin(&self, stage: Stage) {
        self.began.store(self.clock.now(), Ordering::Release);
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Begins `stage` and waits until all workers have done it, at most for `limit`. Whether all did.
    pub fn run(&self, stage: Stage, limit: Duration, progress: &mut Progress, name: &'static str) -> bool {
        self.run_until(stage, limit, progress, name, || false)
    }

    /// The same, until `over` at most.
    pub fn run_until(
        &self,
        stage: Stage,
        limit: Duration,
        progress: &mut Progress,
        name: &'static str,
        over: impl Fn() -> bool,
    ) -> bool {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
        self.begin(stage);
        let end = self.clock.now().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        loop {
            progress.show(name, &self.counters);
            if self.is_done(stage) {
                return true;
            }
            if over() || self.clock.now() >= end || self.is_broken() {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_ends_when_all_workers_have_done_it_or_its_time_is_up() {
        let shared = Shared::new(2);
        let mut progress = Progress::new(true);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while shared.stage().0 < Stage::Load {
                        std::thread::yield_now();
                    }
                    shared.done(Stage::Connect); // a late word for an earlier stage counts for nothing
                    shared.done(Stage::Load);
                });
            }
            assert!(!shared.run(Stage::Hold, Duration::from_millis(1), &mut progress, "hold"));
            assert!(shared.run(Stage::Load, Duration::from_secs(60), &mut progress, "load"));
        });
    }
}
