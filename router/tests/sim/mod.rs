//! The deterministic simulator: clients, network, shards and store in one seeded process, in virtual time, with faults.
//!
//! A world is a seed. `plan` draws from it what will happen, `world` lets it happen, `oracle` judges, `shrink` makes a
//! failing world small, `coverage` says what a run went through and whether that is enough.

mod answers;
mod asks;
mod clients;
mod coverage;
mod devices;
mod dice;
mod draw;
mod edge;
mod expiry;
mod faults;
mod fold;
mod frames;
mod groups;
mod limit;
mod links;
mod network;
mod node;
mod oracle;
mod past;
mod plan;
mod presence;
mod queue;
mod restore;
mod said;
mod settings;
mod shrink;
mod slices;
mod typing;
mod world;

use coverage::Total;
use plan::Plan;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Runs worlds `first`, `first` + 1, ... on `threads` threads, and tells `begun` how many were begun before each. Prints the
/// trace of one that fails, as small as `tries` runs can make it; 0: no trace.
pub fn run(first: u64, worlds: u64, threads: usize, tries: usize, begun: impl Fn(u64) + Sync) -> Result<(), String> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut total = Total::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= worlds || failed.load(Ordering::Relaxed) {
                return Ok(total);
            }
            begun(at);
            let plan = Plan::draw(first + at);
            let report = shrink::run(&plan, false);
            if let Some(violation) = report.violation {
                failed.store(true, Ordering::Relaxed);
                return Err(Box::new((plan, violation)));
            }
            total.add(&report.coverage);
        }
    };
    let mut total = Total::default();
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|thread| thread.join().expect("a thread of the simulator")).collect()
    });
    for result in results {
        match result {
            Ok(part) => total.merge(part),
            Err(failure) => return Err(explain(failure.0, failure.1, tries)),
        }
    }
    total.print();
    let gaps = total.gaps();
    if gaps.is_empty() { Ok(()) } else { Err(format!("not enough was seen:\n  {}", gaps.join("\n  "))) }
}

fn explain(plan: Plan, violation: String, tries: usize) -> String {
    let seed = plan.seed;
    let failure = format!("world {seed} fails: {violation}");
    if tries > 0 {
        let (smaller, violation) = shrink::shrink(plan, violation, tries);
        shrink::print(&smaller, &violation);
    }
    failure
}
