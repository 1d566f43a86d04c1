//! The threads of the data plane. A ring belongs to the thread that makes it, so each thread makes its ring first, reports
//! how to wake it or why it failed, and becomes a shard once all the others are known.

use super::StartError;
use crate::config::Config;
use crate::mesh::{Bell, Inbox};
use crate::ring::{self, Ring, SetupError};
use crate::shard::edge::EdgePort;
use crate::shard::run::Parts;
use crate::shard::stats::Board;
use crate::shard::{Setup, Shard, listen};
use ringpost_persist::embedded::StorePort;
use ringpost_router::ShardId;
use rustix::thread::CpuSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

/// What a thread needs to become a shard.
struct Start {
    setup: Arc<Setup>,
    listeners: Vec<OwnedFd>,
    inboxes: Arc<[Inbox]>,
    bell: Bell,
    port: Arc<EdgePort>,
    board: Arc<Board>,
    store: StorePort,
    seed: u64,
}

/// Threads with a ring each, not yet shards. Dropped, they end.
pub(super) struct Rings {
    threads: Vec<(mpsc::Sender<Start>, JoinHandle<()>)>,
    pub inboxes: Arc<[Inbox]>,
    pub bells: Vec<Bell>,
}

/// Running shards.
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits for the shards, which must have been told to stop.
    pub fn join(&mut self) {
        for thread in self.0.drain(..) {
            // A shard that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

impl Rings {
    /// Makes all rings; the error is that of the first that failed.
    pub fn make(config: &Config) -> Result<Self, StartError> {
        let mut threads = Vec::new();
        let mut made = Vec::new();
        let cores = if config.derived.pinned { cores() } else { Vec::new() };
        for id in 0..config.derived.shards {
            let ring = ring_config(config);
            let core = cores.get(usize::from(id)).copied();
            let (report, reported) = mpsc::channel();
            let (start, started) = mpsc::channel();
            let thread = Builder::new()
                .name(format!("shard-{id}"))
                .stack_size(1 << 20)
                .spawn(move || shard(id, core, &ring, &report, &started))
                .map_err(StartError::Threads)?;
            threads.push((start, thread));
            made.push(reported);
        }
        let mut bells = Vec::new();
        for reported in made {
            // A thread that says nothing has panicked: it had no memory for its queues.
            bells.push(reported.recv().map_err(|_| SetupError::Memory)??);
        }
        let inboxes = bells.iter().map(|bell| Inbox::new(config.inbox_entries as usize, bell.clone())).collect();
        Ok(Self { threads, inboxes, bells })
    }

    /// Turns the threads into shards, which accept from now on.
    pub fn start(
        self,
        setup: Arc<Setup>,
        listeners: Vec<Vec<OwnedFd>>,
        ports: Vec<StorePort>,
        boards: &[Arc<Board>],
    ) -> Threads {
        let mut threads = Vec::new();
        let Self { threads: waiting, inboxes, bells } = self;
        let parts = waiting.into_iter().zip(listeners).zip(bells).zip(ports).zip(boards);
        for ((((thread, listeners), bell), store), board) in parts {
            let wake = bell.clone();
            let start = Start {
                setup: Arc::clone(&setup),
                listeners,
                inboxes: Arc::clone(&inboxes),
                port: EdgePort::new(Box::new(move || wake.ring())),
                bell,
                board: Arc::clone(board),
                store,
                seed: getrandom::u64().unwrap_or(1),
            };
            let (sender, handle) = thread;
            // The thread waits for exactly this.
            let _ = sender.send(start);
            threads.push(handle);
        }
        Threads(threads)
    }
}

/// The life of one thread of the data plane.
fn shard(
    id: ShardId,
    core: Option<usize>,
    config: &ring::Config,
    report: &mpsc::Sender<Result<Bell, SetupError>>,
    start: &mpsc::Receiver<Start>,
) {
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        // Not allowed: it runs where the scheduler puts it.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    let ring = match Ring::new(config) {
        Ok(ring) => ring,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    if report.send(Ok(Bell::new(ring.waker()))).is_err() {
        return;
    }
    // An error: another ring failed, the start is over.
    let Ok(start) = start.recv() else { return };
    let Start { setup, listeners, inboxes, bell, port, board, store, seed } = start;
    let abort = AbortOnPanic(id);
    let shard = Shard::new(setup, Parts { id, ring, listeners, bell, inboxes, port, board, store, seed });
    if let Err(error) = shard.run() {
        // A shard without a ring holds sessions that nobody serves: better that all reconnect.
        eprintln!("shard {id}: io_uring failed ({error}); aborting");
        std::process::abort();
    }
    std::mem::forget(abort);
}

/// A shard that panics must not leave its sessions to nobody.
struct AbortOnPanic(ShardId);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        eprintln!("shard {}: a bug ended it; aborting", self.0);
        std::process::abort();
    }
}

fn ring_config(config: &Config) -> ring::Config {
    ring::Config {
        submissions: config.sq_entries,
        completions: config.cq_entries,
        buffers: config.buffers as u16,
        buffer_bytes: config.buffer_bytes,
        slots: config.derived.descriptors_per_shard,
        connect_slots: 0,
        backlog: listen::BACKLOG as u32,
    }
}

/// The cores that this process may run on.
fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}
