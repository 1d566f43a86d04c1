//! What the store looks at when somebody connects: where a device's cursor is decides, not how long the log is behind it.
//! The logs are written by the store itself into the directory of a server that is stopped, so they may be long and old.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use base64::Engine;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Options, Retention, Stats};
use ringpost_persist::files::RealFiles;
use ringpost_persist::roster::change_body;
use ringpost_persist::{Body, ConversationKind, Outcome, Raise, Record, RegisterKey, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey, record_id};
use ringpost_proto::v1::change::{Change, Created};
use ringpost_proto::v1::kind::Value as Kind;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use support::ws::Client;
use support::{Dir, Gateway};

const LONG: Seq = 200_000;
/// An append takes so many.
const APPEND: Seq = 64;
/// Appends that share a commit here.
const COMMIT: usize = 32;
const DAY_MS: u64 = 24 * 3_600_000;
/// What one connect may look at, rooms aside.
const ROWS: f64 = 1_000.0;
/// Where there is one record to push.
const FEW: f64 = 50.0;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn user(name: &str) -> UserKey {
    UserKey::new("default", name).unwrap()
}

/// The store of a stopped server, and one log in it.
struct Log {
    committer: Committer,
    id: ConversationId,
    kind: Arc<ConversationKind>,
    last: Arc<Record>,
}

impl Log {
    fn open(data: &Path, retention: Retention, id: ConversationId, kind: ConversationKind) -> Self {
        let mut options = Options { retention, free_floor_percent: 0, memory_bytes: 4 << 20, ..Options::new(data, 1) };
        let committer = Committer::open(Arc::new(RealFiles), &mut options).unwrap().committer;
        let last = Arc::new(record(0, 0, 0, Kind::Text, Body::Text("".into())));
        Self { committer, id, kind: Arc::new(kind), last }
    }

    fn next(&self, kind: Kind, body: Body, us: u64) -> Arc<Record> {
        let mut next = record(self.last.seq + 1, us.max(self.last.us + 1), self.last.id, kind, body);
        next.ordinal = self.last.ordinal + u64::from(kind == Kind::Text);
        Arc::new(next)
    }

    /// Records up to `head`, spread evenly over the time, acknowledged by `reader` append for append.
    fn fill(&mut self, head: Seq, from_ms: u64, to_ms: u64, reader: Option<&str>) {
        let step_us = (to_ms - from_ms) * 1_000 / head;
        while self.last.seq < head {
            for _ in 0..COMMIT {
                let expected_head = self.last.seq;
                let mut records = Vec::new();
                while self.last.seq < head && self.last.seq < expected_head + APPEND {
                    let us = from_ms * 1_000 + self.last.seq * step_us;
                    self.last = self.next(Kind::Text, Body::Text(format!("text {}", self.last.seq + 1).into()), us);
                    records.push(Arc::clone(&self.last));
                }
                if !records.is_empty() {
                    self.stage(expected_head, records);
                    reader.into_iter().for_each(|name| self.acknowledge([name]));
                }
            }
            self.commit();
        }
    }

    fn say(&mut self, text: &'static str, ms: u64) {
        self.add(Kind::Text, Body::Text(text.into()), ms);
    }

    fn add(&mut self, kind: Kind, body: Body, ms: u64) {
        let next = self.next(kind, body, ms * 1_000);
        self.stage(self.last.seq, vec![Arc::clone(&next)]);
        self.last = next;
        self.commit();
    }

    fn stage(&mut self, expected_head: Seq, records: Vec<Arc<Record>>) {
        let (conversation, kind) = (self.id, Arc::clone(&self.kind));
        self.committer.stage(0, StoreRequest::Append { tag: 0, conversation, kind, expected_head, records });
    }

    /// The phones of these users have everything so far.
    fn acknowledge<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let (value, stamp) = (self.last.seq, self.last.us);
        let key = |name| RegisterKey::Delivered(self.id, user(name), DeviceId::new("phone").unwrap());
        let raises = names.into_iter().map(|name| Raise { key: key(name), value, stamp }).collect();
        self.committer.stage(0, StoreRequest::Raise { tag: 0, raises });
    }

    fn commit(&mut self) {
        let mut answers = Vec::new();
        self.committer.commit(&mut answers).unwrap();
        for (_, answer) in answers {
            assert!(matches!(answer.outcome, Outcome::Appended { .. } | Outcome::Raised), "{answer:?}");
        }
        if let Some(due) = self.committer.upkeep(Instant::now(), 0) {
            due.run(&Stats::default()).unwrap();
        }
    }
}

fn record(seq: Seq, us: u64, previous: u64, kind: Kind, body: Body) -> Record {
    let cmid = ClientMessageId::uuid_v7(us / 1_000, seq.into());
    let new = Record::new(user("alice"), DeviceId::new("phone").unwrap(), cmid, kind, body);
    Record { seq, id: record_id(us / 1_000, 0, previous), us, ..new }
}

/// Links the phones of these users: without one there is no cursor.
fn link(data: &Path, args: &[&str], names: &[&str]) {
    let mut gateway = Gateway::start_in(data, args);
    names.iter().for_each(|name| Client::open(gateway.listen, &gateway.dev_token(name, "phone")).assert_alive());
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
}

/// Rows that the store has looked at, for rooms, and for everything else.
fn rows(gateway: &Gateway) -> (f64, f64) {
    let of = |what: &str| gateway.metric(&format!("ringpost_store_rows_read_total{{for=\"{what}\"}}"));
    (of("conversation"), of("log") + of("user") + of("other"))
}

