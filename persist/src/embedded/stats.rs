//! What the store counts; plain atomics, written by the store threads, read by whoever exports metrics.

use super::RecoveryReport;
use super::committer::Committed;
use super::tree::{Compaction, Trees};
use crate::StoreRequest;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets of commit latency, in microseconds; one more bucket holds the rest.
pub const COMMIT_BOUNDS_US: [u64; 16] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 6_400, 10_000, 12_800, 25_600, 51_200, 102_400, 409_600, 1_638_400];

/// Upper bounds of the buckets of records per fdatasync; one more bucket holds the rest.
pub const BATCH_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024];

/// What rows are read for: an answer with records, a room, a user's list, and whatever else.
pub const ROWS_READ_FOR: [&str; 4] = ["log", "conversation", "user", "other"];

/// Totals since the store was opened.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests of each kind that were answered, whatever the answer.
    pub appends: AtomicU64,
    pub raises: AtomicU64,
    pub reads: AtomicU64,
    /// Rows of the trees that reads looked at; see [`ROWS_READ_FOR`].
    pub rows_read: [AtomicU64; ROWS_READ_FOR.len()],
    /// Records made durable.
    pub records: AtomicU64,
    /// Registers raised.
    pub registers: AtomicU64,
    /// Group commits that wrote, each with one fdatasync.
    pub batches: AtomicU64,
    pub fdatasyncs: AtomicU64,
    /// Bytes written to the log.
    pub wal_bytes: AtomicU64,
    /// Segments of the log that were made before they were needed, and those that something waited for: a start, or a batch.
    pub segments_ahead: AtomicU64,
    pub segments_late: AtomicU64,
    /// Appends answered Full, and whether they are now.
    pub full: AtomicU64,
    pub is_full: AtomicBool,
    /// Group commits by duration: encoding done, write, fdatasync, apply. Not cumulative; see [`COMMIT_BOUNDS_US`].
    pub commit_buckets: [AtomicU64; COMMIT_BOUNDS_US.len() + 1],
    pub commit_us: AtomicU64,
    /// Group commits by records in them. Not cumulative; see [`BATCH_BOUNDS`].
    pub batch_buckets: [AtomicU64; BATCH_BOUNDS.len() + 1],
    /// Writes answered Unavailable because the disk did not keep up.
    pub stalled: AtomicU64,
    /// Bytes of the log that no tree on disk covers: what a start would replay.
    pub uncovered_bytes: AtomicU64,
    /// Bytes of memory tables: since the last checkpoint, and those that it is writing.
    pub fresh_bytes: AtomicU64,
    pub sealed_bytes: AtomicU64,
    /// Bytes of what is kept of the trees: blocks, and rows and rosters that decisions need.
    pub cache_bytes: AtomicU64,
    /// Checkpoints: memory tables written to disk, and how long that took.
    pub checkpoints: AtomicU64,
    pub checkpoint_us: AtomicU64,
    pub checkpointed_bytes: AtomicU64,
    /// Merges of tables, and how long they took.
    pub compactions: AtomicU64,
    pub compaction_us: AtomicU64,
    pub compaction_errors: AtomicU64,
    /// Reads and decisions that a tree could not serve: answered Unavailable.
    pub tree_errors: AtomicU64,
    /// Months of relayed records that were removed.
    pub expired_months: AtomicU64,
    /// On disk: the state beside the records, records of class history, of class relay.
    pub tree_bytes: [AtomicU64; 3],
    /// Of tables that were removed and are still to be given back to the disk.
    pub leaving_bytes: AtomicU64,
    /// Of tables that were synced while they were written: about all, or commits wait behind the rest.
    pub trickled_bytes: AtomicU64,
    /// Decisions of the committer whose row was in memory, and was not.
    pub row_hits: AtomicU64,
    pub row_misses: AtomicU64,
    pub recovery: RecoveryReport,
}

impl Stats {
    pub(super) fn checkpointed(&self, bytes: u64, expired: u64, took: Duration) {
        self.checkpoints.fetch_add(1, Relaxed);
        self.checkpoint_us.fetch_add(took.as_micros() as u64, Relaxed);
        self.checkpointed_bytes.fetch_add(bytes, Relaxed);
        self.expired_months.fetch_add(expired, Relaxed);
    }

    pub(super) fn compacted(&self, done: &Compaction) {
        self.compactions.fetch_add(done.merges, Relaxed);
        self.compaction_us.fetch_add(done.took.as_micros() as u64, Relaxed);
        self.compaction_errors.fetch_add(done.errors.len() as u64, Relaxed);
    }

    /// What the trees take on the disk, and what they wrote there bit by bit.
    pub(super) fn on_disk(&self, trees: &Trees) {
        for (gauge, bytes) in self.tree_bytes.iter().zip(trees.bytes_on_disk()) {
            gauge.store(bytes, Relaxed);
        }
        self.trickled_bytes.store(trees.trickled_bytes(), Relaxed);
    }

    pub(super) fn looked_at(&self, request: &StoreRequest, rows: u64) {
        let [log, conversation, user, other] = &self.rows_read;
        let counter = match request {
            StoreRequest::ReadLog { .. } => log,
            StoreRequest::LoadConversation { .. } => conversation,
            StoreRequest::LoadUser { .. } => user,
            _ => other,
        };
        counter.fetch_add(rows, Relaxed);
    }

    pub(super) fn committed(&self, done: Committed, took: Duration) {
        if done.bytes == 0 {
            return;
        }
        self.records.fetch_add(done.records as u64, Relaxed);
        self.registers.fetch_add(done.raises as u64, Relaxed);
        self.batches.fetch_add(1, Relaxed);
        self.fdatasyncs.fetch_add(1, Relaxed);
        self.wal_bytes.fetch_add(done.bytes as u64, Relaxed);
        let us = took.as_micros() as u64;
        self.commit_us.fetch_add(us, Relaxed);
        count(&self.commit_buckets, &COMMIT_BOUNDS_US, us);
        if done.records > 0 {
            count(&self.batch_buckets, &BATCH_BOUNDS, done.records as u64);
        }
    }
}

fn count(buckets: &[AtomicU64], bounds: &[u64], value: u64) {
    if let Some(bucket) = buckets.get(bounds.partition_point(|bound| *bound < value)) {
        bucket.fetch_add(1, Relaxed);
    }
}
