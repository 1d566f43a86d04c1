//! The judge against the conforming client, and against clients that break one rule each, in virtual time.

use super::judge::{Judge, Options};
use super::rules::{self, Report, Rule, Verdict};
use super::world::{Input, Now, Output};
use crate::auth::dev;
use crate::transport::websocket::Kind;
use bytes::Bytes;
use ringpost_proto::client::{ABNORMAL, Client, Event};
use ringpost_proto::v1::{self, client_frame::Request, push::Item, server_frame::Answer};
use ringpost_proto::wire::{Encoding, decode_server, encode_client};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the client under test does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Sends before hello.
    SpeaksFirst,
    NoToken,
    ShortIds,
    NeverRepeats,
    /// Its outbox ends with the connection.
    ForgetsOnReconnect,
    OtherBytes,
    DeafForSent,
    DeafForDuplicate,
    ImpatientAfterError,
    RepeatsRefused,
    AcksTooMuch,
    NeverAcks,
    SilentOnRepeat,
    SaysMoreThanItHas,
    SaysNothing,
    NeverFetches,
    IgnoresSkips,
    EndsOnUnknown,
    NoPong,
    KeepsAfterReset,
    IgnoresDrain,
    AtOnce,
    Steady,
    NeverGrows,
    AlwaysComesBack,
    OldToken,
    Garbage,
}

struct Bench {
    judge: Judge,
    client: Client,
    fault: Fault,
    now: Now,
    encoding: Encoding,
    conn: u64,
    connected: bool,
    /// A connection that was asked for opens then.
    connect_ms: Option<u64>,
    to_client: VecDeque<Output>,
    said: BTreeSet<Bytes>,
    on_conn: BTreeSet<Bytes>,
    /// What came back with an outcome that the client did not hear.
    seqs: BTreeSet<(String, u64)>,
    positions: BTreeMap<String, u64>,
    repeat: Option<u64>,
    next_send_ms: u64,
    sent: u64,
    token_ms: u64,
}

fn says(frame: &v1::ServerFrame, what: impl Fn(&Answer) -> bool) -> bool {
    frame.answer.as_ref().is_some_and(what)
}

impl Bench {
    fn run(fault: Fault, encoding: Encoding) -> Report {
        let now = Now { ms: 0, unix_ms: 1_750_000_000_000 };
        let options = Options { patience_ms: 90_000, quiet_ms: 5_000, durable: false };
        let mut bench = Self {
            judge: Judge::new(now, options),
            client: Client::new(0, 11, true),
            fault,
            now,
            encoding,
            conn: 0,
            connected: false,
            connect_ms: None,
            to_client: VecDeque::new(),
            said: BTreeSet::new(),
            on_conn: BTreeSet::new(),
            seqs: BTreeSet::new(),
            positions: BTreeMap::new(),
            repeat: None,
            next_send_ms: 0,
            sent: 0,
            token_ms: 0,
        };
        while !bench.judge.is_done() {
            bench.turn();
            bench.now.ms += 20;
            bench.now.unix_ms += 20;
            assert!(bench.now.ms < 3_600_000, "the judge does not come to an end");
        }
        bench.judge.report()
    }

    fn turn(&mut self) {
        self.judge.timeout(self.now);
        while let Some(output) = self.judge.poll() {
            self.to_client.push_back(output);
        }
        while let Some(output) = self.to_client.pop_front() {
            self.hear(output);
        }
        if self.connect_ms.is_some_and(|at| at <= self.now.ms) {
            self.connect_ms = None;
            self.connect();
        }
        if self.next_send_ms <= self.now.ms && self.client.unsent() < 20 {
            self.next_send_ms = self.now.ms + 500;
            self.say();
        }
        self.client.timeout(self.now.ms);
        self.events();
        while let Some(frame) = self.client.poll_transmit(self.now.ms) {
            self.transmit(frame);
        }
    }

    fn say(&mut self) {
        self.sent += 1;
        let mut id = [7; 16];
        id[..8].copy_from_slice(&self.sent.to_be_bytes());
        let length = if self.fault == Fault::ShortIds { 4 } else { 16 };
        let send = v1::Send {
            to: Some(super::world::user("peer")),
            client_message_id: Bytes::copy_from_slice(&id[..length]),
            body: Some(v1::send::Body::Text(format!("message {}", self.sent))),
            ..Default::default()
        };
        self.client.send(send).unwrap();
    }

