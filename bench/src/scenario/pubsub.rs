//! Rooms of one writer and its members, or sessions that ask, on a server of whatever protocol.
//!
//! Owns: what is on its way in each room, and what each member has. Guarantees: a message is over when every member has it and,
//! where publications are acknowledged, the server has said so; what is missing, doubled, out of order or changed is counted; with
//! a rate, the schedule alone decides when something is said. Never does: knowing a protocol's bytes; reconnecting.

use crate::load::worker::User;
use crate::load::{Down, Links, Scenario, Shared, Stage};
use crate::progress::Counters;
use crate::protocol::{Heard, Kind, Line, Protocol, Room, Talk, Wish, payload};
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::text::mix;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// What a run of it is.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kind: Kind,
    pub wish: Wish,
    /// Rooms of this thread: the first users are in them, the rest is idle.
    pub rooms: u32,
    /// Of a room, its writer not counted.
    pub members: u32,
    /// Messages of a room that may be on their way, where there is no rate.
    pub in_flight: u32,
    /// Sessions that ask, where sessions ask: the first ones.
    pub active: u32,
    /// Messages or questions per second of all threads; `None`: a closed loop.
    pub rate: Option<f64>,
    pub duration: Duration,
    pub thread: u32,
    /// The place of this thread among those that write or ask, and how many they are: who takes which of the schedule.
    pub turn: (u64, u64),
}

/// A message that is not over.
struct Flight {
    at: u64,
    /// Members who do not have it.
    missing: u32,
    accepted: bool,
}

struct Space {
    room: Room,
    /// The number of the first message in `flights`.
    first: u32,
    flights: VecDeque<Flight>,
    /// Messages that the server has acknowledged, of all.
    accepted: u32,
}

struct Session {
    line: Line,
    /// The number of the next message that this member is to get.
    expected: u32,
    /// When each unanswered question was scheduled.
    asked: VecDeque<u64>,
    up: bool,
    settled: bool,
    /// It has asked to be subscribed, and was not answered.
    subscribing: bool,
}

/// The sessions of one thread.
pub struct PubSub<'a> {
    shared: &'a Shared,
    settings: Settings,
    protocol: Box<dyn Protocol>,
    sessions: Vec<Session>,
    spaces: Vec<Space>,
    unsettled: u32,
    /// Subscriptions that were asked for and not confirmed.
    unsubscribed: u32,
    has_subscribed: bool,
    loading: bool,
    schedule: Option<Schedule>,
    /// Of the load.
    began: u64,
    end: u64,
    drawn: u64,
    outstanding: u64,
    talk: Talk,
    payload: Vec<u8>,
    found: Found,
}

/// What is left of it when the run is over: sums.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub published: u64,
    /// Publications that the server acknowledged.
    pub accepted: u64,
    pub delivered: u64,
    /// Deliveries and acknowledgements that never came.
    pub missing: u64,
    /// Deliveries of what a member had, or could not have yet.
    pub doubled: u64,
    /// Deliveries that differ from what was published.
    pub changed: u64,
    pub asked: u64,
    pub answered: u64,
    /// From the beginning of the load to the last delivery or answer, nanoseconds: a closed loop gets what was on its way at
    /// its end after it.
    pub last_after: u64,
    pub connecting: Latencies,
    pub to_accepted: Latencies,
    pub to_delivery: Latencies,
    pub round_trip: Latencies,
}

impl<'a> PubSub<'a> {
    pub fn new(shared: &'a Shared, users: u32, settings: Settings) -> Self {
        let unit = settings.members + 1;
        let session = |user| Session {
            line: Line::new(settings.thread, user),
            expected: 0,
            asked: VecDeque::new(),
            up: false,
            settled: false,
            subscribing: false,
        };
        let room =
            |number: u32| Room { thread: settings.thread, number, writer: number * unit, members: settings.members };
        let spaces = (0..settings.rooms.min(users / unit)).map(room);
        Self {
            shared,
            protocol: settings.kind.protocol(settings.wish),
            sessions: (0..users).map(session).collect(),
            spaces: spaces.map(|room| Space { room, first: 0, flights: VecDeque::new(), accepted: 0 }).collect(),
            unsettled: users,
            unsubscribed: 0,
            has_subscribed: false,
            loading: false,
            schedule: None,
            began: 0,
            end: 0,
            drawn: mix(u64::from(settings.thread)),
            outstanding: 0,
            talk: Talk::default(),
            payload: Vec::new(),
            found: Found::default(),
            settings,
        }
    }

    pub fn into_found(mut self) -> Found {
        self.found.missing = self.spaces.iter().flat_map(|space| &space.flights).map(|flight| self.owed(flight)).sum();
        self.found
    }

    fn owed(&self, flight: &Flight) -> u64 {
        u64::from(flight.missing) + u64::from(self.settings.wish.durable && !flight.accepted)
    }

