//! What a completion means: bookkeeping of its slot, arming again, and what the user hears.

use super::files::{Handle, flag};
use super::user_data::{Op, UserData};
use super::{Completion, Errno, RecvEnd, Ring, sends};
use io_uring::cqueue;

/// The kernel's result: a count or slot, or an error.
fn outcome(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
}

impl Ring {
    /// Decodes one completion; what the user shall hear goes to `pending`.
    pub(super) fn complete(&mut self, entry: &cqueue::Entry) {
        let Some(data) = UserData::unpack(entry.user_data()) else {
            debug_assert!(false, "a completion that nobody asked for");
            return;
        };
        let more = cqueue::more(entry.flags());
        let result = outcome(entry.result());
        let own = !matches!(data.op, Op::Wake | Op::Waking | Op::Arrived);
        if own && !more {
            self.counters.in_flight = self.counters.in_flight.saturating_sub(1);
        }
        let handle = Handle { slot: data.slot, generation: data.generation };
        match data.op {
            Op::Accept | Op::AcceptOne => self.accepted(data.op, data.slot as usize, result, more),
            Op::Arrived => {
                if let Some(handle) = result.ok().and_then(|slot| self.occupied_by(slot)) {
                    self.pending.push_back(Completion::Arrived { handle, tag: data.tag() });
                }
            }
            Op::Recv => self.received(handle, result, entry.flags(), more),
            Op::Send => self.sent(handle, result),
            Op::Connect => self.connected(handle, result),
            Op::Shutdown => {
                self.finish(handle);
            }
            Op::Close => self.closed(handle),
            Op::SendFd => self.departed(handle, result),
            Op::PeerName => self.peer_named(handle, result),
            Op::CancelRecv | Op::CancelSend | Op::CancelConnect => self.cancelled(data.op, handle, result),
            Op::CancelAccept | Op::CancelAcceptOne => self.accept_cancelled(data.op, data.slot as usize),
            Op::Wake | Op::Waking => {}
        }
    }

    /// One operation of the slot has completed. `false`: of an earlier socket in it.
    pub(super) fn finish(&mut self, handle: Handle) -> bool {
        let Some(slot) = self.files.live(handle) else {
            self.counters.stale += 1;
            return false;
        };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        self.close_if_quiet(handle);
        true
    }

    /// The kernel put a socket into a slot. It does so only after the slot's close, whose completion may still be behind.
    pub(super) fn occupied_by(&mut self, at: u32) -> Option<Handle> {
        if let Some(slot) = self.files.get(at).filter(|slot| slot.is(flag::CLOSE_SUBMITTED)) {
            slot.in_flight = 0;
            let closed = Handle { slot: at, generation: slot.generation };
            self.files.release(at);
            self.pending.push_back(Completion::Closed { handle: closed });
        }
        self.files.occupy(at)
    }

    fn received(&mut self, handle: Handle, result: Result<u32, Errno>, flags: u32, more: bool) {
        // Taken first: whoever does not want it gives it back by dropping it.
        let bytes = cqueue::buffer_select(flags).and_then(|id| self.pool.take(id, result.unwrap_or(0)));
        let Some(slot) = self.files.live(handle) else {
            self.counters.stale += 1;
            return;
        };
        let closing = slot.is(flag::CLOSING);
        let received = result.is_ok_and(|len| len > 0);
        if let Some(bytes) = bytes.filter(|_| received && !closing) {
            self.pending.push_back(Completion::Received { handle, bytes });
        }
        if !more {
            slot.clear(flag::RECV_ARMED);
            self.recv_ended(handle, result);
            self.finish(handle);
        }
    }

    /// A multishot recv has ended: again, later, or for good.
    fn recv_ended(&mut self, handle: Handle, result: Result<u32, Errno>) {
        let Some(slot) = self.files.usable(handle) else { return };
        let wanted = slot.is(flag::RECV_WANTED);
        let end = match result {
            Ok(0) => RecvEnd::Eof,
            Ok(_) | Err(Errno::CANCELED | Errno::INTR | Errno::AGAIN) if wanted => {
                self.counters.rearmed += 1;
                return self.arm_recv(handle);
            }
            Err(Errno::NOBUFS) if wanted => {
                self.counters.no_buffers += 1;
                slot.set(flag::STARVED);
                return self.starved.push_back(handle);
            }
            Ok(_) | Err(Errno::CANCELED | Errno::INTR | Errno::AGAIN | Errno::NOBUFS) => RecvEnd::Paused,
            Err(error) => RecvEnd::Error(error),
        };
        slot.clear(flag::RECV_WANTED);
        self.pending.push_back(Completion::RecvEnded { handle, why: end });
    }

    fn sent(&mut self, handle: Handle, result: Result<u32, Errno>) {
        let Some(slot) = self.files.live(handle) else {
            self.counters.stale += 1;
            return;
        };
        let (send, closing) = (slot.send, slot.is(flag::CLOSING));
        let done = match result {
            Ok(0) => Some(Err(Errno::PIPE)),
            Ok(bytes) => self.sends.advance(send, bytes as usize).then_some(Ok(())),
            Err(Errno::INTR | Errno::AGAIN) => None,
            Err(error) => Some(Err(error)),
        };
        match done.or(closing.then_some(Err(Errno::CANCELED))) {
            None => self.submit_send(handle),
            Some(result) => {
                slot.send = sends::NONE;
                if let Some(payload) = self.sends.remove(send) {
                    self.pending.push_back(Completion::Sent { handle, payload, result });
                }
            }
        }
        self.finish(handle);
    }

    fn connected(&mut self, handle: Handle, result: Result<u32, Errno>) {
        self.connecting.remove(&handle.slot);
        if let Some(slot) = self.files.live(handle) {
            slot.clear(flag::CONNECTING);
            self.pending.push_back(Completion::Connected { handle, result: result.map(drop) });
        }
        self.finish(handle);
    }

    fn departed(&mut self, handle: Handle, result: Result<u32, Errno>) {
        self.pending.push_back(Completion::Departed { handle, result: result.map(drop) });
        if self.finish(handle) && result.is_ok() {
            self.close(handle);
        }
    }

    fn closed(&mut self, handle: Handle) {
        // Otherwise the slot's next socket came first and has told of it.
        if let Some(slot) = self.files.live(handle) {
            slot.in_flight = 0;
            self.files.release(handle.slot);
            self.pending.push_back(Completion::Closed { handle });
        }
    }

    /// A cancellation is done. One that found its target between two steps is tried again while the target is there.
    fn cancelled(&mut self, cancel: Op, handle: Handle, result: Result<u32, Errno>) {
        let Some(slot) = self.files.live(handle) else { return };
        let there = match cancel {
            Op::CancelSend => slot.send != sends::NONE && slot.is(flag::CLOSING),
            Op::CancelConnect => slot.is(flag::CONNECTING) && slot.is(flag::CLOSING),
            _ => slot.is(flag::RECV_ARMED) && !slot.is(flag::RECV_WANTED),
        };
        if there && matches!(result, Err(Errno::NOENT | Errno::ALREADY)) {
            self.retries.push((cancel, handle));
        }
    }
}
