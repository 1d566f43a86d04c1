//! `ringpost user export` and `ringpost user erase`: ask the admin port of a running server.
//!
//! Guarantees: success only where the server said that it is done; an answer that was cut off is a failure, which says so.

use super::{Outcome, args};
use crate::config::Settings;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The server says something at least so often, unless it hangs.
const SILENCE: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(10);
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
    let stream = post(admin, &target).map_err(|e| format!("cannot ask the admin port {admin}: {e}"))?;
    let mut answer = BufReader::new(stream);
    let status = status(&mut answer, admin)?;
    if status.split(' ').nth(1) != Some("200") {
        return Err(refused(&status, answer));
    }
    Ok(answer.lines().map(|line| line.map_err(|_| CUT.to_owned())))
}

/// The status line; the rest of the head is read over.
pub(super) fn status(answer: &mut impl BufRead, admin: SocketAddr) -> Result<String, String> {
    let broken = |e: std::io::Error| format!("the admin port {admin} did not answer: {e}");
    let (mut status, mut head) = (String::new(), String::new());
    answer.read_line(&mut status).map_err(broken)?;
    while head != "\r\n" {
        head.clear();
        if answer.read_line(&mut head).map_err(broken)? == 0 {
            return Err(format!("the admin port {admin} does not speak HTTP"));
        }
    }
    Ok(status)
}

/// HTTP/1.0, so that the answer is not cut into chunks; it ends with the connection, and says by itself that it is whole.
pub(super) fn post(admin: SocketAddr, target: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&admin, CONNECT)?;
    stream.set_read_timeout(Some(SILENCE))?;
    write!(stream, "POST {target} HTTP/1.0\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n")?;
    Ok(stream)
}

pub(super) fn refused(status: &str, mut answer: impl Read) -> String {
    let mut body = String::new();
    // Without a body the status has to do.
    let _ = answer.read_to_string(&mut body);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    match json["message"].as_str() {
        Some(message) => format!("refused by the server: {message}"),
        None => format!("refused by the server: {}", status.trim()),
    }
}

/// Percent-encoded (RFC 3986 section 2.1), all but what never has to be.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // Also dots: a segment of two of them would be taken for the way up.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_whatever_is_in_them() {
        assert_eq!(escaped("alice-1_~"), "alice-1_~");
        assert_eq!(escaped("a/b?c=..&\u{e9} %"), "a%2Fb%3Fc%3D%2E%2E%26%C3%A9%20%25");
    }
}
