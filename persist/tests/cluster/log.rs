//! Where records lie: buckets, bodies that are cut off, hints that are lost.

use crate::common::records::{cmid, conversation, device, kind, user};
use crate::support::{Admin, Cluster, alone, erasure, keyspace, long, note};
use ringpost_persist::conformance::Driver;
use ringpost_persist::{Body, Outcome, ReadRange, Record, StoreRequest};
use ringpost_proto::id::Seq;
use std::sync::Arc;

/// Records a bucket has.
const BUCKET: Seq = 4_096;

fn fill(store: &mut Cluster, n: usize, mut head: Seq, to: Seq) {
    while head < to {
        let next = to.min(head + 64);
        let outcome = store.append(n, head, (head + 1..=next).map(|seq| note(n, seq, seq)).collect());
        assert!(matches!(outcome, Outcome::Appended { head } if head == next), "{outcome:?}");
        head = next;
    }
}

fn seqs(records: &[Arc<Record>]) -> Vec<Seq> {
    records.iter().map(|record| record.seq).collect()
}

#[test]
fn a_log_goes_on_in_the_next_bucket_and_no_wrong_head_begins_one() {
    let _alone = alone();
    let keyspace = keyspace("buckets");
    let (mut one, mut other) = (Cluster::open(&keyspace), Cluster::open(&keyspace));
    fill(&mut one, 1, 0, BUCKET - 6);
    // An append is whole wherever it lies.
    fill(&mut one, 1, BUCKET - 6, BUCKET + 4);
    for wrong in [0, BUCKET - 6, BUCKET, BUCKET + 1, BUCKET + 5, BUCKET + 63, BUCKET + 64, 2 * BUCKET, 9 * BUCKET + 1] {
        let outcome = other.append(1, wrong, vec![note(1, wrong + 1, 7)]);
        assert!(matches!(outcome, Outcome::Conflict { head } if head == BUCKET + 4), "on {wrong}: {outcome:?}");
    }
    // Of two that begin the next bucket one does.
    let outcomes = [
        one.append(1, BUCKET + 4, vec![note(1, BUCKET + 5, 1)]),
        other.append(1, BUCKET + 4, vec![note(1, BUCKET + 5, 2)]),
    ];
    assert!(matches!(outcomes, [Outcome::Appended { .. }, Outcome::Conflict { .. }]), "{outcomes:?}");
    fill(&mut one, 1, BUCKET + 5, BUCKET + 80);
    for store in [&mut one, &mut other] {
        let mut read = |from, to| store.read(1, from, to).map(|(head, records)| (head, seqs(&records))).unwrap();
        let head = BUCKET + 80;
        assert_eq!(read(1, Seq::MAX), (head, (1..=head).collect()));
        assert_eq!(read(BUCKET + 2, BUCKET + 7), (head, (BUCKET + 2..=BUCKET + 7).collect()));
        assert_eq!(read(BUCKET + 3, BUCKET + 3), (head, vec![BUCKET + 3]));
        let request = StoreRequest::ReadLog {
            tag: 0,
            conversation: conversation(1),
            viewer: None,
            range: ReadRange::Before(BUCKET + 7),
            records: 5,
            bytes: u32::MAX,
        };
        let down = match store.ask(request) {
            Outcome::LogSlice { records, .. } => seqs(&records),
            other => panic!("{other:?}"),
        };
        assert_eq!(down, (BUCKET + 2..=BUCKET + 6).rev().collect::<Vec<_>>());
        store.reopen();
    }
    // Of a record in the bucket before.
    let outcome = one.append(1, BUCKET + 80, vec![erasure(1, BUCKET + 81, 5)]);
    assert!(matches!(outcome, Outcome::Appended { .. }), "{outcome:?}");
    let (_, records) = other.read(1, 5, 5).unwrap();
    assert!(matches!(records[0].body, Body::Erased(hash) if hash == note(1, 5, 5).hash()));
}

