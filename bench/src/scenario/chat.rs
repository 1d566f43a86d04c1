//! Users in pairs who write to each other on a fixed schedule.
//!
//! Owns: a conforming client per user, and the ledger of every message. Guarantees: the schedule alone decides when what
//! is sent; what a client could not deliver yet it keeps and repeats with the same id and bytes. Latencies count from the
//! scheduled time. Never does: forgiving; a push that comes twice on one connection is a duplicate even though the client
//! drops it.

use crate::load::worker::User;
use crate::load::{Down, Links, Scenario, Shared, Stage};
use crate::progress::Counters;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::sent::{Acknowledged, SentLog};
use crate::text::{Recognised, Texts, mix};
use crate::verify::{Event as Seen, Ledger, Totals};
use crate::who::Names;
use bytes::Bytes;
use ringpost_proto::client::{ABNORMAL, Client, Event, Outcome};
use ringpost_proto::id::ClientMessageId;
use ringpost_proto::v1::{self, push::Item, record::Body, send, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_server};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often all clients' time-outs are looked at.
const SCAN_EVERY: u64 = 50_000_000;

/// What a run of chat is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Messages per second of all workers.
    pub rate: f64,
    pub duration: Duration,
    /// Come back after a lost connection, within this time of the loss at first.
    pub reconnect: Option<Duration>,
    pub seed: u64,
    /// This worker's number.
    pub worker: u64,
}

struct Talker {
    client: Client,
    /// The last position that was pushed on this connection, of the one conversation.
    pushed: u64,
    /// Has something to transmit.
    dirty: bool,
    /// Counted in `Counters::established`.
    online: bool,
    /// Has been online, or failed for good.
    settled: bool,
}

/// The talkers of one worker.
pub struct Chat<'a> {
    shared: &'a Shared,
    names: &'a Names,
    settings: Settings,
    talkers: Vec<Talker>,
    dirty: Vec<User>,
    unsettled: u32,
    schedule: Option<Schedule>,
    scanned: u64,
    drawn: u64,
    ledger: Ledger,
    texts: Texts,
    sent_log: Option<SentLog>,
    /// Final errors by code.
    pub errors: BTreeMap<String, u64>,
    pub to_sent: Latencies,
    pub to_push: Latencies,
    /// How late a send left, against its schedule: this tool's own delay.
    pub lag: Latencies,
}

/// Neighbours are pairs.
fn partner(user: User) -> User {
    user ^ 1
}

impl<'a> Chat<'a> {
    pub fn new(
        shared: &'a Shared,
        names: &'a Names,
        settings: Settings,
        texts: Texts,
        sent_log: Option<SentLog>,
    ) -> Self {
        let seed = mix(settings.seed ^ settings.worker);
        let now_ms = shared.clock.now() / 1_000_000;
        let talker = |user: u64| Talker {
            client: Client::new(now_ms, mix(seed ^ user), true),
            pushed: 0,
            dirty: false,
            online: false,
            settled: false,
        };
        let users = names.len();
        Self {
            shared,
            names,
            settings,
            talkers: (0..users as u64).map(talker).collect(),
            dirty: Vec::new(),
            unsettled: users as u32,
            schedule: None,
            scanned: 0,
            drawn: seed,
            ledger: Ledger::new(users),
            texts,
            sent_log,
            errors: BTreeMap::new(),
            to_sent: Latencies::default(),
            to_push: Latencies::default(),
            lag: Latencies::default(),
        }
    }

