//! Compaction: merging the tables of each tree, so that reads stay short and what was overwritten goes.
//!
//! Where rows are written, merging drops their older versions by itself. A tree that has come to rest, as a month does that
//! is over, is merged as a whole once, so that what was erased in it does not stay on the disk for want of later rows.

use super::bucket::Bucket;
use super::checkpoint::FORGET_OLDER;
use super::trickle::trickled;
use super::{STATE, TreeError, Trees};
use crate::files::{Files, RealFiles};
use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, AnyTree};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Merges of one tree in a row at most; the next flush gives the turn again.
const MERGES: usize = 16;
const LEVELS: usize = 7;
/// A tree to which nothing was written for this long is merged as a whole.
const AT_REST: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of the tables that are written: what is kept open and given back bit by bit is counted in them.
const TABLE_BYTES: u64 = 16 << 20;

/// What one round did.
#[derive(Debug, Default)]
pub struct Compaction {
    pub merges: u64,
    pub took: Duration,
    /// Trees that could not be compacted. Nothing is lost by it: what was to be merged stays as it was.
    pub errors: Vec<TreeError>,
}

/// What the compactor and who removes an expired month say to each other.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// The tree that is being merged.
    merging: Option<Bucket>,
    /// It has expired meanwhile: its files go when the merge is done.
    gone: Option<Bucket>,
    /// Of each tree its tables, and since when they are the same; `None`: of the state.
    seen: BTreeMap<Option<Bucket>, (Shape, Instant)>,
}

impl Trees {
    /// Compacts every tree that has something to merge. For one thread; it may wait for the disk.
    pub fn compact(&self) -> Compaction {
        self.compact_at(Instant::now(), &|| false)
    }

    /// The same, with the time by which trees come to rest. When `stop` says so the merge that goes on is the last: the others
    /// are as good after the next start.
    pub fn compact_at(&self, now: Instant, stop: &dyn Fn() -> bool) -> Compaction {
        let mut done = Compaction::default();
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = logs.iter().map(|(bucket, log)| (Some(*bucket), log.tree.clone())).collect();
        drop(logs);
        for (bucket, tree) in all.into_iter().chain([(None, self.state.clone())]) {
            if stop() {
                break;
            }
            if !self.begin(bucket) {
                continue;
            }
            let started = Instant::now();
            let tables = self.tables_of(bucket);
            let merge = || {
                let merges = self.merge(&tree, &tables, stop)?;
                Ok(merges + u64::from(!stop() && self.rest(bucket, &tree, now)?))
            };
            let merged = trickled(&tables, &self.trickled, merge);
            self.end();
            match merged {
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

    /// False: it has expired.
    fn begin(&self, bucket: Option<Bucket>) -> bool {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let there = bucket.is_none_or(|bucket| self.log(bucket).is_some());
        if there {
            upkeep.merging = bucket;
        } else {
            upkeep.seen.remove(&bucket);
        }
        there
    }

    fn end(&self) {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        upkeep.merging = None;
        if let Some(bucket) = upkeep.gone.take() {
            self.remove_files(bucket);
        }
    }

    /// The files of an expired month, unless it has come back; those of the tree that is being merged after that. What cannot
    /// be removed now is removed by the next start.
    pub(super) fn remove(&self, bucket: Bucket) {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        if upkeep.merging == Some(bucket) {
            upkeep.gone = Some(bucket);
        } else {
            self.remove_files(bucket);
        }
    }

    fn remove_files(&self, bucket: Bucket) {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        if !logs.contains_key(&bucket) {
            self.leaving.hold(&self.tables_of(Some(bucket)));
            let _ = std::fs::remove_dir_all(self.dir.join(bucket.to_string()));
        }
    }

    /// Merges a tree as a whole if it has come to rest and older versions may be in it. Returns whether it was.
    fn rest(&self, bucket: Option<Bucket>, tree: &AnyTree, now: Instant) -> Result<bool, lsm_tree::Error> {
        let shape = shape(tree);
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, since) = upkeep.seen.entry(bucket).or_insert_with(|| (shape, self.quiet_since(bucket, now)));
        if *seen != shape {
            (*seen, *since) = (shape, now);
        }
        let rests = now.saturating_duration_since(*since) >= AT_REST;
        drop(upkeep);
        let (levels, bytes) = shape;
        let merged = levels[0] <= Some(1) && levels.iter().filter(|tables| **tables > Some(0)).count() <= 1;
        // Both stand side by side for a while; the process would not survive a full disk.
        let fits = || RealFiles.space(&self.dir).is_ok_and(|space| bytes <= space.free / 2);
        if !rests || merged || !fits() {
            return Ok(false);
        }
        self.leaving.hold(&self.tables_of(bucket));
        tree.major_compact(TABLE_BYTES, FORGET_OLDER)?;
        Ok(true)
    }

    /// Since when the files of a tree are as they are, where its month is over: who starts a process anew every day does not
    /// begin to wait anew. Of others from now on: a start is no time to merge what is written next.
    fn quiet_since(&self, bucket: Option<Bucket>, now: Instant) -> Instant {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        if bucket.is_none_or(|bucket| logs.keys().all(|other| other.month <= bucket.month)) {
            return now;
        }
        drop(logs);
        let files = std::fs::read_dir(self.tables_of(bucket)).into_iter().flatten().flatten();
        let newest = files.filter_map(|file| file.metadata().ok()?.modified().ok()).max();
        let age = newest.and_then(|newest| newest.elapsed().ok()).unwrap_or_default();
        now.checked_sub(age).unwrap_or(now)
    }

    fn merge(&self, tree: &AnyTree, tables: &Path, stop: &dyn Fn() -> bool) -> Result<u64, lsm_tree::Error> {
        let strategy = Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES));
        for merges in 0..MERGES {
            let before = shape(tree);
            self.leaving.hold(tables);
            tree.compact(Arc::clone(&strategy) as _, FORGET_OLDER)?;
            let merged = u64::from(shape(tree) != before);
            if merged == 0 || stop() {
                return Ok(merges as u64 + merged);
            }
        }
        Ok(MERGES as u64)
    }

    /// Where a tree has its tables.
    fn tables_of(&self, bucket: Option<Bucket>) -> PathBuf {
        let tree = bucket.map_or_else(|| STATE.to_owned(), |bucket| bucket.to_string());
        self.dir.join(tree).join("tables")
    }

    /// Gives back to the disk what merges and expiry have removed; how many bytes of it are left for later. It takes its
    /// time, until `stop` says so.
    pub fn give_back(&self, now: Instant, stop: &dyn Fn() -> bool) -> std::io::Result<u64> {
        self.leaving.give_back(now, stop)
    }
}

/// Tables of each level, and bytes.
type Shape = ([Option<usize>; LEVELS], u64);

/// It changes with every merge and move, and with a flush, which costs one look more.
fn shape(tree: &AnyTree) -> Shape {
    (std::array::from_fn(|level| tree.level_table_count(level)), tree.disk_space())
}
