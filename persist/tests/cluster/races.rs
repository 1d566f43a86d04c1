//! Several processes over one keyspace, and what an append leaves for the sweep.

use crate::common::records::{append, conversation};
use crate::support::{Admin, Cluster, alone, keyspace, note};
use ringpost_persist::Outcome;
use ringpost_persist::conformance::Driver;
use ringpost_proto::id::Seq;
use std::sync::atomic::Ordering;

#[test]
fn two_processes_never_take_one_position() {
    const EACH: u64 = 60;
    let _alone = alone();
    let keyspace = keyspace("races");
    // Made once: two who make the same tables at once are refused by some versions of the database.
    drop(Cluster::open(&keyspace));
    let acknowledged: Vec<(Seq, u64)> = std::thread::scope(|scope| {
        let writers = [0, 1].map(|writer| {
            let keyspace = &keyspace;
            scope.spawn(move || {
                let mut store = Cluster::open(keyspace);
                let mut head = 0;
                let mut landed = Vec::new();
                for unique in (0..EACH).map(|n| writer * 1_000 + n) {
                    head = store.write(1, head, unique);
                    landed.push((head, unique));
                }
                landed
            })
        });
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(acknowledged.len() as u64, 2 * EACH);
    Cluster::open(&keyspace).check(1, &acknowledged);
}

#[test]
fn an_append_is_found_by_the_sweep_before_it_is_answered() {
    let _alone = alone();
    let (keyspace, admin) = (keyspace("recent"), Admin::new());
    let mut store = Cluster::open(&keyspace);
    for n in 1..4 {
        assert!(matches!(store.append(n, 0, vec![note(n, 1, 1)]), Outcome::Appended { .. }));
        assert!(matches!(store.append(n, 1, vec![note(n, 2, 2)]), Outcome::Appended { .. }));
        let id = conversation(n).0;
        let vnode = u16::from_be_bytes([id[0], id[1]]) % 1_024;
        let minute = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
        let row = |minute| {
            let of = format!("vnode = {vnode} AND minute = {minute} AND conv = 0x{}", format!("{n:02x}").repeat(16));
            admin.count(&format!("SELECT count(*) FROM {keyspace}.recent WHERE {of}"))
        };
        assert!(row(minute) + row(minute - 1) >= 1);
    }
}

#[test]
fn closing_answers_what_was_submitted_and_takes_nothing_more() {
    let _alone = alone();
    let mut store = Cluster::open(&keyspace("closing"));
    for n in 1..9 {
        for head in 0..5 {
            store.submit(append(n, head, vec![note(n, head + 1, head)]));
        }
    }
    let stats = store.stats();
    let mut port = store.close();
    let mut answered = 0;
    while let Some(answer) = port.poll() {
        assert!(matches!(answer.outcome, Outcome::Appended { .. }), "{answer:?}");
        answered += 1;
    }
    assert_eq!((answered, stats.records.load(Ordering::Relaxed)), (40, 40));
    assert!(port.submit(append(1, 5, vec![note(1, 6, 6)])).is_err());
}
