//! Writing memory tables to disk, and what may go from the log and from the trees once that is done.

use super::bucket::Bucket;
use super::memory::Rows;
use super::records::Table;
use super::trickle::trickled;
use super::{Log, STATE, TreeError, Trees};
use crate::embedded::stats::Stats;
use crate::embedded::wal::remove_before;
use crate::files::Files;
use lsm_tree::{AbstractTree, AnyTree, InternalValue, SeqNo, ValueType};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

/// Of several versions of a row only the newest is ever read.
pub(super) const FORGET_OLDER: SeqNo = SeqNo::MAX >> 1;

/// Memory tables that are closed as of one batch.
pub(in crate::embedded) struct Sealed {
    trees: Arc<Trees>,
    lsn: u64,
    /// Of the records.
    tables: Vec<(Bucket, Log, Arc<Table>)>,
    /// Of the state; `None`: they stay in memory, and nothing is covered.
    rows: Option<Arc<Rows>>,
    expired: Vec<Bucket>,
}

impl Sealed {
    pub(super) fn new(trees: &Arc<Trees>, lsn: u64, rows: Option<Arc<Rows>>, expired: Vec<Bucket>) -> Self {
        let logs = trees.logs.read().unwrap_or_else(PoisonError::into_inner);
        let seal = |(bucket, log): (&Bucket, &Log)| Some((*bucket, log.clone(), log.newer.seal()?));
        let tables = logs.iter().filter_map(seal).collect();
        Self { trees: Arc::clone(trees), lsn, tables, rows, expired }
    }

    /// Writes them; after that a start needs no batch of the log up to this one. What had expired is removed.
    pub(in crate::embedded) fn flush(self) -> Result<u64, TreeError> {
        let lsn = self.lsn;
        for (bucket, log, table) in self.tables {
            // After a crash between here and the state the log is replayed and this version comes again, with the same rows.
            let rows =
                table.rows().map(|(key, value)| InternalValue::from_components(key, value, lsn, ValueType::Value));
            self.trees.flush(bucket.to_string(), &log.tree, rows)?;
            log.newer.written();
        }
        let Some(rows) = self.rows else { return Ok(lsn) };
        // Of two equal versions a merge keeps either: an expiry is a checkpoint of its own though no batch has come since the
        // one before, so the lsn alone would not do.
        let state = &self.trees.state;
        let version = state.get_highest_persisted_seqno().map_or(0, |newest| newest + 1).max(lsn);
        let rows = rows.iter().map(|(key, row)| match row {
            Some(value) => InternalValue::from_components(&key[..], value.clone(), version, ValueType::Value),
            None => InternalValue::new_tombstone(&key[..], version),
        });
        self.trees.flush(STATE.to_owned(), state, rows)?;
        self.trees.memory.written();
        for bucket in self.expired {
            self.trees.remove(bucket);
        }
        Ok(lsn)
    }
}

impl Trees {
    /// Rows in the order of their keys: all of them are in the tree, or none.
    fn flush(&self, name: String, tree: &AnyTree, rows: impl Iterator<Item = InternalValue>) -> Result<(), TreeError> {
        let tables = self.dir.join(&name).join("tables");
        let flush = || {
            let _one_at_a_time = tree.get_flush_lock();
            if let Some((written, _)) = tree.flush_to_tables(rows.map(Ok))? {
                tree.register_tables(&written, None, None, &[], FORGET_OLDER)?;
            }
            Ok(())
        };
        trickled(&tables, &self.trickled, flush).map_err(TreeError::of(name))
    }
}

/// One checkpoint: run it on a thread that may wait for the disk. While it is not done no other one is made.
pub struct Checkpoint {
    pub(in crate::embedded) sealed: Sealed,
    pub(in crate::embedded) files: Arc<dyn Files>,
    pub(in crate::embedded) dir: PathBuf,
    /// The first segment of the log that is still needed once it is done.
    pub(in crate::embedded) first_kept: u64,
    /// Bytes of the log that it covers.
    pub(in crate::embedded) covers_bytes: u64,
    /// Bytes of memory tables that it writes.
    pub(in crate::embedded) table_bytes: u64,
    pub(in crate::embedded) busy: Arc<AtomicBool>,
}

impl Checkpoint {
    /// Flushes, then removes the segments of the log that are covered. After an error nothing is lost: the log is as it
    /// was; but the trees must not be written to any more.
    pub fn run(self, stats: &Stats) -> Result<(), TreeError> {
        self.run_until(stats, &|| false)
    }

    /// The same; the segments are removed without regard for who uses the disk once `hurry` says so.
    pub fn run_until(self, stats: &Stats, hurry: &dyn Fn() -> bool) -> Result<(), TreeError> {
        let started = std::time::Instant::now();
        let expired = self.sealed.expired.len() as u64;
        self.sealed.flush()?;
        stats.checkpointed(self.covers_bytes, expired, started.elapsed());
        // Before another one may begin.
        stats.sealed_bytes.store(0, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        // Nobody waits for it, and it takes its time. A segment that stays for now is removed by the next checkpoint.
        let _ = remove_before(&*self.files, &self.dir, self.first_kept, hurry);
        Ok(())
    }
}
