//! How a shard talks to the threads of a store: bounded queues, no lock, no wait. The same for every backend.

use crate::{StoreAnswer, StoreRequest};
use crossbeam_queue::SegQueue;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Wakes whoever waits on the other side; called by a store thread when answers have arrived.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The queues of one port. Each takes memory for what is in it; together they are bounded by the port, which counts the
/// requests without an answer: queues of a fixed size would each need room for all of them.
pub(crate) struct Queues {
    most: usize,
    /// What changes something, registers aside.
    writes: SegQueue<StoreRequest>,
    raises: SegQueue<StoreRequest>,
    /// Reads of many rows ([`StoreRequest::is_page`]).
    pages: SegQueue<StoreRequest>,
    /// Every other read.
    looks: SegQueue<StoreRequest>,
    answers: SegQueue<StoreAnswer>,
    /// Those with many rows: they are much work for who takes them, so they wait for all others.
    answered_pages: SegQueue<StoreAnswer>,
    waker: Mutex<Option<Waker>>,
}

impl Queues {
    /// `most`: requests that may be without an answer.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            writes: SegQueue::new(),
            raises: SegQueue::new(),
            pages: SegQueue::new(),
            looks: SegQueue::new(),
            answers: SegQueue::new(),
            answered_pages: SegQueue::new(),
            waker: Mutex::new(None),
        }
    }

    /// Whether a request waits to be taken.
    #[cfg(feature = "cluster")]
    pub(crate) fn has_requests(&self) -> bool {
        let queues = [&self.writes, &self.raises, &self.looks, &self.pages];
        !queues.iter().all(|queue| queue.is_empty())
    }

    /// The next write that somebody may be waiting for.
    pub(crate) fn next_write(&self) -> Option<StoreRequest> {
        self.writes.pop()
    }

    /// The next registers. Nobody waits for them, so they go after all other writes: of many acks that come at once no
    /// message on its way is to know.
    pub(crate) fn next_raise(&self) -> Option<StoreRequest> {
        self.raises.pop()
    }

    /// The next read of a few rows: it waits for no page, so that who has much to catch up on keeps nobody waiting.
    pub(crate) fn next_look(&self) -> Option<StoreRequest> {
        self.looks.pop()
    }

    /// The next read of many rows.
    pub(crate) fn next_page(&self) -> Option<StoreRequest> {
        self.pages.pop()
    }

    pub(crate) fn answer(&self, answer: StoreAnswer) {
        debug_assert!(self.answers.len() < self.most, "an answer that nobody waits for");
        self.answers.push(answer);
    }

    /// The same to the read of a page.
    pub(crate) fn answer_page(&self, answer: StoreAnswer) {
        self.answered_pages.push(answer);
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
    wake: Wakers,
    /// Requests whose answers were not polled yet: each has a slot in the answer queue.
    outstanding: usize,
    wrote: bool,
    looked: bool,
    paged: bool,
}

/// Called where something new is in the queues of writes, of short reads, and of pages.
#[derive(Clone)]
pub(crate) struct Wakers {
    pub(crate) writes: Waker,
    pub(crate) looks: Waker,
    pub(crate) pages: Waker,
}

impl StorePort {
    pub(crate) fn new(queues: Arc<Queues>, closing: Arc<AtomicBool>, wake: Wakers) -> Self {
        Self { queues, closing, wake, outstanding: 0, wrote: false, looked: false, paged: false }
    }

    /// Takes the request, or gives it back when as many are unanswered as may be, or the store is closing.
    /// Seen by the store at the next [`StorePort::flush`].
    pub fn submit(&mut self, request: StoreRequest) -> Result<(), StoreRequest> {
        if self.outstanding >= self.queues.most || self.closing.load(Ordering::Relaxed) {
            return Err(request);
        }
        if request.is_write() {
            let is_raise = matches!(request, StoreRequest::Raise { .. });
            let queue = if is_raise { &self.queues.raises } else { &self.queues.writes };
            queue.push(request);
            self.wrote = true;
        } else {
            let is_page = request.is_page();
            let queue = if is_page { &self.queues.pages } else { &self.queues.looks };
            queue.push(request);
            (self.paged, self.looked) = (self.paged || is_page, self.looked || !is_page);
        }
        self.outstanding += 1;
        Ok(())
    }

