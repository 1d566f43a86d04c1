//! Errors of the disk while the store runs.

use crate::world::{Disk, append, conversation, raise, record_of};
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{self, Options};
use ringpost_persist::files::Space;
use ringpost_persist::files::crash::Operation;
use ringpost_persist::{Outcome, StoreRequest};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn options(disk: &Disk) -> Options {
    Options { segment_bytes: 8 << 10, ..disk.options(1) }
}

/// One request, committed by itself.
fn ask(committer: &mut Committer, request: StoreRequest) -> Outcome {
    let mut answers = Vec::new();
    committer.stage(0, request);
    committer.commit(&mut answers).unwrap();
    answers.remove(0).1.outcome
}

#[test]
fn an_error_of_write_or_sync_ends_the_process_and_answers_nothing() {
    for (operation, errno) in [(Operation::Write, EIO), (Operation::SyncData, EIO), (Operation::SyncDir, EIO)] {
        let files = Disk::new();
        let (failed, failure) = mpsc::channel();
        let fatal = Arc::new(move |failure: &embedded::Failure| failed.send(failure.to_string()).unwrap());
        let mut opened = embedded::open(files.files(), Options { fatal, ..options(&files) }).unwrap();
        let port = &mut opened.ports[0];
        // Nothing but commits is under way then.
        let deadline = Instant::now() + Duration::from_secs(20);
        while opened.store.stats().segments_ahead.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "no segment is made ahead");
            std::thread::yield_now();
        }
        files.fail(operation, 0, errno);
        let mut unanswered = 0;
        // Enough for a second segment, whose name must be synced.
        for head in 0.. {
            port.submit(append(0, head, vec![record_of(head + 1, head + 1, 2_000)])).unwrap();
            port.flush();
            let answer = loop {
                if let Some(answer) = port.poll() {
                    break Some(answer);
                }
                if let Ok(line) = failure.try_recv() {
                    assert!(line.contains("wal-000000000") && line.contains("os error"), "{line}");
                    break None;
                }
                std::thread::yield_now();
            };
            match answer {
                Some(answer) => assert!(matches!(answer.outcome, Outcome::Appended { .. })),
                None => {
                    unanswered += 1;
                    break;
                }
            }
        }
        assert_eq!(unanswered, 1, "{operation:?}");
        // It is never tried again.
        port.submit(append(1, 0, vec![record_of(1, 77, 10)])).unwrap();
        port.flush();
        drop(opened.store);
        assert!(port.poll().is_none());
        assert!(failure.try_recv().is_err());
    }
}

/// Appends until the log has gone on to another segment; the length of the conversation then, or the error.
fn fill_a_segment(committer: &mut Committer, files: &Disk, mut head: u64) -> Result<u64, String> {
    let is_segment = |path: &std::path::Path| path.extension().is_some_and(|it| it == "log");
    let segments = |files: &Disk| files.contents().iter().filter(|(path, _)| is_segment(path)).count();
    let before = segments(files);
    while segments(files) == before {
        let mut answers = Vec::new();
        committer.stage(0, append(0, head, vec![record_of(head + 1, head + 1, 2_000)]));
        committer.commit(&mut answers).map_err(|failure| failure.to_string())?;
        assert!(matches!(answers[0].1.outcome, Outcome::Appended { .. }));
        head += 1;
    }
    Ok(head)
}

#[test]
fn a_segment_that_cannot_be_made_is_fatal_only_when_a_batch_needs_it() {
    let faults = [(Operation::Allocate, ENOSPC), (Operation::Write, ENOSPC), (Operation::SyncData, EIO)];
    for (operation, errno) in faults {
        let files = Disk::new();
        let mut committer = Committer::open(files.files(), &mut options(&files)).unwrap().committer;
        files.fail(operation, 0, errno);
        let work = committer.make_ahead().expect("the next segment is to be made");
        assert_eq!(work.run(&|| false).unwrap_err().raw_os_error(), Some(errno));
        assert!(committer.make_ahead().is_none(), "not again before another one is needed");
        let head = fill_a_segment(&mut committer, &files, 0).unwrap();
        // From here on it is made ahead again.
        committer.make_ahead().expect("after the log went on").run(&|| false).unwrap();
        files.fail(Operation::Allocate, 0, ENOSPC);
        let head = fill_a_segment(&mut committer, &files, head).unwrap();
        let failed = fill_a_segment(&mut committer, &files, head).unwrap_err();
        assert!(failed.contains("cannot allocate wal-000000000") && failed.contains("os error 28"), "{failed}");
    }
}