    pub fn totals(&self) -> Totals {
        self.ledger.totals()
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

    // ---- sending ----

    fn send_due(&mut self, began: u64) -> (bool, u64) {
        let (rate, duration) =
            (self.settings.rate, u64::try_from(self.settings.duration.as_nanos()).unwrap_or(u64::MAX));
        let (worker, workers) = (self.settings.worker, self.shared.workers());
        let schedule = self.schedule.get_or_insert_with(|| Schedule::new(rate, began, duration, worker, workers));
        let mut schedule = schedule.clone();
        while let Some(at) = schedule.take_due(self.shared.clock.now()) {
            self.say(at);
        }
        let next = schedule.peek();
        self.schedule = Some(schedule);
        (next.is_none(), next.unwrap_or(u64::MAX))
    }

    fn say(&mut self, at: u64) {
        let Some(users) = u64::try_from(self.talkers.len()).ok().filter(|&users| users > 0) else { return };
        self.drawn = mix(self.drawn);
        let from = (self.drawn % users) as User;
        let to = partner(from);
        let Some(number) = self.ledger.send(to, at) else { return };
        let send = v1::Send {
            to: Some(self.names.peer(to)),
            client_message_id: self.texts.id(number, self.shared.clock.unix_ms(at)).to_bytes(),
            body: Some(send::Body::Text(self.texts.text(number))),
            ..v1::Send::default()
        };
        Counters::raise(&self.shared.counters.sent);
        self.lag.record(at, self.shared.clock.now());
        match self.talkers.get_mut(from as usize).map(|talker| talker.client.send(send)) {
            Some(Ok(())) => self.touch(from),
            Some(Err(_)) | None => self.fail("outbox full"),
        }
    }

    fn fail(&mut self, why: &str) {
        self.ledger.refused();
        *self.errors.entry(why.to_owned()).or_default() += 1;
    }

    // ---- what came ----

    /// What the client will not tell: a push that it drops because it has the record.
    fn watch(&mut self, user: User, frame: &mut v1::ServerFrame) {
        match &mut frame.answer {
            Some(Answer::Push(push)) => {
                // Records of earlier runs may be of other conversations.
                let Some(Item::Record(v1::Record { seq, body: Some(Body::Text(text)), .. })) = &push.item else {
                    return;
                };
                let Recognised::Ours(number) = self.texts.recognise(text) else { return };
                let Some(talker) = self.talkers.get_mut(user as usize) else { return };
                if *seq <= talker.pushed {
                    self.ledger.pushed_late(number);
                }
                talker.pushed = talker.pushed.max(*seq);
            }
            // The server spreads those that come back after a crash; a load tool may be told to be quicker.
            Some(Answer::Welcome(welcome)) => {
                let within = self.settings.reconnect.map_or(u64::MAX, |within| within.as_millis() as u64);
                welcome.crash_slot_ms = welcome.crash_slot_ms.min(within);
            }
            _ => {}
        }
    }

    fn events(&mut self, links: &mut Links<'_>, user: User, now: u64) {
        while let Some(event) = self.talkers.get_mut(user as usize).and_then(|talker| talker.client.poll_event()) {
            match event {
                Event::Connect => links.want(user),
                Event::Drop => links.give_up(user, "silent: given up by the client"),
                Event::Welcome { .. } => self.welcome(links, user),
                Event::Record { record, .. } => self.record(links, user, &record, now),
                Event::Outcome { send, outcome } => self.outcome(user, &send, outcome, now),
                Event::Error(error) => links.complain(user, &format!("error {:?}: {}", error.code(), error.message)),
                Event::Reset { .. } => links.complain(user, "the log ends before what was received"),
                Event::Tick { .. }
                | Event::ReadMark { .. }
                | Event::Synced
                | Event::TokenWanted { .. }
                | Event::Stopped { .. } => {}
            }
        }
    }

    fn welcome(&mut self, links: &mut Links<'_>, user: User) {
        links.established(user);
        if let Some(talker) = self.talkers.get_mut(user as usize) {
            talker.pushed = 0;
            talker.online = true;
            Counters::raise(&self.shared.counters.established);
        }
        self.settle(user);
    }

    /// The first opening has succeeded or failed.
    fn settle(&mut self, user: User) {
        if let Some(talker) = self.talkers.get_mut(user as usize).filter(|talker| !talker.settled) {
            talker.settled = true;
            self.unsettled -= 1;
        }
    }

    fn record(&mut self, links: &Links<'_>, user: User, record: &v1::Record, now: u64) {
        let Some(Body::Text(text)) = &record.body else { return self.ledger.foreign() };
        match self.texts.recognise(text) {
            Recognised::Ours(number) => {
                Counters::raise(&self.shared.counters.delivered);
                if let Seen::First { scheduled } = self.ledger.delivered(number, user, links.epoch(user), record.seq) {
                    self.to_push.record(scheduled, now);
                }
            }
            Recognised::Damaged => self.ledger.damaged(),
            Recognised::Foreign => self.ledger.foreign(),
        }
    }

    fn outcome(&mut self, user: User, send: &v1::Send, outcome: Outcome, now: u64) {
        let sent = match outcome {
            Outcome::Sent(sent) => sent,
            Outcome::Failed(error) => return self.fail(&format!("{:?}", error.code())),
        };
        let Some(send::Body::Text(text)) = &send.body else { return };
        let (Recognised::Ours(number), Some(cmid)) =
            (self.texts.recognise(text), ClientMessageId::from_bytes(&send.client_message_id))
        else {
            return;
        };
        Counters::raise(&self.shared.counters.acknowledged);
        if let Seen::First { scheduled } = self.ledger.acknowledged(number, sent.seq) {
            self.to_sent.record(scheduled, now);
        }
        let to = partner(user);
        if let Some(log) = &mut self.sent_log {
            let (from, to) = (self.names.name(user), self.names.name(to));
            let message = Acknowledged { from: &from, to: &to, seq: sent.seq, id: sent.id, cmid, text };
            log.push(&message, self.shared.clock.instant(now));
        }
    }

    // ---- time ----

    fn scan(&mut self, links: &mut Links<'_>, now: u64) {
        self.scanned = now;
        let now_ms = now / 1_000_000;
        for user in 0..self.talkers.len() as User {
            let Some(talker) = self.talkers.get_mut(user as usize) else { return };
            if talker.client.next_timeout_ms().is_some_and(|due| due <= now_ms) {
                talker.client.timeout(now_ms);
                self.touch(user);
                self.events(links, user, now);
            }
        }
    }

    fn transmit(&mut self, links: &mut Links<'_>) {
        let now_ms = self.now_ms();
        for user in std::mem::take(&mut self.dirty) {
            let Some(talker) = self.talkers.get_mut(user as usize) else { continue };
            talker.dirty = false;
            while let Some(frame) = talker.client.poll_transmit(now_ms) {
                links.send(user, &frame);
            }
        }
    }
}

impl Scenario for Chat<'_> {
    fn opened(&mut self, _links: &mut Links<'_>, user: User) {
        let now_ms = self.now_ms();
        if let Some(talker) = self.talkers.get_mut(user as usize) {
            talker.client.connected(now_ms, String::new());
        }
        self.touch(user);
    }

