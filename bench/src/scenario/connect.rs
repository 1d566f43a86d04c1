//! Sessions that are opened and held; in the end all answer a ping and some pairs exchange a message.
//!
//! Owns: one byte per idle session. Guarantees: a session counts when its welcome has arrived. Never does: reconnecting; a
//! session that is lost is lost.

use crate::load::worker::User;
use crate::load::{Down, Links, Scenario, Shared, Stage};
use crate::progress::Counters;
use crate::report::Latencies;
use crate::text::{Recognised, Texts};
use crate::verify::{Event, Ledger, Room, Totals};
use bytes::Bytes;
use ringpost_proto::v1::{self, client_frame::Request, push::Item, record::Body, send, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_server};
use serde::{Deserialize, Serialize};

/// Request numbers: what an answer answers shows in the number.
const HELLO: u64 = 1;
const PING: u64 = 2;
const FIRST_SEND: u64 = 1 << 32;
/// Pings of one worker that may be unanswered: the test is that all answer, not that the server takes a burst.
const PINGS_OUTSTANDING: u32 = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Up,
    /// Up, and has answered a ping.
    Ponged,
    Down,
}

/// The sessions of one worker.
pub struct Connect<'a> {
    shared: &'a Shared,
    /// User names by number; see [`crate::who::Names`].
    names: &'a crate::who::Names,
    states: Vec<State>,
    /// Opening, so the stage of connecting is not done.
    opening: u32,
    up: u32,
    pongs: u32,
    next_ping: u32,
    pinging: u32,
    /// Disjoint pairs that exchange a message, each way one.
    pairs: Vec<(User, User)>,
    ledger: Ledger,
    texts: Texts,
    sent_all: bool,
    /// From the start of the attempt to welcome.
    connecting: Latencies,
    to_sent: Latencies,
    to_push: Latencies,
}

/// What is left of it when the run is over: sums.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub connecting: Latencies,
    pub to_sent: Latencies,
    pub to_push: Latencies,
    pub totals: Totals,
    /// Sessions that were up, and those of them that had answered a ping.
    pub alive: u64,
    pub ponged: u64,
}

impl<'a> Connect<'a> {
    /// `names` has one name per user of this worker.
    pub fn new(shared: &'a Shared, names: &'a crate::who::Names, pairs: Vec<(User, User)>, texts: Texts) -> Self {
        let users = names.len();
        let mut ledger = Ledger::default();
        pairs.iter().for_each(|&(a, b)| {
            ledger.room(&[a, b]);
        });
        Self {
            shared,
            names,
            states: vec![State::Opening; users],
            opening: users as u32,
            up: 0,
            pongs: 0,
            next_ping: 0,
            pinging: 0,
            pairs,
            ledger,
            texts,
            sent_all: false,
            connecting: Latencies::default(),
            to_sent: Latencies::default(),
            to_push: Latencies::default(),
        }
    }

    pub fn into_found(self) -> Found {
        Found {
            connecting: self.connecting,
            to_sent: self.to_sent,
            to_push: self.to_push,
            totals: self.ledger.totals(),
            alive: u64::from(self.up),
            ponged: self.states.iter().filter(|&&s| s == State::Ponged).count() as u64,
        }
    }

    fn set(&mut self, user: User, to: State) -> Option<State> {
        let state = self.states.get_mut(user as usize)?;
        Some(std::mem::replace(state, to))
    }

    fn welcome(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        if self.set(user, State::Up) == Some(State::Opening) {
            self.opening -= 1;
            self.up += 1;
            Counters::raise(&self.shared.counters.established);
        }
        if let Some(since) = links.established(user) {
            self.connecting.record(since, now);
        }
    }

    fn pong(&mut self, user: User) {
        self.pinging = self.pinging.saturating_sub(1);
        if self.set(user, State::Ponged) == Some(State::Up) {
            self.pongs += 1;
            Counters::raise(&self.shared.counters.ponged);
        }
    }

    fn push(&mut self, links: &mut Links<'_>, user: User, push: v1::Push, now: u64) {
        links.send(
            user,
            &v1::ClientFrame { id: 0, request: Some(Request::Ack(v1::Ack { push: push.n, ranges: Vec::new() })) },
        );
        let Some(Item::Record(record)) = push.item else { return };
        let Some(Body::Text(text)) = &record.body else { return self.ledger.foreign() };
        match self.texts.recognise(text) {
            Recognised::Ours(number) => {
                self.ledger.pushed(number, user, 1, record.seq);
                if let Event::First { scheduled, .. } = self.ledger.delivered(number, user, record.seq) {
                    self.to_push.record(scheduled, now);
                }
                Counters::raise(&self.shared.counters.delivered);
            }
            Recognised::Damaged => self.ledger.damaged(),
            Recognised::Foreign => self.ledger.foreign(),
        }
    }

