//! A ring's beginning and end.

use super::buffers::{self, Pool};
use super::files::Files;
use super::sends::Sends;
use super::user_data;
use super::{BATCH, Config, Counters, Ring, SetupError, Waker};
use hashbrown::HashMap;
use io_uring::IoUring;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

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
        let waker = Waker::new(fd).map_err(SetupError::wake)?;
        Ok(Self {
            io,
            files: Files::new(config.slots, config.connect_slots),
            pool,
            sends: Sends::default(),
            connecting: HashMap::new(),
            asking: HashMap::new(),
            listeners: Vec::new(),
            accepting: true,
            accept_failed: false,
            burst: config.backlog,
            peers: Vec::new(),
            waker,
            starved: VecDeque::new(),
            retries: Vec::new(),
            backlog: VecDeque::new(),
            batch: Vec::with_capacity(BATCH),
            next: 0,
            pending: VecDeque::new(),
            counters: Counters::default(),
            stopped: false,
        })
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
        self.starved.clear();
        // One by one, by user data: a cancellation of everything walks the kernel's table anew for each hit.
        for slot in 0..self.files.len() {
            if let Some(handle) = self.files.at(slot) {
                self.close(handle);
            }
        }
        let mut idle_turns = 0;
        while self.counters.in_flight > 0 && idle_turns < 100 {
            let before = self.counters.completions;
            if self.turn(Some(Duration::from_millis(10))).is_err() {
                break;
            }
            while self.poll().is_some() {}
            idle_turns = if self.counters.completions == before { idle_turns + 1 } else { 0 };
        }
        // Other threads' wakers keep the ring itself open: its sockets must not wait for them.
        let _ = self.io.submitter().unregister_files();
        let _ = self.io.submitter().unregister_buf_ring(buffers::GROUP);
        if self.counters.in_flight > 0 {
            std::mem::forget(Rc::clone(&self.pool));
            std::mem::forget(std::mem::take(&mut self.sends));
            std::mem::forget(std::mem::take(&mut self.connecting));
            std::mem::forget(std::mem::take(&mut self.asking));
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }
}
