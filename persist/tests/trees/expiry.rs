//! Months of class relay go as a whole; what is known beside the records stays.

use crate::common::TempDir;
use crate::common::records::{append, ask, conversation, device, open, record, small, user};
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{Options, Retention, Stats};
use ringpost_persist::{LastRecord, Outcome, Raise, ReadRange, RegisterKey, StoreRequest};
use ringpost_proto::id::Seq;
use std::path::Path;
use std::time::Instant;

/// 15 January 2026 and a month later each, Unix milliseconds.
const JANUARY: u64 = 1_768_435_200_000;
const FEBRUARY: u64 = JANUARY + 31 * DAY;
const MARCH: u64 = FEBRUARY + 28 * DAY;
const DAY: u64 = 86_400_000;
/// 30 days after the end of January.
const JANUARY_GOES: u64 = JANUARY + 17 * DAY + 30 * DAY;

fn relay(dir: &Path) -> Options {
    Options { retention: Retention::Relay { days: 30 }, ..small(dir) }
}

fn write(committer: &mut Committer, n: usize, head: Seq, ms: u64) {
    let records = (1..=3).map(|k| record(n, head + k, ms * 1_000 + k)).collect();
    assert!(matches!(ask(committer, append(n, head, records)), Outcome::Appended { .. }));
}

/// Three records in each of three months of conversation 1; conversation 2 has written in January only.
fn three_months(committer: &mut Committer) {
    write(committer, 1, 0, JANUARY);
    write(committer, 2, 0, JANUARY);
    write(committer, 1, 3, FEBRUARY);
    write(committer, 1, 6, MARCH);
    let key = RegisterKey::Delivered(conversation(2), user(2), device(0));
    let raises = vec![Raise { key, value: 2, stamp: 1 }];
    assert!(matches!(ask(committer, StoreRequest::Raise { tag: 0, raises }), Outcome::Raised));
}

