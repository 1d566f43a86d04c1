//! The embedded store: one process, one write-ahead log with group commit, and the trees that it is poured into.
//!
//! Owns: a data directory (files `lock`, `identity`, `wal-*.log`, directory `trees`) and its threads. Guarantees: the Store
//! contract; after a crash of any kind everything answered is there again, or the store refuses to open and says where it is
//! damaged. Any error of write, fdatasync or preallocation of the log ends the process, and so does a checkpoint that fails:
//! what is on the disk is then known to nobody but the next start. Its memory is bounded by its options, not by its history.
//! Never does: answer before an fdatasync; take more requests than it has slots for answers.

pub mod committer;
mod entry;
mod identity;
mod replay;
mod stats;
mod stored;
mod threads;
mod tree;
mod wal;

pub use crate::port::{StorePort, Waker};
#[cfg(feature = "cluster")]
pub(crate) use entry::{decode_kind, encode_kind};
pub use stats::{BATCH_BOUNDS, COMMIT_BOUNDS_US, ROWS_READ_FOR, Stats};
pub use tree::{Checkpoint, Compaction, Retention, TreeError, Trees};
#[cfg(feature = "cluster")]
pub(crate) use tree::{Group, MemberRow};
pub use wal::{Entropy, Failure, OpenError, segment_name};

use crate::files::Files;
use crate::port::{Queues, Wakers};
use committer::{Committer, Recovery};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle, Thread};
use threads::Reads;

/// What to do when the log or a checkpoint fails. It is called on the thread that saw it, which ends if it returns; nothing
/// that was not durable before will be answered.
pub type Fatal = Arc<dyn Fn(&Failure) + Send + Sync>;

