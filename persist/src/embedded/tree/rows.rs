//! The rows of the state as the batch under way has them.
//!
//! Owns: what the batch writes, and a bounded cache of the rows that decisions need. Guarantees: a row is read as the last
//! write left it, and those of a batch are written to the memory once each. Never does: decide.

use super::keys::Key;
use super::memory::Row;
use super::{TreeError, Trees};
use crate::recent::Recent;
use crate::record::RecordError;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lsm_tree::Slice;
use std::sync::Arc;

pub(super) struct Rows {
    trees: Arc<Trees>,
    /// Of the batch.
    batch: HashMap<Key, Row, FixedState>,
    /// Rows read or written lately.
    recent: Recent<Key, Row>,
    lookups: Lookups,
}

/// How often a decision found its row in the cache, and how often it had to ask the tree.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::embedded) struct Lookups {
    pub(in crate::embedded) hits: u64,
    pub(in crate::embedded) misses: u64,
}

impl Rows {
    /// `cached`: rows in the cache at most.
    pub(super) fn new(trees: Arc<Trees>, cached: usize, seed: u64) -> Self {
        let batch = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { trees, batch, recent: Recent::new(cached / 2, seed, |_| 1), lookups: Lookups::default() }
    }

    /// Since the last time it was asked.
    pub(super) fn take_lookups(&mut self) -> Lookups {
        std::mem::take(&mut self.lookups)
    }

    /// A row as the batch has it; the default where there is none.
    pub(super) fn read<T: Default>(
        &mut self,
        key: &Key,
        decode: impl FnOnce(&[u8]) -> Result<T, RecordError>,
    ) -> Result<T, TreeError> {
        let row = match self.batch.get(key).or_else(|| self.recent.get(key)) {
            Some(row) => {
                self.lookups.hits += 1;
                row.clone()
            }
            None => {
                self.lookups.misses += 1;
                let row = self.trees.get(key)?;
                self.cache(key.clone(), row.clone());
                row
            }
        };
        self.recent.settle();
        row.map_or_else(|| Ok(T::default()), |row| decode(&row).map_err(TreeError::row("state")))
    }

    /// Whether the batch writes this row.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.batch.contains_key(key)
    }

    /// Always true.
    pub(super) fn write(&mut self, key: Key, value: Vec<u8>) -> bool {
        self.batch.insert(key, Some(Slice::from(value)));
        true
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.batch.insert(key, None);
    }

    /// Writes the batch into the memory, where every read sees it; the bytes that this took.
    pub(super) fn apply(&mut self) -> u64 {
        let bytes = self.trees.memory.write(self.batch.iter().map(|(key, row)| (key.clone(), row.clone())));
        let mut batch = std::mem::take(&mut self.batch);
        for (key, row) in batch.drain() {
            self.cache(key, row);
        }
        // The map is kept: most batches need it as large as this one.
        self.batch = batch;
        bytes
    }

    fn cache(&mut self, key: Key, row: Row) {
        if is_cached(&key) {
            self.recent.put(key, row);
            self.recent.settle();
        }
    }
}

/// What decisions read again and again, all of it small. Members are kept as rosters.
fn is_cached(key: &Key) -> bool {
    matches!(key.first(), Some(b'c' | b'd' | b'p' | b'l'))
}