    /// Wakes the store threads that have new requests; once per turn of the caller's loop.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.wrote) {
            (self.wake.writes)();
        }
        if std::mem::take(&mut self.looked) {
            (self.wake.looks)();
        }
        if std::mem::take(&mut self.paged) {
            (self.wake.pages)();
        }
    }

    /// The next answer that has arrived: pages after all others, so that a message that was committed waits for none of them.
    pub fn poll(&mut self) -> Option<StoreAnswer> {
        self.poll_short().or_else(|| self.poll_page())
    }

    /// The next answer that is no page.
    pub fn poll_short(&mut self) -> Option<StoreAnswer> {
        let answer = self.queues.answers.pop();
        self.polled(answer)
    }

    /// The next page: for callers that take only so many in a row, for each is as much work as many other answers.
    pub fn poll_page(&mut self) -> Option<StoreAnswer> {
        let answer = self.queues.answered_pages.pop();
        self.polled(answer)
    }

    fn polled(&mut self, answer: Option<StoreAnswer>) -> Option<StoreAnswer> {
        self.outstanding = self.outstanding.saturating_sub(usize::from(answer.is_some()));
        answer
    }

    /// Whether an answer waits that is no page. What this does not see is announced by the waker later.
    pub fn has_short(&self) -> bool {
        !self.queues.answers.is_empty()
    }

    /// The same of pages.
    pub fn has_pages(&self) -> bool {
        !self.queues.answered_pages.is_empty()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ringpost_proto::id::{ConversationId, UserKey};
    use std::sync::atomic::AtomicU32;

    /// A port, and how often it woke who writes, looks and reads pages.
    fn port() -> (Arc<Queues>, StorePort, impl Fn() -> [u32; 3]) {
        let (queues, woken) = (Arc::new(Queues::new(8)), Arc::new([const { AtomicU32::new(0) }; 3]));
        let counts = |n: usize| -> Waker {
            let woken = Arc::clone(&woken);
            Arc::new(move || {
                woken[n].fetch_add(1, Ordering::Relaxed);
            })
        };
        let wake = Wakers { writes: counts(0), looks: counts(1), pages: counts(2) };
        let port = StorePort::new(Arc::clone(&queues), Arc::default(), wake);
        (queues, port, move || [0, 1, 2].map(|n| woken[n].load(Ordering::Relaxed)))
    }

    #[test]
    fn a_short_read_waits_for_no_page_that_came_before_it() {
        let (queues, mut port, woken) = port();
        let user = UserKey::new("acme", "alice").unwrap();
        for tag in 1..=3 {
            let page = StoreRequest::LoadUser { tag, user: user.clone(), after: None, limit: 200, shown: false };
            port.submit(page).unwrap();
        }
        port.submit(StoreRequest::LoadConversation { tag: 4, conversation: ConversationId([1; 16]) }).unwrap();
        let next = [queues.next_look(), queues.next_look(), queues.next_page(), queues.next_page()];
        assert_eq!(next.map(|request| request.map(|request| request.tag())), [Some(4), None, Some(1), Some(2)]);
        assert_eq!(woken(), [0; 3], "before the port is flushed");
        port.flush();
        port.flush();
        assert_eq!(woken(), [0, 1, 1]);
    }

    #[test]
    fn an_answer_waits_for_no_page_that_was_there_before_it() {
        let (queues, mut port, _) = port();
        let user = UserKey::new("acme", "alice").unwrap();
        for tag in 1..=2 {
            let page = StoreRequest::LoadUser { tag, user: user.clone(), after: None, limit: 200, shown: false };
            port.submit(page).unwrap();
            queues.answer_page(StoreAnswer { tag, outcome: crate::Outcome::Unavailable });
        }
        port.submit(StoreRequest::Raise { tag: 3, raises: Vec::new() }).unwrap();
        queues.answer(StoreAnswer { tag: 3, outcome: crate::Outcome::Raised });
        assert_eq!(
            [port.poll(), port.poll(), port.poll(), port.poll()].map(|it| it.map(|it| it.tag)),
            [Some(3), Some(1), Some(2), None]
        );
        assert_eq!(port.outstanding(), 0);
    }

    #[test]
    fn registers_are_no_other_writes_and_are_there() {
        let (queues, mut port, woken) = port();
        let key = crate::DocumentKey::Settings(UserKey::new("acme", "alice").unwrap());
        port.submit(StoreRequest::Raise { tag: 1, raises: Vec::new() }).unwrap();
        port.submit(StoreRequest::Cas { tag: 2, key, expected: 0, bytes: bytes::Bytes::new() }).unwrap();
        let next = [queues.next_write(), queues.next_write(), queues.next_raise(), queues.next_raise()];
        assert_eq!(next.map(|request| request.map(|request| request.tag())), [Some(2), None, Some(1), None]);
        port.flush();
        assert_eq!(woken(), [1, 0, 0]);
    }
}
