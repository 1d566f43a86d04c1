//! What the server says, and to whom within the client it goes.

use super::{Client, Event, Link, Outcome, Peer};
use crate::id::Seq;
use crate::v1::{self, server_frame::Answer};

impl Client {
    pub(super) fn welcome(&mut self, now_ms: u64, welcome: v1::Welcome) {
        self.link = Link::Online { since_ms: now_ms };
        self.slot_ms = 0;
        self.resume_token = welcome.resume_token;
        self.heartbeat_ms = u32::try_from(welcome.heartbeat_ms).unwrap_or(u32::MAX).max(1_000);
        self.crash_slot_ms = u32::try_from(welcome.crash_slot_ms).unwrap_or(u32::MAX);
        if let Some(inbox) = &mut self.inbox {
            inbox.opened(now_ms, self.heard_before_ms);
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.reconnected(now_ms);
        }
        self.events.push_back(Event::Welcome { resumed: welcome.resumed });
        let mut resets: Vec<(Peer, Seq)> = Vec::new();
        for reset in welcome.reset {
            resets.extend(reset.conversation.and_then(|peer| peer.peer).map(|peer| (peer, reset.head_seq)));
        }
        if let Ok(store) = <[u8; 16]>::try_from(&welcome.store_incarnation[..])
            && self.store.replace(store).is_some_and(|before| before != store)
        {
            // Hello names the recent ones only.
            let known = self.inbox.as_ref().map(|inbox| inbox.known()).unwrap_or_default();
            let unnamed = known.into_iter().filter(|peer| !resets.iter().any(|(named, _)| named == peer));
            let unnamed: Vec<_> = unnamed.map(|peer| (peer, 0)).collect();
            resets.extend(unnamed);
        }
        for (peer, head) in resets {
            self.inbox.get_or_insert_default().reset(&peer);
            self.events.push_back(Event::Reset { peer, head });
        }
    }

    pub(super) fn answer(&mut self, now_ms: u64, re: u64, answer: Answer) {
        match answer {
            Answer::Push(push) => {
                let inbox = self.inbox.get_or_insert_default();
                if inbox.push(push, self.auto_store, &mut self.next_id, &mut self.events).is_err() {
                    self.give_up();
                }
            }
            Answer::Sent(sent) => {
                let ended = self.outbox.as_mut().and_then(|outbox| outbox.sent(re, sent));
                self.ended(ended);
            }
            Answer::LookupResult(result) => {
                let ended = self.outbox.as_mut().and_then(|outbox| outbox.looked_up(re, result));
                self.ended(ended);
            }
            Answer::Page(page) => {
                if let Some(inbox) = &mut self.inbox {
                    inbox.page(now_ms, re, page, self.auto_store, &mut self.next_id, &mut self.events);
                }
            }
            Answer::Ok(_) => {
                if let Some(inbox) = &mut self.inbox {
                    inbox.ok(now_ms, re);
                }
            }
            Answer::Error(error) => self.error(now_ms, re, error),
            Answer::SyncDone(_) => self.events.push_back(Event::Synced),
            Answer::Drain(drain) => self.slot_ms = now_ms + drain.reconnect_after_ms.min(600_000),
            Answer::RenewSoon(soon) => self.events.push_back(Event::TokenWanted { exp_ms: soon.exp_ms }),
            // What the app asks beside the client it reads itself.
            _ => {}
        }
    }

    fn error(&mut self, now_ms: u64, re: u64, mut error: v1::Error) {
        if let Some(outbox) = &mut self.outbox {
            match outbox.error(now_ms, re, error, &mut self.random) {
                Ok(ended) => return self.ended(ended),
                Err(back) => error = back,
            }
        }
        if let Some(inbox) = &mut self.inbox {
            match inbox.error(now_ms, re, error, &mut self.random) {
                Ok(()) => return,
                Err(back) => error = back,
            }
        }
        self.events.push_back(Event::Error(Box::new(error)));
    }

    /// A send has its outcome: the app hears, and its place in the log is no gap.
    fn ended(&mut self, ended: Option<(Box<v1::Send>, Outcome)>) {
        let Some((send, outcome)) = ended else { return };
        let seq = match &outcome {
            Outcome::Sent(sent) => Some(sent.seq),
            Outcome::Failed(error) => match error.details.as_ref().and_then(|it| it.details.as_ref()) {
                Some(v1::details::Details::Conflict(first)) => Some(first.seq),
                _ => None,
            },
        };
        let peer = send.to.as_ref().and_then(|peer| peer.peer.clone());
        self.events.push_back(Event::Outcome { send, outcome });
        if let (Some(seq), Some(peer)) = (seq, peer) {
            self.inbox.get_or_insert_default().own(&peer, seq, self.auto_store, &mut self.events);
        }
        if self.outbox.as_ref().is_some_and(|outbox| outbox.is_empty()) {
            self.outbox = None;
        }
    }
}
