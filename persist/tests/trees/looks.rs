//! How many rows an answer looks at.

use crate::common::TempDir;
use crate::common::records::*;
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::{Outcome, Record, StoreRequest};
use ringpost_proto::id::Seq;

const BASE_US: u64 = 1_764_000_000_000_000;

/// Appends records of one sender, so far apart.
fn say(committer: &mut Committer, sender: usize, head: Seq, many: u64, apart_us: u64) -> Seq {
    for from in (head..head + many).step_by(50) {
        let record = |seq| Record { sender: user(sender), ..record(1, seq, BASE_US + seq * apart_us) };
        assert!(matches!(
            ask(committer, append(1, from, (from + 1..=from + 50).map(record).collect())),
            Outcome::Appended { .. }
        ));
    }
    head + many
}

fn rows(committer: &Committer, request: &StoreRequest) -> (Outcome, u64) {
    let (found, rows) = committer.trees().read_and_count(request);
    (found.unwrap().unwrap(), rows)
}

#[test]
fn what_is_unread_is_counted_without_a_look_at_each_record() {
    let dir = TempDir::new();
    let mut committer = open(options(&dir, 1)).committer;
    let answered = say(&mut committer, 1, 0, 50, 1_000);
    let head = say(&mut committer, 0, answered, 10_000, 1_000);
    let ask = |committer: &Committer, who, upto| {
        let request = StoreRequest::CountRead { tag: 0, conversation: conversation(1), user: user(who), upto };
        let (outcome, rows) = rows(committer, &request);
        let Outcome::Counted(count) = outcome else { panic!("{outcome:?}") };
        (count, rows)
    };
    for upto in [answered, answered + 1, answered + 5_000, head - 1, head] {
        let (count, rows) = ask(&committer, 1, upto);
        assert_eq!(count, upto - answered);
        assert!(rows < 10, "{rows} rows up to {upto}");
    }
    // Up to its own last record there is no number that tells which are its own.
    assert_eq!(ask(&committer, 1, 0).0, 0);
    assert_eq!(ask(&committer, 0, head), (50, 2));
}

#[test]
fn a_room_is_loaded_with_the_rows_of_two_minutes() {
    let dir = TempDir::new();
    let mut committer = open(options(&dir, 1)).committer;
    let head = say(&mut committer, 0, 0, 5_000, 1_000_000);
    let (outcome, rows) = rows(&committer, &StoreRequest::LoadConversation { tag: 0, conversation: conversation(1) });
    let Outcome::Conversation(Some(state)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((state.tail.len(), state.head), (256, head));
    assert!(rows < 270, "{rows} rows");
}
