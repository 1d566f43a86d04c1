//! What the store counts; plain atomics, written by the store's thread, read by whoever exports metrics.

use super::failure::Failed;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// The second in which a failure was last printed, and how many were not since then.
    named_s: AtomicU64,
    unnamed: AtomicU64,
}

impl Stats {
    /// Says on stderr why a request was not served: one line a second at most, so that an outage is seen and does not fill a
    /// disk.
    pub(super) fn name(&self, what: &str, why: &Failed) {
        if matches!(why, Failed::Unreadable(_)) {
            self.unreadable.fetch_add(1, Relaxed);
        }
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.named_s.swap(now_s, Relaxed) == now_s {
            self.unnamed.fetch_add(1, Relaxed);
            return;
        }
        let why = why.to_string();
        // The driver writes some of its reasons on several lines.
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        match self.unnamed.swap(0, Relaxed) {
            0 => eprintln!("store: {what}: {why}"),
            more => eprintln!("store: {what}: {why} (and {more} failures before it)"),
        }
    }
}
