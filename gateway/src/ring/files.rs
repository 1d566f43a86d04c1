//! Direct descriptors: sockets that live in the ring's own table and cost no process descriptor.
//!
//! Owns: what the ring knows of each slot. Guarantees: a slot is free only when every operation on it has completed and its
//! close has; each use of a slot has a generation of its own. Never does: I/O.

use super::sends;

/// A socket of one ring. The generation tells a later socket in the same slot apart: calls with an old handle do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    pub slot: u32,
    pub generation: u32,
}

/// Bits of [`Slot::flags`].
pub(super) mod flag {
    pub const OCCUPIED: u8 = 1;
    /// A multishot recv is with the kernel.
    pub const RECV_ARMED: u8 = 1 << 1;
    /// The user wants to receive: a recv that ends is armed again.
    pub const RECV_WANTED: u8 = 1 << 2;
    /// Waits for buffers to come back before it is armed again.
    pub const STARVED: u8 = 1 << 3;
    /// `close` was called: no new operation, a close follows the last completion.
    pub const CLOSING: u8 = 1 << 4;
    pub const CLOSE_SUBMITTED: u8 = 1 << 5;
    pub const CONNECTING: u8 = 1 << 6;
}

/// 12 bytes per slot.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub generation: u32,
    /// Index of the send in flight, or `sends::NONE`.
    pub send: u32,
    /// Operations on this slot that have not completed.
    pub in_flight: u8,
    pub flags: u8,
}

impl Slot {
    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }
}

/// All slots of a ring. The kernel chooses from the first `auto`; the rest is given out here, to sockets that connect.
pub(super) struct Files {
    slots: Vec<Slot>,
    auto: u32,
    occupied_auto: u32,
    free_connect: Vec<u32>,
}

impl Files {
    pub fn new(auto: u32, connect: u32) -> Self {
        let empty = Slot { generation: 0, send: sends::NONE, in_flight: 0, flags: 0 };
        Self {
            slots: vec![empty; (auto + connect) as usize],
            auto,
            occupied_auto: 0,
            free_connect: (auto..auto + connect).rev().collect(),
        }
    }

    pub fn get(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    /// All slots, used or not.
    pub fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.free_connect.capacity() * size_of::<u32>()
    }

    /// The socket in a slot.
    pub fn at(&self, slot: u32) -> Option<Handle> {
        let used = self.slots.get(slot as usize).filter(|slot| slot.is(flag::OCCUPIED))?;
        Some(Handle { slot, generation: used.generation })
    }

    /// The slot, if the handle still means the socket in it.
    pub fn live(&mut self, handle: Handle) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(handle.slot as usize)?;
        (slot.is(flag::OCCUPIED) && slot.generation == handle.generation).then_some(slot)
    }

    /// As `live`, and not being closed.
    pub fn usable(&mut self, handle: Handle) -> Option<&mut Slot> {
        self.live(handle).filter(|slot| !slot.is(flag::CLOSING))
    }

    /// The kernel put a socket into this slot.
    pub fn occupy(&mut self, at: u32) -> Option<Handle> {
        let auto = at < self.auto;
        let slot = self.slots.get_mut(at as usize)?;
        debug_assert!(!slot.is(flag::OCCUPIED));
        slot.flags = flag::OCCUPIED;
        self.occupied_auto += u32::from(auto);
        Some(Handle { slot: at, generation: slot.generation })
    }

    /// A slot for a socket that connects.
    pub fn reserve(&mut self) -> Option<u32> {
        self.free_connect.pop()
    }

    pub fn unreserve(&mut self, at: u32) {
        self.free_connect.push(at);
    }

    /// The close has completed.
    pub fn release(&mut self, at: u32) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        debug_assert!(slot.in_flight == 0 && slot.send == sends::NONE);
        slot.flags = 0;
        slot.generation = slot.generation.wrapping_add(1);
        if at < self.auto {
            self.occupied_auto -= 1;
        } else {
            self.free_connect.push(at);
        }
    }

    /// Slots that accepted or arrived sockets take.
    pub fn occupied_auto(&self) -> u32 {
        self.occupied_auto
    }

    pub fn auto(&self) -> u32 {
        self.auto
    }

    pub fn occupied(&self) -> u32 {
        let connecting = self.slots.len() as u32 - self.auto - self.free_connect.len() as u32;
        self.occupied_auto + connecting
    }
}
