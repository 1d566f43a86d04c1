//! One turn: submit, wait, take a batch of completions.

use super::files::flag;
use super::{BATCH, Completion, Ring};
use io_uring::{squeue, types};
use std::io;
use std::time::Duration;

impl Ring {
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
        self.pool.refill(!self.starved.is_empty());
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

    pub(super) fn push_counted(&mut self, entry: squeue::Entry, slot: u32) {
        if let Some(slot) = self.files.get(slot) {
            slot.in_flight += 1;
        }
        self.counters.in_flight += 1;
        self.push(entry);
    }

    pub(super) fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: what an entry points to is owned by the ring until its completion: payloads by `sends`, addresses by
            // `connecting` and `asking`; sockets are named by table slots, which stay until the close.
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
