//! Round trips: some of many connections ask, the others are idle.
//!
//! Owns: the questions that are on their way, per connection in order. Guarantees: an echo is compared byte by byte; in an
//! open loop the latency counts from the scheduled time. Never does: reconnecting.

use crate::load::worker::User;
use crate::load::{Down, Links, Scenario, Shared, Stage};
use crate::progress::Counters;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::text::mix;
use bytes::Bytes;
use ringpost_proto::v1::{self, client_frame::Request, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_server};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// What a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The wire's own request `ping` on an authenticated session.
    Wire,
    /// A message (or bytes) that comes back as it is.
    Echo { bytes: usize },
}

/// What a run of ping is.
#[derive(Clone, Debug)]
pub struct Settings {
    pub question: Question,
    /// Connections of this worker that ask; the first ones.
    pub active: u32,
    /// Questions per second of all workers; `None`: the next one follows the answer.
    pub rate: Option<f64>,
    pub duration: Duration,
    pub worker: u64,
}

#[derive(Default)]
struct Asker {
    /// When each unanswered question was scheduled.
    asked: VecDeque<u64>,
    /// Bytes of an answer that came so far, where chunks are not messages.
    received: usize,
    up: bool,
    settled: bool,
}

/// The connections of one worker.
pub struct Ping<'a> {
    shared: &'a Shared,
    settings: Settings,
    askers: Vec<Asker>,
    unsettled: u32,
    schedule: Option<Schedule>,
    started: bool,
    end: u64,
    drawn: u64,
    payload: Vec<u8>,
    /// Questions without an answer yet.
    outstanding: u64,
    found: Found,
}

/// What is left of it when the run is over: sums.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub answered: u64,
    pub unanswered: u64,
    pub wrong: u64,
    pub connecting: Latencies,
    pub round_trip: Latencies,
}

impl<'a> Ping<'a> {
    pub fn new(shared: &'a Shared, users: u32, settings: Settings) -> Self {
        let payload = match settings.question {
            Question::Wire => Vec::new(),
            Question::Echo { bytes } => (0..bytes as u64).map(|n| mix(n) as u8).collect(),
        };
        let drawn = mix(settings.worker);
        Self {
            shared,
            settings,
            askers: (0..users).map(|_| Asker::default()).collect(),
            unsettled: users,
            schedule: None,
            started: false,
            end: 0,
            drawn,
            payload,
            outstanding: 0,
            found: Found::default(),
        }
    }

    pub fn into_found(self) -> Found {
        Found { unanswered: self.outstanding, ..self.found }
    }

    fn up(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        if let Some(since) = links.established(user) {
            self.found.connecting.record(since, now);
        }
        Counters::raise(&self.shared.counters.established);
        if let Some(asker) = self.askers.get_mut(user as usize) {
            asker.up = true;
        }
        self.settle(user);
    }

    fn settle(&mut self, user: User) {
        if let Some(asker) = self.askers.get_mut(user as usize).filter(|asker| !asker.settled) {
            asker.settled = true;
            self.unsettled -= 1;
        }
    }

    fn ask(&mut self, links: &mut Links<'_>, user: User, scheduled: u64) {
        let Some(asker) = self.askers.get_mut(user as usize).filter(|asker| asker.up) else { return };
        asker.asked.push_back(scheduled);
        self.outstanding += 1;
        match self.settings.question {
            Question::Wire => links.send(user, &v1::ClientFrame { id: 1, request: Some(Request::Ping(v1::Ping {})) }),
            Question::Echo { .. } => links.send_message(user, &self.payload),
        }
    }

    fn answer(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        let Some(scheduled) = self.askers.get_mut(user as usize).and_then(|asker| asker.asked.pop_front()) else {
            self.found.wrong += 1;
            return;
        };
        self.outstanding -= 1;
        self.found.answered += 1;
        self.found.round_trip.record(scheduled, now);
        Counters::raise(&self.shared.counters.ponged);
        if self.settings.rate.is_none() && now < self.end {
            self.ask(links, user, self.shared.clock.now());
        }
    }

    /// Compares what came with what was sent; several answers may come in one chunk, or one in several.
    fn echoed(&mut self, links: &mut Links<'_>, user: User, payload: &[u8], now: u64) {
        let mut answers = 0;
        if let Some(asker) = self.askers.get_mut(user as usize) {
            for &byte in payload {
                self.found.wrong += u64::from(self.payload.get(asker.received) != Some(&byte));
                asker.received += 1;
                if asker.received >= self.payload.len() {
                    asker.received = 0;
                    answers += 1;
                }
            }
        }
        (0..answers).for_each(|_| self.answer(links, user, now));
    }

    fn load(&mut self, links: &mut Links<'_>, began: u64) -> (bool, u64) {
        let duration = u64::try_from(self.settings.duration.as_nanos()).unwrap_or(u64::MAX);
        self.end = began.saturating_add(duration);
        let now = self.shared.clock.now();
        let Some(rate) = self.settings.rate else {
            if !std::mem::replace(&mut self.started, true) {
                (0..self.settings.active).for_each(|user| self.ask(links, user, now));
            }
            return (now >= self.end, self.end);
        };
        let (worker, workers) = (self.settings.worker, self.shared.workers());
        let mut schedule =
            self.schedule.take().unwrap_or_else(|| Schedule::new(rate, began, duration, worker, workers));
        while let Some(at) = schedule.take_due(now) {
            self.drawn = mix(self.drawn);
            if let Some(user) = self.drawn.checked_rem(u64::from(self.settings.active)) {
                self.ask(links, user as User, at);
            }
        }
        let next = schedule.peek();
        self.schedule = Some(schedule);
        (next.is_none(), next.unwrap_or(u64::MAX))
    }
}

impl Scenario for Ping<'_> {
    fn opened(&mut self, links: &mut Links<'_>, user: User) {
        match self.settings.question {
            Question::Wire => {
                let hello = v1::Hello { client: crate::CLIENT.to_owned(), ..v1::Hello::default() };
                links.send(user, &v1::ClientFrame { id: 1, request: Some(Request::Hello(hello)) });
            }
            Question::Echo { .. } => self.up(links, user, self.shared.clock.now()),
        }
    }

    fn message(&mut self, links: &mut Links<'_>, user: User, payload: Bytes, now: u64) {
        if self.settings.question != Question::Wire {
            return self.echoed(links, user, &payload, now);
        }
        match decode_server(Encoding::Protobuf, payload).map(|frame| frame.answer) {
            Ok(Some(Answer::Welcome(_))) => self.up(links, user, now),
            Ok(Some(Answer::Pong(_))) => self.answer(links, user, now),
            Ok(Some(Answer::Error(error))) => {
                links.complain(user, &format!("error {:?}: {}", error.code(), error.message));
            }
            Ok(_) => {}
            Err(error) => links.complain(user, &format!("undecodable frame: {error}")),
        }
    }

    fn down(&mut self, _links: &mut Links<'_>, user: User, _why: &Down) {
        Counters::raise(&self.shared.counters.failed);
        if let Some(asker) = self.askers.get_mut(user as usize) {
            asker.up = false;
            self.outstanding -= std::mem::take(&mut asker.asked).len() as u64;
        }
        self.settle(user);
    }

    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        match stage {
            Stage::Connect => (self.unsettled == 0, u64::MAX),
            Stage::Load => self.load(links, began),
            Stage::Settle => (self.outstanding == 0, u64::MAX),
            _ => (false, u64::MAX),
        }
    }
}
