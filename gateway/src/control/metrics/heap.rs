//! What the allocator says of the heap.

use tikv_jemalloc_ctl::{epoch, stats};

/// Bytes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// In use, as sizes are rounded up.
    pub allocated: u64,
    /// Resident: that, what is free in pages that are partly in use, pages kept for later, and the allocator's own.
    pub resident: u64,
}

impl Heap {
    /// `None`: another allocator serves this process, as in tests.
    pub fn read() -> Option<Self> {
        epoch::advance().ok()?;
        let heap =
            Self { allocated: stats::allocated::read().ok()? as u64, resident: stats::resident::read().ok()? as u64 };
        (heap.allocated > 1 << 20).then_some(heap)
    }
}
