//! Starts and stops a gateway: store, shards, control plane.
//!
//! Order of start: what can be refused cheaply comes first (keys, addresses), then rings, store, control plane; the shards
//! accept last, and readiness follows. Order of stop: readiness off, sessions closed 4000 DRAINING, shards, control plane,
//! store.

mod error;
mod threads;

pub use error::StartError;

use crate::address::table::Table;
use crate::auth::{Keyring, Tickets};
use crate::config::{Config, Retention};
use crate::control::disk::Disk;
use crate::control::health::Phase;
use crate::control::metrics::memory::Program;
use crate::control::metrics::node::Node;
use crate::control::metrics::tokens::Tokens;
use crate::control::metrics::{ShardStats, Sources};
use crate::control::{Control, Health, Shared, operator};
use crate::mesh::{Inbox, Message};
use crate::shard::stats::{Board, Snapshot};
use crate::shard::{Clock, Setup, listen};
use ringpost_persist::embedded::{self, EmbeddedStore, OpenError, Opened};
use ringpost_persist::files::RealFiles;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};
use threads::{Rings, Threads};
use tokio::sync::mpsc;

/// For what is written when the last session has ended.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// A running gateway. Dropped, it ends at once, without a word to its clients.
pub struct Server {
    ready: Ready,
    health: Arc<Health>,
    drain_ms: u64,
    boards: Vec<Arc<Board>>,
    inboxes: Arc<[Inbox]>,
    // In the order in which they end.
    threads: Threads,
    control: Option<Control>,
    store: Option<EmbeddedStore>,
}

/// What a started gateway says: actual addresses, where a port was left to the kernel.
#[derive(Clone, Debug)]
pub struct Ready {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub proxied: Option<SocketAddr>,
    pub shards: u16,
    pub data: PathBuf,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, admin, proxied, shards, data } = self;
        write!(f, "ready listen={listen} admin={admin} ")?;
        if let Some(proxied) = proxied {
            write!(f, "proxied={proxied} ")?;
        }
        write!(f, "shards={shards} data={}", data.display())
    }
}

impl Server {
    pub fn start(config: Config) -> Result<Self, StartError> {
        let (keyring, started) = (Keyring::load(&config)?, Instant::now());
        let verifier = Arc::clone(keyring.verifier());
        let Listening { listeners, listen, proxied } = Listening::on(&config)?;
        let rings = Rings::make(&config)?;
        let inboxes = Arc::clone(&rings.inboxes);
        let Opened { store, mut ports, incarnation, .. } = open_store(&config)?;
        let (operator, outcomes) = mpsc::channel(operator::OUTCOMES);
        let (health, tickets) = (Arc::new(Health::default()), Arc::new(Tickets::default()));
        let (edge, requests) = mpsc::channel(config.edge_requests as usize);
        let boards: Vec<_> = inboxes.iter().map(|_| Arc::new(Board::default())).collect();
        let shards = boards.iter().zip(&rings.bells).map(|(board, bell)| {
            let bell = bell.clone();
            ShardStats { board: Arc::clone(board), wake: Box::new(move || bell.ring()) }
        });
        let addresses = Arc::new(Table::new(&config));
        let tokens = Some(Tokens { verifier: Arc::clone(&verifier), started });
        let counters = Arc::new(operator::Counters::default());
        let program = Arc::new(Program::default());
        let sources = Sources {
            shards: shards.collect(),
            store: Some(Arc::clone(store.stats())),
            program: Arc::clone(&program),
            tokens,
            addresses: Some(Arc::clone(&addresses)),
            operator: Some(Arc::clone(&counters)),
            node: Some(Node {
                health: Arc::clone(&health),
                max_sessions: config.max_sessions,
                data: config.data.clone(),
            }),
        };
        let desk = ports.pop().map(|store| {
            let inboxes = Arc::clone(&inboxes);
            operator::Parts { store, inboxes, outcomes, counters }
        });
        let shared = Shared {
            verifier: Arc::clone(&verifier),
            tickets: Arc::clone(&tickets),
            health: Arc::clone(&health),
            dev: config.dev,
        };
        let control = Control::start(&config, shared, sources, (keyring, started), desk, requests)?;
        let ready =
            Ready { listen, proxied, admin: control.admin(), shards: config.derived.shards, data: config.data.clone() };
        health.set_shards(config.derived.shards);
        health.set_disk(Disk::of(&config.data));
        let drain_ms = config.drain_ms;
        let setup = Setup {
            verifier,
            tickets,
            health: Arc::clone(&health),
            addresses,
            edge,
            operator,
            clock: Clock::default(),
            store_incarnation: incarnation,
            room: inboxes.iter().map(|_| AtomicU32::new(config.derived.descriptors_per_shard)).collect(),
            config,
        };
        let threads = rings.start(Arc::new(setup), listeners, ports, &boards);
        let server =
            Self { ready, health, drain_ms, boards, inboxes, threads, control: Some(control), store: Some(store) };
        if let Some(store) = &server.store {
            program.measure(&server.stats(), store.stats());
        }
        server.health.enter(Phase::Serving);
        Ok(server)
    }

    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The sum over all shards, as of now (or of a second ago, where a shard is too busy to answer at once).
    pub fn stats(&self) -> Snapshot {
        let before: Vec<u64> = self.boards.iter().map(|board| board.published()).collect();
        for (board, inbox) in self.boards.iter().zip(self.inboxes.iter()) {
            board.want();
            inbox.bell().ring();
        }
        let start = Instant::now();
        let late = || self.boards.iter().zip(&before).any(|(board, before)| board.published() == *before);
        while late() && start.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut sum = Snapshot::default();
        self.boards.iter().for_each(|board| sum.merge(&board.read()));
        sum
    }

