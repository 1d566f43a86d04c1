//! The store's thread: takes requests from the ports, has them carried out, and gives each its answer.
//!
//! Guarantees: of the appends of one conversation at most one is under way, and they are answered in their order; writes and
//! reads are each bounded, so that a flood of reads takes nothing from the appends. What waits stays in the ports' queues.

use super::UPKEEP;
use super::append::Append;
use super::db::Db;
use super::failure::Failed;
use super::read::Wanted;
use crate::port::Queues;
use crate::{Outcome, StoreAnswer, StoreRequest, Tag};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringpost_proto::id::ConversationId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

/// What ports and the store's thread share.
pub(super) struct Shared {
    pub(super) ports: Vec<Arc<Queues>>,
    pub(super) closing: Arc<AtomicBool>,
    pub(super) work: Arc<Notify>,
}

/// How many requests are under way at most.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) writes: usize,
    pub(super) reads: usize,
}

/// Whose request it is.
#[derive(Clone, Copy)]
struct Asker {
    port: usize,
    tag: Tag,
}

/// What has ended: an append makes room for the next one of its conversation.
enum Done {
    Append(ConversationId),
    Write,
    Read,
}

/// Carries out what the ports submit until the store closes; then what was submitted is still answered.
pub(super) async fn serve(db: Arc<Db>, shared: Shared, limits: Limits, seed: u64) {
    let lanes = HashMap::with_hasher(FixedState::with_seed(seed));
    let mut dispatch = Dispatch { db, shared, limits, lanes, running: JoinSet::new(), writes: 0, reads: 0, first: 0 };
    loop {
        // Read before the queues are: what was submitted before the store closed is answered.
        let closing = dispatch.shared.closing.load(Acquire);
        dispatch.take_all();
        if closing && dispatch.running.is_empty() && !dispatch.waits() {
            // What nobody waits for ends by itself: half a snapshot would be made again.
            let _ = dispatch.db.upkeep.acquire_many(UPKEEP as u32).await;
            return;
        }
        let work = Arc::clone(&dispatch.shared.work);
        tokio::select! {
            () = work.notified() => {}
            Some(done) = dispatch.running.join_next() => dispatch.ended(done),
        }
    }
}

struct Dispatch {
    db: Arc<Db>,
    shared: Shared,
    limits: Limits,
    /// Of each conversation with an append under way: those that wait for it.
    lanes: HashMap<ConversationId, VecDeque<(Asker, Append)>, FixedState>,
    running: JoinSet<Done>,
    /// Taken and not answered.
    writes: usize,
    reads: usize,
    /// The port that is first next time.
    first: usize,
}

impl Dispatch {
    fn take_all(&mut self) {
        self.first = (self.first + 1) % self.shared.ports.len().max(1);
        for n in 0..self.shared.ports.len() {
            let port = (self.first + n) % self.shared.ports.len();
            let queues = Arc::clone(&self.shared.ports[port]);
            while self.writes < self.limits.writes
                && let Some(request) = queues.next_write().or_else(|| queues.next_raise())
            {
                self.writes += 1;
                self.write(port, request);
            }
            while self.reads < self.limits.reads
                && let Some(request) = queues.next_look().or_else(|| queues.next_page())
            {
                self.reads += 1;
                self.read(port, request);
            }
        }
    }

    /// Whether a port has something that was not taken.
    fn waits(&self) -> bool {
        self.shared.ports.iter().any(|port| port.has_requests())
    }

