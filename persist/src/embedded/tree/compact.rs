//! Compaction: merging the tables of each tree, so that reads stay short and what was overwritten goes.

use super::checkpoint::FORGET_OLDER;
use super::{STATE, TreeError, Trees};
use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, AnyTree};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Merges of one tree in a row at most; the next flush gives the turn again.
const MERGES: usize = 16;
const LEVELS: usize = 7;

/// What one round did.
#[derive(Debug, Default)]
pub struct Compaction {
    pub merges: u64,
    pub took: Duration,
    /// Trees that could not be compacted. Nothing is lost by it: what was to be merged stays as it was.
    pub errors: Vec<TreeError>,
}

impl Trees {
    /// Compacts every tree that has something to merge. For one thread; it may wait for the disk.
    pub fn compact(&self) -> Compaction {
        let mut done = Compaction::default();
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = logs.iter().map(|(bucket, tree)| (Some(*bucket), tree.clone())).collect();
        drop(logs);
        for (bucket, tree) in all.into_iter().chain([(None, self.state.clone())]) {
            let _upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
            if bucket.is_some_and(|bucket| self.log(bucket).is_none()) {
                // It has expired.
                continue;
            }
            let started = Instant::now();
            match merge(&tree) {
                Ok(0) => {}
                Ok(merges) => {
                    done.merges += merges;
                    done.took += started.elapsed();
                }
                Err(error) => {
                    let name = bucket.map_or_else(|| STATE.to_owned(), |bucket| bucket.to_string());
                    done.errors.push(TreeError::of(name)(error));
                }
            }
        }
        done
    }
}

fn merge(tree: &AnyTree) -> Result<u64, lsm_tree::Error> {
    let strategy = Arc::new(Leveled::default());
    for merges in 0..MERGES {
        let before = shape(tree);
        tree.compact(Arc::clone(&strategy) as _, FORGET_OLDER)?;
        if shape(tree) == before {
            return Ok(merges as u64);
        }
    }
    Ok(MERGES as u64)
}

/// It changes with every merge and move, and with a flush, which costs one look more.
fn shape(tree: &AnyTree) -> ([Option<usize>; LEVELS], u64) {
    (std::array::from_fn(|level| tree.level_table_count(level)), tree.disk_space())
}
