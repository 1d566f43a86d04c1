//! Trees that cannot be written, and a disk that does not keep up.

use crate::common::TempDir;
use crate::common::records::{append, ask, conversation, open, record, small};
use ringpost_persist::embedded::{self, Options, Stats};
use ringpost_persist::files::RealFiles;
use ringpost_persist::{Outcome, Raise, RegisterKey, StoreRequest};
use ringpost_proto::id::Seq;
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const US: u64 = 1_764_000_000_000_000;

fn one(head: Seq) -> StoreRequest {
    append(1, head, vec![record(1, head + 1, US + head)])
}

fn kept(dir: &Path) -> Seq {
    let trees = open(small(dir)).committer.trees();
    let log = trees.log_of(&conversation(1)).unwrap();
    assert!(log.iter().zip(1..).all(|(record, seq)| record.seq == seq));
    log.len() as Seq
}

/// A directory of tables that is none any more: no table can be made in it.
#[test]
fn a_checkpoint_that_fails_ends_the_process_and_loses_nothing() {
    let dir = TempDir::new();
    drop(open(small(&dir)));
    let (failed, failure) = mpsc::channel();
    let fatal = Arc::new(move |failure: &embedded::Failure| failed.send(failure.to_string()).unwrap());
    let mut opened = embedded::open(Arc::new(RealFiles), Options { fatal, ..small(&dir) }).unwrap();
    let (tables, aside) = (dir.join("trees/state/tables"), dir.join("trees/aside"));
    fs::rename(&tables, &aside).unwrap();
    fs::write(&tables, "in the way").unwrap();
    let port = &mut opened.ports[0];
    let mut acknowledged = 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    let line = loop {
        if let Ok(line) = failure.try_recv() {
            break line;
        }
        assert!(Instant::now() < deadline, "nobody was told");
        if port.outstanding() == 0 {
            port.submit(one(acknowledged)).unwrap();
            port.flush();
        }
        match port.poll().map(|answer| answer.outcome) {
            Some(Outcome::Appended { head }) => acknowledged = head,
            Some(Outcome::Unavailable) | None => std::thread::yield_now(),
            Some(other) => panic!("{other:?}"),
        }
    };
    assert!(line.starts_with("checkpoint: tree state: ") && !line.contains('\n'), "{line}");
    drop(opened);
    fs::remove_file(&tables).unwrap();
    fs::rename(&aside, &tables).unwrap();
    assert!(acknowledged > 0 && kept(&dir) >= acknowledged, "{acknowledged} were acknowledged");
}

#[test]
fn compaction_that_fails_is_told_and_ends_nothing() {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    for head in 0..6 {
        assert!(matches!(ask(&mut committer, one(head)), Outcome::Appended { .. }));
        committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    }
    let (tables, aside) = (dir.join("trees/history-2025-11/tables"), dir.join("trees/aside"));
    fs::rename(&tables, &aside).unwrap();
    fs::write(&tables, "in the way").unwrap();
    let done = committer.trees().compact();
    assert!(done.errors.iter().any(|error| error.to_string().contains("tree history-2025-11: ")), "{done:?}");
    fs::remove_file(&tables).unwrap();
    fs::rename(&aside, &tables).unwrap();
    assert!(matches!(ask(&mut committer, one(6)), Outcome::Appended { .. }));
    assert!(committer.trees().compact().errors.is_empty());
    drop(committer);
    assert_eq!(kept(&dir), 7);
}

#[test]
fn who_stops_leaves_merges_to_the_next_start() {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    for head in 0..6 {
        assert!(matches!(ask(&mut committer, one(head)), Outcome::Appended { .. }));
        committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    }
    assert_eq!(committer.trees().compact_at(Instant::now(), &|| true).merges, 0);
    let asked = Cell::new(0);
    let done = committer.trees().compact_at(Instant::now(), &|| asked.replace(asked.get() + 1) > 0);
    assert_eq!(done.merges, 1, "the one that goes on is the last");
    drop(committer);
    assert!(open(small(&dir)).committer.trees().compact().merges > 0);
    assert_eq!(kept(&dir), 6);
}

#[test]
fn while_the_disk_does_not_keep_up_writes_are_refused_and_reads_go_on() {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    let mut head = 0;
    let mut under_way = None;
    let refused = loop {
        under_way = under_way.or_else(|| committer.upkeep(Instant::now(), 0));
        match ask(&mut committer, one(head)) {
            Outcome::Appended { head: now } => head = now,
            refused => break refused,
        }
        // Three times 24 KiB in memory, a few hundred bytes each.
        assert!(head < 1_000, "memory is not bounded");
    };
    assert!(matches!(refused, Outcome::Unavailable), "{refused:?}");
    let key = RegisterKey::Read(conversation(1), ringpost_proto::id::UserKey::new("default", "user1").unwrap());
    let raise = |value| StoreRequest::Raise { tag: 0, raises: vec![Raise { key: key.clone(), value, stamp: 1 }] };
    assert!(matches!(ask(&mut committer, raise(1)), Outcome::Unavailable));
    let load = || StoreRequest::LoadConversation { tag: 0, conversation: conversation(1) };
    assert!(matches!(ask(&mut committer, load()), Outcome::Conversation(Some(state)) if state.head == head));
    under_way.unwrap().run(&Stats::default()).unwrap();
    assert!(matches!(ask(&mut committer, one(head)), Outcome::Appended { .. }));
    assert!(matches!(ask(&mut committer, raise(1)), Outcome::Raised));
    drop(committer);
    assert_eq!(kept(&dir), head + 1);
}
