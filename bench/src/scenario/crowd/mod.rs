//! A worker's users and their conversations, whoever writes to whom.
//!
//! Owns: a conforming client per user, the groups, and the ledger of every message. Guarantees: what a client could not
//! deliver yet it keeps and repeats with the same id and bytes; latencies count from the scheduled time and only where both
//! sides were there from then on. Never does: deciding what is sent and who is away; that is its [`Lead`]. Never forgives:
//! a push that comes twice on one connection is a duplicate even though the client drops it.

mod found;
mod groups;
mod heard;
mod scene;

pub use found::Found;
pub use scene::Scene;

use crate::load::worker::User;
use crate::load::{Links, Shared, Stage};
use crate::over_time::Slices;
use crate::progress::Counters;
use crate::report::Latencies;
use crate::sent::SentLog;
use crate::text::{Texts, mix};
use crate::verify::{Ledger, Room};
use crate::who::Names;
use groups::Groups;
use ringpost_proto::client::{ABNORMAL, Client, Event};
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1::{self, peer::Peer, send};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Not there.
const NEVER: u64 = u64::MAX;

/// Decides what a crowd does.
pub trait Lead {
    /// Called once a turn: whether the stage is done, and when to be called again at the latest.
    fn turn(&mut self, crowd: &mut Crowd<'_>, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64);
    /// A push of message `number` has come to `user`.
    fn pushed(&mut self, _ledger: &mut Ledger, _user: User, _number: u32) {}
    /// Everything that `user` had missed was pushed, says the server.
    fn synced(&mut self, _ledger: &mut Ledger, _user: User, _now: u64) {}
}

/// What a crowd is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Come back after a lost connection, within this time of the loss at first.
    pub reconnect: Option<Duration>,
    pub seed: u64,
    /// This worker's number.
    pub worker: u64,
    /// Records that are acknowledged together; what is left in the end is not.
    pub ack_every: u32,
}

struct Talker {
    client: Client,
    /// The last delivery that it was told is stored, where several are acknowledged together.
    stored: u64,
    /// When it had synced after it was last away on purpose, 0: it was not; [`NEVER`]: it is, or is on its way back.
    since: u64,
    /// When it was told to come back; 0: it is not on its way.
    back: u64,
    /// Has something to transmit.
    dirty: bool,
    /// Counted in `Counters::established`.
    online: bool,
    /// Has synced once, or failed for good.
    settled: bool,
    /// Sent away on purpose.
    away: bool,
}

/// Latencies of one kind of conversation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Times {
    pub to_sent: Latencies,
    pub to_push: Latencies,
}

/// See the module's page.
pub struct Crowd<'a> {
    pub shared: &'a Shared,
    pub names: &'a Names,
    pub ledger: Ledger,
    settings: Settings,
    talkers: Vec<Talker>,
    groups: Groups,
    dirty: Vec<User>,
    unsettled: u32,
    /// Told to come back and not synced yet.
    returning: u32,
    scanned: u64,
    texts: Texts,
    sent_log: Option<SentLog>,
    /// Final errors by code.
    pub errors: BTreeMap<String, u64>,
    pub direct: Times,
    pub group: Times,
    /// The same over time, where a lead has begun it.
    pub slices: Slices,
    /// From the scheduled time of a message to a group until the last receiver has it.
    pub to_last: Latencies,
    /// How late a send left, against its schedule: this tool's own delay.
    pub lag: Latencies,
    /// From the order to come back to welcome, and to syncDone.
    pub to_welcome: Latencies,
    pub to_synced: Latencies,
    /// Openings of those who come back that failed, and were tried again.
    pub setbacks: u64,
    /// Answers that were errors to be tried again: the server shed load.
    pub shed: u64,
    /// Connections that were cut on purpose, goodbyes, and of these those that the server had not answered by an end when the user
    /// came back.
    pub cuts: u64,
    pub goodbyes: u64,
    pub unheard: u64,
    /// Acknowledged, but the sender was away meanwhile: not measured.
    pub unmeasured: u64,
}

impl<'a> Crowd<'a> {
    pub fn new(
        shared: &'a Shared,
        names: &'a Names,
        settings: Settings,
        texts: Texts,
        sent_log: Option<SentLog>,
    ) -> Self {
        let seed = mix(settings.seed ^ settings.worker);
        let now_ms = shared.clock.now() / 1_000_000;
        let at_once = settings.ack_every == 1;
        let talker = |user: u64| {
            // The first connections are opened for all at once, without being asked for.
            let mut client = Client::new(now_ms, mix(seed ^ user), at_once);
            client.timeout(now_ms);
            while client.poll_event().is_some() {}
            Talker { client, stored: 0, since: 0, back: 0, dirty: false, online: false, settled: false, away: false }
        };
        let users = names.len();
        Self {
            shared,
            names,
            ledger: Ledger::default(),
            settings,
            talkers: (0..users as u64).map(talker).collect(),
            groups: Groups::default(),
            dirty: Vec::new(),
            unsettled: users as u32,
            returning: 0,
            scanned: 0,
            texts,
            sent_log,
            errors: BTreeMap::new(),
            direct: Times::default(),
            group: Times::default(),
            slices: Slices::default(),
            to_last: Latencies::default(),
            lag: Latencies::default(),
            to_welcome: Latencies::default(),
            to_synced: Latencies::default(),
            setbacks: 0,
            shed: 0,
            cuts: 0,
            goodbyes: 0,
            unheard: 0,
            unmeasured: 0,
        }
    }

