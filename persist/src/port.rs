//! How a shard talks to the threads of a store: bounded queues, no lock, no wait. The same for every backend.

use crate::{StoreAnswer, StoreRequest};
use crossbeam_queue::ArrayQueue;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Wakes whoever waits on the other side; called by a store thread when answers have arrived.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The queues of one port.
pub(crate) struct Queues {
    /// What changes something.
    pub(crate) writes: ArrayQueue<StoreRequest>,
    /// Everything else.
    pub(crate) reads: ArrayQueue<StoreRequest>,
    answers: ArrayQueue<StoreAnswer>,
    waker: Mutex<Option<Waker>>,
}

impl Queues {
    pub(crate) fn new(len: usize) -> Self {
        let len = len.max(1);
        Self {
            writes: ArrayQueue::new(len),
            reads: ArrayQueue::new(len),
            answers: ArrayQueue::new(len),
            waker: Mutex::new(None),
        }
    }

    /// The slot was reserved when the request was submitted, so there is always room.
    pub(crate) fn answer(&self, answer: StoreAnswer) {
        let pushed = self.answers.push(answer);
        debug_assert!(pushed.is_ok(), "an answer without a reserved slot");
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker();
        }
    }
}

/// One side's end: requests in, answers out. One per shard; not shared.
pub struct StorePort {
    queues: Arc<Queues>,
    /// The store is closing: what was submitted is still answered, nothing more is taken.
    closing: Arc<AtomicBool>,
    /// Called where something new is in the queue of writes, and in that of reads.
    wake_writers: Waker,
    wake_readers: Waker,
    /// Requests whose answers were not polled yet: each has a slot in the answer queue.
    outstanding: usize,
    wrote: bool,
    read: bool,
}

impl StorePort {
    pub(crate) fn new(queues: Arc<Queues>, closing: Arc<AtomicBool>, wake_writers: Waker, wake_readers: Waker) -> Self {
        Self { queues, closing, wake_writers, wake_readers, outstanding: 0, wrote: false, read: false }
    }

    /// Takes the request, or gives it back when as many are unanswered as the queue has slots, or the store is closing.
    /// Seen by the store at the next [`StorePort::flush`].
    pub fn submit(&mut self, request: StoreRequest) -> Result<(), StoreRequest> {
        if self.outstanding >= self.queues.answers.capacity() || self.closing.load(Ordering::Relaxed) {
            return Err(request);
        }
        if request.is_write() {
            self.queues.writes.push(request)?;
            self.wrote = true;
        } else {
            self.queues.reads.push(request)?;
            self.read = true;
        }
        self.outstanding += 1;
        Ok(())
    }

    /// Wakes the store threads that have new requests; once per turn of the caller's loop.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.wrote) {
            (self.wake_writers)();
        }
        if std::mem::take(&mut self.read) {
            (self.wake_readers)();
        }
    }

    /// The next answer that has arrived.
    pub fn poll(&mut self) -> Option<StoreAnswer> {
        let answer = self.queues.answers.pop()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        Some(answer)
    }

    /// Called on a store thread once per batch of answers for this port, after they are in the queue. It must not block.
    pub fn set_waker(&self, waker: Waker) {
        *self.queues.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// Requests without a polled answer.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl fmt::Debug for StorePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorePort").field("outstanding", &self.outstanding).finish_non_exhaustive()
    }
}
