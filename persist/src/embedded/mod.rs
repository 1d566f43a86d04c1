//! The embedded store: one process, one write-ahead log, group commit, everything in memory over it.
//!
//! Owns: a data directory (files `lock`, `identity`, `wal-*.log`) and its threads. Guarantees: the Store contract; after a
//! crash of any kind everything answered is there again, or the store refuses to open and says where it is damaged.
//! Any error of write, fdatasync or preallocation ends the process: what is on the disk is then known to nobody.
//! Never does: answer before an fdatasync; take more requests than it has slots for answers.
//!
//! All records stay in memory and the log is never cut at its start: the tree that will hold them comes later.

pub mod committer;
mod entry;
mod identity;
mod port;
mod stats;
mod threads;
mod wal;

pub use port::{StorePort, Waker};
pub use stats::{BATCH_BOUNDS, COMMIT_BOUNDS_US, Stats};
pub use wal::{Entropy, Failure, OpenError, segment_name};

use crate::files::Files;
use crate::index::Index;
use committer::{Committer, Recovery};
use port::{Queues, Shared};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};

/// What to do when the log fails. It is called on the committer's thread, which ends if it returns; nothing that was not
/// answered before will be.
pub type Fatal = Arc<dyn Fn(&Failure) + Send + Sync>;

/// How a store is opened.
pub struct Options {
    pub dir: PathBuf,
    /// Ends for requests: one per shard.
    pub ports: usize,
    /// Unanswered requests of a port at most.
    pub queue: usize,
    /// Bytes reserved for a segment of the log.
    pub segment_bytes: u64,
    /// Threads for reads, 1 at least.
    pub readers: usize,
    /// Appends are refused while less than this share of the disk is free.
    pub free_floor_percent: u64,
    /// The default says why on stderr and aborts the process.
    pub fatal: Fatal,
    /// The default asks the operating system.
    pub entropy: Entropy,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>, ports: usize) -> Self {
        Self {
            dir: dir.into(),
            ports,
            queue: 4_096,
            segment_bytes: 64 << 20,
            readers: 1,
            free_floor_percent: 5,
            fatal: Arc::new(|failure| {
                eprintln!("{failure}; aborting, so that a restart finds what is really on the disk");
                std::process::abort();
            }),
            entropy: Box::new(system_entropy),
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub records: u64,
    pub conversations: u64,
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
    let shared = Arc::new(Shared { ports, stats, closing: AtomicBool::new(false) });
    let index = committer.index();
    let mut store = EmbeddedStore { shared: Arc::clone(&shared), threads: Vec::new(), index: Some(Arc::clone(&index)) };
    let fatal = options.fatal;
    let of_committer = Arc::clone(&shared);
    store.spawn("store-commit", &options.dir, move || threads::commit(committer, &of_committer, &fatal))?;
    for _ in 0..options.readers.max(1) {
        let (index, of_reader) = (Arc::clone(&index), Arc::clone(&shared));
        store.spawn("store-read", &options.dir, move || threads::read(&index, &of_reader))?;
    }
    let mut handles = store.threads.iter().map(|thread| thread.thread().clone());
    let ports = match handles.next() {
        Some(committer) => {
            let readers: Vec<_> = handles.collect();
            let port = |queues| StorePort::new(&shared, queues, committer.clone(), readers.clone());
            shared.ports.iter().map(port).collect()
        }
        None => Vec::new(),
    };
    Ok(Opened { store, ports, incarnation, recovery: report })
}

/// Keeps the store open. Dropping it answers what was submitted, stops the threads and releases the directory; no port
/// takes anything after that.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    index: Option<Arc<RwLock<Index>>>,
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
        // To free every record takes seconds that a process which ends does not have to wait for.
        let index = self.index.take();
        let _ = thread::Builder::new().name("store-free".to_owned()).spawn(move || drop(index));
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
