//! Ending the sleep of a ring from outside: from another ring (MSG_RING in its own next enter), or from a thread without one.

use super::user_data::{Op, UserData};
use io_uring::{opcode, types};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Wakes one ring, from any thread. Waking a ring that is awake costs it one empty turn; waking one that is gone does
/// nothing.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// `ring` must be the descriptor of a ring. Wakes it once, to see whether the kernel can.
    pub(super) fn new(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let ring = ring.try_clone_to_owned()?;
        message(ring.as_fd())?;
        Ok(Self(Arc::new(ring)))
    }

    /// For threads that have no ring: one system call, 2 to 3 us.
    pub fn wake(&self) {
        // A failure means that the ring is going away or has more completions than it can hold: awake in both cases.
        let _ = message(self.0.as_fd());
    }

    /// The target of MSG_RING submissions of another ring.
    pub(super) fn target(&self) -> types::Fd {
        types::Fd(self.0.as_raw_fd())
    }
}

/// IORING_REGISTER_SEND_MSG_RING (Linux 6.13): a MSG_RING submission without a ring of one's own.
fn message(ring: BorrowedFd<'_>) -> io::Result<()> {
    const SEND_MSG_RING: libc::c_uint = 31;
    let wake = UserData::bare(Op::Wake).pack();
    let entry = opcode::MsgRingData::new(types::Fd(ring.as_raw_fd()), 0, wake, None).build();
    // SAFETY: the kernel reads one submission entry (64 bytes), which lives until the call returns; -1 stands for "no ring".
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, -1, SEND_MSG_RING, &raw const entry, 1) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
