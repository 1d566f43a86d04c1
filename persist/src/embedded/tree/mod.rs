//! What the log is poured into: LSM trees on disk, one for the state beside the records and one for the records of each
//! retention class and month.
//!
//! Owns: the directory of the trees. A batch that the log has made durable goes into memory, records into the tables of their
//! trees and rows beside theirs; a [`Checkpoint`] writes both to disk, records first and state last, so that the state on
//! disk is always that of one batch and the records are never behind it. So a start is: open, then replay the log from there.
//! Guarantees: every read sees everything that was applied before it began; a record is published by the head that counts
//! it. Never does: decide what is durable, and no tree has a journal of its own.

mod bucket;
mod checkpoint;
mod compact;
mod keys;
mod leaving;
mod memory;
mod read;
mod records;
mod rosters;
mod rows;
mod staging;
mod state;
mod trickle;

pub use bucket::Retention;
pub use checkpoint::Checkpoint;
pub use compact::Compaction;
pub(super) use staging::Staging;
#[cfg(feature = "cluster")]
pub(crate) use state::{Group, MemberRow};

use super::identity::Lock;
use super::wal::OpenError;
use crate::files::{Files, RealFiles};
use crate::record::{Cursor, RecordError};
use bucket::{Bucket, Class};
use compact::Upkeep;
use leaving::Leaving;
use lsm_tree::config::CompressionPolicy;
use lsm_tree::{AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, Guard, SeqNo, Slice};
use memory::Memory;
use records::{IdHash, Records};
use ringpost_proto::id::{ConversationId, Seq};
use state::CheckpointRow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Reads see everything that was applied: what a batch publishes is ordered by its writer, not by snapshots.
const LATEST: SeqNo = SeqNo::MAX;
/// Table files kept open, of all trees together.
const OPEN_FILES: usize = 256;
const STATE: &str = "state";

/// A tree that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("tree {tree}: {source}")]
    Tree { tree: String, source: lsm_tree::Error },
    #[error("tree {tree}: a row {reason}")]
    Row { tree: String, reason: RecordError },
}

impl TreeError {
    fn of(tree: impl ToString) -> impl FnOnce(lsm_tree::Error) -> Self {
        move |source| Self::Tree { tree: tree.to_string(), source }
    }

    fn row(tree: impl ToString) -> impl FnOnce(RecordError) -> Self {
        move |reason| Self::Row { tree: tree.to_string(), reason }
    }
}

/// All trees of a store; shared by the committer, the readers and the upkeep.
pub struct Trees {
    dir: PathBuf,
    state: AnyTree,
    memory: Memory,
    logs: RwLock<BTreeMap<Bucket, Log>>,
    /// Of the memory tables, see [`Records::new`].
    seed: u64,
    cache: Arc<Cache>,
    files: Arc<DescriptorTable>,
    upkeep: Mutex<Upkeep>,
    leaving: Leaving,
    /// Bytes of tables that were synced while they were written.
    trickled: AtomicU64,
    /// Of the store's directory: nobody else may have it while a thread still writes here.
    _lock: Lock,
}

/// The records of one retention class and month.
#[derive(Clone)]
struct Log {
    tree: AnyTree,
    newer: Arc<Records>,
}

/// How far the trees on disk have got.
pub(super) struct Reached {
    /// The last batch that they hold; 0: none.
    pub(super) lsn: u64,
    /// Of the records after it; `None`: nothing was ever written here.
    class: Option<Class>,
    /// Every month before this one has expired.
    kept_from: u32,
}

impl Trees {
    /// Bytes of blocks in memory.
    fn block_bytes(&self) -> u64 {
        self.cache.size()
    }

