//! The rows of the state that are newer than its tree on disk. A busy row changes with every message; here it is replaced in
//! place, so that the tree is given only what it was last, once per checkpoint.
//!
//! Guarantees: a batch's rows appear together; whoever looks here first and then into the tree finds every row.

use super::keys::Key;
use lsm_tree::Slice;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// The value of a row; `None`: it was removed.
pub(super) type Row = Option<Slice>;
pub(super) type Rows = BTreeMap<Key, Row>;

/// What a new row costs beside its key and value: its part of a node of the map, which are two thirds full, and the rounding of
/// the value's own allocation. Measured with a million lists of devices.
const ROW_BYTES: u64 = 176;

#[derive(Default)]
pub(super) struct Memory(RwLock<Generations>);

#[derive(Default)]
struct Generations {
    /// Since the last checkpoint.
    fresh: Rows,
    /// Being written to the tree by a checkpoint.
    sealed: Option<Arc<Rows>>,
}

impl Memory {
    /// Takes the rows of a batch. Returns by how many bytes there are more of them.
    pub(super) fn write(&self, rows: impl Iterator<Item = (Key, Row)>) -> u64 {
        let mut bytes = 0;
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, row) in rows {
            let size = (key.len() + row.as_ref().map_or(0, |row| row.len())) as u64 + ROW_BYTES;
            if generations.fresh.insert(key, row).is_none() {
                bytes += size;
            }
        }
        bytes
    }

    /// `None`: not here, so as the tree has it.
    pub(super) fn get(&self, key: &[u8]) -> Option<Row> {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = || generations.sealed.as_ref().and_then(|sealed| sealed.get(key));
        generations.fresh.get(key).or_else(sealed).cloned()
    }

    /// All rows below a prefix that are here.
    pub(super) fn prefix(&self, prefix: &[u8]) -> Rows {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let below = |rows: &Rows, found: &mut Rows| {
            let from = rows.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
            found.extend(
                from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, row)| (key.clone(), row.clone())),
            );
        };
        let mut found = Rows::new();
        if let Some(sealed) = &generations.sealed {
            below(sealed, &mut found);
        }
        below(&generations.fresh, &mut found);
        found
    }

    /// Closes what there is; nothing may be closed already. It stays readable until [`Memory::written`].
    pub(super) fn seal(&self) -> Arc<Rows> {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let sealed = Arc::new(std::mem::take(&mut generations.fresh));
        generations.sealed = Some(Arc::clone(&sealed));
        sealed
    }

    /// The tree has what was closed.
    pub(super) fn written(&self) {
        let sealed = self.0.write().unwrap_or_else(PoisonError::into_inner).sealed.take();
        // Freed outside the lock.
        drop(sealed);
    }
}
