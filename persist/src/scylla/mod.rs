//! The store of several boxes: ScyllaDB, or Cassandra, by CQL. With the cargo feature `cluster`.
//!
//! Owns: a keyspace (tables in [`schema`]), a connection to its nodes, and the thread `store` with its runtime. Guarantees: the
//! Store contract for any number of processes over one keyspace. An append is one conditional write of one partition, sent
//! once; two processes never take one position, whatever they believe. Never does: decide by a clock who may write; repeat an
//! append by itself; lose an answer.
//!
//! Requests: all but `Sweep`, which the contract reserves. `Raised` leans on the stamps: a higher value whose stamp is not
//! higher changes nothing. `Raise` answers Unavailable where its write may still land, which does no harm to a register.
//! Retention is `history`: nothing but rows of `recent` expires. There is no TLS to the nodes yet.

mod append;
mod db;
mod dispatch;
mod failure;
mod known;
mod lists;
mod log;
mod prefix;
mod read;
mod recent;
mod registers;
mod rows;
mod schema;
mod small;
mod statements;
mod stats;

pub use crate::port::{StorePort, Waker};
pub use stats::Stats;

use crate::port::{Queues, Wakers};
use db::Db;
use dispatch::{Limits, Shared};
use known::Known;
use recent::Covered;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use statements::Statements;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Snapshots that are written at a time: work that nobody waits for.
const UPKEEP: usize = 8;

/// How a store is opened.
pub struct Options {
    /// Nodes to begin with, `host:port`; the others are learned from them.
    pub nodes: Vec<String>,
    /// Letters, digits and underscores.
    pub keyspace: String,
    /// Data centres and how many nodes of each hold a row; for a keyspace that is not there yet.
    pub replication: Vec<(String, usize)>,
    /// The data centre whose nodes are asked: the home of the conversations. `None`: any.
    pub data_center: Option<String>,
    pub user: Option<(String, String)>,
    /// Ends for requests: one per shard.
    pub ports: usize,
    /// Unanswered requests of a port at most.
    pub queue: usize,
    /// Requests under way at most: of those that write, with the appends that wait for one of their conversation, and of the
    /// others.
    pub writes: usize,
    pub reads: usize,
    /// After which a request without an answer is given up. Longer than the nodes' own time-outs, which tell more.
    pub timeout: Duration,
    /// Members of the conversations of which the prefix is kept in memory, about 200 B each.
    pub known_members: usize,
    /// Keys the hash tables: a secret.
    pub seed: u64,
}

impl Options {
    pub fn new(nodes: Vec<String>, ports: usize) -> Self {
        Self {
            nodes,
            keyspace: "ringpost".into(),
            replication: vec![("datacenter1".into(), 3)],
            data_center: None,
            user: None,
            ports,
            queue: 4_096,
            writes: 1_024,
            reads: 256,
            timeout: Duration::from_secs(12),
            known_members: 500_000,
            // The kernel's generator fails only before it is seeded at boot.
            seed: getrandom::u64().unwrap_or_default(),
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("keyspace name {0:?}: letters, digits and underscores, 48 at most")]
    Keyspace(String),
    #[error("data centre name {0:?}: letters, digits, '-' and '_'")]
    DataCenter(String),
    #[error("cannot connect to {nodes}: {reason}")]
    Connect { nodes: String, reason: String },
    /// Nothing of it was changed.
    #[error("keyspace {keyspace} was made by an earlier version and lacks what this one needs: {lacking}")]
    Earlier { keyspace: String, lacking: String },
    #[error("cannot prepare the keyspace: {0}")]
    Schema(String),
    #[error("cannot start the thread of the store: {0}")]
    Thread(#[from] std::io::Error),
}

/// An open store.
pub struct Opened {
    pub store: ClusterStore,
    /// As many as asked for.
    pub ports: Vec<StorePort>,
}

/// Connects, makes keyspace and tables where they are missing, and starts the thread.
pub fn open(options: Options) -> Result<Opened, OpenError> {
    check(&options)?;
    let queues: Vec<_> = (0..options.ports).map(|_| Arc::new(Queues::new(options.queue))).collect();
    let (closing, work, stats) = (Arc::<AtomicBool>::default(), Arc::new(Notify::new()), Arc::new(Stats::default()));
    let shared = Shared { ports: queues.clone(), closing: Arc::clone(&closing), work: Arc::clone(&work) };
    let (opened, outcome) = mpsc::sync_channel(1);
    let of_thread = Arc::clone(&stats);
    let thread = thread::Builder::new().name("store".into()).spawn(move || run(options, shared, of_thread, &opened))?;
    // Made now, so that the thread is ended if it did not open.
    let store = ClusterStore { closing: Arc::clone(&closing), work: Arc::clone(&work), stats, thread: Some(thread) };
    match outcome.recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(OpenError::Schema("the thread of the store ended".into())),
    }
    let wake: Waker = Arc::new(move || work.notify_one());
    let wakers = Wakers { writes: Arc::clone(&wake), looks: Arc::clone(&wake), pages: wake };
    let port = |queues| StorePort::new(queues, Arc::clone(&closing), wakers.clone());
    Ok(Opened { store, ports: queues.into_iter().map(port).collect() })
}

/// Names that are put into statements.
fn check(options: &Options) -> Result<(), OpenError> {
    let is_word = |name: &str, more: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
    };
    if !is_word(&options.keyspace, "") || options.keyspace.len() > 48 {
        return Err(OpenError::Keyspace(options.keyspace.clone()));
    }
    match options.replication.iter().find(|(name, _)| !is_word(name, "-")) {
        Some((name, _)) => Err(OpenError::DataCenter(name.clone())),
        None => Ok(()),
    }
}

