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

/// What a row of a batch takes beside its key and value, about.
const ROW_BYTES: u64 = 128;

/// What the value of a cached row takes on the heap, about.
const VALUE_BYTES: usize = 80;

pub(super) struct Rows {
    trees: Arc<Trees>,
    /// Of the batch, and what they take.
    batch: HashMap<Key, Row, FixedState>,
    batch_bytes: u64,
    /// Rows read or written lately.
    recent: Recent<Key, Row>,
    most: usize,
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
        let most = cached / 2;
        Self { trees, batch, batch_bytes: 0, recent: Recent::new(most, seed, |_| 1), most, lookups: Lookups::default() }
    }

    /// So many times as many rows may be in the cache. What a large batch took is given back.
    pub(super) fn widen(&mut self, times: usize) {
        self.recent.bound(self.most * times);
        self.batch.shrink_to_fit();
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
                // Copied: what a tree gives is a view of a whole block, which would stay with it.
                let row = self.trees.get(key)?.map(|row| Slice::from(&row[..]));
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

    /// Bytes of the cache, about: values of more than 20 bytes are on the heap.
    pub(super) fn cached_bytes(&self) -> u64 {
        self.recent.bytes(VALUE_BYTES)
    }

    /// Bytes of the batch, about.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.batch_bytes
    }

    /// Always true.
    pub(super) fn write(&mut self, key: Key, value: Vec<u8>) -> bool {
        self.set(key, Some(Slice::from(value)));
        true
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.set(key, None);
    }

    fn set(&mut self, key: Key, row: Row) {
        let size = |row: &Row| row.as_ref().map_or(0, |row| row.len() as u64);
        let of_key = key.len() as u64 + ROW_BYTES;
        self.batch_bytes += size(&row);
        match self.batch.insert(key, row) {
            Some(before) => self.batch_bytes -= size(&before),
            None => self.batch_bytes += of_key,
        }
    }

    /// Writes the batch into the memory, where every read sees it; the bytes that this took.
    pub(super) fn apply(&mut self) -> u64 {
        // The map is kept: most batches need it as large as this one.
        let mut rows: Vec<_> = self.batch.drain().collect();
        self.batch_bytes = 0;
        // Neighbours go to the same places of the memory.
        rows.sort_unstable_by(|(key, _), (than, _)| key.cmp(than));
        let bytes = self.trees.memory.write(rows.iter().cloned());
        for (key, row) in rows {
            self.cache(key, row);
        }
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

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;
    use lsm_tree::AbstractTree;
    use ringpost_proto::id::ConversationId;

    /// 40 bytes each, or 100,000 of them would be as many blocks.
    #[test]
    fn a_cached_row_keeps_no_block_of_a_tree() {
        let dir = std::env::temp_dir().join(format!("ringpost-rows-{}", std::process::id()));
        let (trees, _) = Trees::open(&dir, [1; 16], 1 << 20, Box::new(()), 1).unwrap();
        let key = |n: u8| keys::head_key(&ConversationId([n; 16]));
        for n in 0..200 {
            trees.state.insert(&key(n)[..], vec![n; 40], 1);
        }
        drop(trees.state.rotate_memtable());
        let lock = trees.state.get_flush_lock();
        trees.state.flush(&lock, 0).unwrap();
        drop(lock);
        let trees = Arc::new(trees);
        let mut rows = Rows::new(Arc::clone(&trees), 400, 7);
        for n in 0..200 {
            let (view, again) = (trees.get(&key(n)).unwrap().unwrap(), trees.get(&key(n)).unwrap().unwrap());
            assert_eq!(view.as_ptr(), again.as_ptr(), "rows of a tree are views of its blocks");
            assert_eq!(rows.read(&key(n), |row| Ok(row.to_vec())).unwrap(), vec![n; 40]);
            let cached = rows.recent.get(&key(n)).unwrap().clone().unwrap();
            assert_ne!(cached.as_ptr(), view.as_ptr());
        }
        drop((rows, trees));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