/// The user's phone connects and acknowledges nothing: the first record that it is pushed, and the rows that it took to get
/// there and to the end of what it may have.
fn connects(gateway: &Gateway, name: &str) -> (Value, f64) {
    let before = rows(gateway);
    let mut phone = Client::open(gateway.listen, &gateway.dev_token(name, "phone"));
    let first = phone.frame_with("push")["push"]["record"].clone();
    phone.assert_alive();
    let after = rows(gateway);
    assert_eq!(after.0, before.0, "no room is needed");
    (first, after.1 - before.1)
}

#[test]
fn a_device_that_has_everything_but_one_of_many() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    link(&data, &[], &["bob"]);
    let kind = ConversationKind::Direct([user("alice"), user("bob")]);
    let mut log = Log::open(&data, Retention::History, user("alice").direct_with(&user("bob")), kind);
    let now = now_ms();
    log.fill(LONG, now - 90 * DAY_MS, now - DAY_MS, Some("bob"));
    log.say("the new one", now);
    drop(log);

    let gateway = Gateway::start_in(&data, &[]);
    let (first, looked_at) = connects(&gateway, "bob");
    assert_eq!((&first["seq"], &first["text"]), (&json!("200001"), &json!("the new one")));
    assert!(looked_at < FEW, "{looked_at} rows");
    // 3,125 acks are one row, overwritten: they cost no space and no look.
    let state = gateway.metric("ringpost_store_tree_bytes{class=\"state\"}");
    assert!(state < f64::from(1 << 20), "{state} bytes of state");
}

#[test]
fn a_device_that_was_offline_for_the_whole_retention() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let relay = ["--retention=relay", "--retention-days=30"];
    link(&data, &relay, &["bob"]);
    let kind = ConversationKind::Direct([user("alice"), user("bob")]);
    let id = user("alice").direct_with(&user("bob"));
    let mut log = Log::open(&data, Retention::Relay { days: 30 }, id, kind);
    let now = now_ms();
    log.fill(LONG, now - 200 * DAY_MS, now - 70 * DAY_MS, None);
    log.say("the new one", now);
    drop(log);

    // Whether its months go before bob comes or after: they have gone before it asks here.
    let gateway = Gateway::start_in(&data, &relay);
    let mut carol = Client::open(gateway.listen, &gateway.dev_token("carol", "phone"));
    carol.send(&json!({"id": "2", "send": {"to": {"user": "dave"}, "text": "a batch, after which upkeep looks"}}));
    carol.answer("2");
    let months = || gateway.metric("ringpost_store_expired_months_total");
    let begun = Instant::now();
    while months() < 4.0 {
        assert!(begun.elapsed() < support::PATIENCE, "{} months have gone", months());
    }
    let (first, looked_at) = connects(&gateway, "bob");
    assert_eq!((&first["seq"], &first["text"]), (&json!("200001"), &json!("the new one")));
    assert!(looked_at < FEW, "{looked_at} rows");
    // What has gone is told as such, without a look at where it was.
    let before = rows(&gateway).1;
    let mut phone = Client::open(gateway.listen, &gateway.dev_token("bob", "phone"));
    phone.send(&json!({"id": "7", "fetch": {"conversation": {"user": "alice"}, "fromSeq": "1", "toSeq": "100"}}));
    let page = phone.answer("7")["page"].clone();
    assert_eq!(page["skips"], json!([{"fromSeq": "1", "toSeq": "100"}]), "{page}");
    assert_eq!(page["records"], json!([]));
    assert!(rows(&gateway).1 - before < FEW);
}

#[test]
fn the_one_silent_member_of_a_large_group_and_one_who_is_not() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let names: Vec<String> = (1..1_024).map(|n| format!("member{n}")).collect();
    let (silent, others) = names.split_last().unwrap();
    link(&data, &[], &["alice", silent, &others[0]]);
    let id = ConversationId([0x61; 16]);
    let mut log = Log::open(&data, Retention::History, id, ConversationKind::Group);
    let now = now_ms();
    let created = Change::Created(Created { name: "all".into(), members: names.clone() });
    log.add(Kind::Change, change_body(created, None, 0), now - 91 * DAY_MS);
    log.fill(LONG, now - 90 * DAY_MS, now - DAY_MS, None);
    log.acknowledge(others.iter().map(String::as_str).chain(["alice"]));
    log.say("the new one", now);
    drop(log);

    let gateway = Gateway::start_in(&data, &[]);
    let (first, looked_at) = connects(&gateway, silent);
    assert_eq!(first["seq"], "1", "from the beginning");
    assert!(looked_at < ROWS, "{looked_at} rows");
    let (first, looked_at) = connects(&gateway, &others[0]);
    assert_eq!((&first["seq"], &first["text"]), (&json!("200001"), &json!("the new one")));
    assert!(looked_at < FEW, "{looked_at} rows");
    // Who writes needs the room, which is read once: its members, what each of them has, and the newest records.
    let before = rows(&gateway);
    let mut alice = Client::open(gateway.listen, &gateway.dev_token("alice", "phone"));
    let group = base64::engine::general_purpose::STANDARD.encode(id.0);
    for n in ["3", "4"] {
        alice.send(&json!({"id": n, "send": {"to": {"group": group}, "text": "hi"}}));
        assert!(alice.answer(n)["sent"].is_object());
    }
    let of_room = rows(&gateway).0 - before.0;
    assert!((1_024.0..3.0 * 1_024.0 + 300.0).contains(&of_room), "{of_room} rows");
}
