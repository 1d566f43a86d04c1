#![allow(unsafe_code)] // The only module that may: it hands memory to the kernel.
//! The ring: one io_uring, its sockets (direct descriptors), its provided buffers and its sends, behind a safe interface.
//!
//! Owns: submission and completion queues, the table of sockets, receive buffers, bytes of sends in flight. Guarantees:
//! memory that the kernel uses neither moves nor goes before the completion; a provided buffer goes back exactly once; a
//! slot is free only when every operation on it has completed; a completion of an earlier socket in a slot is recognised by
//! its generation. A multishot request that the kernel ended is armed again: accept while there is room in the table, recv
//! after ENOBUFS only once buffers are back. Never does: policy. It reads no clock and starts no thread.
//!
//! One thread per ring (SINGLE_ISSUER, DEFER_TASKRUN): everything happens within [`Ring::turn`], which submits
//! what was asked for since the last turn and waits, in one `io_uring_enter`. An echo server:
//!
//! ```no_run
//! use ringpost_gateway::ring::{Completion, Config, Ring};
//!
//! fn serve(listener: std::os::fd::OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut ring = Ring::new(&Config::default())?;
//!     ring.listen(listener);
//!     loop {
//!         ring.turn(None)?; // or Some(time until the next deadline)
//!         while let Some(completion) = ring.poll() {
//!             match completion {
//!                 Completion::Accepted { handle, .. } => drop(ring.recv(handle)),
//!                 // The buffer goes back when `bytes` is dropped; one send per socket at a time (a real server queues).
//!                 Completion::Received { handle, bytes } => drop(ring.send(handle, bytes.to_vec())),
//!                 Completion::RecvEnded { handle, .. } => ring.close(handle),
//!                 // Sent gives the Vec back for the next send; Closed ends the handle.
//!                 _ => {}
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! Linux 6.13: before it, a closed direct descriptor was not let go of while any older request on another one was armed, so
//! that one idle socket kept every later one open (axboe/liburing #1192).
//!
//! A client (needs `connect_slots`): `let handle = ring.connect(Some(source_ip), server)?`, then wait for
//! [`Completion::Connected`], then [`Ring::recv`] and [`Ring::send`] as above.

mod accept;
mod buffers;
mod complete;
mod connect;
mod disk;
mod errors;
mod files;
mod peer_name;
mod sends;
mod setup;
mod slice;
mod sockets;
mod turn;
mod user_data;
mod wake;

pub use buffers::RecvBuf;
pub use disk::wait_at_the_disk;
pub use errors::SetupError;
pub use files::Handle;
pub use rustix::io::Errno;
pub use sends::Payload;
pub use slice::ask_for_short_slices;
pub use wake::Waker;

use accept::Listener;
use buffers::Pool;
use connect::Address;
use files::Files;
use hashbrown::HashMap;
use io_uring::{IoUring, cqueue, squeue};
use peer_name::Asked;
use sends::Sends;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use user_data::Op;

/// Sizes of one ring. Memory is mapped lazily, but for the queues.
#[derive(Clone, Debug)]
pub struct Config {
    /// Submission queue, entries; rounded up to a power of two. What does not fit waits in user space.
    pub submissions: u32,
    /// Completion queue, entries; at least `submissions`. Too small costs overflow flushes, never completions.
    pub completions: u32,
    /// Provided buffers: a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: u32,
    /// Sockets that are accepted or come from other rings. At most RLIMIT_NOFILE with `connect_slots`.
    pub slots: u32,
    /// Sockets that connect.
    pub connect_slots: u32,
    /// The backlog of the listener: how many sockets one multishot accept may bring at once. With fewer slots free, sockets
    /// are accepted one by one.
    pub backlog: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            submissions: 1024,
            completions: 8192,
            buffers: 1024,
            buffer_bytes: 4096,
            slots: 8192,
            connect_slots: 0,
            backlog: 4096,
        }
    }
}

/// Completions handled per turn at most, so that no turn grows without bound.
const BATCH: usize = 512;

