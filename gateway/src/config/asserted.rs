//! How settings must relate to each other and to this machine. Each refusal names both sides and the way out.

use super::derived::OTHER_FILES;
use super::{ConfigError, Derived, Machine, Settings};
use ringpost_proto::limits;
use std::net::SocketAddr;

type Check = fn(&Settings, &Derived, &Machine) -> Option<String>;

const CHECKS: &[Check] = &[
    dev_is_loopback,
    some_key,
    addresses_differ,
    proxies_are_known,
    origins,
    rings_hold_sessions,
    files_suffice,
    outbox_holds_a_window,
    queues,
];

pub fn check(settings: &Settings, derived: &Derived, machine: &Machine) -> Result<(), ConfigError> {
    match CHECKS.iter().find_map(|check| check(settings, derived, machine)) {
        Some(reason) => Err(ConfigError::Relation(reason)),
        None => Ok(()),
    }
}

/// The development key is public: whoever reaches the port can be anybody.
fn dev_is_loopback(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    let open = |(name, address): &(&str, SocketAddr)| *name != "admin" && !address.ip().is_loopback();
    let (name, address) = addresses(s).into_iter().find(open).filter(|_| s.dev)?;
    Some(format!("dev needs a loopback address, but {name} is {address}: its tokens are public"))
}

fn some_key(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    let none = !s.dev && s.token_keys.is_none();
    none.then(|| "no key can verify tokens: set token_keys, or try things out with --dev".to_owned())
}

fn addresses_differ(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    let addresses = addresses(s);
    addresses.iter().enumerate().find_map(|(at, (name, address))| {
        let same = |(_, other): &&(&str, SocketAddr)| other == address && address.port() != 0;
        let (other, _) = addresses.get(at + 1..)?.iter().find(same)?;
        Some(format!("{name} and {other} are both {address}"))
    })
}

fn addresses(s: &Settings) -> Vec<(&'static str, SocketAddr)> {
    let proxied = s.listen_proxied.map(|address| ("listen_proxied", address));
    [("listen", s.listen), ("admin", s.admin)].into_iter().chain(proxied).collect()
}

/// Else every connection there would be refused.
fn proxies_are_known(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    let address = s.listen_proxied.filter(|_| s.trusted_proxies.is_empty())?;
    Some(format!("listen_proxied is {address}, but trusted_proxies names no proxy that may connect there"))
}

/// Else nothing would ever match, and nobody would know why.
fn origins(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    let is_origin = |origin: &str| match origin.split_once("://") {
        Some(("http" | "https", host)) => !host.is_empty() && !host.contains('/'),
        _ => false,
    };
    let bad = s.allowed_origins.iter().find(|origin| !is_origin(origin))?;
    Some(format!("allowed_origins holds {bad:?}: an origin is a scheme and a host, like https://chat.example"))
}

/// A ring's table of direct descriptors is capped by the limit of open files.
fn rings_hold_sessions(s: &Settings, d: &Derived, m: &Machine) -> Option<String> {
    let room = u64::from(d.shards).saturating_mul(m.files.saturating_mul(85) / 100);
    (room < u64::from(s.max_sessions)).then(|| {
        format!(
            "max_sessions = {} does not fit {} shards of {} open files (RLIMIT_NOFILE) each: raise the limit, lower max_sessions{}",
            s.max_sessions,
            d.shards,
            m.files,
            if s.shards == 0 { "" } else { ", or set shards = 0" }
        )
    })
}

fn files_suffice(_: &Settings, d: &Derived, m: &Machine) -> Option<String> {
    let needed = OTHER_FILES + 4 * u64::from(d.shards);
    (m.files < needed).then(|| format!("the limit of open files (RLIMIT_NOFILE) is {}, needed are {needed}", m.files))
}

/// A byte of text is at most so many in JSON: a control character becomes \u0001.
const JSON_GROWTH: u64 = 6;

/// Else an honest reader of a full window would be cut, and again after each reconnect.
fn outbox_holds_a_window(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    let needed = u64::from(s.window_bytes) * JSON_GROWTH + limits::JSON_FRAME_BYTES as u64;
    (u64::from(s.outbox_bytes) < needed.min(64 << 20)).then(|| {
        format!(
            "outbox_bytes = {} is less than {needed}: a full window (window_bytes = {}) in JSON and one frame",
            s.outbox_bytes, s.window_bytes
        )
    })
}

fn queues(s: &Settings, _: &Derived, _: &Machine) -> Option<String> {
    (s.cq_entries < s.sq_entries)
        .then(|| format!("cq_entries = {} must not be less than sq_entries = {}", s.cq_entries, s.sq_entries))
}