    fn message(&mut self, links: &mut Links<'_>, user: User, payload: Bytes, now: u64) {
        let mut frame = match decode_server(Encoding::Protobuf, payload) {
            Ok(frame) => frame,
            Err(error) => return links.complain(user, &format!("undecodable frame: {error}")),
        };
        self.watch(user, &mut frame);
        if let Some(talker) = self.talkers.get_mut(user as usize) {
            talker.client.frame(now / 1_000_000, frame);
        }
        self.events(links, user, now);
        self.touch(user);
    }

    fn activity(&mut self, user: User, now: u64) {
        if let Some(talker) = self.talkers.get_mut(user as usize) {
            talker.client.activity(now / 1_000_000);
        }
    }

    fn down(&mut self, links: &mut Links<'_>, user: User, why: &Down) {
        let now = self.shared.clock.now();
        let Some(talker) = self.talkers.get_mut(user as usize) else { return };
        if std::mem::take(&mut talker.online) {
            Counters::lower(&self.shared.counters.established);
        } else {
            Counters::raise(&self.shared.counters.failed);
        }
        if self.settings.reconnect.is_some() {
            talker.client.disconnected(now / 1_000_000, why.code().unwrap_or(ABNORMAL));
            self.events(links, user, now);
        } else {
            self.settle(user);
        }
    }

    fn turn(&mut self, links: &mut Links<'_>, stage: Stage, began: u64) -> (bool, u64) {
        let now = self.shared.clock.now();
        if now >= self.scanned + SCAN_EVERY {
            self.scan(links, now);
        }
        let (done, next) = match stage {
            Stage::Connect => (self.unsettled == 0, u64::MAX),
            Stage::Load => self.send_due(began),
            Stage::Settle => (self.ledger.is_settled(), u64::MAX),
            Stage::Hold | Stage::PingAll | Stage::Finish => (false, u64::MAX),
        };
        self.transmit(links);
        if let Some(log) = &mut self.sent_log {
            log.flush(self.shared.clock.instant(now));
        }
        (done, next)
    }
}
