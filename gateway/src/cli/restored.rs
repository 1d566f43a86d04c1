//! `ringpost restored`: says of a data directory that it was put back from a backup.

use super::{Outcome, args};
use crate::config::Settings;
use clap::{ArgMatches, Command};
use ringpost_persist::embedded;
use ringpost_persist::files::RealFiles;
use std::io::Write;

pub fn command() -> Command {
    let command = Command::new("restored").about("Say of a data directory that it was put back from a backup").long_about(
        "Say of a data directory that it was put back from a backup, before the server starts on it: clients then take nothing \
         for granted of what they got after the backup was made. Nothing else in the directory changes.",
    );
    args::with_settings(command, |setting| setting.key == "data")
        .after_help("Examples:\n  ringpost restored --data /var/lib/ringpost")
}

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let data = Settings::from_layers(&layers).map_err(|e| e.to_string())?.data;
    let incarnation = embedded::restored(&RealFiles, &data).map_err(|e| e.to_string())?;
    // A closed stdout is the reader's choice.
    let _ = writeln!(std::io::stdout(), "{} is incarnation {:032x}", data.display(), u128::from_be_bytes(incarnation));
    Ok(())
}
