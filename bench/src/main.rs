//! flood: the load tool of ringpost.
//!
//! Reads as its data flow: `command/` (arguments, stages, targets) -> `plan` (what the machine allows) -> `load/` (rings,
//! sockets, WebSocket) <-> `scenario/` (what is said) -> `verify`, `timeline`, `report` -> `page/`, `compare`; `fleet/` is
//! the same on several hosts.

use clap::Parser;
use std::process::ExitCode;

mod command;
mod compare;
mod conditions;
mod drift;
mod fleet;
mod holdings;
mod kernel;
mod limits;
mod load;
mod metrics;
mod number;
mod over_time;
mod page;
mod plan;
mod progress;
mod protocol;
mod report;
mod scenario;
mod schedule;
mod sent;
mod series;
mod share;
mod text;
mod timeline;
mod upkeep;
mod verify;
mod who;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a session says it is.
const CLIENT: &str = concat!("flood/", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    match command::Cli::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}