/// How a store is opened.
pub struct Options {
    pub dir: PathBuf,
    /// Where the trees are: real files, even where the log is not.
    pub trees: PathBuf,
    /// Ends for requests: one per shard.
    pub ports: usize,
    /// Unanswered requests of a port at most.
    pub queue: usize,
    /// Bytes reserved for a segment of the log.
    pub segment_bytes: u64,
    /// Bytes in memory tables from which on they are written to disk; three times as many at most, and then writes wait.
    pub memory_bytes: u64,
    /// Bytes of the log that the trees on disk do not cover, at most.
    pub log_bytes: u64,
    /// Bytes of the cache of table blocks, for all trees.
    pub cache_bytes: u64,
    /// Rows in the committer's cache: about three for each busy conversation.
    pub cached_rows: usize,
    /// For new records.
    pub retention: Retention,
    /// Threads for reads of a few rows, and as many for pages; 1 at least.
    pub readers: usize,
    /// Appends are refused while less than this share of the disk is free. At 0 the disk may fill up, which ends the process.
    pub free_floor_percent: u64,
    /// The default says why on stderr and aborts the process.
    pub fatal: Fatal,
    /// The default asks the operating system.
    pub entropy: Entropy,
    /// Called first on each thread that a message on its way waits for, and on that thread: the place to ask the scheduler for
    /// what such threads need.
    pub waited_for: Arc<dyn Fn() + Send + Sync>,
    /// The same on each thread for which nobody waits, whatever it asks of the disk: of merges, and of giving back what they
    /// removed. Not of checkpoints: where memory is full writes wait for them.
    pub behind_all: Arc<dyn Fn() + Send + Sync>,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>, ports: usize) -> Self {
        let dir = dir.into();
        Self {
            trees: dir.join("trees"),
            dir,
            ports,
            queue: 4_096,
            segment_bytes: 64 << 20,
            memory_bytes: 64 << 20,
            log_bytes: 1 << 30,
            cache_bytes: 128 << 20,
            cached_rows: 200_000,
            retention: Retention::History,
            readers: 2,
            free_floor_percent: 5,
            fatal: Arc::new(|failure| {
                eprintln!("{failure}; aborting, so that a restart finds what is really on the disk");
                std::process::abort();
            }),
            entropy: Box::new(system_entropy),
            waited_for: Arc::new(|| {}),
            behind_all: Arc::new(|| {}),
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records of the log that the trees on disk did not hold.
    pub records: u64,
    /// The batch up to which they held everything.
    pub covered: u64,
    /// Segments of the log that were read.
    pub segments: u64,
    /// Length of the torn last batch that was cut off; 0: the log ended cleanly.
    pub cut_bytes: u64,
    pub millis: u64,
}

/// An open store.
pub struct Opened {
    pub store: EmbeddedStore,
    /// As many as asked for.
    pub ports: Vec<StorePort>,
    /// Chosen when the directory was first used; another one means that a client's positions are void.
    pub incarnation: [u8; 16],
    pub recovery: RecoveryReport,
}

/// Opens the store of a directory, making it if need be.
pub fn open(files: Arc<dyn Files>, mut options: Options) -> Result<Opened, OpenError> {
    let Recovery { committer, incarnation, report } = Committer::open(files, &mut options)?;
    let stats = Arc::new(Stats { recovery: report, is_full: AtomicBool::new(committer.is_full()), ..Stats::default() });
    let ports = (0..options.ports).map(|_| Arc::new(Queues::new(options.queue))).collect();
    let shared = Arc::new(Shared { ports, stats, closing: Arc::default() });
    let trees = committer.trees();
    shared.stats.on_disk(&trees);
    let mut store = EmbeddedStore { shared: Arc::clone(&shared), threads: Vec::new() };
    let (checkpoints, due) = mpsc::channel();
    let (segments, wanted) = mpsc::channel();
    let (fatal, fatal_too) = (Arc::clone(&options.fatal), options.fatal);
    let of_committer = Arc::clone(&shared);
    let of_commits = Arc::clone(&options.waited_for);
    store.spawn("store-commit", &options.dir, move || {
        of_commits();
        threads::step_forward();
        threads::commit(committer, &of_committer, &checkpoints, &segments, &fatal);
    })?;
    let readers = options.readers.max(1);
    for (name, reads) in [("store-look", Reads::Looks), ("store-read", Reads::Pages)] {
        for _ in 0..readers {
            let (trees, of_reader) = (Arc::clone(&trees), Arc::clone(&shared));
            let waited_for = Arc::clone(&options.waited_for);
            store.spawn(name, &options.dir, move || {
                if matches!(reads, Reads::Looks) {
                    waited_for();
                    threads::step_forward();
                }
                threads::read(reads, &trees, &of_reader);
            })?;
        }
    }
    let readers_end = store.threads.len();
    let (compactions, flushed) = mpsc::sync_channel(1);
    let (flushed_trees, of_checkpoints) = (Arc::clone(&trees), Arc::clone(&shared));
    store.spawn("store-flush", &options.dir, move || {
        threads::checkpoint(&due, &compactions, &flushed_trees, &of_checkpoints, &fatal_too);
    })?;
    let of_segments = Arc::clone(&shared);
    store.spawn("store-segment", &options.dir, move || threads::make_segments(&wanted, &of_segments))?;
    let of_compaction = Arc::clone(&shared);
    let (compacting, ended) = mpsc::channel();
    let (removed_trees, of_removed) = (Arc::clone(&trees), Arc::clone(&shared));
    let behind_all = Arc::clone(&options.behind_all);
    store.spawn("store-free", &options.dir, move || {
        behind_all();
        threads::give_back(&ended, &removed_trees, &of_removed);
    })?;
    let behind_all = options.behind_all;
    store.spawn("store-compact", &options.dir, move || {
        behind_all();
        threads::compact(&flushed, &trees, &of_compaction);
        drop::<mpsc::Sender<()>>(compacting);
    })?;
    let mut handles = store.threads[..readers_end].iter().map(|thread| thread.thread().clone());
    let ports = match handles.next() {
        Some(committer) => {
            let lookers: Vec<_> = handles.by_ref().take(readers).collect();
            let pagers: Vec<_> = handles.collect();
            let wake = Wakers {
                writes: Arc::new(move || committer.unpark()),
                looks: Arc::new(move || lookers.iter().for_each(Thread::unpark)),
                pages: Arc::new(move || pagers.iter().for_each(Thread::unpark)),
            };
            let port =
                |queues: &Arc<Queues>| StorePort::new(Arc::clone(queues), Arc::clone(&shared.closing), wake.clone());
            shared.ports.iter().map(port).collect()
        }
        None => Vec::new(),
    };
    Ok(Opened { store, ports, incarnation, recovery: report })
}

/// What ports and store threads share.
struct Shared {
    ports: Vec<Arc<Queues>>,
    stats: Arc<Stats>,
    closing: Arc<AtomicBool>,
}

impl Shared {
    /// What is only tidying hurries then.
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// Says of a directory that it was put back from a backup: clients hear of another incarnation from the next start on, and
/// take nothing of what they have for granted. Nothing else is changed. Not while the store is open.
pub fn restored(files: &dyn Files, dir: &std::path::Path) -> Result<[u8; 16], OpenError> {
    if !files.list(dir).map_err(OpenError::io("list", dir))?.iter().any(|name| name == "identity") {
        return Err(OpenError::NoStore(dir.to_owned()));
    }
    let _lock = identity::lock(files, dir)?;
    let mut entropy: Entropy = Box::new(system_entropy);
    identity::renew(files, dir, &mut entropy)
}

/// Keeps the store open. Dropping it answers what was submitted, stops the threads and releases the directory; no port
/// takes anything after that.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Shared, so that whoever exports metrics may keep it.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    fn spawn(
        &mut self,
        name: &str,
        dir: &std::path::Path,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), OpenError> {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads.push(spawned.map_err(OpenError::io("start the threads of", dir))?);
        Ok(())
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A store thread that panics ends the process, so there is nothing to hear of.
            let _ = thread.join();
        }
    }
}

fn system_entropy() -> u64 {
    // The kernel's generator fails only before it is seeded at boot. The clock then tells segments and stores apart.
    getrandom::u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64
    })
}

/// Left in the place of what was taken.
fn no_entropy() -> Entropy {
    Box::new(|| 0)
}
