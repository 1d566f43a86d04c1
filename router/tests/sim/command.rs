//! Any number of worlds: `cargo run --profile ci -p ringpost-router --example sim -- --worlds 10000 --seed 1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "mod.rs"]
mod sim;

use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "sim [--worlds N] [--seed FIRST] [--threads N] [--tries N, to make a failing world smaller]";

fn main() -> ExitCode {
    let (mut worlds, mut seed, mut threads, mut tries) = (1_000, 1, 2, 300);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|number| number.parse::<u64>().ok());
        match (word.as_str(), number) {
            ("--worlds", Some(number)) => worlds = number,
            ("--seed", Some(number)) => seed = number,
            ("--threads", Some(number)) => threads = number.max(1) as usize,
            ("--tries", Some(number)) => tries = number as usize,
            _ => {
                eprintln!("usage: {USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    let begun = clock();
    let result = sim::run(seed, worlds, threads, tries);
    println!("{:.1} worlds per second", worlds as f64 / begun.elapsed().as_secs_f64());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The tool's own clock; worlds have theirs.
#[allow(clippy::disallowed_methods)]
fn clock() -> Instant {
    Instant::now()
}
