//! What can be done with a socket: receive, send, close, hand over. Asked for here, submitted with the next turn.

use super::files::{Handle, flag};
use super::user_data::{Op, UserData};
use super::{Completion, Payload, PeerId, RecvEnd, Ring, Unsent, Unusable, Waker, buffers, sends};
use io_uring::{opcode, squeue, types};

impl Ring {
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

    /// Whether more is received, or will be once buffers are back: `recv` was called, and nothing has ended it.
    pub fn is_receiving(&mut self, handle: Handle) -> bool {
        self.files.usable(handle).is_some_and(|slot| slot.is(flag::RECV_WANTED))
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

    pub(super) fn arm_recv(&mut self, handle: Handle) {
        let Some(slot) = self.files.usable(handle).filter(|_| !self.stopped) else { return };
        slot.set(flag::RECV_ARMED);
        let entry = opcode::RecvMulti::new(types::Fixed(handle.slot), buffers::GROUP).build();
        let user_data = UserData::new(Op::Recv, handle.slot, handle.generation);
        self.push_counted(entry.user_data(user_data.pack()), handle.slot);
    }

    /// Submits the rest of the send that the slot names.
    pub(super) fn submit_send(&mut self, handle: Handle) {
        let Some(slot) = self.files.live(handle).filter(|_| !self.stopped) else { return };
        let rest = self.sends.rest(slot.send);
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(types::Fixed(handle.slot), rest.as_ptr(), rest.len() as u32).flags(flags).build();
        let user_data = UserData::new(Op::Send, handle.slot, handle.generation);
        self.push_counted(entry.user_data(user_data.pack()), handle.slot);
    }

    /// Cancels one operation by its user data.
    pub(super) fn cancel(&mut self, cancel: Op, handle: Handle) {
        let target = match cancel {
            Op::CancelConnect => Op::Connect,
            Op::CancelSend => Op::Send,
            _ => Op::Recv,
        };
        let entry = opcode::AsyncCancel::new(UserData::new(target, handle.slot, handle.generation).pack()).build();
        self.counters.in_flight += 1;
        self.push(entry.user_data(UserData::new(cancel, handle.slot, handle.generation).pack()));
    }

    pub(super) fn close_if_quiet(&mut self, handle: Handle) {
        let Some(slot) = self.files.live(handle) else { return };
        if slot.is(flag::CLOSING) && !slot.is(flag::CLOSE_SUBMITTED) && slot.in_flight == 0 {
            slot.set(flag::CLOSE_SUBMITTED);
            let entry = opcode::Close::new(types::Fixed(handle.slot)).build();
            let user_data = UserData::new(Op::Close, handle.slot, handle.generation);
            self.push_counted(entry.user_data(user_data.pack()), handle.slot);
        }
    }
}
