//! Sampling a run from before its first connection to its end.
//!
//! Owns: when a sample is taken, and from whom. Guarantees: at most one a second, and one as each stage begins; a gateway that
//! does not answer has no figures then, and the run goes on.

use super::meanwhile::meanwhile;
use super::run::Run;
use crate::limits;
use crate::timeline::{Sample, Timeline};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How soon the beginning of a stage is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs `load` and samples meanwhile, before it and after it.
pub fn watch<T>(run: &Run, load: impl FnOnce() -> T) -> (Timeline, T) {
    let mut timeline = Timeline::default();
    timeline.enter(sample(run));
    let look = || {
        if timeline.is_due(run.shared.clock.now(), run.shared.name()) {
            timeline.enter(sample(run));
        }
    };
    let result = meanwhile(LOOK_EVERY, look, load);
    timeline.enter(sample(run));
    (timeline, result)
}

fn sample(run: &Run) -> Sample {
    let (stage, at) = (run.shared.name(), run.shared.clock.now());
    let (server, (slab, sockets)) = (run.server(), limits::kernel_memory());
    run.shared.counters.server_rss.store(server.rss.unwrap_or(0), Ordering::Relaxed);
    let own = std::process::id();
    Sample {
        at,
        stage,
        established: run.shared.counters.established.load(Ordering::Relaxed),
        server_cpu: server.cpu,
        server_rss: server.rss,
        store: server.store,
        own_cpu: run.own_cpu(),
        own_rss: limits::rss(own).unwrap_or(0),
        slab,
        sockets,
        processors: run.processors(),
    }
}
