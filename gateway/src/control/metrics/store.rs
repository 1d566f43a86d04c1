//! What the embedded store counts.

use super::{Kind, Text};
use ringpost_persist::embedded::{BATCH_BOUNDS, COMMIT_BOUNDS_US, ROWS_READ_FOR, Stats};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub fn add(text: &mut Text, stats: &Stats) {
    for (label, counter) in
        [("kind=\"append\"", &stats.appends), ("kind=\"raise\"", &stats.raises), ("kind=\"read\"", &stats.reads)]
    {
        text.sample(Kind::Counter, "ringpost_store_requests_total", label, value(counter));
    }
    for (what, counter) in ROWS_READ_FOR.iter().zip(&stats.rows_read) {
        text.sample(Kind::Counter, "ringpost_store_rows_read_total", &format!("for=\"{what}\""), value(counter));
    }
    for (name, counter) in [
        ("ringpost_store_records_total", &stats.records),
        ("ringpost_store_registers_total", &stats.registers),
        ("ringpost_store_commits_total", &stats.batches),
        ("ringpost_store_fdatasyncs_total", &stats.fdatasyncs),
        ("ringpost_store_wal_bytes_total", &stats.wal_bytes),
        ("ringpost_store_full_total", &stats.full),
        ("ringpost_store_stalled_total", &stats.stalled),
        ("ringpost_store_checkpoints_total", &stats.checkpoints),
        ("ringpost_store_checkpointed_bytes_total", &stats.checkpointed_bytes),
        ("ringpost_store_compactions_total", &stats.compactions),
        ("ringpost_store_compaction_errors_total", &stats.compaction_errors),
        ("ringpost_store_tree_errors_total", &stats.tree_errors),
        ("ringpost_store_expired_months_total", &stats.expired_months),
        ("ringpost_store_trickled_bytes_total", &stats.trickled_bytes),
    ] {
        text.sample(Kind::Counter, name, "", value(counter));
    }
    for (label, counter) in [("made=\"ahead\"", &stats.segments_ahead), ("made=\"late\"", &stats.segments_late)] {
        text.sample(Kind::Counter, "ringpost_store_segments_total", label, value(counter));
    }
    for (name, us) in [
        ("ringpost_store_checkpoint_seconds_total", &stats.checkpoint_us),
        ("ringpost_store_compaction_seconds_total", &stats.compaction_us),
    ] {
        text.sample(Kind::Counter, name, "", value(us) / 1e6);
    }
    for (label, counter) in [("found=\"memory\"", &stats.row_hits), ("found=\"tree\"", &stats.row_misses)] {
        text.sample(Kind::Counter, "ringpost_store_row_lookups_total", label, value(counter));
    }
    for (label, bytes) in ["class=\"state\"", "class=\"history\"", "class=\"relay\""].iter().zip(&stats.tree_bytes) {
        text.sample(Kind::Gauge, "ringpost_store_tree_bytes", label, value(bytes));
    }
    text.sample(Kind::Gauge, "ringpost_store_leaving_bytes", "", value(&stats.leaving_bytes));
    text.sample(Kind::Gauge, "ringpost_store_uncovered_bytes", "", value(&stats.uncovered_bytes));
    text.sample(Kind::Gauge, "ringpost_store_table_bytes", "", value(&stats.fresh_bytes) + value(&stats.sealed_bytes));
    text.sample(Kind::Gauge, "ringpost_store_cache_bytes", "", value(&stats.cache_bytes));
    text.sample(Kind::Gauge, "ringpost_store_full", "", f64::from(u8::from(stats.is_full.load(Relaxed))));
    let seconds = COMMIT_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
    histogram(text, "ringpost_commit_seconds", seconds, &stats.commit_buckets, value(&stats.commit_us) / 1e6);
    let records = BATCH_BOUNDS.iter().map(|records| *records as f64);
    histogram(text, "ringpost_commit_records", records, &stats.batch_buckets, value(&stats.records));
    let recovery = &stats.recovery;
    for (name, value) in [
        ("ringpost_recovery_records", recovery.records),
        ("ringpost_recovery_segments", recovery.segments),
        ("ringpost_recovery_cut_bytes", recovery.cut_bytes),
    ] {
        text.sample(Kind::Gauge, name, "", value as f64);
    }
    text.sample(Kind::Gauge, "ringpost_recovery_seconds", "", recovery.millis as f64 / 1e3);
}

fn value(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

/// One bucket more than bounds: the last holds what is above them.
fn histogram(text: &mut Text, name: &str, bounds: impl Iterator<Item = f64>, counts: &[AtomicU64], sum: f64) {
    let Some((above, counts)) = counts.split_last() else { return };
    let buckets = bounds.zip(counts.iter().map(|count| count.load(Relaxed)));
    text.histogram(name, "", buckets, above.load(Relaxed), sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_show_as_histograms_whose_counts_agree() {
        let stats = Stats::default();
        stats.commit_buckets[0].store(3, Relaxed);
        stats.commit_buckets[COMMIT_BOUNDS_US.len()].store(1, Relaxed);
        stats.commit_us.store(2_000_000, Relaxed);
        let mut text = Text::default();
        add(&mut text, &stats);
        let out = text.finish();
        for line in [
            "ringpost_commit_seconds_bucket{le=\"0.00005\"} 3",
            "ringpost_commit_seconds_bucket{le=\"1.6384\"} 3",
            "ringpost_commit_seconds_bucket{le=\"+Inf\"} 4",
            "ringpost_commit_seconds_sum 2",
            "ringpost_commit_seconds_count 4",
        ] {
            assert!(out.lines().any(|l| l == line), "{line} in {out}");
        }
    }
}
