//! Messages of this user: what his commands and ticks are about.
//!
//! Guarantees: what was typed here keeps the place where it was typed, whenever its outcome comes and whatever that is.
//! Who takes back the last line means that line: where it was refused, no other is taken back for it. What another
//! device sent stands before what has no outcome yet.

use super::{App, REMEMBERED};
use bytes::Bytes;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::{self, kind, send};
use std::collections::VecDeque;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// It has no outcome yet.
    Open,
    /// It has this position.
    Sent(u64),
    /// It is not sent and never will be.
    Refused,
}

#[derive(Debug)]
pub(super) struct Own {
    pub(super) peer: Peer,
    /// Of the send; empty where it is of another device, or was never one.
    id: Bytes,
    fate: Fate,
    pub(super) text: String,
}

impl Own {
    /// `None`: the send is about another message.
    fn of(send: &v1::Send, fate: Fate) -> Option<Self> {
        let peer = send.to.as_ref()?.peer.clone()?;
        let own = Self { peer, id: send.client_message_id.clone(), fate, text: text(send).to_owned() };
        counts(send.kind()).then_some(own)
    }

    pub(super) fn seq(&self) -> Option<u64> {
        match self.fate {
            Fate::Sent(seq) => Some(seq),
            Fate::Open | Fate::Refused => None,
        }
    }
}

/// Those that are kept from last time.
pub(super) fn kept(outbox: &[v1::Send]) -> VecDeque<Own> {
    outbox.iter().filter_map(|send| Own::of(send, Fate::Open)).collect()
}

pub(super) fn text(send: &v1::Send) -> &str {
    match &send.body {
        Some(send::Body::Text(text)) => text.as_str(),
        _ => "",
    }
}

/// Whether a message of this kind is one of its own, and not about another.
pub(super) fn counts(kind: kind::Value) -> bool {
    matches!(kind, kind::Value::Text | kind::Value::Media | kind::Value::Data)
}

impl App {
    /// The place of the last one in the current conversation.
    pub(super) fn last_own(&self) -> Option<usize> {
        let here = self.current.as_ref();
        self.own.iter().rposition(|own| Some(&own.peer) == here)
    }

    pub(super) fn last_own_is_open(&self) -> bool {
        self.last_own().and_then(|at| self.own.get(at)).is_some_and(|own| own.fate == Fate::Open)
    }

    pub(super) fn own_typed(&mut self, send: &v1::Send, fate: Fate) {
        self.own.extend(Own::of(send, fate));
        self.trim_own();
    }

    /// A message for the current conversation that never became a send.
    pub(super) fn own_dropped(&mut self, text: String) {
        let Some(peer) = self.current.clone() else { return };
        self.own.push_back(Own { peer, id: Bytes::new(), fate: Fate::Refused, text });
        self.trim_own();
    }

    /// One of another device.
    pub(super) fn own_came(&mut self, peer: Peer, seq: u64, text: String) {
        let is_settled = |own: &Own| own.peer == peer && own.fate != Fate::Open;
        let from = self.own.iter().rposition(is_settled).map_or(0, |at| at + 1);
        let at = from + self.own.iter().skip(from).take_while(|own| own.peer != peer).count();
        self.own.insert(at, Own { peer, id: Bytes::new(), fate: Fate::Sent(seq), text });
        self.trim_own();
    }

    /// A send has its outcome.
    pub(super) fn own_settled(&mut self, id: &Bytes, fate: Fate) {
        if let Some(own) = self.own.iter_mut().find(|own| own.id == *id) {
            own.fate = fate;
        }
        self.trim_own();
    }

    /// The positions of a conversation are void; what is on its way will have one of the new ones.
    pub(super) fn forget_own(&mut self, peer: &Peer) {
        self.own.retain(|own| own.peer != *peer || own.fate == Fate::Open);
    }

    /// What has no outcome is in the outbox, which is bounded, and stays.
    fn trim_own(&mut self) {
        while self.own.len() > REMEMBERED + self.state.outbox.len() {
            let Some(at) = self.own.iter().position(|own| own.fate != Fate::Open) else { return };
            self.own.remove(at);
        }
    }
}