    /// Opens the trees in `dir`, making the directory if need be. Every tree that the state knows of must be there.
    pub(super) fn open(
        dir: &Path,
        incarnation: [u8; 16],
        cache_bytes: u64,
        lock: Lock,
        seed: u64,
    ) -> Result<(Self, Reached), OpenError> {
        RealFiles.create_dir(dir).map_err(OpenError::io("make", dir))?;
        let cache = Arc::new(Cache::with_capacity_bytes(cache_bytes));
        let files = Arc::new(DescriptorTable::new(OPEN_FILES));
        let state = open_tree(&dir.join(STATE), &cache, &files)?;
        RealFiles.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        let (logs, upkeep) = (RwLock::default(), Mutex::default());
        let (memory, leaving, trickled) = (Memory::default(), Leaving::default(), AtomicU64::new(0));
        let dir = dir.to_owned();
        let trees = Self { dir, state, memory, logs, seed, cache, files, upkeep, leaving, trickled, _lock: lock };
        let dir = &trees.dir;
        let damaged = |error: TreeError| OpenError::Tree { path: dir.join(STATE), reason: error.to_string() };
        let row = trees.get(keys::CHECKPOINT).map_err(damaged)?;
        let row = row.map(|row| CheckpointRow::decode(&row).map_err(TreeError::row(STATE))).transpose();
        let row = row.map_err(damaged)?;
        if row.is_some_and(|row| row.incarnation != incarnation) {
            return Err(OpenError::Foreign { segment: dir.display().to_string() });
        }
        let reached = Reached {
            lsn: row.map_or(0, |row| row.lsn),
            class: row.map(|row| row.class),
            kept_from: row.map_or(0, |row| row.kept_from),
        };
        for (key, _) in trees.prefix(keys::BUCKETS).map_err(damaged)? {
            let bucket = keys::bucket_of_key(&key).map_err(TreeError::row(STATE)).map_err(damaged)?;
            let path = dir.join(bucket.to_string());
            if !path.exists() {
                return Err(OpenError::Tree { path, reason: "it is missing".into() });
            }
            trees.log_or_new(bucket)?;
        }
        Ok((trees, reached))
    }

    /// Removes what is no tree of the state: left by a crash between the two steps of an expiry, or before a checkpoint.
    /// Only after the log was replayed.
    pub(super) fn remove_strays(&self) -> Result<(), OpenError> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        for name in RealFiles.list(&self.dir).map_err(OpenError::io("list", &self.dir))? {
            if Bucket::parse(&name).is_some_and(|bucket| !logs.contains_key(&bucket)) {
                let path = self.dir.join(name);
                std::fs::remove_dir_all(&path).map_err(OpenError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The lsn of the newest batch of which a record is on disk: the log must reach that far. Of the state [`Reached`] says
    /// it, whose versions may be ahead.
    pub(super) fn newest_record_on_disk(&self) -> u64 {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.values().filter_map(|log| log.tree.get_highest_persisted_seqno()).max().unwrap_or(0)
    }

    /// Bytes on disk of the state, of history, and of what is relayed.
    pub fn bytes_on_disk(&self) -> [u64; 3] {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let of = |class| logs.iter().filter(|(b, _)| b.class == class).map(|(_, log)| log.tree.disk_space()).sum();
        [self.state.disk_space(), of(Class::History), of(Class::Relay)]
    }

    /// Bytes of tables that were synced while they were written.
    pub fn trickled_bytes(&self) -> u64 {
        self.trickled.load(Ordering::Relaxed)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Slice>, TreeError> {
        if let Some(row) = self.memory.get(key) {
            return Ok(row);
        }
        self.state.get(key, LATEST).map_err(TreeError::of(STATE))
    }

    /// All rows below a prefix, in the order of their keys.
    fn prefix(&self, prefix: &[u8]) -> Result<Vec<(Slice, Slice)>, TreeError> {
        let newer = self.memory.prefix(prefix);
        let rows = self.state.prefix(prefix, LATEST, None).map(Guard::into_inner);
        if newer.is_empty() {
            return rows.collect::<Result<_, _>>().map_err(TreeError::of(STATE));
        }
        let mut merged: BTreeMap<Slice, Option<Slice>> = BTreeMap::new();
        for row in rows {
            let (key, value) = row.map_err(TreeError::of(STATE))?;
            merged.insert(key, Some(value));
        }
        merged.extend(newer.into_iter().map(|(key, row)| (Slice::from(&key[..]), row)));
        Ok(merged.into_iter().filter_map(|(key, row)| Some((key, row?))).collect())
    }

    /// `None`: no such tree, or it has expired.
    fn log(&self, bucket: Bucket) -> Option<Log> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).get(&bucket).cloned()
    }

    fn log_or_new(&self, bucket: Bucket) -> Result<Log, OpenError> {
        if let Some(log) = self.log(bucket) {
            return Ok(log);
        }
        // Kept while the tree is made: one that has just expired may be about to be removed from the same place.
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        let tree = open_tree(&self.dir.join(bucket.to_string()), &self.cache, &self.files)?;
        RealFiles.sync_dir(&self.dir).map_err(OpenError::io("sync", &self.dir))?;
        let log = Log { tree, newer: Arc::new(Records::new(self.seed)) };
        logs.insert(bucket, log.clone());
        Ok(log)
    }
}

fn open_tree(path: &Path, cache: &Arc<Cache>, files: &Arc<DescriptorTable>) -> Result<AnyTree, OpenError> {
    check_manifest(path)?;
    let config = Config::new(path, Default::default(), Default::default())
        .use_cache(Arc::clone(cache))
        .use_descriptor_table(Some(Arc::clone(files)))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4));
    // Some damage is found by an assertion inside.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
    let reason = match opened {
        Ok(Ok(tree)) => return Ok(tree),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its files contradict each other".into(),
    };
    Err(match culprit(path) {
        Some((path, reason)) => OpenError::Tree { path, reason },
        None => OpenError::Tree { path: path.to_owned(), reason },
    })
}

