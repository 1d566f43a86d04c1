//! What the client sends: followed from the first attempt to its outcome, and beyond.

use super::super::rules::{self, Rule};
use super::{EVENTS, Event, World, name};
use ringpost_proto::v1::{self, code::Value as Code, server_frame::Answer};

/// Messages that are followed; more are refused.
const SENDS: usize = 50_000;
/// A send may cross its own SENT on the way for so long.
const CROSSING_MS: u64 = 1_000;

pub(super) struct Followed {
    send: v1::Send,
    pub(super) seq: u64,
    /// When it had its outcome, and the rule that forbids to say it again.
    ended: Option<(u64, Rule)>,
}

impl World {
    pub(super) fn send(&mut self, conn: u64, id: u64, send: v1::Send) {
        if id == 0 || send.client_message_id.len() != 16 {
            let seen = format!("id {id}, clientMessageId of {} bytes", send.client_message_id.len());
            self.report.broken(rules::MESSAGE_ID, "an id that is not 0 and 16 bytes", seen);
            return self.error(conn, id, Code::Invalid, "clientMessageId");
        }
        self.report.kept(rules::MESSAGE_ID);
        let key = (name(&send.to), send.client_message_id.clone());
        if self.sends.len() >= SENDS && !self.sends.contains_key(&key) {
            return self.error(conn, id, Code::Overloaded, "enough for a check");
        }
        if let Some(known) = self.sends.get(&key) {
            let same = |a: &v1::Send| (a.body.clone(), a.kind, a.ref_seq);
            if same(&known.send) == same(&send) {
                self.report.kept(rules::SAME_BYTES);
            } else {
                let (first, now) = (format!("{:?}", known.send.body), format!("{:?}", send.body));
                self.report.broken(rules::SAME_BYTES, first, now);
            }
            if let Some((at, rule)) = known.ended.filter(|(at, _)| at + CROSSING_MS < self.now.ms) {
                let seen = format!("the same send again {} ms after its outcome", self.now.ms - at);
                self.report.broken(rule, "no further attempt", seen);
            }
        } else {
            let log = self.logs.entry(key.0.clone()).or_default();
            let seq = log.keys().next_back().copied().unwrap_or(0) + 1;
            log.insert(seq, None);
            self.sends.insert(key, Followed { send: send.clone(), seq, ended: None });
        }
        if self.hold {
            self.held.push((id, send.clone()));
            self.held.drain(..self.held.len().saturating_sub(EVENTS));
        } else {
            self.sent(conn, id, &send, false);
        }
        self.event(Event::Send { id, send });
    }

    /// SENT for a send.
    pub fn sent(&mut self, conn: u64, id: u64, send: &v1::Send, duplicate: bool) {
        let (now, key) = (self.now, (name(&send.to), send.client_message_id.clone()));
        let rule = if duplicate { rules::DUPLICATE } else { rules::SENT_ENDS };
        let Some(known) = self.sends.get_mut(&key) else { return };
        known.ended = known.ended.or(Some((now.ms, rule)));
        let sent = v1::Sent { seq: known.seq, id: known.seq, server_time_ms: now.unix_ms, duplicate };
        self.answer(conn, id, Answer::Sent(sent));
    }

    /// An error for a send; one that is not retryable ends it.
    pub fn refuse(&mut self, conn: u64, id: u64, send: &v1::Send, error: v1::Error) {
        let key = (name(&send.to), send.client_message_id.clone());
        if let Some(known) = self.sends.get_mut(&key).filter(|_| !error.retryable) {
            known.ended = Some((self.now.ms, rules::FINAL_ERROR));
        }
        self.answer(conn, id, Answer::Error(error));
    }

    /// Sends are answered again, those held back first; those of older connections come again by themselves.
    pub fn release(&mut self) {
        self.hold = false;
        let Some(conn) = self.current else { return self.held.clear() };
        for (id, send) in std::mem::take(&mut self.held) {
            let key = (name(&send.to), send.client_message_id.clone());
            if self.sends.get(&key).is_some_and(|known| known.ended.is_none()) {
                self.sent(conn, id, &send, false);
            }
        }
    }

    /// What is held back of a connection that is gone.
    pub fn forget_held(&mut self) {
        self.held.clear();
    }
}
