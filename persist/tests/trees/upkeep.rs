//! What merges do to the disk: their tables go there, and leave it, bit by bit.

use crate::common::TempDir;
use crate::common::records::{append, ask, open, record, small};
use ringpost_persist::embedded::Stats;
use ringpost_persist::{Body, Outcome, Record};
use std::time::{Duration, Instant};

/// 15 January 2026, Unix microseconds.
const JANUARY: u64 = 1_768_435_200_000_000;
/// More than enough for reads that began before a table was removed.
const LATER: Duration = Duration::from_secs(60);

/// Bytes of a message.
const LEN: usize = 60_000;

/// So many bytes that do not become fewer by compression.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn tables_of_a_merge_go_to_the_disk_while_they_are_written_and_those_it_replaces_are_given_back_bit_by_bit() {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    let (mut seq, mut checkpoints, mut merged) = (0, 0, 0);
    // Looked at now and then while it is written: of a small merge perhaps at its end only.
    while merged < 1 << 20 {
        // Two conversations: the tables overlap, so that they are merged, not only moved.
        for _ in 0..32 {
            seq += 1;
            for conversation in [1, 2] {
                let body = Body::Payload(noise(seq, LEN).into());
                let written = Record { body, ..record(conversation, seq, JANUARY) };
                let appended = ask(&mut committer, append(conversation, seq - 1, vec![written]));
                assert!(matches!(appended, Outcome::Appended { .. }), "{appended:?}");
            }
        }
        committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
        checkpoints += 1;
        assert!(checkpoints < 64, "{merged} bytes of all that was merged");
        let before = committer.trees().trickled_bytes();
        let done = committer.trees().compact();
        assert!(done.errors.is_empty(), "{done:?}");
        merged += committer.trees().trickled_bytes() - before;
    }
    let (now, go_on) = (Instant::now(), || false);
    let left = committer.trees().give_back(now, &go_on).unwrap();
    assert!(left > 1 << 20, "{left} bytes of removed tables are held open");
    assert_eq!(committer.trees().give_back(now + LATER, &go_on).unwrap(), 0);
    let log = committer.trees().log_of(&crate::common::records::conversation(1)).unwrap();
    assert_eq!(log.len() as u64, seq);
    assert_eq!(log.last().unwrap().body, Body::Payload(noise(seq, LEN).into()));
}
