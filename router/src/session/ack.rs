//! Acks: the only thing that moves what a device has. A written socket is not a delivery.

use super::{Pushed, PushedItem, State};
use crate::Router;
use crate::boundary::ConnRef;
use crate::envelope::Envelope;
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Raise, RegisterKey, StoreRequest};
use ringpost_proto::id::{ConversationId, Seq};
use std::sync::Arc;

/// What a device has heard is written together, this long after the first of it, milliseconds.
const WRITE_MS: u64 = 2_000;

impl Router {
    /// Everything up to push `push` is stored by the device.
    pub(crate) fn ack(&mut self, conn: ConnRef, key: Key, id: u64, push: u64, ranges: bool) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if ranges || push > session.pushed {
            let error = match ranges {
                true => refusal::invalid("ranges", "only where pushes travel on several streams"),
                false => refusal::invalid("push", "this push was never sent"),
            };
            if session.state == State::Ended {
                return;
            }
            return self.refuse_now(conn, id, error);
        }
        let count = push.saturating_sub(session.acked) as usize;
        session.acked = session.acked.max(push);
        let Some(work) = session.work.as_mut().filter(|_| count > 0) else { return };
        self.counters.acks += count as u64;
        work.progress_ms = now_ms;
        let acked: smallvec::SmallVec<[Pushed; 4]> =
            work.outstanding.drain(..count.min(work.outstanding.len())).collect();
        let bytes: u32 = acked.iter().map(|pushed| pushed.bytes).sum();
        work.outstanding_bytes = work.outstanding_bytes.saturating_sub(bytes);
        self.delivered_by(key, acked);
        if self.sessions.get(key).is_some_and(|session| session.state == State::Open) {
            self.pump(key);
        }
    }

    /// Tells the conversations, once each, what of theirs was acknowledged.
    fn delivered_by(&mut self, key: Key, acked: impl IntoIterator<Item = Pushed>) {
        let mut records: smallvec::SmallVec<[(ConversationId, Arc<ConversationKind>, Seq); 4]> = Default::default();
        for Pushed { conversation, kind, item, .. } in acked {
            match item {
                // Pushes of a conversation are in order, but for repeated ones: the highest covers those before it.
                PushedItem::Record { seq } => match records.iter_mut().find(|(c, ..)| *c == conversation) {
                    Some((.., last)) => *last = seq.max(*last),
                    None => records.push((conversation, kind, seq)),
                },
                PushedItem::Tick { delivered, read } => self.tick_acked(key, conversation, delivered, read),
                PushedItem::Mark => {}
            }
        }
        for (conversation, kind, seq) in records {
            self.delivered(key, conversation, kind, seq);
        }
    }

    /// The session's device has everything of the conversation up to `seq`.
    pub(crate) fn delivered(&mut self, key: Key, conversation: ConversationId, kind: Arc<ConversationKind>, seq: Seq) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (user, device) = (session.user.clone(), session.device);
        let ended = session.state == State::Ended;
        let work = session.work();
        work.acked.push(conversation, seq, now_ms);
        work.remember(now_ms);
        let gone = work.take_gone(conversation, seq);
        if ended {
            self.linger(key);
        }
        let receipts = self.receipts_of(&user);
        let delivered = Envelope::Delivered { conversation, kind, user, device, seq, gone, receipts };
        self.post_to_conversation(conversation, delivered);
    }

    /// The device has heard of the other side's progress; written soon, with what else it hears.
    fn tick_acked(&mut self, key: Key, conversation: ConversationId, delivered: Seq, read: Seq) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let ended = session.state == State::Ended;
        let work = session.work();
        let heard = work.heard.entry(conversation).or_default();
        *heard = (heard.0.max(delivered), heard.1.max(read));
        work.write_ms.get_or_insert(now_ms + WRITE_MS);
        if ended {
            self.write_heard(key);
        }
    }

    /// Writes what the device has heard. Lost: told again at the next sync.
    pub(crate) fn write_heard(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(work) = session.work.as_mut().filter(|work| work.write_ms.is_some()) else { return };
        work.write_ms = None;
        let (user, device) = (&session.user, session.device);
        let mut raises = Vec::new();
        let mut raise = |key, value| raises.push(Raise::new(key, value));
        for (conversation, (delivered, read)) in std::mem::take(&mut work.heard) {
            raise(RegisterKey::TickDelivered(conversation, user.clone(), device), delivered);
            if read > 0 {
                raise(RegisterKey::TickRead(conversation, user.clone(), device), read);
            }
        }
        for raises in raises.chunks(self.settings.raises).map(<[_]>::to_vec) {
            let pending = Pending::Raise { raises: Vec::new(), behind: Vec::new(), since_ms: 0 };
            self.ask(pending, |tag| StoreRequest::Raise { tag, raises });
        }
    }
}
