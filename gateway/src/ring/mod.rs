#![allow(unsafe_code)] // The only module that may: it hands memory to the kernel.
//! The ring: one io_uring, its sockets (direct descriptors), its provided buffers and its sends, behind a safe interface.
//!
//! Owns: submission and completion queues, the table of sockets, receive buffers, bytes of sends in flight. Guarantees:
//! memory that the kernel uses neither moves nor goes before the completion; a provided buffer goes back exactly once; a
//! slot is free only when every operation on it has completed; a completion of an earlier socket in a slot is recognised by
//! its generation. A multishot request that the kernel ended is armed again: accept while there is room in the table, recv
//! after ENOBUFS only once buffers are back. Never does: policy. It reads no clock and starts no thread.
//!
//! One thread per ring (SINGLE_ISSUER, DEFER_TASKRUN; Linux 6.1): everything happens within [`Ring::turn`], which submits
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
//!                 Completion::Accepted { handle } => drop(ring.recv(handle)),
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
//! A client (needs `connect_slots`): `let handle = ring.connect(Some(source_ip), server)?`, then wait for
//! [`Completion::Connected`], then [`Ring::recv`] and [`Ring::send`] as above.

mod accept;
mod buffers;
mod complete;
mod connect;
mod errors;
mod files;
mod sends;
mod user_data;
mod wake;

pub use buffers::RecvBuf;
pub use errors::SetupError;
pub use files::Handle;
pub use rustix::io::Errno;
pub use sends::Payload;
pub use wake::Waker;

