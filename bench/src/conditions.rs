//! What a run ran under: command lines, versions, the machine, and when.
//!
//! Owns: what is told of them, and how a process that listens here is found. Guarantees: what cannot be known is absent, never
//! guessed. Never does: asking anybody but /proc and a page of metrics that was read already.

use crate::limits;
use crate::load::Clock;
use crate::metrics::Metrics;
use crate::series::Series;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Unix seconds, and the same as text (RFC 3339).
    pub began: u64,
    pub began_at: String,
    pub flood: Program,
    pub gateway: Program,
    /// On which flood ran; the gateway, too, where its address is of it.
    pub machine: Machine,
}

/// A program as it was started, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub version: Option<String>,
    /// To be pasted into a shell.
    pub command_line: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: Option<String>,
    /// Processors that this process may use.
    pub processors: u64,
    /// MemTotal.
    pub memory_mib: u64,
    pub kernel: Option<String>,
    /// RLIMIT_NOFILE of flood, the soft limit as it was raised.
    pub descriptors: u64,
}

impl Conditions {
    /// Of this process and machine, and of the gateway with this process id, or else with this admin listener if it is here.
    pub fn gather(clock: &Clock, server: Option<u32>, admin: Option<SocketAddr>, page: Option<&Metrics>) -> Self {
        let began = clock.unix_seconds();
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(began));
        let version = page.and_then(|page| page.label(Series::BUILD, "version"));
        let server = server.or_else(|| admin.and_then(listener));
        Self {
            began,
            began_at: at.to_string(),
            flood: Program {
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                command_line: command_line(std::process::id()),
            },
            gateway: Program { version: version.map(str::to_owned), command_line: server.and_then(command_line) },
            machine: Machine::read(),
        }
    }
}

impl Machine {
    fn read() -> Self {
        let limits = limits::read();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            processor: parse_processor(&cpuinfo),
            processors: limits.cores,
            memory_mib: limits::field("/proc/meminfo", "MemTotal:").unwrap_or(0) >> 10,
            kernel: kernel.map(|text| text.trim().to_owned()),
            descriptors: limits.descriptors,
        }
    }
}

/// The first `model name`; architectures that have none tell no model.
fn parse_processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

/// How a process was started; `None` if there is no such process.
fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|bytes| !bytes.is_empty())?;
    Some(shell(&String::from_utf8_lossy(&bytes)))
}

/// Arguments that end with a zero byte each, as a shell reads them.
fn shell(arguments: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    let quoted = |argument: &str| match !argument.is_empty() && argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    };
    let arguments = arguments.strip_suffix('\0').unwrap_or(arguments);
    arguments.split('\0').map(quoted).collect::<Vec<_>>().join(" ")
}

/// The process that listens on an address of this machine, where it may be looked at.
fn listener(address: SocketAddr) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", parse_listening(&table, address)?);
    let has_it = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors
            .into_iter()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(has_it)
}

/// The inode of the socket that listens on an IPv4 address, of proc_net_tcp(5): addresses as hexadecimal numbers in the byte
/// order of the machine, state 0A. One that listens on every address is it only for loopback, which is surely of this machine.
fn parse_listening(table: &str, address: SocketAddr) -> Option<&str> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let hex = |number: u32| format!("{number:08X}:{:04X}", address.port());
    let (own, any) = (hex(u32::from_ne_bytes(ip.octets())), hex(0));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..] else { return None };
        (local == own || (local == any && ip.is_loopback())).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let arguments = "flood\0chat\0--prefix\0it's <mine>\0--sent\0\0";
        assert_eq!(shell(arguments), r"flood chat --prefix 'it'\''s <mine>' --sent ''");
    }

    #[test]
    fn who_listens_on_an_address_of_this_machine_is_found() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(here.local_addr().unwrap()), Some(std::process::id()));
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        assert_eq!(listener(SocketAddr::from(([127, 0, 0, 1], port))), Some(std::process::id()));
        assert_eq!(listener(SocketAddr::from(([192, 0, 2, 1], port))), None, "another machine may listen there, too");
        drop(here);
    }

    #[test]
    fn what_is_gathered_is_of_this_process_and_is_read_back() {
        let conditions = Conditions::gather(&Clock::start(), Some(std::process::id()), None, None);
        assert!(conditions.began_at.ends_with('Z') && conditions.machine.memory_mib > 0);
        assert!(conditions.machine.kernel.is_some() && conditions.machine.descriptors > 0);
        assert!(conditions.gateway.command_line.is_some() && conditions.gateway.version.is_none());
        let text = serde_json::to_string(&conditions).unwrap();
        assert_eq!(serde_json::from_str::<Conditions>(&text).unwrap(), conditions);
    }

    #[test]
    fn the_model_of_the_processor_is_the_first_one() {
        let text = "processor\t: 0\nmodel name\t: One (R) @ 2.5 GHz\nprocessor\t: 1\nmodel name\t: Two\n";
        assert_eq!(parse_processor(text).as_deref(), Some("One (R) @ 2.5 GHz"));
        assert_eq!(parse_processor("Features : fp\n"), None);
    }
}