    pub fn users(&self) -> u32 {
        self.talkers.len() as u32
    }

    /// Everybody has synced or failed.
    pub fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Users who were told to come back and have not synced.
    pub fn returning(&self) -> u32 {
        self.returning
    }

    /// All who were told to come back have synced.
    pub fn is_back(&self) -> bool {
        self.returning == 0
    }

    /// Users who are away or on their way back.
    fn absent(&self) -> u64 {
        self.talkers.iter().filter(|talker| talker.away || talker.back > 0).count() as u64
    }

    /// Whether the user is connected and neither away nor on its way back.
    pub fn is_present(&self, user: User) -> bool {
        self.talkers.get(user as usize).is_some_and(|talker| talker.online && talker.since != NEVER)
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now() / 1_000_000
    }

    fn touch(&mut self, user: User) {
        if let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| !talker.dirty) {
            talker.dirty = true;
            self.dirty.push(user);
        }
    }

    // ---- conversations ----

    /// A direct conversation of two users.
    pub fn pair(&mut self, a: User, b: User) -> Room {
        self.ledger.room(&[a, b])
    }

    /// A group that the first of its members creates when [`Crowd::create_groups`] is called. `absent` more members have
    /// names and never connect.
    pub fn group(&mut self, members: &[User], absent: u32) -> Room {
        let room = self.ledger.room(members);
        let Some(&founder) = members.first() else { return room };
        let cmid = self.texts.id(u32::MAX - room, self.shared.clock.unix_ms(0));
        self.groups.add(room, (founder, &self.names.name(founder)), members.len() as u64 - 1, absent, cmid);
        room
    }

    /// Creates the groups, a few at a time. Whether all are there and every member who connects knows of its own.
    pub fn create_groups(&mut self, links: &mut Links<'_>) -> bool {
        let Self { groups, ledger, names, talkers, .. } = self;
        groups.create(
            |founder| talkers.get(founder as usize).is_some_and(|talker| talker.online),
            |room, founder, absent| {
                let members = ledger.members(room).filter(|&user| user != founder).map(|user| names.name(user));
                members.chain((0..absent).map(|index| names.absent(index))).collect()
            },
            |founder, frame| links.send(founder, frame),
        );
        groups.is_done()
    }

    // ---- sending ----

    /// `from` writes to the conversation, as scheduled for `at`. Gives the message's number; nothing happens where `from` is
    /// no member.
    pub fn say(&mut self, room: Room, from: User, at: u64) -> Option<u32> {
        let number = self.ledger.send(room, from, at)?;
        let to = match self.groups.id(room) {
            Some(group) => v1::Peer { peer: Some(Peer::Group(group)) },
            None => self.names.peer(self.other(room, from)),
        };
        let send = v1::Send {
            to: Some(to),
            client_message_id: self.texts.id(number, self.shared.clock.unix_ms(at)).to_bytes(),
            body: Some(send::Body::Text(self.texts.text(number))),
            ..v1::Send::default()
        };
        Counters::raise(&self.shared.counters.sent);
        self.lag.record(at, self.shared.clock.now());
        match self.talkers.get_mut(from as usize).map(|talker| talker.client.send(send)) {
            Some(Ok(())) => self.touch(from),
            Some(Err(_)) | None => self.fail(Some(number), "outbox full"),
        }
        Some(number)
    }

    /// The other side of a direct conversation.
    fn other(&self, room: Room, user: User) -> User {
        self.ledger.members(room).find(|&member| member != user).unwrap_or(user)
    }

    fn fail(&mut self, number: Option<u32>, why: &str) {
        self.ledger.refused(number.unwrap_or(u32::MAX));
        *self.errors.entry(why.to_owned()).or_default() += 1;
    }

    // ---- going and coming ----

    /// Cuts the user's connection: nobody is told.
    pub fn leave(&mut self, links: &mut Links<'_>, user: User) {
        let now_ms = self.now_ms();
        let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| !talker.away) else { return };
        (talker.away, talker.since) = (true, NEVER);
        // A client that has said goodbye waits to be told to come back.
        talker.client.bye();
        talker.client.disconnected(now_ms, ABNORMAL);
        while talker.client.poll_event().is_some() {}
        links.leave(user);
        self.cuts += 1;
    }

    /// The user says goodbye; the server ends the connection.
    pub fn part(&mut self, links: &mut Links<'_>, user: User) {
        let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| !talker.away) else { return };
        (talker.away, talker.since) = (true, NEVER);
        talker.client.bye();
        links.let_go(user);
        self.goodbyes += 1;
        self.touch(user);
    }

    /// The connection of a user who had left has ended.
    fn parted(&mut self, user: User) {
        let now_ms = self.now_ms();
        let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| talker.away) else { return };
        talker.client.disconnected(now_ms, CloseCode::Normal as u16);
        while talker.client.poll_event().is_some() {}
    }

    /// The user comes back, at once.
    pub fn come_back(&mut self, links: &mut Links<'_>, user: User) {
        let Some(talker) = self.talkers.get(user as usize).filter(|talker| talker.away) else { return };
        self.unheard += u64::from(talker.client.is_online());
        links.leave(user);
        self.parted(user);
        let now = self.shared.clock.now();
        let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| talker.away) else { return };
        (talker.away, talker.back) = (false, now);
        self.returning += 1;
        talker.client.reconnect(now / 1_000_000);
        talker.client.timeout(now / 1_000_000);
        while let Some(event) = talker.client.poll_event() {
            if event == Event::Connect {
                links.want(user);
            }
        }
    }
}