use accept::Listener;
use buffers::Pool;
use connect::Address;
use files::{Files, flag};
use hashbrown::HashMap;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use sends::Sends;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;
use user_data::{Op, UserData};

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
    /// A listener has a new socket; it is not read before [`Ring::recv`].
    Accepted {
        handle: Handle,
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
    listeners: Vec<Listener>,
    /// What the user wants; whether the table has room is the ring's own matter.
    accepting: bool,
    accept_failed: bool,
    /// See [`Config::backlog`].
    burst: u32,
    peers: Vec<Waker>,
    waker: Waker,
    /// Where the kernel writes what it read from the wake-up eventfd.
    eventfd_value: Box<[u8; 8]>,
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
    /// Sets up a ring for the calling thread. Errors name the setting to change.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        if !config.buffers.is_power_of_two() || config.buffers > 1 << 15 {
            return Err(SetupError::Config("buffers must be a power of two, at most 32768"));
        }
        let slots = config.slots + config.connect_slots;
        if slots == 0 || slots >= 1 << user_data::SLOT_BITS || config.buffer_bytes == 0 {
            return Err(SetupError::Config("slots must be 1 to 16777215 and buffers not empty"));
        }
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(config.completions.max(config.submissions))
            .build(config.submissions)
            .map_err(SetupError::setup)?;
        io.submitter().register_files_sparse(slots).map_err(|error| SetupError::files(error, slots))?;
        restrict_automatic_slots(&io, config.slots).map_err(|error| SetupError::files(error, slots))?;
        // Shutdowns run on the kernel's own workers: a few are enough.
        let _ = io.submitter().register_iowq_max_workers(&mut [2, 4]);
        let pool = Pool::register(&io, config.buffers, config.buffer_bytes)?;
        // SAFETY: the descriptor is open as long as `io` lives, which is longer than this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(io.as_raw_fd()) };
        let waker = Waker::new(fd).map_err(|error| SetupError::Other { step: "making the wake-up", error })?;
        let mut ring = Self {
            io,
            files: Files::new(config.slots, config.connect_slots),
            pool,
            sends: Sends::default(),
            connecting: HashMap::new(),
            listeners: Vec::new(),
            accepting: true,
            accept_failed: false,
            burst: config.backlog,
            peers: Vec::new(),
            waker,
            eventfd_value: Box::new([0; 8]),
            starved: VecDeque::new(),
            retries: Vec::new(),
            backlog: VecDeque::new(),
            batch: Vec::with_capacity(BATCH),
            next: 0,
            pending: VecDeque::new(),
            counters: Counters::default(),
            stopped: false,
        };
        ring.arm_eventfd();
        Ok(ring)
    }

    /// Receives until the end, an error or `pause_recv`. Calling it again is harmless.
    pub fn recv(&mut self, handle: Handle) -> Result<(), Unusable> {
        let slot = self.files.usable(handle).ok_or(Unusable)?;
        slot.set(flag::RECV_WANTED);
        if !slot.is(flag::RECV_ARMED) && !slot.is(flag::STARVED) {
            self.arm_recv(handle);
        }
        Ok(())
    }

    /// Stops receiving: bytes that are on their way still come, then `RecvEnded { Paused }` (unless `recv` is called
    /// before that).
    pub fn pause_recv(&mut self, handle: Handle) -> Result<(), Unusable> {
        let slot = self.files.usable(handle).ok_or(Unusable)?;
        if !slot.is(flag::RECV_WANTED) {
            return Ok(());
        }
        slot.clear(flag::RECV_WANTED);
        if slot.is(flag::RECV_ARMED) {
            self.cancel(Op::CancelRecv, handle);
        } else {
            slot.clear(flag::STARVED);
            self.pending.push_back(Completion::RecvEnded { handle, why: RecvEnd::Paused });
        }
        Ok(())
    }

    /// Sends all of it; one send per socket at a time. `Err` gives the bytes back: the socket is gone or busy.
    pub fn send(&mut self, handle: Handle, payload: impl Into<Payload>) -> Result<(), Unsent> {
        let payload = payload.into();
        let Some(slot) = self.files.usable(handle).filter(|slot| slot.send == sends::NONE) else {
            return Err(Unsent(payload));
        };
        if payload.as_slice().is_empty() {
            self.pending.push_back(Completion::Sent { handle, payload, result: Ok(()) });
            return Ok(());
        }
        slot.send = self.sends.insert(payload);
        self.submit_send(handle);
        Ok(())
    }

    /// Bytes of the send in flight that the socket has taken; counts in steps of 64 KiB. `None`: no send in flight.
    pub fn sent_so_far(&mut self, handle: Handle) -> Option<usize> {
        let send = self.files.live(handle)?.send;
        (send != sends::NONE).then(|| self.sends.sent(send))
    }

    /// Tells the peer that nothing more comes (FIN after what was sent).
    pub fn shutdown(&mut self, handle: Handle) {
        if self.files.usable(handle).is_some() {
            let user_data = UserData::new(Op::Shutdown, handle.slot, handle.generation);
            let entry = opcode::Shutdown::new(types::Fixed(handle.slot), libc::SHUT_WR).build();
            self.push_counted(entry.user_data(user_data.pack()), handle.slot);
        }
    }

    /// Gives the socket up: cancels what is in flight, waits for every completion, closes. `Closed` is the last word.
    pub fn close(&mut self, handle: Handle) {
        let Some(slot) = self.files.usable(handle) else { return };
        slot.set(flag::CLOSING);
        slot.clear(flag::RECV_WANTED | flag::STARVED);
        let (recv, send, connecting) = (slot.is(flag::RECV_ARMED), slot.send != sends::NONE, slot.is(flag::CONNECTING));
        for (on, op) in [(recv, Op::CancelRecv), (send, Op::CancelSend), (connecting, Op::CancelConnect)] {
            if on {
                self.cancel(op, handle);
            }
        }
        self.close_if_quiet(handle);
    }

    /// Makes another ring of this process known, to wake it and to hand sockets to it.
    pub fn add_peer(&mut self, peer: Waker) -> PeerId {
        self.peers.push(peer);
        PeerId(self.peers.len() - 1)
    }

    /// Wakes another ring with this ring's next turn: no system call of its own.
    pub fn wake(&mut self, peer: PeerId) {
        let Some(target) = self.peers.get(peer.0).map(Waker::target) else { return };
        let wake = UserData::bare(Op::Wake).pack();
        let entry = opcode::MsgRingData::new(target, 0, wake, None).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(UserData::bare(Op::Waking).pack()));
    }

    /// Hands a socket to another ring, which gets [`Completion::Arrived`] with `tag` (56 bits); here [`Completion::Departed`]
    /// tells the outcome. Nothing may be in flight: pause the recv and await its end before. Linux 6.0.
    pub fn send_fd(&mut self, handle: Handle, peer: PeerId, tag: u64) -> Result<(), Unusable> {
        let target = self.peers.get(peer.0).map(Waker::target).ok_or(Unusable)?;
        self.files.usable(handle).filter(|slot| slot.in_flight == 0).ok_or(Unusable)?;
        let user_data = UserData::new(Op::SendFd, handle.slot, handle.generation);
        let entry = opcode::MsgRingSendFd::new(
            target,
            types::Fixed(handle.slot),
            types::DestinationSlot::auto_target(),
            UserData::arrived(tag).pack(),
        );
        self.push_counted(entry.build().user_data(user_data.pack()), handle.slot);
        Ok(())
    }

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

    /// Provided buffers that are with the user.
    pub fn buffers_out(&self) -> usize {
        self.pool.outside()
    }

    /// Submits what was asked for and waits for completions: not at all (`Some(ZERO)`, or something is there already), up to
    /// `timeout`, or without limit (`None`). An error is fatal for the ring.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.prepare();
        let ready = !self.pending.is_empty() || self.next < self.batch.len();
        let (queued, overflow) = {
            let mut submissions = self.io.submission();
            submissions.sync();
            (submissions.len(), submissions.cq_overflow())
        };
        self.counters.overflows += u64::from(overflow);
        let wait = !ready && !overflow && self.backlog.is_empty() && self.io.completion().is_empty();
        let timeout = if wait { timeout } else { Some(Duration::ZERO) };
        self.counters.enters += 1;
        let entered = match timeout {
            Some(Duration::ZERO) => self.enter(queued as u32),
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                self.io.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timeout))
            }
            None => self.io.submitter().submit_and_wait(1),
        };
        match entered {
            Ok(_) => {}
            // A signal, the timeout, or completions that must be taken first: the next turn goes on.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        if self.next == self.batch.len() {
            self.batch.clear();
            self.next = 0;
            self.batch.extend(self.io.completion().take(BATCH));
            self.counters.completions += self.batch.len() as u64;
        }
        Ok(())
    }

    /// What happened in the last turn, one at a time until `None`.
    pub fn poll(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.pending.pop_front() {
                return Some(completion);
            }
            let entry = self.batch.get(self.next)?.clone();
            self.next += 1;
            self.complete(&entry);
        }
    }

    /// Submits and runs what the kernel has deferred, without waiting.
    fn enter(&self, queued: u32) -> io::Result<usize> {
        const GETEVENTS: u32 = 1;
        // SAFETY: `queued` entries are in the queue, no argument is passed.
        unsafe { self.io.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }
    }

    /// Before submitting: what waited for room, buffers or another try.
    fn prepare(&mut self) {
        for _ in 0..self.backlog.len() {
            let Some(entry) = self.backlog.pop_front() else { break };
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
        for (op, handle) in std::mem::take(&mut self.retries) {
            self.cancel(op, handle);
        }
        for _ in 0..self.pool.available().min(self.starved.len()) {
            let Some(handle) = self.starved.pop_front() else { break };
            if let Some(slot) = self.files.usable(handle).filter(|slot| slot.is(flag::STARVED)) {
                slot.clear(flag::STARVED);
                self.counters.rearmed += 1;
                self.arm_recv(handle);
            }
        }
        self.arm_accept();
    }

    fn arm_recv(&mut self, handle: Handle) {
        let Some(slot) = self.files.usable(handle).filter(|_| !self.stopped) else { return };
        slot.set(flag::RECV_ARMED);
        let entry = opcode::RecvMulti::new(types::Fixed(handle.slot), buffers::GROUP).build();
        let user_data = UserData::new(Op::Recv, handle.slot, handle.generation);
        self.push_counted(entry.user_data(user_data.pack()), handle.slot);
    }

    fn arm_eventfd(&mut self) {
        let Some(fd) = self.waker.eventfd().map(|fd| fd.as_raw_fd()).filter(|_| !self.stopped) else { return };
        let entry = opcode::Read::new(types::Fd(fd), self.eventfd_value.as_mut_ptr(), 8).build();
        self.counters.in_flight += 1;
        self.push(entry.user_data(UserData::bare(Op::EventFd).pack()));
    }

    /// Submits the rest of the send that the slot names.
    fn submit_send(&mut self, handle: Handle) {
        let Some(slot) = self.files.live(handle).filter(|_| !self.stopped) else { return };
        let rest = self.sends.rest(slot.send);
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(types::Fixed(handle.slot), rest.as_ptr(), rest.len() as u32).flags(flags).build();
        let user_data = UserData::new(Op::Send, handle.slot, handle.generation);
        self.push_counted(entry.user_data(user_data.pack()), handle.slot);
    }

    /// Cancels one operation by its user data.
    fn cancel(&mut self, cancel: Op, handle: Handle) {
        let target = match cancel {
            Op::CancelConnect => Op::Connect,
            Op::CancelSend => Op::Send,
            _ => Op::Recv,
        };
        let entry = opcode::AsyncCancel::new(UserData::new(target, handle.slot, handle.generation).pack()).build();
        self.counters.in_flight += 1;
        self.push(entry.user_data(UserData::new(cancel, handle.slot, handle.generation).pack()));
    }

    fn close_if_quiet(&mut self, handle: Handle) {
        let Some(slot) = self.files.live(handle) else { return };
        if slot.is(flag::CLOSING) && !slot.is(flag::CLOSE_SUBMITTED) && slot.in_flight == 0 {
            slot.set(flag::CLOSE_SUBMITTED);
            let entry = opcode::Close::new(types::Fixed(handle.slot)).build();
            let user_data = UserData::new(Op::Close, handle.slot, handle.generation);
            self.push_counted(entry.user_data(user_data.pack()), handle.slot);
        }
    }

    fn push_counted(&mut self, entry: squeue::Entry, slot: u32) {
        if let Some(slot) = self.files.get(slot) {
            slot.in_flight += 1;
        }
        self.counters.in_flight += 1;
        self.push(entry);
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: what an entry points to is owned by the ring until its completion: payloads by `sends`, addresses by
            // `connecting`, the eventfd's value by a box; sockets are named by table slots, which stay until the close.
            if unsafe { self.io.submission().push(entry) }.is_ok() {
                self.counters.submissions += 1;
                return true;
            }
            self.counters.enters += 1;
            let _ = self.io.submit();
        }
        false
    }
}