    /// Sends what the protocol has to say to `user`, and sees what it heard.
    fn spoken(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        self.talk.take_said(|message| links.send_message(user, message));
        for heard in std::mem::take(&mut self.talk.heard) {
            match heard {
                Heard::Welcome => self.welcome(links, user, now),
                Heard::Subscribed => self.subscribed(user),
                Heard::Delivered(number) => self.delivered(links, user, number, now),
                Heard::Accepted => self.accepted(links, user, now),
                Heard::Pong => self.answered(links, user, now),
                Heard::Refused(why) => links.complain(user, &why),
            }
        }
    }

    fn welcome(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        if let Some(since) = links.established(user) {
            self.found.connecting.record(since, now);
            Counters::raise(&self.shared.counters.established);
        }
        if let Some(session) = self.sessions.get_mut(user as usize) {
            session.up = true;
        }
        self.settle(user);
    }

    fn settle(&mut self, user: User) {
        if let Some(session) = self.sessions.get_mut(user as usize).filter(|session| !session.settled) {
            session.settled = true;
            self.unsettled -= 1;
        }
    }

    fn subscribe(&mut self, links: &mut Links<'_>) -> bool {
        if !std::mem::replace(&mut self.has_subscribed, true) && !self.settings.wish.asks {
            let now = self.shared.clock.now();
            let rooms: Vec<Room> = self.spaces.iter().map(|space| space.room).collect();
            for room in rooms {
                let first = room.writer + u32::from(!self.settings.kind.writer_joins(&room));
                for user in first..=room.writer + room.members {
                    let Some(session) = self.sessions.get_mut(user as usize).filter(|session| session.up) else {
                        continue;
                    };
                    session.subscribing = true;
                    self.unsubscribed += 1;
                    self.protocol.subscribe(&mut session.line, room, &mut self.talk);
                    self.spoken(links, user, now);
                }
            }
        }
        self.unsubscribed == 0
    }

    /// It is subscribed, or will never be.
    fn subscribed(&mut self, user: User) {
        let asked = self.sessions.get_mut(user as usize).map(|session| std::mem::take(&mut session.subscribing));
        self.unsubscribed -= u32::from(asked == Some(true));
    }

    /// The place of the room that this user writes to or is a member of; none for who is idle.
    fn space_of(&self, user: User) -> usize {
        user.checked_div(self.settings.members + 1).unwrap_or(u32::MAX) as usize
    }

    fn publish(&mut self, links: &mut Links<'_>, place: usize, at: u64) {
        let Some(space) = self.spaces.get_mut(place) else { return };
        let (room, number) = (space.room, space.first.wrapping_add(space.flights.len() as u32));
        let Some(session) = self.sessions.get_mut(room.writer as usize).filter(|session| session.up) else { return };
        space.flights.push_back(Flight { at, missing: room.members, accepted: false });
        self.outstanding += 1;
        self.found.published += 1;
        Counters::raise(&self.shared.counters.sent);
        payload::write(number, self.settings.wish.bytes, &mut self.payload);
        self.protocol.publish(&mut session.line, room, &self.payload, &mut self.talk);
        self.talk.take_said(|message| links.send_message(room.writer, message));
    }

    fn delivered(&mut self, links: &mut Links<'_>, user: User, number: Option<u32>, now: u64) {
        let place = self.space_of(user);
        let (Some(space), Some(session)) = (self.spaces.get_mut(place), self.sessions.get_mut(user as usize)) else {
            return;
        };
        if user == space.room.writer {
            return; // who has to join to write is told its own
        }
        let Some(number) = number else { return self.found.changed += 1 };
        let flight = number.checked_sub(space.first).and_then(|at| space.flights.get_mut(at as usize));
        match flight {
            Some(flight) if number >= session.expected => {
                // What was passed over stays missing, unless nothing keeps an order here and it comes later: then it is doubled.
                session.expected = number + 1;
                flight.missing = flight.missing.saturating_sub(1);
                self.found.to_delivery.record(flight.at, now);
                self.found.delivered += 1;
                self.found.last_after = now.saturating_sub(self.began);
                Counters::raise(&self.shared.counters.delivered);
            }
            _ => return self.found.doubled += 1,
        }
        self.over(links, place);
    }

    fn accepted(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        let place = self.space_of(user);
        let is_wished = self.settings.wish.durable;
        let Some(space) = self.spaces.get_mut(place).filter(|space| is_wished && space.room.writer == user) else {
            return;
        };
        let at = space.accepted.wrapping_sub(space.first);
        let Some(flight) = space.flights.get_mut(at as usize) else { return };
        flight.accepted = true;
        space.accepted = space.accepted.wrapping_add(1);
        self.found.to_accepted.record(flight.at, now);
        self.found.accepted += 1;
        Counters::raise(&self.shared.counters.acknowledged);
        self.over(links, place);
    }