    fn connect(&mut self) {
        self.conn += 1;
        self.connected = true;
        self.on_conn.clear();
        self.repeat = None;
        if self.fault != Fault::OldToken {
            self.token_ms = self.now.unix_ms;
        }
        let token = dev::mint("probe", "test", (self.token_ms / 1_000) + 3_600, self.token_ms).unwrap();
        let token = (self.fault != Fault::NoToken).then_some(token);
        let opened = Input::Opened { conn: self.conn, encoding: self.encoding, token };
        self.judge.input(self.now, opened);
        if self.fault == Fault::SpeaksFirst {
            self.write(&v1::ClientFrame { id: 1, request: Some(Request::Ping(v1::Ping {})) });
        }
        self.client.connected(self.now.ms, String::new());
    }

    fn events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connect => self.connect_ms = self.connect_ms.or(Some(self.now.ms)),
                Event::Drop => self.lost(ABNORMAL),
                Event::TokenWanted { .. } => self.client.renew(self.now.ms, "a.b.c".to_owned()),
                _ => {}
            }
        }
    }

    fn lost(&mut self, code: u16) {
        if self.connected {
            self.judge.input(self.now, Input::Closed { conn: self.conn });
        }
        self.disconnected(code);
    }

    fn disconnected(&mut self, code: u16) {
        self.connected = false;
        let code = if self.fault == Fault::AlwaysComesBack && code >= 4500 { ABNORMAL } else { code };
        self.client.disconnected(self.now.ms, code);
        match self.fault {
            Fault::IgnoresDrain if code == 4000 => self.connect_ms = Some(self.now.ms),
            Fault::AtOnce if (4001..4005).contains(&code) => self.connect_ms = Some(self.now.ms),
            Fault::Steady if (4001..4005).contains(&code) => self.connect_ms = Some(self.now.ms + 1_000),
            Fault::NeverGrows if (4001..4005).contains(&code) => {
                self.connect_ms = Some(self.now.ms + self.conn * 370 % 1_000);
            }
            _ => return,
        }
        // Instead of the time that the client drew.
        self.client = Client::new(self.now.ms, 11, true);
        for (log, seq) in &self.positions {
            self.client.restore(&v1::peer::Peer::User(log.clone()), *seq);
        }
    }

    // ---- from the judge to the client, with faults

    fn hear(&mut self, output: Output) {
        match output {
            Output::Message { conn, payload, .. } if conn == self.conn && self.connected => self.frame(payload.into()),
            Output::Ping { conn, payload } if conn == self.conn && self.fault != Fault::NoPong => {
                let payload = Bytes::from_static(payload);
                self.judge.input(self.now, Input::Pong { payload });
            }
            Output::Close { conn, code, .. } if conn == self.conn && self.connected => self.disconnected(code),
            Output::Restart => {
                self.connected = false;
                self.client = Client::new(self.now.ms, self.now.ms, true);
                self.connect_ms = None;
            }
            _ => {}
        }
    }

    fn frame(&mut self, payload: Bytes) {
        let mut frame = decode_server(self.encoding, payload).unwrap();
        if self.fault == Fault::EndsOnUnknown && frame.answer.is_none() {
            return self.lost(ABNORMAL);
        }
        let deaf = match self.fault {
            Fault::DeafForSent => says(&frame, |it| matches!(it, Answer::Sent(sent) if !sent.duplicate)),
            Fault::DeafForDuplicate => says(&frame, |it| matches!(it, Answer::Sent(sent) if sent.duplicate)),
            _ => false,
        };
        if deaf {
            return;
        }
        match &mut frame.answer {
            Some(Answer::Error(error)) if self.fault == Fault::ImpatientAfterError => error.retry_after_ms = 1,
            Some(Answer::Error(error)) if self.fault == Fault::RepeatsRefused => error.retryable = true,
            Some(Answer::Welcome(welcome)) if self.fault == Fault::KeepsAfterReset => welcome.reset.clear(),
            Some(Answer::Page(page)) if self.fault == Fault::IgnoresSkips => page.skips.clear(),
            Some(Answer::Push(push)) => {
                if let Some(Item::Record(record)) = &push.item {
                    let log = record.from.clone();
                    let known = self.positions.entry(log.clone()).or_default();
                    *known = record.seq.max(*known);
                    if !self.seqs.insert((log, record.seq)) {
                        self.repeat = Some(push.n);
                    }
                }
            }
            _ => {}
        }
        self.client.frame(self.now.ms, frame);
        self.events();
    }

    // ---- from the client to the judge, with faults

    fn transmit(&mut self, mut frame: v1::ClientFrame) {
        match &mut frame.request {
            Some(Request::Hello(hello)) => match self.fault {
                Fault::SaysNothing => hello.have.clear(),
                Fault::SaysMoreThanItHas => hello.have.iter_mut().for_each(|position| position.seq += 5),
                _ => {}
            },
            Some(Request::Ack(ack)) => match self.fault {
                Fault::AcksTooMuch => ack.push += 1,
                Fault::NeverAcks => return,
                Fault::SilentOnRepeat if self.repeat.is_some() => return,
                _ => {}
            },
            Some(Request::Fetch(_)) if self.fault == Fault::NeverFetches => return,
            Some(Request::Send(send)) => {
                let id = send.client_message_id.clone();
                let known = !self.said.insert(id.clone());
                let here = self.on_conn.contains(&id);
                match self.fault {
                    Fault::NeverRepeats if known => return,
                    Fault::ForgetsOnReconnect if known && !here => return,
                    Fault::OtherBytes if known => send.body = Some(v1::send::Body::Text("other".to_owned())),
                    _ => {}
                }
                self.on_conn.insert(id);
            }
            _ => {}
        }
        self.write(&frame);
    }

    fn write(&mut self, frame: &v1::ClientFrame) {
        if !self.connected {
            return;
        }
        let mut payload = Vec::new();
        encode_client(self.encoding, frame, &mut payload);
        if self.fault == Fault::Garbage {
            payload = vec![0xff; 3];
        }
        let kind = if self.encoding == Encoding::Json { Kind::Text } else { Kind::Binary };
        self.judge.input(self.now, Input::Message { conn: self.conn, kind, payload: payload.into() });
    }
}

