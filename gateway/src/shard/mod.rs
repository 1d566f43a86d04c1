//! One shard: a thread with a ring, its connections, timers and inbox, and its share of the router.
//!
//! Owns: the loop ([`run`]) and the slab of connections ([`conn`]). A message's way through the files: [`lifecycle`]
//! (accepted) -> [`preamble`] (behind a proxy that says for whom) -> [`http`] (request head) -> [`upgrade`] -> [`websocket`] (messages) -> [`session`] (requests to the
//! router) -> [`effects`] (what it decided) -> [`outbox`] (bytes to the socket); [`moving`] brings a socket to the shard of
//! its user.
//! Guarantees: one `io_uring_enter` per turn; nothing here waits for anything else; whatever a peer does is bounded: one
//! turn handles at most one batch of completions, of which one connection has at most 32 (the kernel's own limit for a
//! multishot recv). accepted + arrived = open + closed + departed holds at the end of every turn. Never does: decide who
//! gets what (the router's), or block.

mod conn;
pub mod edge;
mod effects;
mod encoded;
mod http;
mod ledger;
mod lifecycle;
pub mod listen;
mod moving;
mod outbox;
mod pages;
mod preamble;
mod renewal;
pub mod run;
mod session;
pub mod stats;
mod timing;
mod upgrade;
mod websocket;

use crate::address::table::{Origin, Table};
use crate::auth::{Tickets, Verifier};
use crate::config::Config;
use crate::control::Health;
use crate::control::operator::Outcomes;
use crate::mesh::{Bell, Mesh};
use crate::ring::{Completion, Handle, Ring};
use conn::Slab;
use edge::{EdgePort, EdgeQueue};
use hashbrown::HashMap;
use moving::Meetings;
use pages::Pace;
use ringpost_persist::embedded::StorePort;
use ringpost_router::wheel::Wheel;
use ringpost_router::{Input, Now, Router, ShardId};
use stats::{Board, Snapshot};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What all shards of a process share.
pub struct Setup {
    pub config: Config,
    pub verifier: Arc<Verifier>,
    pub tickets: Arc<Tickets>,
    pub health: Arc<Health>,
    pub addresses: Arc<Table>,
    pub edge: EdgeQueue,
    /// Where answers to the operator go.
    pub operator: Outcomes,
    pub clock: Clock,
    /// Tells clients whether their positions are of this store.
    pub store_incarnation: [u8; 16],
    /// Free slots of each shard, as of its last turn.
    pub room: Box<[AtomicU32]>,
}

/// The two clocks; monotonic time counts from the start of the process, and not from 0, so that no deadline is in its past.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    const START_MS: u64 = 1_000_000;

    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: Self::START_MS + self.0.elapsed().as_millis() as u64, unix_us: unix.as_micros() as u64 }
    }
}

/// One shard. Made and run on its own thread.
pub struct Shard {
    id: ShardId,
    setup: Arc<Setup>,
    ring: Ring,
    bell: Bell,
    mesh: Mesh,
    conns: Slab,
    /// Where connections come from, by slot; beside the slab, for those that are not limited need none.
    origins: HashMap<u32, Origin>,
    /// Deadlines of connections by slot.
    wheel: Wheel,
    now: Now,
    router: Router,
    /// Inputs that follow from outputs.
    inputs: VecDeque<Input>,
    deciding: bool,
    store: StorePort,
    pace: Pace,
    port: Arc<EdgePort>,
    /// Requests with the control plane.
    edge_in_flight: usize,
    meetings: Meetings,
    /// Received while client input is gated.
    held: VecDeque<Completion>,
    /// Connections with bytes for this turn's end.
    dirty: Vec<Handle>,
    /// Bytes in the outboxes of all connections, without those that are with the ring.
    waiting: u64,
    /// Connections that may be read again.
    resume: Vec<Handle>,
    /// Empty buffers for outboxes.
    spare: Vec<Vec<u8>>,
    /// One message on its way into a frame.
    scratch: Vec<u8>,
    /// The record pushed last.
    encoded: encoded::Encoded,
    timings: timing::Timings,
    renewals: renewal::Renewals,
    stats: Snapshot,
    board: Arc<Board>,
    published_ms: u64,
    answered: u64,
    accept_again_ms: Option<u64>,
    full: bool,
    draining: bool,
    stopping: bool,
    /// For jitter; any seed but 0.
    random: u64,
}

impl Shard {
    /// Unix milliseconds.
    fn unix_ms(&self) -> u64 {
        self.now.unix_us / 1_000
    }

    /// A number below `bound`: xorshift64, for spreading only.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }
}
