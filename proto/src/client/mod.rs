//! The conforming client as a state machine: what every client of ringpost does between its transport and its app.
//!
//! Contract: feed one input (`connected`, `frame`, `activity`, `disconnected`, `refused`, `timeout`) or command (`send`,
//! `read`, `stored`, `renew`, `reconnect`, `bye`), then drain `poll_transmit` and `poll_event` until `None`, and call
//! `timeout` at `next_timeout_ms`. Times are monotonic milliseconds of any origin; randomness is a seed.
//!
//! Guarantees: a send has exactly one outcome and keeps its id and bytes until then, whatever connections come and go;
//! records reach the app in order, each once, without a gap; what is acknowledged the app has stored; close codes decide
//! whether and when to connect again. Bounded: [`OUTBOX`] sends, one window of pushes. A client that is idle and has heard
//! of no conversation holds no heap memory but its resume token.
//!
//! Never does: sockets, clocks, framing, tokens (the caller has them), durable storage (the app's).

mod answers;
mod backoff;
mod event;
mod inbox;
mod outbox;
#[cfg(test)]
mod tests;

pub use crate::v1::peer::Peer;
pub use event::Event;
pub use outbox::Outcome;

use crate::close::CloseCode;
use crate::id::Seq;
use crate::limits::{AUTHENTICATE_MS, HEARTBEAT_MS};
use crate::v1::{self, client_frame::Request, server_frame::Answer};
use backoff::{Backoff, Random};
use bytes::Bytes;
use inbox::{Inbox, fresh};
use outbox::Outbox;
use std::collections::VecDeque;

/// Sends without an outcome that a client keeps; one more is refused.
pub const OUTBOX: usize = 4_096;
/// The close code of a connection that ended without one (RFC 6455 section 7.4.1).
pub const ABNORMAL: u16 = 1006;
/// Positions told in hello.
const HAVE: usize = 256;
/// With a request unanswered: this long without a byte from the server, and the connection is given up, milliseconds.
const SILENCE_MS: u64 = 15_000;

/// The outbox is full: nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{OUTBOX} messages have no outcome yet")]
pub struct Full;

#[derive(Debug)]
enum Link {
    Waiting {
        at_ms: u64,
    },
    Connecting,
    /// Connected; hello is to be said, or was said and has no answer yet.
    Greeting {
        since_ms: u64,
        hello: Option<Box<v1::Hello>>,
        id: u64,
    },
    Online {
        since_ms: u64,
    },
    /// Given up by us; the driver has not closed it yet.
    Dropping,
    NeedsToken,
    Stopped,
}

#[derive(Debug)]
pub struct Client {
    link: Link,
    backoff: Backoff,
    auto_store: bool,
    leaving: bool,
    random: Random,
    next_id: u64,
    /// When the server was last heard.
    heard_ms: u64,
    /// The same on the connection before this one.
    heard_before_ms: u64,
    /// When the first request after that was said.
    asked_ms: u64,
    heartbeat_ms: u32,
    crash_slot_ms: u32,
    /// Do not connect before this time: the slot that drain gave.
    slot_ms: u64,
    resume_token: Bytes,
    /// The store that the positions are of; none is known before the first welcome.
    store: Option<[u8; 16]>,
    inbox: Option<Box<Inbox>>,
    outbox: Option<Box<Outbox>>,
    renewal: Option<Box<v1::ClientFrame>>,
    events: VecDeque<Event>,
}

impl Client {
    /// A client that connects at `start_ms`. `auto_store`: what the app was given counts as stored; otherwise the app says
    /// so with `stored`.
    pub fn new(start_ms: u64, seed: u64, auto_store: bool) -> Self {
        Self {
            link: Link::Waiting { at_ms: start_ms },
            backoff: Backoff::default(),
            auto_store,
            leaving: false,
            random: Random::new(seed),
            next_id: 0,
            heard_ms: start_ms,
            heard_before_ms: 0,
            asked_ms: 0,
            heartbeat_ms: HEARTBEAT_MS as u32,
            crash_slot_ms: 0,
            slot_ms: 0,
            resume_token: Bytes::new(),
            store: None,
            inbox: None,
            outbox: None,
            renewal: None,
            events: VecDeque::new(),
        }
    }

    /// Before the first connection: the app has kept all that this device ever got, so that a conversation which it does
    /// not know begins at 1. Without this it begins where the server says that the device is.
    pub fn keeps_everything(mut self) -> Self {
        self.inbox.get_or_insert_default().begin_at_first();
        self
    }

    /// Before the first connection: the app has everything of this conversation up to `seq`.
    pub fn restore(&mut self, peer: &Peer, seq: Seq) {
        self.inbox.get_or_insert_default().restore(peer, seq);
    }