#[test]
fn the_conforming_client_keeps_every_rule_in_both_encodings() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let report = Bench::run(Fault::None, encoding);
        assert!(report.passed(), "{:?}:\n{}", encoding, report.lines().join("\n"));
        assert_eq!(report.verdict(rules::RENEW), Verdict::Kept);
        assert_eq!(report.verdict(rules::RESUME), Verdict::Kept);
    }
}

/// One bad client for each rule.
const FAULTS: &[(Fault, Rule)] = &[
    (Fault::Garbage, rules::FRAMES),
    (Fault::SpeaksFirst, rules::HELLO),
    (Fault::NoToken, rules::TOKEN),
    (Fault::ShortIds, rules::MESSAGE_ID),
    (Fault::NeverRepeats, rules::RETRY),
    (Fault::ForgetsOnReconnect, rules::RECONNECT),
    (Fault::OtherBytes, rules::SAME_BYTES),
    (Fault::DeafForSent, rules::SENT_ENDS),
    (Fault::DeafForDuplicate, rules::DUPLICATE),
    (Fault::ImpatientAfterError, rules::RETRY_AFTER),
    (Fault::RepeatsRefused, rules::FINAL_ERROR),
    (Fault::AcksTooMuch, rules::ACK),
    (Fault::SilentOnRepeat, rules::ACK_REPEAT),
    (Fault::SaysMoreThanItHas, rules::HAVE),
    (Fault::SaysNothing, rules::HAVE),
    (Fault::NeverAcks, rules::AGAIN),
    (Fault::NeverFetches, rules::GAP),
    (Fault::IgnoresSkips, rules::SKIPS),
    (Fault::EndsOnUnknown, rules::UNKNOWN),
    (Fault::NoPong, rules::PING),
    (Fault::KeepsAfterReset, rules::RESET),
    (Fault::IgnoresDrain, rules::DRAIN),
    (Fault::AtOnce, rules::BACK_OFF),
    (Fault::Steady, rules::BACK_OFF),
    (Fault::NeverGrows, rules::BACK_OFF),
    (Fault::AlwaysComesBack, rules::STOP),
    (Fault::OldToken, rules::NEW_TOKEN),
];

#[test]
fn every_rule_has_a_bad_client_that_breaks_it() {
    let mut missed = Vec::new();
    for &(fault, rule) in FAULTS {
        let report = Bench::run(fault, Encoding::Protobuf);
        if !matches!(report.verdict(rule), Verdict::Broken { .. }) {
            missed.push(format!("{fault:?} does not break {}:\n{}", rule.name, report.lines().join("\n")));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    let covered = |rule: &&Rule| FAULTS.iter().any(|(_, broken)| broken == *rule);
    let uncovered: Vec<_> = rules::ALL.iter().filter(|rule| !rule.optional && !covered(rule)).collect();
    assert!(uncovered.is_empty(), "{uncovered:?}");
}

#[test]
fn a_client_that_never_comes_is_no_success() {
    let options = Options { patience_ms: 1_000, quiet_ms: 100, durable: false };
    let mut now = Now::default();
    let mut judge = Judge::new(now, options);
    while !judge.is_done() {
        now.ms += 500;
        judge.timeout(now);
        while judge.poll().is_some() {}
        assert!(now.ms < 60_000);
    }
    assert!(!judge.report().passed());
    assert_eq!(judge.report().verdict(rules::HELLO), Verdict::NotShown);
}
