//! Crashes of the embedded store over the crash file layer.
//!
//! A world is a seed: a directory that lives through many crashes of the machine and of the process, with a writer that
//! notes what was acknowledged. After each, everything acknowledged must be there, and nothing that was once read may go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod failures;
mod world;

use ringpost_persist::files::crash::{Lies, Remainder};
use world::{Plan, Report, Violation, run};

/// Runs worlds until so many crashes have taken place.
fn crashes(first_seed: u64, most: u64, plan: &Plan<'_>) -> Result<Report, (u64, Violation)> {
    let mut report = Report::default();
    for seed in first_seed.. {
        report += run(seed, plan).map_err(|violation| (seed, violation))?;
        if report.crashes >= most {
            break;
        }
    }
    Ok(report)
}

#[test]
fn ten_thousand_crashes_lose_nothing_that_was_acknowledged() {
    let plan = Plan { remainders: &[Remainder::Pages], lies: Lies::default() };
    let report = crashes(1, 10_000, &plan).unwrap();
    println!("{report:?}");
    // The run is worth something only if the interesting moments were hit.
    assert!(report.acknowledged > 50_000, "{report:?}");
    assert!(report.kills > 1_000, "{report:?}");
    assert!(report.torn > 300, "torn batches cut off: {report:?}");
    assert!(report.landed > 300, "batches that were durable and not acknowledged: {report:?}");
    assert!(report.lost > 1_000, "batches that were neither: {report:?}");
    assert!(report.rotations > 3_000, "{report:?}");
    assert!(report.in_recovery > 500, "crashes during recovery: {report:?}");
    assert!(report.checkpoints > 5_000, "{report:?}");
    assert!(report.made_ahead > 1_000, "{report:?}");
    assert!(report.unfinished > 1_000, "checkpoints under way at a crash: {report:?}");
    assert!(report.from_trees > 5_000, "starts that did not need the whole log: {report:?}");
}

#[test]
fn a_store_that_dies_at_its_birth_opens_again() {
    for first in 0..25 {
        for second in 0..25 {
            for seed in 0..16 {
                world::birth(seed, [first, second]).unwrap_or_else(|e| panic!("{first}, {second}, {seed}: {e:?}"));
            }
        }
    }
}

#[test]
fn an_unsynced_remainder_cut_zeroed_stale_or_garbled_loses_nothing_that_was_acknowledged() {
    for remainder in Remainder::ALL {
        let report = crashes(100_000, 1_000, &Plan { remainders: &[remainder], lies: Lies::default() });
        let report = report.unwrap_or_else(|(seed, violation)| panic!("{remainder:?}, seed {seed}: {violation:?}"));
        assert!(report.torn > 20, "{remainder:?}: {report:?}");
    }
    crashes(200_000, 1_000, &Plan { remainders: &Remainder::ALL, lies: Lies::default() }).unwrap();
}

#[test]
fn without_the_fdatasync_acknowledged_messages_are_lost() {
    let plan = Plan { remainders: &[Remainder::Pages], lies: Lies { sync_data: true, sync_dir: false } };
    assert_loss(&plan);
}

#[test]
fn without_the_sync_of_the_directory_acknowledged_messages_are_lost() {
    let plan = Plan { remainders: &[Remainder::Pages], lies: Lies { sync_data: false, sync_dir: true } };
    assert_loss(&plan);
}

/// Most worlds must end in a violation, and some of them by a loss that nobody is told of.
fn assert_loss(plan: &Plan<'_>) {
    let violations: Vec<_> = (0..50).filter_map(|seed| run(seed, plan).err()).collect();
    assert!(violations.len() > 40, "only {} of 50 worlds", violations.len());
    assert!(violations.iter().any(|violation| matches!(violation, Violation::Lost(_))), "{violations:?}");
}