/// `current` names the manifest of a tree, `v` and its number, and holds its checksum (number u64, XXH3-128 u128, little
/// endian, and a zero). The crate reads it without a look at the checksum; a manifest decides which rows are the newest.
fn check_manifest(tree: &Path) -> Result<(), OpenError> {
    let path = tree.join("current");
    let current = match std::fs::read(&path) {
        Ok(current) => current,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A tree that was never finished has no tables either.
            let tables = std::fs::read_dir(tree.join("tables")).map_or(0, Iterator::count);
            let reason = "it is missing, though there are tables".into();
            return if tables == 0 { Ok(()) } else { Err(OpenError::Tree { path, reason }) };
        }
        Err(error) => return Err(OpenError::io("read", &path)(error)),
    };
    let mut from = Cursor(&current);
    let (Ok(number), Ok(checksum), Ok([0])) = (from.number(), from.array(), from.array()) else {
        return Err(OpenError::Tree { path, reason: "it names no manifest".into() });
    };
    let path = tree.join(format!("v{number}"));
    let manifest =
        std::fs::read(&path).map_err(|error| OpenError::Tree { path: path.clone(), reason: error.to_string() })?;
    if xxhash_rust::xxh3::xxh3_128(&manifest) != u128::from_le_bytes(checksum) {
        return Err(OpenError::Tree { path, reason: "its checksum is wrong".into() });
    }
    Ok(())
}

/// The file of a tree that does not open by itself, and why.
fn culprit(tree: &Path) -> Option<(PathBuf, String)> {
    let mut tables: Vec<_> =
        std::fs::read_dir(tree.join("tables")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    tables.sort_unstable();
    tables.into_iter().find_map(|path| {
        let cache = Arc::new(Cache::with_capacity_bytes(0));
        let recover =
            || lsm_tree::Table::recover(path.clone(), lsm_tree::Checksum::from_raw(0), 0, 0, cache, None, true, true);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(recover)) {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some((path, error.to_string())),
            Err(_) => Some((path, "it contradicts itself".into())),
        }
    })
}

/// Records by (conversation, seq).
fn record_key(conversation: &ConversationId, seq: Seq) -> [u8; 25] {
    let mut key = [0; 25];
    key[..16].copy_from_slice(&conversation.0);
    key[17..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The position of a record by the client message id it came with: beside the records of its conversation, so that it goes
/// with them.
fn id_key(conversation: &ConversationId, id: &IdHash) -> [u8; 29] {
    let mut key = [0; 29];
    key[..16].copy_from_slice(&conversation.0);
    key[16] = 1;
    key[17..].copy_from_slice(id);
    key
}
