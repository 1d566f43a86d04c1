//! `ringpost ledger`: where the memory of a running server is, by owner and per session.
//!
//! Owns: one request for /metrics, and the table. Guarantees: an answer without a ledger is a failure that says so.

use super::admin::ask;
use super::{Outcome, args};
use crate::config::Settings;
use clap::{ArgMatches, Command};
use std::io::{Read, Write};

/// Of the page, bytes.
const MOST: u64 = 4 << 20;
const MIB: f64 = 1_048_576.0;

pub fn command() -> Command {
    let command = Command::new("ledger")
        .about("Say where the memory of a running server is: bytes by owner, per session, and what of it nobody explains")
        .long_about(
            "Say where the memory of a running server is: resident bytes by owner (connections, sessions, users, indexes, \
             timers, conversations, buffers, queues, what is allocated and unused, what the allocator rounds up or keeps, \
             the store's tables and caches, the program itself), each per session, and what of it nobody explains. The \
             kernel's part is that of all programs on this machine.",
        );
    args::with_settings(command, |setting| setting.key == "admin")
        .after_help("Examples:\n  ringpost ledger\n  ringpost ledger --admin 10.0.0.1:7601")
}

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let admin = Settings::from_layers(&layers).map_err(|e| e.to_string())?.admin;
    let mut page = String::new();
    let read = ask(admin, "GET", "/metrics")?.take(MOST).read_to_string(&mut page);
    read.map_err(|e| format!("the admin port {admin} did not answer: {e}"))?;
    let table =
        table(&page).ok_or_else(|| format!("the admin port {admin} answers, but tells no ringpost_memory_bytes"))?;
    write!(std::io::stdout(), "{table}").map_err(|e| format!("cannot write: {e}"))
}

/// Samples of one metric: the value of its label, and its own.
fn samples<'p>(page: &'p str, name: &'p str) -> impl Iterator<Item = (&'p str, f64)> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (label, value) = match rest.strip_prefix('{') {
            Some(rest) => {
                let (label, value) = rest.split_once('}')?;
                (label.split('"').nth(1)?, value)
            }
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((label, value.trim().parse().ok()?))
    })
}

/// `None`: the page has no ledger.
fn table(page: &str) -> Option<String> {
    let owners: Vec<_> = samples(page, "ringpost_memory_bytes").collect();
    let resident = samples(page, "process_resident_memory_bytes").next().filter(|_| !owners.is_empty())?.1;
    let sessions: f64 = samples(page, "ringpost_sessions").map(|(_, count)| count).sum();
    let line = |what: &str, bytes: f64, share: f64| {
        let each = if sessions > 0.0 { format!("{:9.1}", bytes / sessions) } else { format!("{:>9}", "-") };
        format!("{what:<26} {:>12.1} {each} {share:>7.1} %\n", bytes / MIB)
    };
    let mut out = format!("{:<26} {:>12} {:>9} {:>9}\n", "owner", "MiB", "B/session", "share");
    for (owner, bytes) in &owners {
        out.push_str(&line(owner, *bytes, 100.0 * bytes / resident));
    }
    out.push_str(&line("resident", resident, 100.0));
    for (of, bytes) in samples(page, "ringpost_kernel_memory_bytes") {
        out.push_str(&line(&format!("kernel, all programs: {of}"), bytes, 100.0 * bytes / resident));
    }
    out.push_str(&format!("{sessions:.0} sessions\n"));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_per_session_and_as_shares_of_what_is_resident() {
        let page = "# HELP ringpost_memory_bytes x\nringpost_memory_bytes{owner=\"session\"} 1048576\n\
                    ringpost_memory_bytes{owner=\"other\"} 0\nprocess_resident_memory_bytes 4194304\nringpost_sessions 1024\n\
                    ringpost_kernel_memory_bytes{of=\"slab\"} 2097152\n";
        let told = table(page).unwrap();
        let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = told.lines().map(words).collect();
        assert_eq!(lines[1], ["session", "1.0", "1024.0", "25.0", "%"]);
        assert_eq!(lines[2][..2], ["other", "0.0"]);
        assert_eq!(lines[3], ["resident", "4.0", "4096.0", "100.0", "%"]);
        assert_eq!(lines[4][4..], ["2.0", "2048.0", "50.0", "%"]);
        assert_eq!(lines[5], ["1024", "sessions"]);
        assert!(table("HTTP/1.1 404 Not Found\r\n").is_none());
        let nobody = table("ringpost_memory_bytes{owner=\"program\"} 1\nprocess_resident_memory_bytes 1\n").unwrap();
        assert!(nobody.contains(" - "), "{nobody}");
    }
}
