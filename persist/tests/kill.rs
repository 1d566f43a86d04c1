//! kill -9 of a process that writes, flushes and compacts as fast as it can. Alone in its program: a process that is just
//! being started holds the locks of all stores that are open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::TempDir;
use common::records::{append, conversation, open, record, small};
use ringpost_persist::Outcome;
use ringpost_persist::embedded;
use ringpost_persist::files::RealFiles;
use ringpost_persist::prng::Prng;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const DIRECTORY: &str = "RINGPOST_TEST_KILL";
const CONVERSATIONS: usize = 6;
/// About 100 of them in a month.
const APART_US: u64 = 8 * 3_600_000_000;

/// The process that is killed: says what was acknowledged.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let mut heads = heads(&dir);
    let mut opened = embedded::open(Arc::new(RealFiles), small(&dir)).unwrap();
    let port = &mut opened.ports[0];
    for turn in 0.. {
        let n = turn % CONVERSATIONS;
        let head = heads[n];
        let records = (1..=3).map(|k| record(n, head + k, (head + k) * APART_US)).collect();
        port.submit(append(n, head, records)).unwrap();
        port.flush();
        let answer = loop {
            match port.poll() {
                Some(answer) => break answer,
                None => std::thread::yield_now(),
            }
        };
        match answer.outcome {
            Outcome::Appended { head } => heads[n] = head,
            Outcome::Unavailable => continue,
            other => panic!("{other:?}"),
        }
        // The harness of tests captures what is printed, but not what is written.
        let line = format!("acknowledged {n} {}\n", heads[n]);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

fn heads(dir: &std::path::Path) -> [u64; CONVERSATIONS] {
    let trees = open(small(dir)).committer.trees();
    std::array::from_fn(|n| {
        let log = trees.log_of(&conversation(n)).unwrap();
        for (found, seq) in log.iter().zip(1..) {
            assert_eq!(format!("{found:?}"), format!("{:?}", record(n, seq, seq * APART_US)));
        }
        log.len() as u64
    })
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let dir = TempDir::new();
    let mut prng = Prng::new(9);
    let mut acknowledged = [0; CONVERSATIONS];
    let mut covered = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(DIRECTORY, &*dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            for line in lines.map_while(Result::ok) {
                // The last line may be cut.
                let mut words = line.split(' ').skip_while(|word| !word.ends_with("acknowledged")).skip(1);
                if let (Some(n), Some(head)) = (words.next(), words.next()) {
                    said.push((n.parse::<usize>().unwrap(), head.parse::<u64>().unwrap()));
                }
            }
            said
        });
        std::thread::sleep(Duration::from_millis(100 + prng.below(200)));
        child.kill().unwrap();
        child.wait().unwrap();
        for (n, head) in reader.join().unwrap() {
            acknowledged[n] = acknowledged[n].max(head);
        }
        let found = heads(&dir);
        for n in 0..CONVERSATIONS {
            assert!(found[n] >= acknowledged[n], "round {round}: {found:?} of {acknowledged:?}");
        }
        covered = open(small(&dir)).report.covered;
    }
    assert!(acknowledged.iter().sum::<u64>() > 500, "{acknowledged:?}");
    assert!(covered > 100, "the trees hold {covered} batches");
}
