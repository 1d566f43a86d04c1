//! Sessions that are opened and held, while some write to each other on a schedule; in the end all answer a ping and some pairs
//! exchange a message.
//!
//! Owns: one byte per idle session. Guarantees: a session counts when its welcome has arrived. Never does: reconnecting; a
//! session that is lost is lost.

use crate::load::worker::User;
use crate::load::{Down, Links, Scenario, Shared, Stage};
use crate::progress::Counters;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::text::{Recognised, Texts, mix};
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

/// What is written while all sessions are held.
#[derive(Clone, Copy, Debug)]
pub struct Chatting {
    /// Of this worker.
    pub pairs: u32,
    /// Messages a second of all workers that have pairs, and how many of them there are; they are the first ones.
    pub rate: f64,
    pub workers: u64,
    /// For how long.
    pub nanos: u64,
    pub seed: u64,
    /// This worker's number.
    pub worker: u64,
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
    /// Pairs of neighbours, from the first user on: so many exchange a message in the end, each way one, and so many write
    /// while all are held.
    pairs: u32,
    chatting: Chatting,
    /// Rooms by pair.
    rooms: Vec<Room>,
    schedule: Option<Schedule>,
    drawn: u64,
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
    /// `names` has one name per user of this worker; `pairs` and those of `chatting` are at most half as many.
    pub fn new(shared: &'a Shared, names: &'a crate::who::Names, pairs: u32, chatting: Chatting, texts: Texts) -> Self {
        let users = names.len();
        let mut ledger = Ledger::default();
        let rooms = (0..pairs.max(chatting.pairs)).map(|pair| ledger.room(&[2 * pair, 2 * pair + 1])).collect();
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
            rooms,
            schedule: None,
            drawn: mix(chatting.seed),
            chatting,
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
        for pair in 0..self.pairs {
            let now = self.shared.clock.now();
            self.say(links, 2 * pair, now);
            self.say(links, 2 * pair + 1, now);
        }
        self.sent_all = true;
    }

    /// What is due of the schedule is sent. When to look again.
    fn chat(&mut self, links: &mut Links<'_>, began: u64) -> u64 {
        let Some(users) = self.chatting.pairs.checked_mul(2).filter(|users| *users > 0) else { return u64::MAX };
        let Chatting { rate, workers, nanos, worker, .. } = self.chatting;
        let new = || Schedule::new(rate, began, nanos, worker, workers);
        let mut schedule = self.schedule.take().unwrap_or_else(new);
        while let Some(at) = schedule.take_due(self.shared.clock.now()) {
            self.drawn = mix(self.drawn);
            self.say(links, (self.drawn % u64::from(users)) as User, at);
        }
        let next = schedule.peek();
        self.schedule = Some(schedule);
        next.unwrap_or(u64::MAX)
    }

    /// A user writes to its neighbour, as scheduled for `at`.
    fn say(&mut self, links: &mut Links<'_>, from: User, at: u64) {
        let room = self.rooms.get(from as usize / 2).copied();
        let Some(number) = room.and_then(|room| self.ledger.send(room, from, at)) else { return };
        let send = v1::Send {
            to: Some(self.names.peer(from ^ 1)),
            client_message_id: self.texts.id(number, self.shared.clock.unix_ms(at)).to_bytes(),
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

    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        let done = match stage {
            Stage::Connect => self.opening == 0,
            Stage::Hold => return (false, self.chat(links, began)),
            Stage::Settle => self.ledger.is_settled(),
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
