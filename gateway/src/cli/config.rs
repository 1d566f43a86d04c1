//! `ringpost config`: the effective settings.

use super::{Outcome, args};
use crate::config::{Config, Machine, show};
use clap::ArgMatches;
use std::io::Write;

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let machine = Machine::detect();
    let config = Config::unasserted(&layers, &machine).map_err(|e| e.to_string())?;
    // A closed stdout is the reader's choice.
    let _ = std::io::stdout().write_all(show::show(&config, &layers, &machine).as_bytes());
    // What serve would say.
    Config::new(&layers, &machine).map(|_| ()).map_err(|e| e.to_string())
}