/// What happened. Each variant that names a handle comes before that handle's `Closed`.
#[derive(Debug)]
pub enum Completion {
    /// A listener has a new socket; it is not read before [`Ring::recv`]. `listener`: in the order of [`Ring::listen`].
    /// `peer`: where it comes from; `None` for what is no internet socket.
    Accepted {
        handle: Handle,
        listener: usize,
        peer: Option<SocketAddr>,
    },
    /// Accepting has ended for a reason that waiting may cure (no memory, no descriptors); start again with
    /// [`Ring::accept_again`] after a while.
    AcceptFailed {
        error: Errno,
    },
    Connected {
        handle: Handle,
        result: Result<(), Errno>,
    },
    /// Bytes, in order. Drop them soon: the kernel has only so many buffers.
    Received {
        handle: Handle,
        bytes: RecvBuf,
    },
    /// Nothing more comes from this socket before another [`Ring::recv`].
    RecvEnded {
        handle: Handle,
        why: RecvEnd,
    },
    /// The send is over and its bytes are the user's again.
    Sent {
        handle: Handle,
        payload: Payload,
        result: Result<(), Errno>,
    },
    /// A socket of another ring, with the tag that [`Ring::send_fd`] was given there; it is not read before [`Ring::recv`].
    Arrived {
        handle: Handle,
        tag: u64,
    },
    /// The other ring has the socket (and this one closes its own reference: `Closed` follows), or the socket stays here.
    Departed {
        handle: Handle,
        result: Result<(), Errno>,
    },
    /// Every operation of the handle has completed and its slot is free.
    Closed {
        handle: Handle,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecvEnd {
    /// The peer has finished sending.
    Eof,
    /// As asked for by [`Ring::pause_recv`].
    Paused,
    Error(Errno),
}

/// The handle's socket is gone or going, or (sends) a send is in flight already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the socket is closed or busy")]
pub struct Unusable;

/// A send that was not taken, with its bytes.
#[derive(Debug)]
pub struct Unsent(pub Payload);

/// Another ring of this process, as this ring knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerId(usize);

/// What the ring counts; all but the last only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub enters: u64,
    pub submissions: u64,
    pub completions: u64,
    /// Turns that began with completions waiting in the kernel because the queue was full.
    pub overflows: u64,
    /// Receives that ended because all buffers were out.
    pub no_buffers: u64,
    /// Multishot requests armed again after the kernel ended them.
    pub rearmed: u64,
    /// Completions of an earlier socket in a slot.
    pub stale: u64,
    /// Operations that have not completed.
    pub in_flight: u32,
}

/// See the module's page.
pub struct Ring {
    io: IoUring,
    files: Files,
    pool: Rc<Pool>,
    sends: Sends,
    connecting: HashMap<u32, Box<Address>>,
    /// Sockets whose peer's address the kernel was asked for.
    asking: HashMap<u32, Asked>,
    listeners: Vec<Listener>,
    /// What the user wants; whether the table has room is the ring's own matter.
    accepting: bool,
    accept_failed: bool,
    /// See [`Config::backlog`].
    burst: u32,
    peers: Vec<Waker>,
    waker: Waker,
    /// Receives that ended with ENOBUFS, the longest-waiting first.
    starved: VecDeque<Handle>,
    /// Cancellations that found their target busy.
    retries: Vec<(Op, Handle)>,
    /// Submissions that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    batch: Vec<cqueue::Entry>,
    next: usize,
    pending: VecDeque<Completion>,
    counters: Counters,
    /// Being dropped: nothing is armed again.
    stopped: bool,
}

impl Ring {
    /// Wakes this ring, from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Slots in use.
    pub fn occupied(&self) -> u32 {
        self.files.occupied()
    }

    /// Slots, whether they are in use or not.
    pub fn slots(&self) -> u32 {
        self.files.len()
    }

    /// Bytes of what is known of them.
    pub fn slots_bytes(&self) -> usize {
        self.files.bytes()
    }

    /// Receive buffers that the kernel was given since the start; the others were never touched.
    pub fn buffers_given(&self) -> usize {
        self.pool.given()
    }

    /// Bytes that are kept for sends in flight.
    pub fn bytes_in_flight(&self) -> u64 {
        self.sends.bytes()
    }

    /// Provided buffers that are with the user.
    pub fn buffers_out(&self) -> usize {
        self.pool.outside()
    }
}
