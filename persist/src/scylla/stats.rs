//! What the store counts; plain atomics, written by the store's thread, read by whoever exports metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Failures that are printed; the rest is only counted.
const NAMED: u64 = 100;

/// Totals since the store was opened.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests that were answered, whatever the answer.
    pub appends: AtomicU64,
    pub raises: AtomicU64,
    pub reads: AtomicU64,
    /// Records made durable.
    pub records: AtomicU64,
    /// Appends that found another head.
    pub conflicts: AtomicU64,
    /// Appends without a result: what the slot then said. Ours: it was stored; other: somebody else's record is there; open:
    /// nobody knows yet, answered Unknown.
    pub resolved_ours: AtomicU64,
    pub resolved_other: AtomicU64,
    pub resolved_open: AtomicU64,
    /// Requests answered Unavailable.
    pub unavailable: AtomicU64,
    /// Rows that this build cannot read: damage, or written by a newer one.
    pub unreadable: AtomicU64,
    /// Snapshots written, and those that could not be.
    pub snapshots: AtomicU64,
    pub snapshot_errors: AtomicU64,
    failures: AtomicU64,
}

impl Stats {
    /// Says why a request was not served; the first such reasons only.
    pub(super) fn name(&self, what: &str, why: &super::failure::Failed) {
        if matches!(why, super::failure::Failed::Unreadable(_)) {
            self.unreadable.fetch_add(1, Relaxed);
        }
        if self.failures.fetch_add(1, Relaxed) < NAMED {
            eprintln!("store: {what}: {why}");
        }
    }
}
