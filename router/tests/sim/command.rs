//! Any number of worlds: `cargo run --profile ci -p ringpost-router --example sim -- --worlds 100000`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "mod.rs"]
mod sim;

use std::process::ExitCode;
use std::time::Instant;

/// Worlds make and drop small things all the time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "sim [--worlds N] [--seed FIRST] [--threads N] [--tries N, to make a failing world smaller]";

fn main() -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut worlds, mut seed, mut threads, mut tries) = (1_000, 1, cores, 300);
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
    let every = (worlds / 10).max(1_000);
    let result = sim::run(seed, worlds, threads, tries, |done| {
        if done > 0 && done.is_multiple_of(every) {
            eprintln!("{done} of {worlds} worlds, {:.0} s", begun.elapsed().as_secs_f64());
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{seconds:.1} s on {threads} threads, {:.1} worlds per second", worlds as f64 / seconds);
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
