//! Asking the gateway for the upkeep of its store while a load runs.

use super::meanwhile::meanwhile;
use super::run::Run;
use crate::series::Series;
use crate::upkeep::{Look, Work};
use std::time::Duration;

/// How exactly the ends of a checkpoint are known.
const EVERY: Duration = Duration::from_millis(500);

/// Runs `load` and asks meanwhile. Nothing where --admin was not given.
pub fn watch<T>(run: &Run, looks: &mut Vec<Look>, load: impl FnOnce() -> T) -> T {
    if run.common.admin.is_none() {
        return load();
    }
    meanwhile(EVERY, || looks.extend(look(run)), load)
}

/// `None` where the gateway does not answer.
fn look(run: &Run) -> Option<Look> {
    let page = run.metrics().ok().flatten()?;
    let work = |count, seconds| Work { count: page.sum(count), seconds: page.sum(seconds) };
    Some(Look {
        at: run.shared.clock.now(),
        checkpoints: work(Series::CHECKPOINTS, Series::CHECKPOINT_SECONDS),
        merges: work(Series::MERGES, Series::MERGE_SECONDS),
    })
}