    /// Forgets what is over in a room, and says more there in a closed loop.
    fn over(&mut self, links: &mut Links<'_>, place: usize) {
        let is_durable = self.settings.wish.durable;
        let Some(space) = self.spaces.get_mut(place) else { return };
        while let Some(flight) = space.flights.front()
            && flight.missing == 0
            && (flight.accepted || !is_durable)
        {
            space.flights.pop_front();
            space.first = space.first.wrapping_add(1);
            self.outstanding -= 1;
        }
        let now = self.shared.clock.now();
        if self.loading && self.settings.rate.is_none() && now < self.end {
            self.fill(links, place, now);
        }
    }

    fn fill(&mut self, links: &mut Links<'_>, place: usize, now: u64) {
        let on_their_way = self.spaces.get(place).map_or(0, |space| space.flights.len() as u32);
        (on_their_way..self.settings.in_flight).for_each(|_| self.publish(links, place, now));
    }

    fn ask(&mut self, links: &mut Links<'_>, user: User, at: u64) {
        let Some(session) = self.sessions.get_mut(user as usize).filter(|session| session.up) else { return };
        session.asked.push_back(at);
        self.outstanding += 1;
        self.found.asked += 1;
        self.protocol.ask(&mut session.line, &mut self.talk);
        self.talk.take_said(|message| links.send_message(user, message));
    }

    fn answered(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        let asked = self.sessions.get_mut(user as usize).and_then(|session| session.asked.pop_front());
        let Some(at) = asked else { return self.found.doubled += 1 };
        self.outstanding -= 1;
        self.found.answered += 1;
        self.found.last_after = now.saturating_sub(self.began);
        self.found.round_trip.record(at, now);
        Counters::raise(&self.shared.counters.ponged);
        if self.settings.rate.is_none() && now < self.end {
            self.ask(links, user, self.shared.clock.now());
        }
    }

    fn load(&mut self, links: &mut Links<'_>, began: u64) -> (bool, u64) {
        let duration = u64::try_from(self.settings.duration.as_nanos()).unwrap_or(u64::MAX);
        (self.began, self.end) = (began, began.saturating_add(duration));
        let now = self.shared.clock.now();
        let Some(rate) = self.settings.rate else {
            if !std::mem::replace(&mut self.loading, true) {
                match self.settings.wish.asks {
                    true => (0..self.settings.active).for_each(|user| self.ask(links, user, now)),
                    false => (0..self.spaces.len()).for_each(|place| self.fill(links, place, now)),
                }
            }
            return (now >= self.end, self.end);
        };
        let (turn, turns) = self.settings.turn;
        let mut schedule = self.schedule.take().unwrap_or_else(|| Schedule::new(rate, began, duration, turn, turns));
        while let Some(at) = schedule.take_due(now) {
            self.drawn = mix(self.drawn);
            let among = if self.settings.wish.asks { self.settings.active.into() } else { self.spaces.len() as u64 };
            match (self.drawn.checked_rem(among), self.settings.wish.asks) {
                (Some(user), true) => self.ask(links, user as User, at),
                (Some(place), false) => self.publish(links, place as usize, at),
                (None, _) => {}
            }
        }
        let next = schedule.peek();
        self.schedule = Some(schedule);
        (next.is_none(), next.unwrap_or(u64::MAX))
    }
}

impl Scenario for PubSub<'_> {
    fn opened(&mut self, links: &mut Links<'_>, user: User) {
        let Some(session) = self.sessions.get_mut(user as usize) else { return };
        self.protocol.hello(&mut session.line, &mut self.talk);
        let now = self.shared.clock.now();
        self.spoken(links, user, now);
    }

    fn message(&mut self, links: &mut Links<'_>, user: User, payload: Bytes, now: u64) {
        let Some(session) = self.sessions.get_mut(user as usize) else { return };
        self.protocol.hear(&mut session.line, &payload, &mut self.talk);
        self.spoken(links, user, now);
    }

    fn down(&mut self, _links: &mut Links<'_>, user: User, _why: &Down) {
        Counters::raise(&self.shared.counters.failed);
        if let Some(session) = self.sessions.get_mut(user as usize) {
            session.up = false;
            self.outstanding -= std::mem::take(&mut session.asked).len() as u64;
        }
        self.subscribed(user);
        self.settle(user);
    }

    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        match stage {
            Stage::Connect => (self.unsettled == 0, u64::MAX),
            Stage::Groups => (self.subscribe(links), u64::MAX),
            Stage::Load => self.load(links, began),
            Stage::Settle => (self.outstanding == 0, u64::MAX),
            _ => (false, u64::MAX),
        }
    }
}
