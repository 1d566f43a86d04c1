//! Damage of what had been durable: the store refuses to open and says where.

use crate::world::{Disk, append, conversation, record_of};
use ringpost_persist::embedded::committer::{Committer, Recovery};
use ringpost_persist::embedded::{OpenError, Options, segment_name};
use ringpost_persist::files::SECTOR;
use std::path::{Path, PathBuf};

fn open(disk: &Disk, incarnation_seed: u64) -> Result<Recovery, OpenError> {
    let mut next = incarnation_seed;
    let entropy = Box::new(move || {
        next += 1;
        next
    });
    let mut options = Options { segment_bytes: 8 << 10, entropy, ..disk.options(0) };
    Committer::open(disk.files(), &mut options)
}

fn path(segment: u64) -> PathBuf {
    Path::new("/data").join(segment_name(segment))
}

fn content(files: &Disk, segment: u64) -> Vec<u8> {
    files.contents().into_iter().find(|(name, _)| *name == path(segment)).unwrap().1
}

/// A log of three full segments and one that is not full, by batches of one record each.
fn four_segments(incarnation_seed: u64) -> Disk {
    let files = Disk::new();
    let mut committer = open(&files, incarnation_seed).unwrap().committer;
    let mut answers = Vec::new();
    for head in 0..16 {
        committer.stage(0, append(0, head, vec![record_of(head + 1, head + 1, 300 * (1 + head as usize % 8))]));
        committer.commit(&mut answers).unwrap();
    }
    drop(committer);
    files
}

/// Where the batches of a segment begin, found by their magic; nothing in these bodies looks like it.
fn batches(segment: &[u8]) -> Vec<usize> {
    (SECTOR..segment.len()).step_by(SECTOR).filter(|at| segment[*at..].starts_with(b"rpB1")).collect()
}

fn records(recovery: &Recovery) -> u64 {
    recovery.report.records
}

#[test]
fn damage_before_the_last_batch_refuses_and_names_segment_and_offset() {
    let files = four_segments(1);
    let mut places = 0;
    for segment in 1..=4 {
        let good = content(&files, segment);
        let starts = batches(&good);
        assert!(starts.len() >= 2, "segment {segment}: {starts:?}");
        let end = good.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for sector in (SECTOR..end).step_by(SECTOR) {
            let batch = *starts.iter().rfind(|start| **start <= sector).unwrap();
            if segment == 4 && batch == *starts.last().unwrap() {
                break;
            }
            for garbage in [0x00, 0xff] {
                let mut bad = good.clone();
                let rest = &mut bad[sector..end.min(sector + SECTOR)];
                rest.iter_mut().for_each(|byte| *byte = if garbage == 0 { 0 } else { !*byte });
                files.tamper(&path(segment), Some(bad));
                let error = open(&files, 100).err().expect("it opened over damage");
                let place = (segment_name(segment), batch as u64);
                assert!(
                    matches!(&error, OpenError::Damaged { segment, offset } if (segment.clone(), *offset) == place),
                    "{error}, not {place:?}"
                );
                let line = error.to_string();
                assert!(line.contains(&place.0) && line.contains(&place.1.to_string()) && !line.contains('\n'));
                places += 1;
            }
        }
        files.tamper(&path(segment), Some(good));
    }
    assert!(places > 50, "{places}");
    assert_eq!(records(&open(&files, 100).unwrap()), 16);
}

#[test]
fn one_wrong_bit_anywhere_is_refused_or_costs_the_last_batch_at_most() {
    let files = four_segments(1);
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for segment in 1..=4 {
        let good = content(&files, segment);
        for at in (0..good.len()).step_by(5) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            files.tamper(&path(segment), Some(bad));
            match open(&files, 100) {
                Err(_) => refused += 1,
                Ok(recovery) => {
                    let log = recovery.committer.trees().log_of(&conversation(0)).unwrap();
                    for (record, seq) in log.iter().zip(1..) {
                        let written = record_of(seq, seq, 300 * (1 + (seq as usize - 1) % 8));
                        assert_eq!(record.body, written.body, "byte {at} of segment {segment}: record {seq}");
                    }
                    match log.len() {
                        16 => harmless += 1,
                        15 => cut += 1,
                        other => panic!("byte {at} of segment {segment}: {other} records"),
                    }
                    // What was opened has made a segment of its own.
                    files.tamper(&path(5), None);
                }
            }
        }
        files.tamper(&path(segment), Some(good));
    }
    // Padding, reserved space, the last batch.
    assert!(refused > 1_000 && cut > 50 && harmless > 100, "{refused}, {cut}, {harmless}");
}

