//! kill -9 of the node while appends are under way.

use crate::support::{Cluster, alone, keyspace, variable};
use ringpost_proto::id::Seq;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Conversations that are written to.
const WRITERS: usize = 6;
const KILLS: u64 = 2;

fn cassandra(command: &str, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cassandra");
    let dir = variable("RINGPOST_TEST_CASSANDRA");
    let done = Command::new(script).arg(command).arg(dir).args(more).status().unwrap();
    assert!(done.success(), "{command}: {done}");
}

/// An append that was under way is answered Unknown, or by what its slot then says; after the restart its slot tells, and the
/// same is sent again only where that is empty. So nothing that was acknowledged is missing, and nothing is there twice.
#[test]
fn a_node_that_is_killed_loses_and_doubles_nothing() {
    let _alone = alone();
    let keyspace = keyspace("kill");
    drop(Cluster::open(&keyspace));
    let (ends, landed) = (AtomicBool::new(false), AtomicU64::new(0));
    let stores: Vec<(Cluster, Vec<(Seq, u64)>)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=WRITERS)
            .map(|n| {
                let (keyspace, ends, landed) = (&keyspace, &ends, &landed);
                scope.spawn(move || {
                    let mut store = Cluster::open(keyspace);
                    let (mut head, mut acknowledged) = (0, Vec::new());
                    let mut unique = 0;
                    while !ends.load(Ordering::Relaxed) {
                        unique += 1;
                        head = store.write(n, head, unique);
                        acknowledged.push((head, unique));
                        landed.fetch_add(1, Ordering::Relaxed);
                    }
                    (store, acknowledged)
                })
            })
            .collect();
        let wait_for = |more: u64| {
            let from = landed.load(Ordering::Relaxed);
            while landed.load(Ordering::Relaxed) < from + more {
                assert!(!writers.iter().any(|writer| writer.is_finished()), "a writer has given up");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        for _ in 0..KILLS {
            wait_for(100);
            cassandra("kill", &["1"]);
            cassandra("start", &[]);
        }
        wait_for(50);
        ends.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let mut without_result = 0;
    for (n, (mut store, acknowledged)) in (1..).zip(stores) {
        // What the process that wrote sees, and one that begins.
        store.check(n, &acknowledged);
        Cluster::open(&keyspace).check(n, &acknowledged);
        let stats = store.stats();
        for counter in [&stats.resolved_ours, &stats.resolved_other, &stats.resolved_open] {
            without_result += counter.load(Ordering::Relaxed);
        }
    }
    assert!(without_result > 0, "no append was under way when the node was killed");
}
