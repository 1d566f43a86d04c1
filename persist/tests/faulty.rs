//! The store of the simulator keeps the contract without faults, and its faults are what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ringpost_persist::conformance::{self, Driver};
use ringpost_persist::faulty::{FaultCounts, Faults, FaultyStore};
use ringpost_persist::{Body, ConversationKind, Outcome, Raise, Record, RegisterKey, StoreAnswer, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::collections::HashMap;
use std::sync::Arc;

struct Virtual {
    store: FaultyStore,
    now_us: u64,
}

impl Virtual {
    fn new(seed: u64, faults: Faults) -> Self {
        Self { store: FaultyStore::new(seed, faults), now_us: 0 }
    }

    /// Lets time pass until the next answer; `None`: nothing is under way any more.
    fn next(&mut self) -> Option<StoreAnswer> {
        loop {
            if let Some(answer) = self.store.poll(self.now_us) {
                return Some(answer);
            }
            self.now_us = self.store.next_ready_us()?;
        }
    }
}

impl Driver for Virtual {
    fn submit(&mut self, request: StoreRequest) {
        self.store.submit(request, self.now_us);
    }

    fn answer(&mut self) -> StoreAnswer {
        self.next().expect("an answer is missing")
    }

    fn reopen(&mut self) {
        self.store.crash();
    }

    fn expire(&mut self, conversation: &ConversationId, upto: Seq, _: u64) -> bool {
        self.store.expire(conversation, upto);
        true
    }
}

#[test]
fn it_passes_the_conformance_suite_with_faults_off() {
    for seed in 0..5 {
        conformance::run(|| Box::new(Virtual::new(seed, Faults::none())));
    }
}

fn kind(n: u64) -> Arc<ConversationKind> {
    let user = |name: &str| UserKey::new("t", name).unwrap();
    Arc::new(ConversationKind::Direct([user("ann"), user(&format!("peer{n}"))]))
}

fn id(n: u64) -> ConversationId {
    ConversationId([n as u8; 16])
}

fn record(seq: Seq, unique: u64) -> Arc<Record> {
    let body = Body::Text(unique.to_string().into());
    let mut cmid = [0; 16];
    cmid[..8].copy_from_slice(&unique.to_le_bytes());
    let (ann, phone) = (UserKey::new("t", "ann").unwrap(), DeviceId::new("phone").unwrap());
    let record = Record::new(ann, phone, ClientMessageId(cmid), Value::Text, body);
    Arc::new(Record { seq, id: seq, us: seq, ordinal: seq, ..record })
}

fn append(tag: u64, n: u64, head: Seq) -> StoreRequest {
    StoreRequest::Append {
        tag,
        conversation: id(n),
        kind: kind(n),
        expected_head: head,
        records: vec![record(head + 1, tag)],
    }
}

/// One writer per conversation that appends at the head it last heard of, through every fault and some crashes.
/// Returns what was observed, for comparison of runs.
fn rough_world(seed: u64, counts: &mut FaultCounts) -> String {
    const CONVERSATIONS: u64 = 8;
    let mut world = Virtual::new(seed, Faults::rough());
    let mut trace = String::new();
    let mut acknowledged: HashMap<(u64, Seq), u64> = HashMap::new();
    let mut raised = [0; CONVERSATIONS as usize];
    let register = |n: u64| RegisterKey::Read(id(n), UserKey::new("t", "ann").unwrap());
    let mut tag = 0;
    for round in 0..60 {
        for n in 0..CONVERSATIONS {
            tag += 1;
            world.submit(append(tag, n, world.store.log(&id(n)).len() as Seq));
            tag += 1;
            let raise = Raise { key: register(n), value: round * 10, stamp: 0 };
            world.submit(StoreRequest::Raise { tag, raises: vec![raise] });
        }
        let crash = round % 9 == 8;
        for _ in 0..if crash { 5 } else { usize::MAX } {
            let Some(answer) = world.next() else { break };
            trace.push_str(&format!("{} {} {:?}\n", world.now_us, answer.tag, answer.outcome));
            let n = (answer.tag - 1) / 2 % CONVERSATIONS;
            match answer.outcome {
                Outcome::Appended { head } => assert!(acknowledged.insert((n, head), answer.tag).is_none()),
                Outcome::Raised => raised[n as usize] = round * 10,
                _ => {}
            }
        }
        if crash {
            world.store.crash();
        }
        for ((n, seq), tag) in &acknowledged {
            let body = world.store.log(&id(*n))[*seq as usize - 1].body.clone();
            assert_eq!(body, Body::Text(tag.to_string().into()), "an acknowledged record is gone");
        }
        for n in 0..CONVERSATIONS {
            assert!(world.store.register(&register(n)) >= raised[n as usize], "a raised register fell back");
            let log = world.store.log(&id(n));
            assert!(log.iter().map(|record| record.seq).eq(1..=log.len() as Seq), "not dense");
        }
    }
    let seen = world.store.counts();
    counts.slow += seen.slow;
    counts.unavailable += seen.unavailable;
    counts.full += seen.full;
    counts.unknown_landed += seen.unknown_landed;
    counts.unknown_lost += seen.unknown_lost;
    counts.unknown_late += seen.unknown_late;
    counts.late_landed += seen.late_landed;
    counts.crashes += seen.crashes;
    counts.lost_appends += seen.lost_appends;
    counts.lost_raises += seen.lost_raises;
    trace
}

#[test]
fn no_fault_takes_back_what_was_answered_and_every_fault_takes_place() {
    let mut counts = FaultCounts::default();
    for seed in 0..30 {
        let first = rough_world(seed, &mut counts);
        assert_eq!(rough_world(seed, &mut FaultCounts::default()), first, "a seed gave two worlds");
    }
    let seen = format!("{counts:?}");
    assert!(!seen.contains(": 0"), "a fault that never takes place: {seen}");
}

/// The only fault is the one given.
fn always(change: impl Fn(&mut Faults)) -> Virtual {
    let mut faults = Faults::none();
    change(&mut faults);
    Virtual::new(1, faults)
}

#[test]
fn unknown_outcomes_land_at_once_or_never_or_later() {
    let mut landed = always(|faults| faults.unknown_landed = 10_000);
    landed.submit(append(1, 0, 0));
    assert!(matches!(landed.answer().outcome, Outcome::Unknown));
    assert_eq!(landed.store.log(&id(0)).len(), 1);

    let mut lost = always(|faults| faults.unknown_lost = 10_000);
    lost.submit(append(1, 0, 0));
    assert!(matches!(lost.answer().outcome, Outcome::Unknown));
    assert!(lost.next().is_none());
    assert!(lost.store.log(&id(0)).is_empty());

    let mut late = always(|faults| (faults.unknown_late, faults.late_us) = (10_000, 1_000_000));
    late.submit(append(1, 0, 0));
    assert!(matches!(late.answer().outcome, Outcome::Unknown));
    assert!(late.store.log(&id(0)).is_empty(), "it landed before it was answered");
    assert!(late.next().is_none());
    assert_eq!(late.store.log(&id(0)).len(), 1);
}

#[test]
fn a_late_append_finds_its_place_taken() {
    let mut world = always(|faults| (faults.unknown_late, faults.late_us) = (10_000, 1_000_000_000));
    world.submit(append(1, 0, 0));
    assert!(matches!(world.answer().outcome, Outcome::Unknown));
    world.store.set_faults(Faults::none());
    world.submit(append(2, 0, 0));
    assert!(matches!(world.answer().outcome, Outcome::Appended { head: 1 }));
    assert!(world.next().is_none());
    assert_eq!(world.store.log(&id(0)).len(), 1);
    assert_eq!(world.store.counts().late_landed, 0);
}

#[test]
fn what_is_unavailable_or_full_changes_nothing() {
    let mut world = always(|faults| faults.unavailable = 10_000);
    world.submit(append(1, 0, 0));
    world.submit(StoreRequest::LoadConversation { tag: 2, conversation: id(0) });
    assert!(matches!(world.answer().outcome, Outcome::Unavailable));
    assert!(matches!(world.answer().outcome, Outcome::Unavailable));
    let mut full = always(|faults| faults.full = 10_000);
    full.submit(append(1, 0, 0));
    assert!(matches!(full.answer().outcome, Outcome::Full));
    full.submit(StoreRequest::LoadConversation { tag: 2, conversation: id(0) });
    assert!(matches!(full.answer().outcome, Outcome::Conversation(None)));
    assert!(full.store.log(&id(0)).is_empty() && world.store.log(&id(0)).is_empty());
}

#[test]
fn a_crash_loses_answers_and_may_lose_writes_that_nobody_was_told_of() {
    for (lands, expected) in [(0, 0), (10_000, 1)] {
        let mut world = always(|faults| faults.crash_lands = lands);
        world.submit(append(1, 0, 0));
        world.store.crash();
        assert!(world.next().is_none());
        assert_eq!(world.store.log(&id(0)).len(), expected);
        assert_eq!(world.store.counts().lost_appends, 1 - expected as u64);
    }
}
