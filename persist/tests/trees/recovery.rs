//! A long log is read again in the memory of a short one.

use crate::common::TempDir;
use crate::common::records::{append, ask, conversation, open, record, small};
use ringpost_persist::embedded::Options;
use ringpost_persist::{Body, Outcome, Record};
use ringpost_proto::id::Seq;
use ringpost_proto::v1::kind::Value;
use std::path::Path;
use std::time::Instant;

const US: u64 = 1_764_000_000_000_000;
/// Records from one erasure to the next: so many that what it takes back is looked for in the tables, for which all that waits
/// comes into them, and so few that they are not enough for a flush.
const BETWEEN: Seq = 600;
const ERASURES: Seq = 10;

fn roomy(dir: &Path) -> Options {
    Options { segment_bytes: 1 << 20, memory_bytes: 400 << 10, ..small(dir) }
}

#[test]
fn a_log_with_erasures_is_flushed_while_it_is_read_like_any_other() {
    for erases in [false, true] {
        let dir = TempDir::new();
        let mut committer = open(roomy(&dir)).committer;
        let mut head = 0;
        for _ in 0..ERASURES {
            for _ in 0..BETWEEN / 60 {
                let records = (head + 1..=head + 60).map(|seq| record(1, seq, US + seq)).collect();
                assert!(matches!(ask(&mut committer, append(1, head, records)), Outcome::Appended { .. }));
                head += 60;
            }
            let (kind, ref_seq) = if erases { (Value::Erase, head - 7) } else { (Value::Text, 0) };
            let last = Record { kind, ref_seq, body: Body::Text("".into()), ..record(1, head + 1, US + head + 1) };
            assert!(matches!(ask(&mut committer, append(1, head, vec![last])), Outcome::Appended { .. }));
            head += 1;
        }
        // Several times as much as memory may hold, of which nothing was written to the trees.
        assert!(committer.uncovered_bytes() > 4 * roomy(&dir).memory_bytes);
        assert_eq!(committer.trees().bytes_on_disk()[1], 0);
        drop(committer);

        let mut recovery = open(roomy(&dir));
        assert_eq!(recovery.report.records, head);
        let committer = &mut recovery.committer;
        assert!(committer.trees().bytes_on_disk()[1] > 0);
        assert!(committer.upkeep(Instant::now(), 0).is_none(), "more is in memory than may be");
        let log = committer.trees().log_of(&conversation(1)).unwrap();
        assert_eq!(log.len() as Seq, head);
        let erased = log.iter().filter(|record| matches!(record.body, Body::Erased(_))).count() as Seq;
        assert_eq!(erased, if erases { ERASURES } else { 0 });
    }
}
