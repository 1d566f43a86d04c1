//! The ledger: resident memory by owner, and what of it nobody owns.
//!
//! Owns: what the process had when it was ready and no other owner explains (code, libraries, stacks, runtimes). Guarantees: the
//! owners and `other` together are what is resident; where the owners say more than that, `other` is 0; what the allocator takes
//! beside what it was asked for is what it says itself. Never does: walk anything.

use super::heap::Heap;
use super::process::resident_bytes;
use super::{Kind, Text};
use crate::shard::stats::{Snapshot, Stat};
use ringpost_persist::embedded::Stats;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const NAME: &str = "ringpost_memory_bytes";

/// Bytes of the program itself.
#[derive(Debug, Default)]
pub struct Program(AtomicU64);

impl Program {
    /// To be called once, when the process is ready and has no connection yet: receive buffers were not touched then.
    pub fn measure(&self, shards: &Snapshot, store: &Stats) {
        let owned = of_shards(shards) - shards.value(Stat::MemoryBuffer) + of_store(store) + of_allocator();
        self.0.store(resident_bytes().unwrap_or_default().saturating_sub(owned), Relaxed);
    }
}

/// Adds the owners that are not the shards' own, which stand before them.
pub fn add(text: &mut Text, shards: &Snapshot, store: Option<&Stats>, program: &Program) {
    let (store, program, allocator) = (store.map_or(0, of_store), program.0.load(Relaxed), of_allocator());
    let owned = of_shards(shards) + store + program + allocator;
    let other = resident_bytes().unwrap_or_default().saturating_sub(owned);
    for (owner, bytes) in [
        ("owner=\"store\"", store),
        ("owner=\"allocator\"", allocator),
        ("owner=\"program\"", program),
        ("owner=\"other\"", other),
    ] {
        text.sample(Kind::Gauge, NAME, owner, bytes as f64);
    }
}

/// The kernel's memory for sockets and its slab, of the whole machine: it has no account of one process.
pub fn add_kernel(text: &mut Text) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let sockets = tcp_pages(&read("/proc/net/sockstat")).map(|pages| pages * rustix::param::page_size() as u64);
    for (of, bytes) in [("of=\"tcp_buffers\"", sockets), ("of=\"slab\"", slab_bytes(&read("/proc/meminfo")))] {
        if let Some(bytes) = bytes {
            text.sample(Kind::Gauge, "ringpost_kernel_memory_bytes", of, bytes as f64);
        }
    }
}

fn of_shards(sum: &Snapshot) -> u64 {
    Stat::ALL.iter().filter(|stat| stat.series().1 == NAME).map(|&stat| sum.value(stat)).sum()
}

fn of_store(stats: &Stats) -> u64 {
    [&stats.fresh_bytes, &stats.sealed_bytes, &stats.cache_bytes].iter().map(|bytes| bytes.load(Relaxed)).sum()
}

/// Free blocks in pages that are partly in use, pages that are kept for later, and the allocator's own tables.
fn of_allocator() -> u64 {
    Heap::read().map_or(0, |heap| heap.resident.saturating_sub(heap.allocated))
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 1`: pages of buffers.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

fn slab_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Slab:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_what_nobody_owns_are_what_is_resident() {
        let (mut shards, store, program) = (Snapshot::default(), Stats::default(), Program::default());
        program.measure(&shards, &store);
        shards.set(Stat::MemorySession, 4_096);
        store.fresh_bytes.store(1_000, Relaxed);
        store.cache_bytes.store(24, Relaxed);
        let mut text = Text::default();
        add(&mut text, &shards, Some(&store), &program);
        let out = text.finish();
        let of = |owner: &str| -> u64 {
            let line = format!("ringpost_memory_bytes{{owner=\"{owner}\"}} ");
            out.lines().find_map(|it| it.strip_prefix(&line)).unwrap().parse().unwrap()
        };
        assert_eq!(of("store"), 1_024);
        assert!(of("program") > 1 << 20);
        let resident = resident_bytes().unwrap();
        assert!((of("program") + of("other") + 5_120).abs_diff(resident) <= resident / 10);
    }

    #[test]
    fn the_kernel_is_read_as_it_writes() {
        let sockstat = "sockets: used 120\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 17\nUDP: inuse 2 mem 1\n";
        assert_eq!((tcp_pages(sockstat), tcp_pages("UDP: inuse 2 mem 1\n")), (Some(17), None));
        assert_eq!(slab_bytes("MemFree: 1 kB\nSlab:   2048 kB\n"), Some(2 << 20));
        let mut text = Text::default();
        add_kernel(&mut text);
        assert!(text.finish().contains("ringpost_kernel_memory_bytes{of=\"slab\"} "));
    }
}
