//! Waking a shard only when it sleeps.

use crate::ring::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One shard's bell. The shard says that it is about to sleep ([`Bell::park`]) and looks at its queues once more; whoever put
/// something into a queue rings. Either the shard sees the entry or the ringer sees that it is parked.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parked: AtomicBool,
    waker: Waker,
}

impl Bell {
    pub fn new(waker: Waker) -> Self {
        Self(Arc::new(Inner { parked: AtomicBool::new(false), waker }))
    }

    /// From a thread without a ring, after a push: one system call if the shard sleeps.
    pub fn ring(&self) {
        if self.was_parked() {
            self.0.waker.wake();
        }
    }

    /// After a push: whether the shard sleeps and it is on the caller to wake it.
    pub fn was_parked(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.parked.load(Ordering::Relaxed) && self.0.parked.swap(false, Ordering::SeqCst)
    }

    /// By the shard, before it looks at its queues for the last time and sleeps.
    pub fn park(&self) {
        self.0.parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// By the shard, awake again.
    pub fn unpark(&self) {
        self.0.parked.store(false, Ordering::Relaxed);
    }

    pub fn waker(&self) -> &Waker {
        &self.0.waker
    }
}
