//! What a version wrote into its trees is read for ever. `../golden/store-v2` is a whole directory of rows of version 2: trees
//! of three months, and in the log behind them what came after their checkpoint. `relay-v2` is one that relays: months have
//! gone, and there are rows and entries of what members missed.

use super::equal::{Pair, Step};
use crate::common::TempDir;
use crate::common::records::GROUP;
use ringpost_persist::content_hash_v1;
use ringpost_persist::embedded::Retention;
use std::path::Path;

/// What is stored, of every kind of row. Fixed for ever: the files hold it.
fn story() -> Vec<Step> {
    let append = |n, records, cmid, days| Step::Append { n, beside: 0, records, cmid, days };
    let say = |n, what, sender, about, whom| Step::Say { n, what, sender, about, whom };
    let raise = |n, register, user, value| Step::Raise { n, register, user, device: 1, value };
    let cas = |user, expected, bytes| Step::Cas { user, expected, bytes };
    let put = |number| Step::Put { user: 1, number };
    let mut steps = vec![
        append(0, 2, 0, 0),
        append(1, 5, 0, 0),
        // A group, who comes into it, its name, an admin, who goes.
        say(GROUP, 3, 0, 0, 1),
        say(GROUP, 4, 0, 0, 2),
        append(GROUP, 4, 0, 0),
        say(GROUP, 7, 0, 3, 0),
        say(GROUP, 8, 0, 1, 1),
        say(GROUP, 5, 0, 0, 2),
        // In the direct one an edit, a reaction, a block with what it hides, and something that is taken back.
        say(1, 0, 0, 1, 0),
        say(1, 1, 1, 1, 0),
        say(1, 9, 0, 2, 0),
        append(1, 3, 6, 0),
        say(1, 9, 0, 3, 0),
        say(1, 2, 1, 2, 0),
        cas(0, 0, 0),
        cas(0, 1, 1),
        cas(1, 0, 0),
        put(1),
        put(2),
        put(3),
        Step::Take { user: 1, number: 2 },
        // The months after.
        append(1, 3, 10, 40),
        append(GROUP, 3, 10, 0),
        append(2, 1, 0, 40),
    ];
    steps.extend((0..10).flat_map(|register| [raise(1, register, 0, 4), raise(GROUP, register, 1, 3)]));
    steps.push(Step::Checkpoint);
    // Behind the trees.
    steps.extend([append(1, 2, 20, 0), append(0, 1, 2, 0), raise(1, 0, 1, 5), put(4), cas(1, 1, 0)]);
    steps
}

/// The same of a store that relays. Fixed for ever, too.
fn relayed() -> Vec<Step> {
    let append = |n, records, cmid, days| Step::Append { n, beside: 0, records, cmid, days };
    let raise = |n, register, user, value| Step::Raise { n, register, user, device: 1, value };
    vec![
        append(1, 4, 0, 0),
        append(2, 2, 0, 0),
        append(1, 4, 4, 40),
        append(1, 2, 8, 40),
        append(1, 2, 10, 35),
        // It is March: November and January go.
        Step::Expire,
        // 5 to 8, and 1 to 7: it begins at 1 + 4 (value % 7).
        raise(1, 12, 1, 8),
        raise(1, 12, 0, 7),
        raise(1, 1, 1, 12),
        append(1, 1, 12, 0),
        Step::Checkpoint,
        // Behind the trees.
        raise(1, 12, 1, 9),
        append(2, 1, 2, 0),
    ]
}

/// Where `RINGPOST_GOLDEN` names a directory, what is written today is kept in it under this name, unless it is there: the
/// files of the next version are made so.
fn written(story: &[Step], retention: Retention, name: &str) -> Pair {
    let mut pair = Pair::with(retention);
    (pair.content_hash, pair.any_erased_hash) = (content_hash_v1, true);
    story.iter().for_each(|step| pair.step(step));
    let dir = pair.close();
    let kept = std::env::var_os("RINGPOST_GOLDEN").map(|kept| Path::new(&kept).join(name));
    if let Some(kept) = kept.filter(|kept| !kept.exists()) {
        copy(dir, &kept);
    }
    pair
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn a_store_with_rows_of_version_2_is_read_and_written_on() {
    let (today, dir) = (written(&story(), Retention::History, "store-v2"), TempDir::new());
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v2"), &dir);
    let mut pair = today.of(dir);
    pair.compare_all();
    pair.step(&Step::Append { n: 1, beside: 0, records: 2, cmid: 30, days: 1 });
    pair.step(&Step::Say { n: GROUP, what: 4, sender: 0, about: 0, whom: 3 });
    pair.step(&Step::Checkpoint);
    pair.step(&Step::Compact);
    pair.reopen();
    pair.compare_all();
}

#[test]
fn what_had_expired_and_was_missed_is_known_of_a_store_that_relayed() {
    let today = written(&relayed(), Retention::Relay { days: 30 }, "relay-v2");
    let dir = TempDir::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/relay-v2"), &dir);
    let mut pair = today.of(dir);
    pair.compare_all();
    pair.step(&Step::Append { n: 1, beside: 0, records: 2, cmid: 30, days: 1 });
    pair.step(&Step::Raise { n: 1, register: 12, user: 1, device: 1, value: 9 });
    pair.step(&Step::Checkpoint);
    pair.reopen();
    pair.compare_all();
}