#[test]
fn a_torn_last_batch_is_cut_and_the_log_goes_on_without_it() {
    let files = four_segments(1);
    let mut bad = content(&files, 4);
    let last = *batches(&bad).last().unwrap();
    bad[last + 40] ^= 1;
    files.tamper(&path(4), Some(bad));
    let mut recovery = open(&files, 100).unwrap();
    assert_eq!(records(&recovery), 15);
    assert!(recovery.report.cut_bytes > 0);
    let mut answers = Vec::new();
    recovery.committer.stage(0, append(0, 15, vec![record_of(16, 99, 10)]));
    recovery.committer.commit(&mut answers).unwrap();
    drop(recovery);
    let recovery = open(&files, 200).unwrap();
    assert_eq!((records(&recovery), recovery.report.cut_bytes), (16, 0));
}

#[test]
fn a_damaged_header_or_a_missing_segment_refuses() {
    let files = four_segments(1);
    for segment in 1..=4 {
        let good = content(&files, segment);
        for at in [0, 8, 16, 35, 40, 48, 56, 60] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            files.tamper(&path(segment), Some(bad));
            let error = open(&files, 100).err().expect("it opened over a damaged header");
            let expected = segment_name(segment);
            assert!(
                matches!(&error, OpenError::Damaged { segment, offset: 0 } if *segment == expected),
                "byte {at}: {error}"
            );
        }
        files.tamper(&path(segment), None);
        let missing = open(&files, 100);
        if segment < 4 {
            let error = missing.err().expect("it opened without a segment");
            assert!(
                matches!(&error, OpenError::Missing { segment: name } if *name == segment_name(segment)),
                "{error}"
            );
        }
        files.tamper(&path(segment), Some(good));
    }
}

#[test]
fn segments_of_another_store_are_refused() {
    let (files, other) = (four_segments(1), four_segments(50_000));
    files.tamper(&path(2), Some(content(&other, 2)));
    let error = open(&files, 100).err().expect("it opened with another store's segment");
    assert!(matches!(&error, OpenError::Foreign { segment } if *segment == segment_name(2)), "{error}");
}

#[test]
fn a_lost_identity_refuses_where_there_is_a_log() {
    for change in [None, Some(b"noise".to_vec())] {
        let files = four_segments(1);
        files.tamper(Path::new("/data/identity"), change);
        let error = open(&files, 100).err().expect("it opened without an identity");
        assert!(matches!(error, OpenError::Identity(_)), "{error}");
    }
}

#[test]
fn the_directory_belongs_to_one_process_at_a_time() {
    let files = Disk::new();
    let first = open(&files, 1).unwrap();
    let error = open(&files, 1).err().expect("it was opened twice");
    assert_eq!(error.to_string(), "data directory /data is in use by another process");
    drop(first);
    open(&files, 1).unwrap();
}

#[test]
fn a_segment_that_is_shorter_than_its_header_was_not_cut_by_a_crash() {
    let files = four_segments(1);
    for segment in 1..=4 {
        let good = content(&files, segment);
        for len in [0, 1, 100, SECTOR - 1] {
            files.tamper(&path(segment), Some(good[..len].to_vec()));
            let error = open(&files, 100).err().expect("it opened over damage");
            assert!(
                matches!(&error, OpenError::Damaged { segment: at, offset: 0 } if *at == segment_name(segment)),
                "{len} bytes of segment {segment}: {error}"
            );
        }
        files.tamper(&path(segment), Some(good));
    }
}