    /// Before the first connection: of which store the restored positions are, and with what the last session there resumes,
    /// as [`Client::store`] said. Without this a server that was restored from a backup cannot tell that they are void.
    pub fn restore_store(&mut self, store: [u8; 16], resume_token: Bytes) {
        (self.store, self.resume_token) = (Some(store), resume_token);
    }

    /// To be kept together with positions; `None`: no server was reached yet.
    pub fn store(&self) -> Option<([u8; 16], &Bytes)> {
        self.store.map(|store| (store, &self.resume_token))
    }

    // ---- inputs ----

    /// The transport is open. `token`: for hello; empty where the transport carried it.
    pub fn connected(&mut self, now_ms: u64, token: String) {
        if self.leaving {
            // Said while the connection was being made.
            return self.give_up();
        }
        let have = self.inbox.as_ref().map(|inbox| inbox.have(HAVE)).unwrap_or_default();
        let resume_token = self.resume_token.clone();
        let hello = v1::Hello { token, resume_token, have, ..Default::default() };
        let id = fresh(&mut self.next_id);
        self.heard_ms = now_ms;
        self.link = Link::Greeting { since_ms: now_ms, hello: Some(Box::new(hello)), id };
    }

    /// A frame from the server.
    pub fn frame(&mut self, now_ms: u64, frame: v1::ServerFrame) {
        self.heard_ms = now_ms;
        match (&self.link, frame.answer) {
            (Link::Greeting { .. }, Some(Answer::Welcome(welcome))) => self.welcome(now_ms, welcome),
            (Link::Greeting { .. }, Some(Answer::Error(error))) => self.events.push_back(Event::Error(Box::new(error))),
            (Link::Online { .. }, Some(answer)) => self.answer(now_ms, frame.re, answer),
            // An answer that this version does not know, or a frame of a connection that we gave up.
            _ => {}
        }
    }

