//! What the inbox asks the server: fetches over gaps, and reads, which are repeated until they are durable.
//!
//! Owns: the requests without an answer, and reads for a while longer. Guarantees: at most one fetch and one read of a
//! conversation at a time, and [`ASKING`] in all. Never does: judge what the answers hold.

use super::conversations::{Conversations, Slot};
use super::{fresh, wire};
use crate::client::backoff::Random;
use crate::client::outbox::{RETRY_MS, retry_delay};
use crate::id::Seq;
use crate::limits::FETCH_RECORDS;
use crate::v1::{self, client_frame::Request};

/// Fetches and reads without an answer; with the sends in flight they are the wire's 32.
const ASKING: usize = 8;
/// How long after its answer a read is durable for certain, milliseconds.
const DURABLE_MS: u64 = 2_500;

/// Fetches and reads that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Requests(Vec<Pending>);

#[derive(Debug)]
struct Pending {
    id: u64,
    slot: Slot,
    what: Ask,
    due_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Fetch,
    Read(Seq),
    /// Answered at `due_ms`, and durable within [`DURABLE_MS`] of that: asked again if the server went away before.
    Settling(Seq),
}

impl Requests {
    /// A new session begins, so what has no answer gets none. `heard_ms`: when the server was last heard before.
    pub(super) fn opened(&mut self, now_ms: u64, heard_ms: u64) {
        self.forget_settled(heard_ms);
        self.0.retain(|request| request.what != Ask::Fetch);
        for request in &mut self.0 {
            if let Ask::Settling(seq) = request.what {
                request.what = Ask::Read(seq);
            }
            request.due_ms = now_ms;
        }
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        self.0.retain(|request| request.slot != slot);
    }

    pub(super) fn read(&mut self, now_ms: u64, slot: Slot, seq: Seq, next_id: &mut u64) {
        self.0.retain(|request| request.slot != slot || request.what == Ask::Fetch);
        self.0.push(Pending { id: fresh(next_id), slot, what: Ask::Read(seq), due_ms: now_ms });
    }

    pub(super) fn fetch(&mut self, slot: Slot, next_id: &mut u64) {
        if !self.0.iter().any(|request| request.slot == slot && request.what == Ask::Fetch) {
            self.0.push(Pending { id: fresh(next_id), slot, what: Ask::Fetch, due_ms: 0 });
        }
    }

    /// The conversation of the fetch that is hereby answered; `None`: it is none of ours.
    pub(super) fn fetched(&mut self, re: u64) -> Option<Slot> {
        let at = self.0.iter().position(|request| request.id == re && request.what == Ask::Fetch)?;
        Some(self.0.remove(at).slot)
    }

    /// An answer brought nothing: not at once again.
    pub(super) fn wait(&mut self, now_ms: u64, slot: Slot) {
        self.0.iter_mut().filter(|r| r.slot == slot).for_each(|r| r.due_ms = r.due_ms.max(now_ms + RETRY_MS));
    }

    /// `ok` for a read.
    pub(super) fn ok(&mut self, now_ms: u64, re: u64) {
        self.forget_settled(now_ms);
        if let Some(request) = self.0.iter_mut().find(|request| request.id == re)
            && let Ask::Read(seq) = request.what
        {
            request.what = Ask::Settling(seq);
            request.due_ms = now_ms;
        }
    }

    /// Reads that were answered long enough before the server was last heard are durable.
    fn forget_settled(&mut self, heard_ms: u64) {
        let settled =
            |request: &Pending| matches!(request.what, Ask::Settling(_)) && request.due_ms + DURABLE_MS <= heard_ms;
        self.0.retain(|request| !settled(request));
    }

    /// An error for one of our requests: later again, or given up. `Err` gives it back if it is none of ours.
    pub(super) fn error(
        &mut self,
        now_ms: u64,
        re: u64,
        error: v1::Error,
        random: &mut Random,
    ) -> Result<(), v1::Error> {
        let Some(at) = self.0.iter().position(|request| request.id == re) else { return Err(error) };
        match self.0.get_mut(at) {
            Some(request) if error.retryable => request.due_ms = now_ms + retry_delay(&error, random),
            _ => drop(self.0.swap_remove(at)),
        }
        Ok(())
    }

    /// The next one that is due.
    pub(super) fn poll(&mut self, now_ms: u64, conversations: &Conversations) -> Option<v1::ClientFrame> {
        let id = self.asking(conversations).find(|request| request.due_ms <= now_ms)?.id;
        let request = self.0.iter_mut().find(|request| request.id == id)?;
        request.due_ms = now_ms + RETRY_MS;
        let c = conversations.get(request.slot)?;
        let conversation = Some(wire(&c.peer));
        let body = match request.what {
            Ask::Read(seq) | Ask::Settling(seq) => Request::Read(v1::Read { conversation, seq }),
            Ask::Fetch => {
                let from_seq = c.received.unwrap_or(0) + 1;
                let gap = c.gap.as_ref();
                let next = gap.and_then(|gap| gap.held.keys().next().map(|seq| seq - 1).or(Some(gap.known)));
                let to_seq = next.unwrap_or(from_seq).clamp(from_seq, from_seq + u64::from(FETCH_RECORDS) - 1);
                Request::Fetch(v1::Fetch { conversation, from_seq, to_seq })
            }
        };
        Some(v1::ClientFrame { id: request.id, request: Some(body) })
    }

    pub(super) fn next_due_ms(&self, conversations: &Conversations) -> Option<u64> {
        self.asking(conversations).map(|request| request.due_ms).min()
    }

    /// Requests that want an answer, as many as may be on their way at a time.
    fn asking(&self, conversations: &Conversations) -> impl Iterator<Item = &Pending> {
        self.0.iter().filter(|request| request.may_be_asked(conversations)).take(ASKING)
    }
}

impl Pending {
    /// What was read counts once it was acknowledged: said before that it would be durable only as long as the server lives.
    fn may_be_asked(&self, conversations: &Conversations) -> bool {
        let Some(c) = conversations.get(self.slot) else { return false };
        match self.what {
            Ask::Fetch => true,
            Ask::Read(seq) => seq <= c.stored || c.received.is_none_or(|received| seq > received),
            Ask::Settling(_) => false,
        }
    }
}
