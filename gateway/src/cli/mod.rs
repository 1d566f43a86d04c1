//! The command line: one file per command.
//!
//! Guarantees: a command that cannot do its work says why in exactly one line on stderr and exits with status 1; what was
//! asked for goes to stdout and nothing else does.

mod admin;
mod args;
mod chat;
mod check_client;
mod config;
mod ledger;
mod restored;
mod revoke;
mod serve;
mod token;
mod user;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::fmt::Display;
use std::process::ExitCode;

/// Reads the arguments of the process and runs the command.
pub fn main() -> ExitCode {
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A closed stdout is the reader's choice.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(misuse(&error)),
    };
    let outcome = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("token", matches)) => token::run(matches),
        Some(("config", matches)) => config::run(matches),
        Some(("chat", matches)) => chat::run(matches),
        Some(("ledger", matches)) => ledger::run(matches),
        Some(("revoke", matches)) => revoke::run(matches),
        Some(("check-client", matches)) => check_client::run(matches),
        Some(("restored", matches)) => restored::run(matches),
        Some(("user", matches)) => user::run(matches),
        _ => {
            return fail(
                "say what to do: serve, token, config, chat, check-client, ledger, restored, revoke or user (ringpost --help)",
            );
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => fail(line),
    }
}

/// Why a command ended, in one line.
type Outcome = Result<(), String>;

fn fail(reason: impl Display) -> ExitCode {
    eprintln!("ringpost: {}", reason.to_string().replace('\n', " "));
    ExitCode::FAILURE
}

/// What is wrong with the arguments, with the nearest thing that would not be.
fn misuse(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // The nearest is the last.
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => None,
    };
    let near = |kind| text(kind).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let arg = text(ContextKind::InvalidArg).unwrap_or_default();
            format!("unknown argument {arg:?}{}", near(ContextKind::SuggestedArg))
        }
        ErrorKind::InvalidSubcommand => {
            let command = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("unknown command {command:?}{}", near(ContextKind::SuggestedSubcommand))
        }
        _ => {
            let rendered = error.render().to_string();
            let lines = rendered.lines().take_while(|line| !line.starts_with("Usage") && !line.contains("--help"));
            let line = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            line.trim_start_matches("error: ").to_owned()
        }
    }
}
