//! What a submission carries so that its completion finds its way: operation, slot and generation in 64 bits.

/// The closed list of operations that this ring submits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Op {
    /// Multishot; slot = index of the listener.
    Accept = 1,
    /// One socket; slot = index of the listener.
    AcceptOne,
    Connect,
    /// Multishot, from provided buffers.
    Recv,
    Send,
    Shutdown,
    Close,
    CancelAccept,
    CancelAcceptOne,
    CancelConnect,
    CancelRecv,
    CancelSend,
    /// Posted by another ring or thread to end this ring's sleep.
    Wake,
    /// Result of waking another ring; posted only where it failed.
    Waking,
    /// Handing a socket to another ring.
    SendFd,
    /// Asking for the address of an accepted socket's peer.
    PeerName,
    /// A socket from another ring; slot and generation together are the sender's tag.
    Arrived,
}

const OPS: [Op; 17] = [
    Op::Accept,
    Op::AcceptOne,
    Op::Connect,
    Op::Recv,
    Op::Send,
    Op::Shutdown,
    Op::Close,
    Op::CancelAccept,
    Op::CancelAcceptOne,
    Op::CancelConnect,
    Op::CancelRecv,
    Op::CancelSend,
    Op::Wake,
    Op::Waking,
    Op::SendFd,
    Op::PeerName,
    Op::Arrived,
];

/// Bits of a slot: a ring holds at most 2^24 direct descriptors.
pub(super) const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// op (8) | slot (24) | generation (32)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct UserData {
    pub op: Op,
    pub slot: u32,
    pub generation: u32,
}

impl UserData {
    pub fn new(op: Op, slot: u32, generation: u32) -> Self {
        debug_assert!(u64::from(slot) <= SLOT_MASK);
        Self { op, slot, generation }
    }

    /// An operation that belongs to no slot.
    pub fn bare(op: Op) -> Self {
        Self::new(op, 0, 0)
    }

    pub fn pack(self) -> u64 {
        (self.op as u64) << 56 | (u64::from(self.slot) & SLOT_MASK) << 32 | u64::from(self.generation)
    }

    /// `None`: not made by `pack`.
    pub fn unpack(bits: u64) -> Option<Self> {
        let op = (bits >> 56).checked_sub(1).and_then(|at| OPS.get(at as usize)).copied()?;
        Some(Self { op, slot: (bits >> 32 & SLOT_MASK) as u32, generation: bits as u32 })
    }

    /// The tag of an arriving socket: 56 bits chosen by the sender.
    pub fn tag(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.generation)
    }

    pub fn arrived(tag: u64) -> Self {
        Self::new(Op::Arrived, (tag >> 32 & SLOT_MASK) as u32, tag as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        for op in OPS {
            let data = UserData::new(op, SLOT_MASK as u32, u32::MAX - 1);
            assert_eq!(UserData::unpack(data.pack()), Some(data));
        }
        assert_eq!(UserData::unpack(0), None);
        assert_eq!(UserData::unpack(u64::MAX), None);
        assert_eq!(UserData::arrived(0x00ab_cdef_0123_4567).tag(), 0x00ab_cdef_0123_4567);
    }
}