fn read(committer: &mut Committer, n: usize, range: ReadRange) -> (Seq, Vec<Seq>) {
    let request = StoreRequest::ReadLog {
        tag: 0,
        conversation: conversation(n),
        viewer: None,
        range,
        records: 100,
        bytes: u32::MAX,
    };
    match ask(committer, request) {
        Outcome::LogSlice { head, records, .. } => (head, records.iter().map(|record| record.seq).collect()),
        other => panic!("{other:?}"),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir.join("trees")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_without_january(committer: &mut Committer) {
    let all = ReadRange::From { from: 1, to: Seq::MAX };
    assert_eq!(read(committer, 1, all), (9, vec![4, 5, 6, 7, 8, 9]));
    assert_eq!(read(committer, 1, ReadRange::Before(6)), (9, vec![5, 4]));
    assert_eq!(read(committer, 2, all), (3, vec![]));
    // Heads, registers and the next position are what they were.
    let loaded = ask(committer, StoreRequest::LoadConversation { tag: 0, conversation: conversation(2) });
    let Outcome::Conversation(Some(state)) = loaded else { panic!("it is forgotten") };
    assert_eq!((state.head, state.tail.len(), state.registers.len()), (3, 0, 1));
    let last = record(2, 3, JANUARY * 1_000 + 3);
    assert_eq!(state.last, LastRecord { id: last.id, us: last.us, ordinal: last.ordinal });
    let page = ask(committer, StoreRequest::LoadUser { tag: 0, user: user(2), after: None, limit: 10, shown: true });
    assert!(matches!(page, Outcome::User(page) if page.entries[0].last.is_none() && page.entries[0].head == 3));
    let refused = ask(committer, append(2, 0, vec![record(2, 1, MARCH * 1_000)]));
    assert!(matches!(refused, Outcome::Conflict { head: 3 }), "{refused:?}");
}

#[test]
fn a_month_that_is_old_enough_goes_and_nothing_else() {
    let dir = TempDir::new();
    let mut committer = open(relay(&dir)).committer;
    three_months(&mut committer);
    let now = Instant::now();
    assert!(committer.upkeep(now, JANUARY_GOES - 1).is_none());
    assert_eq!(names(&dir), ["relay-2026-01", "relay-2026-02", "relay-2026-03", "state"]);
    committer.upkeep(now, JANUARY_GOES).expect("nothing was done").run(&Stats::default()).unwrap();
    assert_eq!(names(&dir), ["relay-2026-02", "relay-2026-03", "state"]);
    assert_without_january(&mut committer);
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    assert_without_january(&mut committer);
    // It goes on, and is listed again.
    write(&mut committer, 2, 3, MARCH);
    assert_eq!(read(&mut committer, 2, ReadRange::From { from: 1, to: Seq::MAX }), (6, vec![4, 5, 6]));
    let page =
        ask(&mut committer, StoreRequest::LoadUser { tag: 0, user: user(2), after: None, limit: 10, shown: true });
    assert!(
        matches!(page, Outcome::User(page) if page.entries.len() == 1 && page.entries[0].last.as_ref().is_some_and(|last| last.seq == 6))
    );
}

/// What the store says is gone of a log.
fn gone(committer: &mut Committer, n: usize) -> Vec<(Seq, Seq)> {
    let (range, conversation) = (ReadRange::From { from: 1, to: Seq::MAX }, conversation(n));
    let request = StoreRequest::ReadLog { tag: 0, conversation, viewer: None, range, records: 100, bytes: u32::MAX };
    match ask(committer, request) {
        Outcome::LogSlice { gone, .. } => gone.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn expire(committer: &mut Committer, ms: u64) {
    committer.upkeep(Instant::now(), ms).expect("nothing is due").run(&Stats::default()).unwrap();
}

#[test]
fn what_is_gone_is_known_month_after_month_and_after_each_restart() {
    let dir = TempDir::new();
    let mut committer = open(relay(&dir)).committer;
    three_months(&mut committer);
    assert_eq!(gone(&mut committer, 1), []);
    let expected = [(JANUARY_GOES, 3), (JANUARY_GOES + 28 * DAY, 6), (JANUARY_GOES + 59 * DAY, 9)];
    for (ms, upto) in expected {
        expire(&mut committer, ms);
        for _ in 0..2 {
            assert_eq!(gone(&mut committer, 1), [(1, upto)]);
            assert_eq!(gone(&mut committer, 2), [(1, 3)]);
            drop(committer);
            committer = open(relay(&dir)).committer;
        }
    }
    // What is written after that begins where all of it ended.
    write(&mut committer, 1, 9, JANUARY_GOES + 60 * DAY);
    committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    drop(committer);
    assert_eq!(gone(&mut open(relay(&dir)).committer, 1), [(1, 9)]);
}

#[test]
fn what_is_gone_between_records_that_are_kept_is_known() {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    write(&mut committer, 1, 0, JANUARY);
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    write(&mut committer, 1, 3, JANUARY + 1);
    write(&mut committer, 1, 6, FEBRUARY);
    write(&mut committer, 1, 9, MARCH);
    expire(&mut committer, JANUARY_GOES);
    assert_eq!(gone(&mut committer, 1), [(4, 6)]);
    expire(&mut committer, JANUARY_GOES + 28 * DAY);
    // The next month is begun over what has gone.
    write(&mut committer, 1, 12, MARCH + 31 * DAY);
    for _ in 0..2 {
        assert_eq!(gone(&mut committer, 1), [(4, 9)]);
        assert_eq!(read(&mut committer, 1, ReadRange::Before(11)).1, [10, 3, 2, 1]);
        drop(committer);
        committer = open(relay(&dir)).committer;
    }
}

#[test]
fn a_month_that_has_gone_never_comes_back_whatever_the_clock_says() {
    let dir = TempDir::new();
    let mut committer = open(relay(&dir)).committer;
    three_months(&mut committer);
    expire(&mut committer, JANUARY_GOES);
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    // It is January again.
    write(&mut committer, 3, 0, JANUARY + 5);
    write(&mut committer, 2, 3, JANUARY + 5);
    committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    assert_eq!(names(&dir), ["relay-2026-02", "relay-2026-03", "state"]);
    assert_eq!(read(&mut committer, 3, ReadRange::From { from: 1, to: Seq::MAX }), (3, vec![1, 2, 3]));
    assert_eq!(read(&mut committer, 2, ReadRange::Before(Seq::MAX)), (6, vec![6, 5, 4]));
    assert_eq!((gone(&mut committer, 2), gone(&mut committer, 3)), (vec![(1, 3)], vec![]));
}

#[test]
fn a_crash_before_the_end_of_an_expiry_loses_nothing_else() {
    let dir = TempDir::new();
    let mut committer = open(relay(&dir)).committer;
    three_months(&mut committer);
    committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    // Decided, and never done: the month is still there.
    drop(committer.upkeep(Instant::now(), JANUARY_GOES).unwrap());
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    assert_eq!(read(&mut committer, 1, ReadRange::From { from: 1, to: Seq::MAX }).1.len(), 9);
    // Done but for the files: the next start removes them.
    let january = dir.join("trees/relay-2026-01");
    committer.upkeep(Instant::now(), JANUARY_GOES).unwrap().run(&Stats::default()).unwrap();
    std::fs::create_dir_all(january.join("tables")).unwrap();
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    assert!(!january.exists());
    assert_without_january(&mut committer);
}

#[test]
fn records_keep_the_class_that_they_were_stored_with() {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    write(&mut committer, 1, 0, JANUARY);
    drop(committer);
    let mut committer = open(relay(&dir)).committer;
    write(&mut committer, 1, 3, JANUARY + 1);
    write(&mut committer, 1, 6, FEBRUARY);
    committer.upkeep(Instant::now(), JANUARY_GOES).unwrap().run(&Stats::default()).unwrap();
    assert_eq!(read(&mut committer, 1, ReadRange::From { from: 1, to: Seq::MAX }), (9, vec![1, 2, 3, 7, 8, 9]));
    assert_eq!(names(&dir), ["history-2026-01", "relay-2026-02", "state"]);
}

#[test]
fn a_month_that_went_while_nothing_was_written_stays_gone_after_a_merge() {
    let stats = Stats::default();
    let checkpoint = |committer: &mut Committer, unix_ms| {
        committer.checkpoint(Instant::now(), unix_ms).run(&stats).unwrap();
    };
    // Which tables are merged, and in which order, depends on how many there are.
    for (before, after) in (0..4).flat_map(|before| (0..4).map(move |after| (before, after))) {
        let dir = TempDir::new();
        let mut committer = open(relay(&dir)).committer;
        write(&mut committer, 0, 0, JANUARY - 60 * DAY);
        (0..before).for_each(|_| checkpoint(&mut committer, JANUARY - 60 * DAY));
        three_months(&mut committer);
        checkpoint(&mut committer, JANUARY);
        // It says of the same batch something else than the one before it: that January is no more.
        (0..=after).for_each(|_| checkpoint(&mut committer, JANUARY_GOES));
        let merged = committer.trees().compact();
        assert!(merged.errors.is_empty() && (merged.merges > 0 || before + after < 3), "{merged:?}");
        drop(committer);
        assert_without_january(&mut open(relay(&dir)).committer);
    }
}
