//! Messages that have no outcome yet.
//!
//! Owns: the bytes of every send until its outcome is known. Guarantees: a send goes out with the same id and the same
//! content however often, is asked for again after [`RETRY_MS`] without an answer and at once on a new connection, and ends
//! in exactly one outcome. At most [`IN_FLIGHT`] are unanswered; the rest wait in order. What was refused for now, perhaps for
//! hours, holds up nothing else. Never does: clocks, connections.

use super::backoff::Random;
use crate::v1::{self, client_frame::Request, code::Value as Code};
use std::collections::VecDeque;

/// Without an answer for this long a send is repeated, milliseconds.
pub const RETRY_MS: u64 = 5_000;
/// Sends without an answer; the rest of the wire's 32 is left to fetches and reads.
pub const IN_FLIGHT: usize = 24;
/// Where a retryable error names no time, milliseconds; and the longest time that is believed, the longest of ours being a day.
const RETRY_AFTER_MS: u64 = 1_000;
const RETRY_AFTER_MOST_MS: u64 = 25 * 3_600_000;
/// By so much more at most those who were refused spread out.
const SPREAD_MS: u64 = 300_000;

/// How a send ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Sent(v1::Sent),
    /// It is not stored and never will be under this id (CONFLICT: something else is).
    Failed(Box<v1::Error>),
}

#[derive(Debug)]
struct Entry {
    /// The request number, the same on every attempt: an answer to any of them ends it.
    id: u64,
    send: Box<v1::Send>,
    /// When to say it (again).
    due_ms: u64,
    /// Refused for now: `due_ms` holds on a new connection too.
    parked: bool,
    /// The id is over a day old: ask what became of it instead of sending it.
    lookup: Option<Box<v1::Error>>,
}

#[derive(Debug, Default)]
pub struct Outbox {
    flying: Vec<Entry>,
    waiting: VecDeque<(u64, Box<v1::Send>)>,
}

impl Outbox {
    pub fn len(&self) -> usize {
        self.flying.len() + self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, id: u64, send: Box<v1::Send>) {
        self.waiting.push_back((id, send));
    }

    /// A new session: whatever was on its way gets no answer any more.
    pub fn reconnected(&mut self, now_ms: u64) {
        self.flying.iter_mut().filter(|entry| !entry.parked).for_each(|entry| entry.due_ms = now_ms);
    }

    /// The next frame to send.
    pub fn poll(&mut self, now_ms: u64) -> Option<v1::ClientFrame> {
        let room = self.has_room();
        let is_due = |entry: &&mut Entry| entry.due_ms <= now_ms && (room || !entry.parked);
        if let Some(entry) = self.flying.iter_mut().find(is_due) {
            entry.due_ms = now_ms + RETRY_MS;
            entry.parked = false;
            return Some(entry.frame());
        }
        if !room {
            return None;
        }
        let (id, send) = self.waiting.pop_front()?;
        let entry = Entry { id, send, due_ms: now_ms + RETRY_MS, parked: false, lookup: None };
        let frame = entry.frame();
        self.flying.push(entry);
        Some(frame)
    }

    /// What is parked waits for an answer to another one where there is no room for it.
    pub fn next_due_ms(&self) -> Option<u64> {
        let room = self.has_room();
        self.flying.iter().filter(|entry| room || !entry.parked).map(|entry| entry.due_ms).min()
    }

    fn has_room(&self) -> bool {
        self.flying.iter().filter(|entry| !entry.parked).count() < IN_FLIGHT
    }

    /// The answer to request `re`, if it is one of ours.
    pub fn sent(&mut self, re: u64, sent: v1::Sent) -> Option<(Box<v1::Send>, Outcome)> {
        let at = self.position(re)?;
        Some((self.flying.remove(at).send, Outcome::Sent(sent)))
    }

    /// What a lookup found: the outcome of a send that is too old to be repeated.
    pub fn looked_up(&mut self, re: u64, result: v1::LookupResult) -> Option<(Box<v1::Send>, Outcome)> {
        let at = self.position(re)?;
        let expired = self.flying.get_mut(at)?.lookup.take()?;
        let entry = self.flying.remove(at);
        let found = result.found.into_iter().find(|found| found.client_message_id == entry.send.client_message_id);
        let outcome = match found {
            Some(v1::Found { seq, id, server_time_ms, .. }) => {
                Outcome::Sent(v1::Sent { seq, id, server_time_ms, duplicate: true })
            }
            None => Outcome::Failed(expired),
        };
        Some((entry.send, outcome))
    }

    /// An error for request `re`: `Err` gives it back if it is none of ours; `Ok(None)`: it will be tried again.
    #[allow(clippy::type_complexity)]
    pub fn error(
        &mut self,
        now_ms: u64,
        re: u64,
        error: v1::Error,
        random: &mut Random,
    ) -> Result<Option<(Box<v1::Send>, Outcome)>, v1::Error> {
        let Some(at) = self.position(re) else { return Err(error) };
        let Some(entry) = self.flying.get_mut(at) else { return Err(error) };
        if error.retryable {
            entry.due_ms = now_ms + retry_delay(&error, random);
            entry.parked = true;
            return Ok(None);
        }
        if error.code() == Code::Expired && entry.lookup.is_none() {
            entry.lookup = Some(Box::new(error));
            entry.due_ms = now_ms;
            return Ok(None);
        }
        Ok(Some((self.flying.remove(at).send, Outcome::Failed(Box::new(error)))))
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.flying.iter().position(|entry| entry.id == id)
    }
}

/// When to try again after a retryable error: what it says, and up to half as much, so that the refused spread out.
pub(super) fn retry_delay(error: &v1::Error, random: &mut Random) -> u64 {
    let after = if error.retry_after_ms == 0 { RETRY_AFTER_MS } else { error.retry_after_ms.min(RETRY_AFTER_MOST_MS) };
    after + random.up_to((after / 2).min(SPREAD_MS))
}

impl Entry {
    fn frame(&self) -> v1::ClientFrame {
        let request = match self.lookup {
            None => Request::Send((*self.send).clone()),
            Some(_) => Request::Lookup(v1::Lookup {
                conversation: self.send.to.clone(),
                client_message_ids: vec![self.send.client_message_id.clone()],
            }),
        };
        v1::ClientFrame { id: self.id, request: Some(request) }
    }
}
