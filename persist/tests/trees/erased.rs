//! What was erased leaves the disk, also where nothing is written any more.

use crate::common::TempDir;
use crate::common::records::{append, ask, open, record, small};
use ringpost_persist::embedded::Stats;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::{Body, Outcome, Record};
use ringpost_proto::v1::kind::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// 15 January and 15 March 2026, Unix microseconds.
const JANUARY: u64 = 1_768_435_200_000_000;
const MARCH: u64 = JANUARY + 59 * 86_400_000_000;
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn is_on_disk(dir: &Path, secret: &str) -> bool {
    let mut entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.any(|path| match path.is_dir() {
        true => is_on_disk(&path, secret),
        false => std::fs::read(&path).unwrap().windows(secret.len()).any(|bytes| bytes == secret.as_bytes()),
    })
}

fn write(committer: &mut Committer, written: Record) {
    let appended = ask(committer, append(1, written.seq - 1, vec![written]));
    assert!(matches!(appended, Outcome::Appended { .. }), "{appended:?}");
}

#[test]
fn who_starts_anew_every_day_does_not_keep_what_was_erased() {
    let dir = TempDir::new();
    let (trees, secret) = (dir.join("trees"), "Qx7-erased-Vb2");
    let mut committer = open(small(&dir)).committer;
    write(&mut committer, Record { body: Body::Payload(secret.into()), ..record(1, 1, JANUARY) });
    write(&mut committer, record(1, 2, MARCH));
    let checkpoint =
        |committer: &mut Committer| committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    checkpoint(&mut committer);
    let erasure = Record { kind: Value::Erase, ref_seq: 1, body: Body::Text("".into()), ..record(1, 3, MARCH + 1) };
    write(&mut committer, erasure);
    checkpoint(&mut committer);
    drop(committer);
    let merged_after_a_start = || {
        let committer = open(small(&dir)).committer;
        committer.trees().compact();
        !is_on_disk(&trees, secret)
    };
    assert!(!merged_after_a_start(), "it was written just now");
    let two_days_ago = std::time::SystemTime::now() - 2 * DAY;
    for tree in ["history-2026-01", "history-2026-03"] {
        for table in std::fs::read_dir(trees.join(tree).join("tables")).unwrap() {
            let table = std::fs::File::options().write(true).open(table.unwrap().path()).unwrap();
            table.set_modified(two_days_ago).unwrap();
        }
    }
    let march = || std::fs::read_dir(trees.join("history-2026-03/tables")).unwrap().count();
    let before = march();
    assert!(merged_after_a_start());
    assert_eq!(march(), before, "this month goes on");
}

#[test]
fn an_erased_body_of_a_month_that_is_over_is_gone_from_its_files_a_day_later() {
    let dir = TempDir::new();
    let (trees, secret) = (dir.join("trees"), "Qx7-erased-Vb2");
    let mut committer = open(small(&dir)).committer;
    write(&mut committer, Record { body: Body::Payload(secret.into()), ..record(1, 1, JANUARY) });
    write(&mut committer, record(1, 2, JANUARY + 1));
    let checkpoint =
        |committer: &mut Committer| committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    checkpoint(&mut committer);
    assert!(is_on_disk(&trees, secret));
    let erasure = Record { kind: Value::Erase, ref_seq: 1, body: Body::Text("".into()), ..record(1, 3, MARCH) };
    write(&mut committer, erasure);
    checkpoint(&mut committer);
    let now = Instant::now();
    assert!(committer.trees().compact_at(now, &|| false).errors.is_empty());
    let rested = committer.trees().compact_at(now + DAY, &|| false);
    assert!(rested.merges > 0 && rested.errors.is_empty(), "{rested:?}");
    assert!(!is_on_disk(&trees, secret));
    // Once is enough; and all else is there.
    assert_eq!(committer.trees().compact_at(now + 3 * DAY, &|| false).merges, 0);
    drop(committer);
    let committer = open(small(&dir)).committer;
    let log = committer.trees().log_of(&crate::common::records::conversation(1)).unwrap();
    let bodies: Vec<_> = log.iter().map(|record| matches!(record.body, Body::Erased(_))).collect();
    assert_eq!(bodies, [true, false, false]);
}