    fn sent(&mut self, re: u64, sent: &v1::Sent, now: u64) {
        let number = u32::try_from(re.wrapping_sub(FIRST_SEND)).unwrap_or(u32::MAX);
        if let Event::First { scheduled, .. } = self.ledger.acknowledged(number, sent.seq, sent.id) {
            self.to_sent.record(scheduled, now);
        }
        Counters::raise(&self.shared.counters.acknowledged);
    }

    fn ping_some(&mut self, links: &mut Links<'_>) {
        while self.pinging < PINGS_OUTSTANDING {
            let Some(state) = self.states.get(self.next_ping as usize) else { return };
            if *state == State::Up {
                let request = Some(Request::Ping(v1::Ping {}));
                links.send(self.next_ping, &v1::ClientFrame { id: PING, request });
                self.pinging += 1;
            }
            self.next_ping += 1;
        }
    }

    fn send_pairs(&mut self, links: &mut Links<'_>) {
        for (room, (a, b)) in (0..).zip(std::mem::take(&mut self.pairs)) {
            self.say(links, room, a, b);
            self.say(links, room, b, a);
        }
        self.sent_all = true;
    }

    fn say(&mut self, links: &mut Links<'_>, room: Room, from: User, to: User) {
        let now = self.shared.clock.now();
        let Some(number) = self.ledger.send(room, from, now) else { return };
        let send = v1::Send {
            to: Some(self.names.peer(to)),
            client_message_id: self.texts.id(number, self.shared.clock.unix_ms(now)).to_bytes(),
            body: Some(send::Body::Text(self.texts.text(number))),
            ..v1::Send::default()
        };
        links.send(from, &v1::ClientFrame { id: FIRST_SEND + u64::from(number), request: Some(Request::Send(send)) });
        Counters::raise(&self.shared.counters.sent);
    }
}

impl Scenario for Connect<'_> {
    fn opened(&mut self, links: &mut Links<'_>, user: User) {
        let hello = v1::Hello { client: crate::CLIENT.to_owned(), ..v1::Hello::default() };
        links.send(user, &v1::ClientFrame { id: HELLO, request: Some(Request::Hello(hello)) });
    }

    fn message(&mut self, links: &mut Links<'_>, user: User, payload: Bytes, now: u64) {
        let frame = match decode_server(Encoding::Protobuf, payload) {
            Ok(frame) => frame,
            Err(error) => return links.complain(user, &format!("undecodable frame: {error}")),
        };
        match frame.answer {
            Some(Answer::Welcome(_)) => self.welcome(links, user, now),
            Some(Answer::Pong(_)) if frame.re == PING => self.pong(user),
            Some(Answer::Push(push)) => self.push(links, user, push, now),
            Some(Answer::Sent(sent)) => self.sent(frame.re, &sent, now),
            Some(Answer::Error(error)) => {
                if frame.re >= FIRST_SEND {
                    self.ledger.refused(u32::try_from(frame.re - FIRST_SEND).unwrap_or(u32::MAX));
                }
                links.complain(user, &format!("error {:?}: {}", error.code(), error.message));
            }
            _ => {}
        }
    }

    fn down(&mut self, _links: &mut Links<'_>, user: User, _why: &Down) {
        match self.set(user, State::Down) {
            Some(State::Opening) => {
                self.opening -= 1;
                Counters::raise(&self.shared.counters.failed);
            }
            Some(State::Up) => {
                self.up -= 1;
                self.pinging = self.pinging.saturating_sub(1);
                Counters::lower(&self.shared.counters.established);
            }
            Some(State::Ponged) => {
                self.up -= 1;
                self.pongs -= 1;
                Counters::lower(&self.shared.counters.established);
            }
            Some(State::Down) | None => {}
        }
    }

    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, _began: u64) -> (bool, u64) {
        let done = match stage {
            Stage::Connect => self.opening == 0,
            Stage::PingAll => {
                self.ping_some(links);
                self.next_ping as usize >= self.states.len() && self.pongs >= self.up
            }
            Stage::Load => {
                if !self.sent_all {
                    self.send_pairs(links);
                }
                self.ledger.is_settled()
            }
            _ => false,
        };
        (done, u64::MAX)
    }
}