/// The thread of the store: a runtime of its own, so that nothing else delays a commit.
fn run(options: Options, shared: Shared, stats: Arc<Stats>, opened: &mpsc::SyncSender<Result<(), OpenError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(opened.send(Err(error.into()))),
    };
    let _abort = AbortOnPanic;
    runtime.block_on(async {
        let limits = Limits { writes: options.writes.max(1), reads: options.reads.max(1) };
        match connect(&options, stats).await {
            Ok(db) => {
                drop(opened.send(Ok(())));
                dispatch::serve(Arc::new(db), shared, limits, options.seed).await;
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    });
}

async fn connect(options: &Options, stats: Arc<Stats>) -> Result<Db, OpenError> {
    let mut policy = DefaultPolicy::builder();
    if let Some(name) = &options.data_center {
        // A conversation has one home: never another data centre, whose quorum is another one.
        policy = policy.prefer_datacenter(name.clone()).permit_dc_failover(false);
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(options.timeout))
        .load_balancing_policy(policy.build())
        .speculative_execution_policy(None)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(Duration::from_secs(5))
        // Half-open connections of a node that is gone are noticed.
        .keepalive_interval(Duration::from_secs(10))
        .keepalive_timeout(Duration::from_secs(10));
    if let Some((user, password)) = &options.user {
        builder = builder.user(user, password);
    }
    let session: Session = builder
        .build()
        .await
        .map_err(|error| OpenError::Connect { nodes: options.nodes.join(", "), reason: error.to_string() })?;
    schema::prepare(&session, options).await?;
    let statements = Statements::prepare(&session).await?;
    let known = Mutex::new(Known::new(options.known_members, options.seed));
    let covered = Mutex::new(Covered::default());
    Ok(Db { session, statements, stats, known, covered, upkeep: Arc::new(Semaphore::new(UPKEEP)) })
}

/// Ends the process if the store's thread panics: what it has promised nobody would keep.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Keeps the store open. Dropping it answers what was submitted and stops the thread; no port takes anything after that.
pub struct ClusterStore {
    closing: Arc<AtomicBool>,
    work: Arc<Notify>,
    stats: Arc<Stats>,
    thread: Option<JoinHandle<()>>,
}

impl ClusterStore {
    /// Shared, so that whoever exports metrics may keep it.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }
}

impl Drop for ClusterStore {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        self.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A store thread that panics ends the process, so there is nothing to hear of.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_a_statement_are_refused() {
        let with = |keyspace: &str, center: &str| {
            let mut options = Options::new(Vec::new(), 1);
            options.keyspace = keyspace.into();
            options.replication = vec![(center.into(), 1)];
            check(&options)
        };
        assert!(with("ringpost_2", "eu-west_1").is_ok());
        assert!(matches!(with("a\" WITH", "eu"), Err(OpenError::Keyspace(_))));
        assert!(matches!(with("", "eu"), Err(OpenError::Keyspace(_))));
        assert!(matches!(with("ringpost", "eu'"), Err(OpenError::DataCenter(_))));
    }
}