/// The kernel chooses slots for accepted and arriving sockets from the first `slots` only (Linux 6.0).
fn restrict_automatic_slots(io: &IoUring, slots: u32) -> io::Result<()> {
    const REGISTER_FILE_ALLOC_RANGE: libc::c_uint = 25;
    /// struct io_uring_file_index_range
    #[repr(C)]
    struct Range {
        start: u32,
        length: u32,
        reserved: u64,
    }
    let range = Range { start: 0, length: slots, reserved: 0 };
    // SAFETY: the kernel reads the range during the call.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, io.as_raw_fd(), REGISTER_FILE_ALLOC_RANGE, &raw const range, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Drop for Ring {
    /// Cancels everything and waits, in a bounded way, for the kernel to let go of the memory; what it does not let go of
    /// is leaked rather than freed.
    fn drop(&mut self) {
        self.stopped = true;
        self.accepting = false;
        self.backlog.clear();
        self.starved.clear();
        let all = types::CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(all).build().user_data(UserData::bare(Op::CancelAll).pack());
        self.counters.in_flight += 1;
        self.push(entry);
        for _ in 0..100 {
            while self.poll().is_some() {}
            if self.counters.in_flight == 0 || self.turn(Some(Duration::from_millis(10))).is_err() {
                break;
            }
        }
        // Other threads' wakers keep the ring itself open: its sockets must not wait for them.
        let _ = self.io.submitter().unregister_files();
        let _ = self.io.submitter().unregister_buf_ring(buffers::GROUP);
        if self.counters.in_flight > 0 {
            std::mem::forget(Rc::clone(&self.pool));
            std::mem::forget(std::mem::take(&mut self.sends));
            std::mem::forget(std::mem::take(&mut self.connecting));
            std::mem::forget(std::mem::take(&mut self.eventfd_value));
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }
}
