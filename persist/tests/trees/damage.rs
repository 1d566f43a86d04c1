//! Files of trees that are not as they were written: the store refuses and says where, or a read fails; what is read is
//! never wrong.

use crate::common::TempDir;
use crate::common::records::{append, ask, conversation, open, record, small};
use ringpost_persist::embedded::committer::Committer;
use ringpost_persist::embedded::{OpenError, Stats};
use ringpost_persist::files::RealFiles;
use ringpost_persist::prng::Prng;
use ringpost_persist::{Outcome, Record};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const CONVERSATIONS: usize = 3;
const MONTH_US: u64 = 31 * 86_400_000_000;

/// Two months, merged and unmerged tables, and a tail of the log that is not in them.
fn filled() -> TempDir {
    let dir = TempDir::new();
    let mut committer = open(small(&dir)).committer;
    let mut head = [0; CONVERSATIONS];
    for turn in 0..30_u64 {
        for (n, head) in head.iter_mut().enumerate() {
            let records: Vec<_> = (1..=3).map(|k| record(n, *head + k, turn / 15 * MONTH_US + *head + k)).collect();
            assert!(matches!(ask(&mut committer, append(n, *head, records)), Outcome::Appended { .. }));
            *head += 3;
        }
        if turn < 27 {
            committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
        }
        if turn % 10 == 7 {
            assert!(committer.trees().compact().errors.is_empty());
        }
    }
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn files(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, all) } else { all.push(path) }
    }
}

fn logs(committer: &Committer) -> [Result<String, String>; CONVERSATIONS] {
    let text = |log: Vec<Arc<Record>>| format!("{log:?}");
    std::array::from_fn(|n| committer.trees().log_of(&conversation(n)).map(text).map_err(|e| e.to_string()))
}

/// Opens a damaged copy; true: it refused.
fn refuses(dir: &Path, expected: &[Result<String, String>; CONVERSATIONS], what: &str) -> bool {
    match Committer::open(Arc::new(RealFiles), &mut small(dir)) {
        Err(error) => {
            let line = error.to_string();
            assert!(matches!(error, OpenError::Tree { .. }), "{what}: {line}");
            assert!(line.contains("/trees/") && line.contains("refusing to start"), "{what}: {line}");
            true
        }
        Ok(recovery) => {
            for (found, expected) in logs(&recovery.committer).iter().zip(expected) {
                assert!(found.is_err() || found == expected, "{what}: something else was read");
            }
            false
        }
    }
}

#[test]
fn damage_of_a_tree_is_refused_or_a_failed_read_and_never_another_answer() {
    let dir = filled();
    let expected = logs(&open(small(&dir)).committer);
    assert!(expected.iter().all(Result::is_ok));
    let mut all = Vec::new();
    files(&dir.join("trees"), &mut all);
    assert!(all.len() > 8, "{all:?}");
    let mut prng = Prng::new(3);
    let (mut refused, mut served) = (0, 0);
    for path in &all {
        let inside = path.strip_prefix(&*dir).unwrap();
        let good = fs::read(path).unwrap();
        let mut damages: Vec<(String, Option<Vec<u8>>)> = vec![
            ("missing".into(), None),
            ("empty".into(), Some(Vec::new())),
            ("half".into(), Some(good[..good.len() / 2].to_vec())),
        ];
        for _ in 0..12 {
            let at = prng.below(good.len() as u64) as usize;
            let mut bad = good.clone();
            bad[at] ^= 1 << prng.below(8);
            damages.push((format!("bit in byte {at} of {}", good.len()), Some(bad)));
        }
        for (what, bad) in damages {
            let trial = TempDir::new();
            copy(&dir, &trial);
            match &bad {
                Some(bad) => fs::write(trial.join(inside), bad).unwrap(),
                None => fs::remove_file(trial.join(inside)).unwrap(),
            }
            match refuses(&trial, &expected, &format!("{}: {what}", inside.display())) {
                true => refused += 1,
                false => served += 1,
            }
        }
    }
    assert!(refused > all.len() && served > all.len(), "{refused} refused, {served} served");
}

#[test]
fn a_month_that_is_missing_is_named() {
    let dir = filled();
    fs::remove_dir_all(dir.join("trees/history-1970-02")).unwrap();
    let error = Committer::open(Arc::new(RealFiles), &mut small(&dir)).err().expect("it opened without a month");
    assert!(error.to_string().contains("trees/history-1970-02 is damaged: it is missing"), "{error}");
}

#[test]
fn log_and_trees_of_different_times_or_stores_are_refused() {
    let dir = filled();
    let (trees, aside) = (dir.join("trees"), dir.join("aside"));
    fs::rename(&trees, &aside).unwrap();
    let error = Committer::open(Arc::new(RealFiles), &mut small(&dir)).err().expect("it opened without its trees");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    // Older trees do not reach the log's first batch.
    let other = filled();
    fs::remove_dir_all(&trees).unwrap();
    copy(&other.join("trees"), &trees);
    let error = Committer::open(Arc::new(RealFiles), &mut small(&dir)).err().expect("it opened another store's trees");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    // The log is older than the trees.
    fs::remove_dir_all(&trees).unwrap();
    fs::rename(&aside, &trees).unwrap();
    for entry in fs::read_dir(&*dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(path).unwrap();
        }
    }
    let error = Committer::open(Arc::new(RealFiles), &mut small(&dir)).err().expect("it opened without its log");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}
