//! Makes a failing world small: leaves out parts of its plan as long as it still fails.

use super::plan::{Action, Plan};
use super::world::{Report, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a plan; a panic of the code under test counts as a violation.
pub fn run(plan: &Plan, traced: bool) -> Report {
    let plan = plan.clone();
    let caught = catch_unwind(AssertUnwindSafe(|| World::run(plan, traced)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Some(format!("panic: {}", text.unwrap_or_default()));
        Report { coverage: Default::default(), violation, trace: Vec::new() }
    })
}

/// The smallest plan that `tries` runs find and that fails in the same way, and why it fails.
pub fn shrink(plan: Plan, violation: String, mut tries: usize) -> (Plan, String) {
    let (mut plan, mut violation) = (plan, violation);
    let kind = kind_of(&violation);
    let mut chunk = plan.actions.len().div_ceil(2);
    while chunk > 0 && tries > 0 {
        let mut from = 0;
        while from < plan.actions.len() && tries > 0 {
            let mut smaller = plan.clone();
            let end = (from + chunk).min(smaller.actions.len());
            smaller.actions.drain(from..end);
            tries -= 1;
            match run(&smaller, false).violation.filter(|why| kind_of(why) == kind) {
                Some(why) => (plan, violation) = (smaller, why),
                None => from = end,
            }
        }
        chunk /= 2;
    }
    (plan, violation)
}

/// A violation without its numbers.
fn kind_of(violation: &str) -> String {
    violation.chars().filter(|c| !c.is_ascii_digit()).take(40).collect()
}

/// What a reader needs to see the failure: the plan, and what happened until then.
pub fn print(plan: &Plan, violation: &str) {
    println!("seed {}: {violation}", plan.seed);
    println!(
        "  shards {}, devices of users {:?}, window {} pushes, {} bytes, latency {} us, mesh {} us, tokens {} ms",
        plan.shards, plan.users, plan.window_pushes, plan.window_bytes, plan.latency_us, plan.mesh_us, plan.token_ms
    );
    println!("  store {:?}", plan.store);
    let sends = plan.actions.iter().filter(|(_, action)| matches!(action, Action::Send { .. })).count();
    println!("  {} actions, {sends} of them sends; what happened:", plan.actions.len());
    let trace = run(plan, true).trace;
    let trace: Vec<&String> = trace.iter().filter(|line| !line.ends_with("<- Timer")).collect();
    let (head, tail) = (trace.len().min(9_000), trace.len().saturating_sub(1_000).max(9_000).min(trace.len()));
    trace[..head].iter().for_each(|line| println!("  {line}"));
    if tail > head {
        println!("  ... {} lines", tail - head);
    }
    trace[tail..].iter().for_each(|line| println!("  {line}"));
}
