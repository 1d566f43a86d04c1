//! Accepting: multishot while the table has room for a whole backlog, one by one in its last part, not at all when it is
//! full. A multishot accept that finds the table full would lose a socket that the client already believes in.

use super::peer_name;
use super::user_data::{Op, UserData};
use super::{Completion, Errno, Ring};
use io_uring::{opcode, types};
use std::os::fd::{AsRawFd, OwnedFd};

/// Single accepts that are armed at once at most.
const SINGLES: u32 = 16;

pub(super) struct Listener {
    fd: OwnedFd,
    /// Bytes of a peer's address.
    name_length: u32,
    /// A multishot accept is with the kernel.
    multishot: bool,
    /// Single accepts that are.
    singles: u32,
    cancelling_multishot: bool,
    cancelling_singles: bool,
}

impl Ring {
    /// Accepts from this listening socket from the next turn on. Options that its sockets shall have (TCP_NODELAY,
    /// SO_SNDBUF, TCP_USER_TIMEOUT) are inherited from it.
    pub fn listen(&mut self, listener: OwnedFd) {
        self.listeners.push(Listener {
            name_length: peer_name::length(&listener),
            fd: listener,
            multishot: false,
            singles: 0,
            cancelling_multishot: false,
            cancelling_singles: false,
        });
    }

    /// Stops or goes on accepting; what the kernel has already accepted still comes.
    pub fn set_accepting(&mut self, on: bool) {
        self.accepting = on;
    }

    /// After [`Completion::AcceptFailed`].
    pub fn accept_again(&mut self) {
        self.accept_failed = false;
    }

    /// Slots for accepted sockets, but for a reserve: sockets that arrive from other rings take slots unasked. 0: nothing
    /// is accepted.
    pub fn room(&self) -> u32 {
        let reserve = (self.files.auto() / 64).min(64);
        self.files.auto().saturating_sub(self.files.occupied_auto() + reserve)
    }

    /// Before each turn: what shall be armed.
    pub(super) fn arm_accept(&mut self) {
        let free = if self.accepting && !self.accept_failed && !self.stopped { self.room() } else { 0 };
        // A quarter more: while one brings the backlog, more queue anew. Each listener may bring its own.
        let listeners = self.listeners.len() as u32;
        let multishot = free / listeners.max(1) > self.burst + self.burst / 4;
        // Half of what is free: the other half is for sockets that arrive before these are served.
        let single = free.div_ceil(2).max(listeners).min(free);
        for at in 0..self.listeners.len() {
            let listener = &self.listeners[at];
            let (armed, singles) = (listener.multishot, listener.singles);
            match (multishot, armed) {
                (true, false) => self.arm_multishot(at),
                (false, true) => self.cancel_accept(Op::CancelAccept, at),
                _ => {}
            }
            // Never both: the multishot's end comes first.
            // Shared out among the listeners, the first ones first.
            let share = (single + listeners - 1).saturating_sub(at as u32) / listeners;
            let wanted = if multishot || armed { 0 } else { share.min(SINGLES) };
            if singles > wanted {
                self.cancel_accept(Op::CancelAcceptOne, at);
            }
            for _ in singles..wanted {
                self.arm_single(at);
            }
        }
    }

    fn arm_multishot(&mut self, at: usize) {
        let listener = &mut self.listeners[at];
        listener.multishot = true;
        let entry = opcode::AcceptMulti::new(types::Fd(listener.fd.as_raw_fd())).allocate_file_index(true).build();
        self.counters.in_flight += 1;
        self.push(entry.user_data(UserData::new(Op::Accept, at as u32, 0).pack()));
    }

    fn arm_single(&mut self, at: usize) {
        let listener = &mut self.listeners[at];
        listener.singles += 1;
        let fd = types::Fd(listener.fd.as_raw_fd());
        let entry = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
            .file_index(Some(types::DestinationSlot::auto_target()))
            .build();
        self.counters.in_flight += 1;
        self.push(entry.user_data(UserData::new(Op::AcceptOne, at as u32, 0).pack()));
    }

    fn cancel_accept(&mut self, op: Op, at: usize) {
        let listener = &mut self.listeners[at];
        let (cancelling, target) = match op {
            Op::CancelAccept => (&mut listener.cancelling_multishot, Op::Accept),
            _ => (&mut listener.cancelling_singles, Op::AcceptOne),
        };
        if std::mem::replace(cancelling, true) {
            return;
        }
        let target = types::CancelBuilder::user_data(UserData::new(target, at as u32, 0).pack()).all();
        let entry = opcode::AsyncCancel2::new(target).build();
        self.counters.in_flight += 1;
        self.push(entry.user_data(UserData::new(op, at as u32, 0).pack()));
    }

    pub(super) fn accept_cancelled(&mut self, op: Op, at: usize) {
        let Some(listener) = self.listeners.get_mut(at) else { return };
        match op {
            Op::CancelAccept => listener.cancelling_multishot = false,
            _ => listener.cancelling_singles = false,
        }
    }

    pub(super) fn accepted(&mut self, op: Op, at: usize, result: Result<u32, Errno>, more: bool) {
        if let Some(listener) = self.listeners.get_mut(at) {
            match op {
                Op::AcceptOne => listener.singles = listener.singles.saturating_sub(1),
                _ if !more => {
                    listener.multishot = false;
                    self.counters.rearmed += 1;
                }
                _ => {}
            }
        }
        match result {
            Ok(slot) => {
                let length = self.listeners.get(at).map_or(0, |listener| listener.name_length);
                if let Some(handle) = self.occupied_by(slot) {
                    self.ask_peer(handle, at, length);
                }
            }
            // The table is full: armed again when there is room. With room, it is the system that is out of files.
            Err(Errno::NFILE) if self.room() == 0 => {}
            Err(Errno::CANCELED | Errno::INTR | Errno::AGAIN | Errno::CONNABORTED) => {}
            Err(error) => {
                self.accept_failed = true;
                self.pending.push_back(Completion::AcceptFailed { error });
            }
        }
    }
}
