//! Questions to the store and to the shards from the control plane, each with its answer.

use super::Failed;
use crate::mesh::{Inbox, Message};
use ringpost_persist::{Outcome, StorePort, StoreRequest, Tag};
use ringpost_router::ShardId;
use ringpost_router::envelope::{Envelope, SendOutcome};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

/// Commands at the same time; more would only take the disk from sessions.
const COMMANDS: usize = 2;
/// How often, and after how long, a shard or the store is asked again.
const TRIES: u32 = 40;
const AGAIN: Duration = Duration::from_millis(250);
/// A shard that has not answered by then never will: what it was asked may have been done all the same.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the shards answer: the request's number and the outcome. As many fit as may be asked at once.
pub type Outcomes = mpsc::Sender<(u64, SendOutcome)>;

/// Answers of shards on their way.
pub const OUTCOMES: usize = 256;

/// What has been done since the start.
#[derive(Debug, Default)]
pub struct Counters {
    pub exported: AtomicU64,
    pub exports_failed: AtomicU64,
    pub erased: AtomicU64,
    pub erasures_failed: AtomicU64,
    pub records_erased: AtomicU64,
}

/// What an operator's desk is made of.
pub struct Parts {
    /// An end of the store of its own.
    pub store: StorePort,
    pub inboxes: Arc<[Inbox]>,
    pub outcomes: mpsc::Receiver<(u64, SendOutcome)>,
    pub counters: Arc<Counters>,
}

/// See the module.
#[derive(Clone)]
pub struct Operator(Arc<Desk>);

struct Desk {
    store: Mutex<Store>,
    inboxes: Arc<[Inbox]>,
    /// Who waits for a shard's answer.
    waiting: Mutex<HashMap<u64, oneshot::Sender<SendOutcome>>>,
    next: AtomicU64,
    commands: Arc<Semaphore>,
    counters: Arc<Counters>,
}

struct Store {
    port: StorePort,
    waiting: HashMap<Tag, oneshot::Sender<Outcome>>,
    next: Tag,
}

impl Operator {
    pub fn start(parts: Parts, runtime: &Runtime) -> Self {
        let Parts { store: port, inboxes, mut outcomes, counters } = parts;
        let arrived = Arc::new(Notify::new());
        let bell = Arc::clone(&arrived);
        port.set_waker(Arc::new(move || bell.notify_one()));
        let desk = Arc::new(Desk {
            store: Mutex::new(Store { port, waiting: HashMap::new(), next: 0 }),
            inboxes,
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            commands: Arc::new(Semaphore::new(COMMANDS)),
            counters,
        });
        let of_store = Arc::clone(&desk);
        runtime.spawn(async move {
            loop {
                arrived.notified().await;
                lock(&of_store.store).answers();
            }
        });
        let of_shards = Arc::clone(&desk);
        runtime.spawn(async move {
            while let Some((re, outcome)) = outcomes.recv().await {
                if let Some(waiting) = lock(&of_shards.waiting).remove(&re) {
                    // Gone: it has asked again, or was given up.
                    let _ = waiting.send(outcome);
                }
            }
        });
        Self(desk)
    }

    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub fn shards(&self) -> ShardId {
        self.0.inboxes.len() as ShardId
    }

    /// A place for one command, if there is one.
    pub fn command(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.0.commands).try_acquire_owned().ok()
    }

    /// Asks the store, again where it has no answer now. For reads: an outcome that is not known does not come.
    pub async fn ask(&self, request: impl Fn(Tag) -> StoreRequest) -> Result<Outcome, Failed> {
        for _ in 0..TRIES {
            match self.ask_once(&request).await {
                Outcome::Unavailable => tokio::time::sleep(AGAIN).await,
                outcome => return Ok(outcome),
            }
        }
        Err(Failed::Store)
    }

    async fn ask_once(&self, request: impl Fn(Tag) -> StoreRequest) -> Outcome {
        let answer = lock(&self.0.store).submit(request);
        match answer {
            Some(answer) => answer.await.unwrap_or(Outcome::Unavailable),
            None => Outcome::Unavailable,
        }
    }

    /// Asks a shard, again after an answer that says so or none. What is asked must be such that a second time changes
    /// nothing.
    pub async fn tell(
        &self,
        shard: ShardId,
        envelope: impl Fn(u64) -> Option<Envelope>,
    ) -> Result<SendOutcome, Failed> {
        let mut why = "the server did not answer".to_owned();
        for _ in 0..TRIES {
            match self.tell_once(shard, &envelope).await {
                Some(SendOutcome::Refused(error)) if error.retryable => why = error.message,
                Some(outcome) => return Ok(outcome),
                None => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(Failed::Refused(why))
    }

    async fn tell_once(&self, shard: ShardId, envelope: impl Fn(u64) -> Option<Envelope>) -> Option<SendOutcome> {
        let re = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        let inbox = self.0.inboxes.get(usize::from(shard))?;
        let envelope = Box::new(envelope(re)?);
        let (sender, answer) = oneshot::channel();
        lock(&self.0.waiting).insert(re, sender);
        // A full inbox has dropped it.
        let posted = inbox.post(Message::Envelope(envelope));
        let answered = if posted { tokio::time::timeout(ANSWER_WITHIN, answer).await.ok() } else { None };
        lock(&self.0.waiting).remove(&re);
        answered?.ok()
    }
}

impl Store {
    fn submit(&mut self, request: impl Fn(Tag) -> StoreRequest) -> Option<oneshot::Receiver<Outcome>> {
        self.next += 1;
        self.port.submit(request(self.next)).ok()?;
        self.port.flush();
        let (sender, answer) = oneshot::channel();
        self.waiting.insert(self.next, sender);
        Some(answer)
    }

    fn answers(&mut self) {
        while let Some(answer) = self.port.poll() {
            if let Some(waiting) = self.waiting.remove(&answer.tag) {
                // Gone: who asked went away.
                let _ = waiting.send(answer.outcome);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