#[test]
fn what_was_made_ahead_and_not_used_is_gone_after_a_restart() {
    let files = Disk::new();
    let mut committer = Committer::open(files.files(), &mut options(&files)).unwrap().committer;
    committer.make_ahead().unwrap().run(&|| false).unwrap();
    assert!(matches!(ask(&mut committer, append(0, 0, vec![record_of(1, 1, 10)])), Outcome::Appended { head: 1 }));
    drop(committer);
    files.kill();
    let _again = Committer::open(files.files(), &mut options(&files)).unwrap();
    let names: Vec<_> = files.contents().into_iter().map(|(path, _)| path).collect();
    assert!(!names.iter().any(|path| path.ends_with("wal-ahead.new")), "{names:?}");
}

#[test]
fn under_the_floor_appends_are_refused_and_everything_else_goes_on() {
    let files = Disk::new();
    let mut committer = Committer::open(files.files(), &mut options(&files)).unwrap().committer;
    let first = ask(&mut committer, append(0, 0, vec![record_of(1, 1, 10)]));
    assert!(matches!(first, Outcome::Appended { head: 1 }));

    files.set_space(Space { free: 49, total: 1_000 });
    committer.check_space();
    assert!(matches!(ask(&mut committer, append(0, 1, vec![record_of(2, 2, 10)])), Outcome::Full));
    assert!(matches!(ask(&mut committer, raise(0, 1)), Outcome::Raised));
    let read = ask(&mut committer, StoreRequest::LoadConversation { tag: 1, conversation: conversation(0) });
    assert!(matches!(read, Outcome::Conversation(Some(state)) if state.head == 1 && state.registers.len() == 1));

    files.set_space(Space { free: 50, total: 1_000 });
    committer.check_space();
    assert!(matches!(ask(&mut committer, append(0, 1, vec![record_of(2, 2, 10)])), Outcome::Appended { head: 2 }));
}

#[test]
fn the_floor_is_the_share_that_was_asked_for() {
    let files = Disk::new();
    let options = Options { free_floor_percent: 20, ..options(&files) };
    let mut committer = Committer::open(files.files(), &mut { options }).unwrap().committer;
    for (free, refused) in [(200, false), (199, true), (50, true), (200, false)] {
        files.set_space(Space { free, total: 1_000 });
        committer.check_space();
        assert_eq!(committer.is_full(), refused, "{free} of 1,000 free");
    }
}

/// The disk of a small box: the next segment would not fit long before a share of it is left.
#[test]
fn a_disk_that_fills_up_refuses_appends_and_ends_nothing() {
    const DISK: u64 = 1 << 20;
    // A record of 2,000 bytes, in whole sectors.
    const BATCH: u64 = 5 * 512;
    let files = Disk::new();
    files.set_size(DISK);
    let options = |disk: &Disk| Options { segment_bytes: 300 << 10, ..disk.options(1) };
    let mut head = 0;
    let mut read = 0;
    for start in 0..3 {
        let mut committer = Committer::open(files.files(), &mut options(&files)).unwrap().committer;
        loop {
            match ask(&mut committer, append(0, head, vec![record_of(head + 1, head + 1, 2_000)])) {
                Outcome::Appended { head: now } => head = now,
                refused => {
                    assert!(matches!(refused, Outcome::Full), "{refused:?}");
                    break;
                }
            }
        }
        // Nine tenths of the disk are put to use before anything is refused.
        assert!(head * BATCH > DISK * 9 / 10, "{head} records before start {start} was full");
        assert!(committer.is_full());
        // Acks go on, for as long as an eighth of what is left has room for them.
        for _ in 0..10 {
            read += 1;
            assert!(matches!(ask(&mut committer, raise(0, read)), Outcome::Raised));
        }
        let loaded = ask(&mut committer, StoreRequest::LoadConversation { tag: 1, conversation: conversation(0) });
        assert!(matches!(loaded, Outcome::Conversation(Some(state)) if state.head == head));
        drop(committer);
        files.kill();
    }
}

#[test]
fn room_is_noticed_also_by_a_store_that_nobody_asks() {
    let files = Disk::new();
    files.set_space(Space { free: 49, total: 1_000 });
    let opened = embedded::open(files.files(), options(&files)).unwrap();
    assert!(opened.store.stats().is_full.load(Ordering::Relaxed));
    files.set_space(Space { free: 50, total: 1_000 });
    // A store that only looks when it works would stay full for ever.
    let deadline = Instant::now() + Duration::from_secs(20);
    while opened.store.stats().is_full.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "still full");
        std::thread::sleep(Duration::from_millis(10));
    }
}