    /// Closes every session with 4000 DRAINING and writes what they have acknowledged and read, then ends. Takes at most
    /// `drain_ms` and a moment.
    pub fn stop(mut self) {
        self.health.enter(Phase::Draining);
        self.drain(Duration::from_millis(self.drain_ms), |stats| stats.open() == 0);
        // What they said last has reached the conversations, whose registers are written in several requests.
        self.drain(LAST_WRITES, |stats| stats.store_waiting() == 0);
        self.end();
    }

    fn drain(&self, at_most: Duration, is_done: impl Fn(&Snapshot) -> bool) {
        self.inboxes.iter().for_each(|inbox| post(inbox, || Message::Drain));
        let start = Instant::now();
        while !is_done(&self.stats()) && start.elapsed() < at_most {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends at once: no close frames, no answers. What was acknowledged is durable.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.inboxes.iter().for_each(|inbox| post(inbox, || Message::Stop));
        self.threads.join();
        if let Some(control) = self.control.take() {
            control.stop();
        }
        self.store = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.control.is_some() {
            self.end();
        }
    }
}

/// The listeners of each shard, and their addresses.
struct Listening {
    listeners: Vec<Vec<OwnedFd>>,
    listen: SocketAddr,
    proxied: Option<SocketAddr>,
}

impl Listening {
    fn on(config: &Config) -> Result<Self, StartError> {
        let on = |address| listen::listeners(config, address).map_err(|source| StartError::Listen { address, source });
        let (public, listen) = on(config.listen)?;
        let mut listeners: Vec<_> = public.into_iter().map(|listener| vec![listener]).collect();
        let Some(address) = config.listen_proxied else { return Ok(Self { listeners, listen, proxied: None }) };
        let (second, proxied) = on(address)?;
        for (of_shard, listener) in listeners.iter_mut().zip(second) {
            of_shard.push(listener);
            debug_assert_eq!(of_shard.len(), listen::PROXIED + 1);
        }
        Ok(Self { listeners, listen, proxied: Some(proxied) })
    }
}

/// Until there is room: a shard empties its inbox every turn.
fn post(inbox: &Inbox, message: impl Fn() -> Message) {
    while !inbox.post(message()) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn open_store(config: &Config) -> Result<Opened, OpenError> {
    // One end for each shard, and one for the operator.
    let mut options = embedded::Options::new(&config.data, usize::from(config.derived.shards) + 1);
    options.queue = config.store_queue as usize;
    options.segment_bytes = config.segment_bytes;
    options.memory_bytes = config.store_memory_bytes;
    options.log_bytes = config.store_log_bytes;
    options.cache_bytes = config.store_cache_bytes;
    options.free_floor_percent = u64::from(config.disk_floor);
    options.retention = match config.retention {
        Retention::History => embedded::Retention::History,
        Retention::Relay => embedded::Retention::Relay { days: config.retention_days },
    };
    // Refused at worst, and then a commit waits for a tick where the processors are busy.
    options.waited_for = Arc::new(|| drop(crate::ring::ask_for_short_slices()));
    options.behind_all = Arc::new(|| drop(crate::ring::wait_at_the_disk()));
    embedded::open(Arc::new(RealFiles), options)
}