    /// Bytes arrived that are no frame (a ping of the transport).
    pub fn activity(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// The connection ended with this close code ([`ABNORMAL`] if it had none), or could not be opened.
    pub fn disconnected(&mut self, now_ms: u64, code: u16) {
        let lived_ms = match self.link {
            Link::Online { since_ms } => {
                self.heard_before_ms = self.heard_ms;
                now_ms.saturating_sub(since_ms)
            }
            Link::Greeting { .. } | Link::Connecting | Link::Dropping => 0,
            Link::Waiting { .. } | Link::NeedsToken | Link::Stopped => return,
        };
        self.renewal = None;
        if code == CloseCode::TokenExpired as u16 {
            self.link = Link::NeedsToken;
            self.events.push_back(Event::TokenWanted { exp_ms: 0 });
        } else if self.leaving || !CloseCode::may_reconnect(code) {
            self.link = Link::Stopped;
            self.events.push_back(Event::Stopped { code });
        } else {
            self.backoff.ended(lived_ms);
            let spread_ms = if code == CloseCode::Draining as u16 { 0 } else { u64::from(self.crash_slot_ms) };
            self.connect_within(now_ms, spread_ms);
        }
    }

    /// The upgrade was refused, to be tried again after this long (503 and Retry-After).
    pub fn refused(&mut self, now_ms: u64, retry_after_ms: u64) {
        self.slot_ms = now_ms + retry_after_ms.min(600_000);
        self.disconnected(now_ms, ABNORMAL);
    }

    /// `next_timeout_ms` has come (or may have).
    pub fn timeout(&mut self, now_ms: u64) {
        match self.link {
            Link::Waiting { at_ms } if at_ms <= now_ms => {
                self.link = Link::Connecting;
                self.events.push_back(Event::Connect);
            }
            Link::Greeting { .. } | Link::Online { .. } if self.silent_at_ms().is_some_and(|at| at <= now_ms) => {
                self.give_up();
            }
            _ => {}
        }
    }

    // ---- commands ----

    /// Sends a message: to, client_message_id (16 bytes, unique per conversation and device) and a body.
    pub fn send(&mut self, send: v1::Send) -> Result<(), Full> {
        let outbox = self.outbox.get_or_insert_default();
        if outbox.len() >= OUTBOX {
            return Err(Full);
        }
        outbox.push(fresh(&mut self.next_id), Box::new(send));
        Ok(())
    }

    /// The user has read everything up to `seq`.
    pub fn read(&mut self, now_ms: u64, peer: &Peer, seq: Seq) {
        self.inbox.get_or_insert_default().read(now_ms, peer, seq, &mut self.next_id);
    }

    /// The app has durably stored every delivery up to this number.
    pub fn stored(&mut self, delivery: u64) {
        if let Some(inbox) = &mut self.inbox {
            inbox.stored(delivery);
        }
    }

    /// A new token: tells the session, or connects where one was waited for.
    pub fn renew(&mut self, now_ms: u64, token: String) {
        match self.link {
            Link::Online { .. } => {
                let id = fresh(&mut self.next_id);
                let request = Some(Request::Renew(v1::Renew { token }));
                self.renewal = Some(Box::new(v1::ClientFrame { id, request }));
            }
            Link::NeedsToken => self.link = Link::Waiting { at_ms: now_ms },
            _ => {}
        }
    }

    /// Starts again after [`Event::Stopped`].
    pub fn reconnect(&mut self, now_ms: u64) {
        if matches!(self.link, Link::Stopped) {
            self.leaving = false;
            self.link = Link::Waiting { at_ms: now_ms };
        }
    }

    /// Leaves for good: says bye if connected, and does not come back.
    pub fn bye(&mut self) {
        self.leaving = true;
        match self.link {
            Link::Online { .. } => {
                let request = Some(Request::Bye(v1::Bye {}));
                self.renewal = Some(Box::new(v1::ClientFrame { id: 0, request }));
            }
            Link::Greeting { .. } => self.give_up(),
            _ => self.link = Link::Stopped,
        }
    }

    // ---- outputs ----

    /// The next frame to write to the connection.
    pub fn poll_transmit(&mut self, now_ms: u64) -> Option<v1::ClientFrame> {
        match &mut self.link {
            Link::Greeting { hello, id, .. } => {
                let request = Some(Request::Hello(*hello.take()?));
                Some(v1::ClientFrame { id: *id, request })
            }
            Link::Online { .. } => self.request(now_ms),
            _ => None,
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When to call `timeout`, and to poll for frames that are due again. `None`: not by time.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        match self.link {
            Link::Waiting { at_ms } => Some(at_ms),
            Link::Online { .. } => [self.silent_at_ms(), self.due_ms()].into_iter().flatten().min(),
            Link::Greeting { .. } => self.silent_at_ms(),
            Link::Connecting | Link::Dropping | Link::NeedsToken | Link::Stopped => None,
        }
    }

    pub fn is_online(&self) -> bool {
        matches!(self.link, Link::Online { .. })
    }

    /// Sends without an outcome.
    pub fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    /// Whether all sends have an outcome, all gaps are filled, and all that was pushed is acknowledged: whoever leaves before
    /// keeps back the tick of what it has shown.
    pub fn is_settled(&self) -> bool {
        self.unsent() == 0 && self.inbox.as_ref().is_none_or(|inbox| inbox.is_settled())
    }

    /// How far a conversation was received without a gap, and how far of it the app has stored.
    pub fn position(&self, peer: &Peer) -> Option<(Seq, Seq)> {
        self.inbox.as_ref()?.position(peer)
    }

    // ---- inside ----

    fn request(&mut self, now_ms: u64) -> Option<v1::ClientFrame> {
        if let Some(frame) = self.renewal.take() {
            return Some(*frame);
        }
        let frame = self.inbox.as_mut().and_then(|inbox| inbox.poll(now_ms));
        let frame = frame.or_else(|| self.outbox.as_mut()?.poll(now_ms))?;
        if frame.id != 0 && self.asked_ms <= self.heard_ms {
            self.asked_ms = now_ms;
        }
        Some(frame)
    }

    fn due_ms(&self) -> Option<u64> {
        let inbox = self.inbox.as_ref().and_then(|inbox| inbox.next_due_ms());
        let outbox = self.outbox.as_ref().and_then(|outbox| outbox.next_due_ms());
        [inbox, outbox].into_iter().flatten().min()
    }

    /// When the connection counts as dead if nothing is heard until then.
    fn silent_at_ms(&self) -> Option<u64> {
        match self.link {
            Link::Greeting { since_ms, .. } => Some(since_ms + AUTHENTICATE_MS + SILENCE_MS),
            Link::Online { since_ms } => {
                let asked = self.unsent() > 0 || self.inbox.as_ref().is_some_and(|inbox| inbox.has_requests());
                let heard_ms = self.heard_ms.max(since_ms);
                let idle_ms = heard_ms + 2 * u64::from(self.heartbeat_ms) + 5_000;
                Some(if asked { idle_ms.min(heard_ms.max(self.asked_ms) + SILENCE_MS) } else { idle_ms })
            }
            _ => None,
        }
    }

    fn give_up(&mut self) {
        if self.is_online() {
            self.heard_before_ms = self.heard_ms;
        }
        self.link = Link::Dropping;
        self.events.push_back(Event::Drop);
    }

    fn connect_within(&mut self, now_ms: u64, spread_ms: u64) {
        // A slot was spread by the server: it is kept exactly, and is no failure.
        let at_ms = match self.slot_ms > now_ms {
            true => self.slot_ms,
            false => now_ms + self.backoff.delay(&mut self.random, spread_ms),
        };
        self.slot_ms = 0;
        self.link = Link::Waiting { at_ms };
    }
}