fn find(store: &mut Cluster, n: usize, seq: Seq) -> Option<Arc<Record>> {
    let sender = user(n * (seq as usize % 2));
    let request =
        StoreRequest::FindCmid { tag: 0, conversation: conversation(n), sender, device: device(0), cmid: cmid(seq) };
    match store.ask(request) {
        Outcome::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn long_bodies_are_read_back_and_gone_once_taken_back() {
    let _alone = alone();
    let (keyspace, admin) = (keyspace("bodies"), Admin::new());
    let mut store = Cluster::open(&keyspace);
    let bodies = |admin: &Admin| admin.count(&format!("SELECT count(*) FROM {keyspace}.body"));
    let lens = |seq: Seq| if seq == 3 { 300 << 10 } else { 4_000 + seq as usize * 10 };
    let outcome = store.append(2, 0, (1..=64).map(|seq| long(2, seq, lens(seq))).collect());
    assert!(matches!(outcome, Outcome::Appended { head: 64 }), "{outcome:?}");
    // Of 64 bodies those of more than 4 KiB.
    let cut = (1..=64).filter(|seq| lens(*seq) > 4_096).count() as i64;
    assert_eq!(bodies(&admin), cut);
    let same = |record: &Record| assert_eq!(record.hash(), long(2, record.seq, lens(record.seq)).hash());
    let (_, records) = store.read(2, 1, Seq::MAX).unwrap();
    assert_eq!(seqs(&records), (1..=64).collect::<Vec<_>>());
    records.iter().for_each(|record| same(record));
    let request = StoreRequest::ReadLog {
        tag: 0,
        conversation: conversation(2),
        viewer: None,
        range: ReadRange::From { from: 20, to: Seq::MAX },
        records: u32::MAX,
        bytes: 15_000,
    };
    let Outcome::LogSlice { records, .. } = store.ask(request) else { panic!("no slice") };
    assert_eq!(seqs(&records), [20, 21, 22], "a body that was cut off counts");
    match store.ask(StoreRequest::LoadConversation { tag: 0, conversation: conversation(2) }) {
        Outcome::Conversation(Some(state)) => state.tail.iter().for_each(|record| same(record)),
        other => panic!("{other:?}"),
    }
    find(&mut store, 2, 3).iter().for_each(|record| same(record));
    let outcome = store.append(2, 64, vec![erasure(2, 65, 3)]);
    assert!(matches!(outcome, Outcome::Appended { head: 65 }), "{outcome:?}");
    assert_eq!(bodies(&admin), cut - 1);
    store.reopen();
    let (_, records) = store.read(2, 3, 3).unwrap();
    assert!(matches!(records[0].body, Body::Erased(hash) if hash == long(2, 3, lens(3)).hash()));
}

#[test]
fn a_lost_snapshot_costs_time_only() {
    let _alone = alone();
    let (keyspace, admin) = (keyspace("hints"), Admin::new());
    let mut store = Cluster::open(&keyspace);
    for head in (0..640).step_by(64) {
        let records = (head + 1..=head + 64).map(|seq| long(3, seq, 10)).collect();
        assert!(matches!(store.append(3, head, records), Outcome::Appended { .. }));
    }
    let state = |store: &mut Cluster| {
        store.reopen();
        let found = [1, 300, 640].map(|seq| find(store, 3, seq).map(|record| record.seq));
        assert_eq!(found, [Some(1), Some(300), Some(640)]);
        match store.ask(StoreRequest::LoadConversation { tag: 0, conversation: conversation(3) }) {
            Outcome::Conversation(Some(state)) => (state.head, state.kind, state.roster),
            other => panic!("{other:?}"),
        }
    };
    let before = state(&mut store);
    assert_eq!((before.0, &before.1), (640, &kind(3)));
    assert_eq!(admin.count(&format!("SELECT count(*) FROM {keyspace}.conv")), 1, "a snapshot, as there should be");
    admin.run(&format!("TRUNCATE {keyspace}.conv"));
    assert_eq!(state(&mut store), before);
    admin.run(&format!("TRUNCATE {keyspace}.dedupe"));
    admin.run(&format!("TRUNCATE {keyspace}.conv"));
    assert_eq!(state(&mut store), before);
}
