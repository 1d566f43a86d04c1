//! Once a day, at a time of its own, a session compares what its device has with the heads of all the user's conversations, as
//! at hello: no hint that was lost hides a record for longer.
//!
//! Guarantees: what the comparison finds is pushed from the log by the pump that pushes everything else; what is committed
//! while it runs is noted and pushed after it; it reads one page at a time. Never does: end a session because the store does
//! not answer: it compares less, and again a day later.

use super::{Loading, PushedItem, Session, State, Work};
use crate::Router;
use crate::slab::Key;
use crate::sync::Behind;
use ringpost_proto::id::{ConversationId, Seq};

/// From one comparison to the next at most, and half of it at least.
const DAY_MS: u64 = 24 * 3_600_000;
/// Until what is under way has ended.
const AGAIN_MS: u64 = 60_000;

impl Router {
    /// Sessions that came together part.
    pub(super) fn next_reconcile_ms(&mut self) -> u64 {
        self.now.mono_ms + DAY_MS / 2 + self.next_random() % (DAY_MS / 2)
    }

    pub(super) fn reconcile(&mut self, key: Key) {
        let (again_ms, next_ms) = (self.now.mono_ms + AGAIN_MS, self.next_reconcile_ms());
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.state == State::Open) else { return };
        if session.work.as_ref().is_some_and(|work| work.reading || work.retry_ms.is_some() || work.loading.is_some()) {
            session.reconcile_ms = again_ms;
            return;
        }
        session.reconcile_ms = next_ms;
        session.work().loading = Some(Box::new(Loading::reconcile()));
        self.counters.reconciles += 1;
        self.list_conversations(key);
    }

    /// The list was read, as far as it could be.
    pub(super) fn reconciled(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(loading) = session.work().loading.take() else { return };
        session.work().retry_ms = None;
        let (read, ticks, noted) = loading.found();
        let found = read.into_iter().filter(|(id, behind)| session.lacks(*id, behind)).count();
        // What was committed meanwhile is nothing that was lost.
        for (id, behind) in &noted {
            let _ = session.lacks(*id, behind);
        }
        for (conversation, tick) in ticks {
            session.work().ticks.entry(conversation).and_modify(|live| live.extend(&tick)).or_insert(tick);
        }
        self.counters.reconcile_found += found as u64;
        self.pump(key);
    }
}

impl Session {
    /// Whether something of this is yet to be pushed that the session did not know of; it is queued.
    fn lacks(&mut self, conversation: ConversationId, read: &Behind) -> bool {
        let work = self.work();
        let next = read.next.max(pushed_upto(work, conversation) + 1);
        if next > read.head {
            return false;
        }
        if let Some(known) = work.behind.get_mut(&conversation) {
            known.extend(read.head, read.last_id);
            return false;
        }
        self.queue_behind(conversation, Behind::new(read.kind.clone(), next, read.head, read.last_id));
        true
    }
}

/// Up to where this session has pushed of a conversation lately; what it pushed before that is written.
fn pushed_upto(work: &Work, conversation: ConversationId) -> Seq {
    let pushed = work.outstanding.iter().filter(|pushed| pushed.conversation == conversation);
    let pushed = pushed.map(|pushed| if let PushedItem::Record { seq } = pushed.item { seq } else { 0 }).max();
    let recent = work.recent.get(&conversation).map_or(0, |(seq, _)| *seq);
    pushed.unwrap_or(0).max(recent).max(work.acked.upto(conversation))
}
