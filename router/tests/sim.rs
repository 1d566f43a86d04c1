//! The fixed set of simulated worlds. Any number: the `sim` example.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "sim/mod.rs"]
mod sim;

#[test]
fn a_fixed_set_of_worlds_holds_every_invariant_and_covers_every_fault() {
    sim::run(1_000_000, 600, 2, 300, |_| {}).unwrap();
}
