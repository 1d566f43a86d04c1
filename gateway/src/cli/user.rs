//! `ringpost user export` and `ringpost user erase`: ask the admin port of a running server.
//!
//! Guarantees: success only where the server said that it is done; an answer that was cut off is a failure, which says so.

use super::admin::{ask as ask_admin, escaped};
use super::{Outcome, args};
use crate::config::Settings;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

pub fn command() -> Command {
    let user = Arg::new("user").value_name("USER").required(true).help("The user's name");
    let tenant =
        Arg::new("tenant").long("tenant").value_name("NAME").default_value("default").help("The user's tenant");
    let export = Command::new("export")
        .about("Write everything that is stored of a user to stdout, in lines of JSON")
        .arg(user.clone())
        .arg(tenant.clone());
    let erase = Command::new("erase")
        .about("Say what an erasure of a user would take; with --yes, erase it")
        .long_about(
            "Say what an erasure of a user would take; with --yes, erase it: its sessions end, settings and devices are \
             forgotten, the body of every record that it sent is taken, groups are left. Stop signing tokens for it first. It \
             can be run again whatever became of an earlier run.",
        )
        .arg(user)
        .arg(tenant)
        .arg(Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Erase; there is no way back"));
    let admin = |command| args::with_settings(command, |setting| setting.key == "admin");
    Command::new("user")
        .about("Export or erase what is stored of a user, through the admin port of a running server")
        .subcommand_required(true)
        .subcommand(admin(export).after_help("Examples:\n  ringpost user export alice > alice.jsonl"))
        .subcommand(
            admin(erase).after_help("Examples:\n  ringpost user erase alice\n  ringpost user erase alice --yes"),
        )
}

pub fn run(matches: &ArgMatches) -> Outcome {
    match matches.subcommand() {
        Some(("export", matches)) => export(matches),
        Some(("erase", matches)) => erase(matches),
        _ => Err("say what to do: export or erase (ringpost user --help)".to_owned()),
    }
}

fn export(matches: &ArgMatches) -> Outcome {
    let lines = ask(matches, "export", "")?;
    let mut stdout = std::io::stdout().lock();
    let (mut told, mut records) = (Instant::now(), 0_u64);
    for line in lines {
        let line = line?;
        if let Some(error) = error_of(&line) {
            return Err(error);
        }
        writeln!(stdout, "{line}").map_err(|e| format!("cannot write the export: {e}"))?;
        if line.starts_with("{\"end\":") {
            stdout.flush().map_err(|e| format!("cannot write the export: {e}"))?;
            eprintln!("exported {records} records");
            return Ok(());
        }
        records += u64::from(line.starts_with("{\"record\":"));
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("{records} records so far");
        }
    }
    Err(CUT.to_owned())
}

fn erase(matches: &ArgMatches) -> Outcome {
    let yes = matches.get_flag("yes");
    for line in ask(matches, "erase", if yes { "&yes=true" } else { "" })? {
        let line = line?;
        if let Some(error) = error_of(&line) {
            return Err(format!("{error}; what is erased is erased, run it again for the rest"));
        }
        let json: Value = serde_json::from_str(&line).map_err(|e| format!("not an answer of ringpost: {e}"))?;
        if let Some(progress) = json.get("progress") {
            eprintln!("{} so far", said(progress));
        }
        if let Some(end) = json.get("end") {
            let line = match yes {
                true => format!("erased: {}", said(end)),
                false => format!("would erase: {} (a dry run; --yes erases)", said(end)),
            };
            return writeln!(std::io::stdout(), "{line}").map_err(|e| format!("cannot write: {e}"));
        }
    }
    Err(CUT.to_owned())
}

const CUT: &str = "the answer was cut off: the server stopped, or the connection broke; run it again";

fn said(counts: &Value) -> String {
    let number = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or_default();
    format!(
        "{} records in {} conversations, {} groups, {} documents",
        number("records"),
        number("conversations"),
        number("groupsLeft"),
        number("documents")
    )
}

/// What the server says went wrong, if this line says so.
fn error_of(line: &str) -> Option<String> {
    if !line.starts_with("{\"error\":") {
        return None;
    }
    let json: Value = serde_json::from_str(line).ok()?;
    Some(json["error"]["message"].as_str().unwrap_or("it failed").to_owned())
}

/// Asks, and gives the lines of the answer.
fn ask(
    matches: &ArgMatches,
    what: &str,
    query: &str,
) -> Result<impl Iterator<Item = Result<String, String>> + use<>, String> {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let admin = Settings::from_layers(&layers).map_err(|e| e.to_string())?.admin;
    let text = |name: &str| escaped(matches.get_one::<String>(name).map(String::as_str).unwrap_or_default());
    let target = format!("/admin/users/{}/{what}?tenant={}{query}", text("user"), text("tenant"));
    let answer = ask_admin(admin, "POST", &target)?;
    Ok(answer.lines().map(|line| line.map_err(|_| CUT.to_owned())))
}