    fn ended(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Append(conversation)) => {
                self.writes -= 1;
                match self.lanes.get_mut(&conversation).and_then(VecDeque::pop_front) {
                    Some((asker, append)) => self.append(asker, append),
                    None => drop(self.lanes.remove(&conversation)),
                }
            }
            Ok(Done::Write) => self.writes -= 1,
            Ok(Done::Read) => self.reads -= 1,
            // It promised an answer that nobody would give.
            Err(_) => std::process::abort(),
        }
    }

    fn write(&mut self, port: usize, request: StoreRequest) {
        let asker = Asker { port, tag: request.tag() };
        let db = Arc::clone(&self.db);
        match request {
            StoreRequest::Append { conversation, kind, expected_head, records, .. } => {
                let append = Append { conversation, kind, expected_head, records };
                match self.lanes.get_mut(&conversation) {
                    Some(lane) => lane.push_back((asker, append)),
                    None => {
                        self.lanes.insert(conversation, VecDeque::new());
                        self.append(asker, append);
                    }
                }
            }
            StoreRequest::Raise { raises, .. } => self.run(asker, Done::Write, async move {
                db.stats.raises.fetch_add(1, Relaxed);
                answer(&db, "raise", Arc::clone(&db).raise(raises).await, |()| Outcome::Raised)
            }),
            StoreRequest::Cas { key, expected, bytes, .. } => {
                self.run(asker, Done::Write, db.cas(key, expected, bytes));
            }
            StoreRequest::Put { key, bytes, .. } => self.run(asker, Done::Write, db.put(*key, bytes)),
            StoreRequest::Take { key, .. } => self.run(asker, Done::Write, db.take(*key)),
            _ => self.run(asker, Done::Write, async { Outcome::Unimplemented }),
        }
    }

    fn append(&mut self, asker: Asker, append: Append) {
        let (db, conversation) = (Arc::clone(&self.db), append.conversation);
        self.run(asker, Done::Append(conversation), async move {
            db.stats.appends.fetch_add(1, Relaxed);
            db.append(append).await
        });
    }

    fn read(&mut self, port: usize, request: StoreRequest) {
        let asker = Asker { port, tag: request.tag() };
        let db = Arc::clone(&self.db);
        self.run(asker, Done::Read, async move {
            db.stats.reads.fetch_add(1, Relaxed);
            look_up(db, request).await
        });
    }

    fn run(&mut self, asker: Asker, done: Done, work: impl Future<Output = Outcome> + Send + 'static) {
        let queues = Arc::clone(&self.shared.ports[asker.port]);
        self.running.spawn(async move {
            let outcome = work.await;
            queues.answer(StoreAnswer { tag: asker.tag, outcome });
            queues.wake();
            done
        });
    }
}

async fn look_up(db: Arc<Db>, request: StoreRequest) -> Outcome {
    let own = Arc::clone(&db);
    match request {
        StoreRequest::ReadLog { conversation, viewer, range, records, bytes, .. } => {
            answer(&db, "read", own.read_log(conversation, viewer, range, records, bytes).await, |outcome| outcome)
        }
        StoreRequest::LoadConversation { conversation, .. } => {
            answer(&db, "load", own.load(conversation).await, |state| Outcome::Conversation(state.map(Box::new)))
        }
        StoreRequest::LoadUser { user, after, limit, .. } => {
            answer(&db, "list", own.user_page(user, after, limit).await, |page| Outcome::User(Box::new(page)))
        }
        StoreRequest::FindCmid { conversation, sender, device, cmid, .. } => {
            let wanted = Wanted { conversation, sender, device, cmid };
            answer(&db, "find", own.find(wanted).await, Outcome::Found)
        }
        StoreRequest::CountRead { conversation, user, upto, .. } => {
            answer(&db, "count", own.count_read(conversation, user, upto).await, Outcome::Counted)
        }
        StoreRequest::ReadDocument { key, .. } => answer(&db, "document", own.document(&key).await, Outcome::Document),
        StoreRequest::ListItems { user, device, limit, .. } => {
            answer(&db, "items", own.items(user, device, limit).await, Outcome::Items)
        }
        _ => Outcome::Unimplemented,
    }
}

/// What cannot be served is unavailable, and said.
fn answer<T>(db: &Db, what: &str, result: Result<T, Failed>, outcome: impl FnOnce(T) -> Outcome) -> Outcome {
    match result {
        Ok(found) => outcome(found),
        Err(error) => db.unavailable(what, &error),
    }
}
