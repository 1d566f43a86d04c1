//! What this machine allows, computed before the first socket is opened.
//!
//! Owns: how many source addresses, rings and descriptors a number of connections takes. Guarantees: a [`Plan`] fits the
//! limits it was made from; what does not fit is refused with the name of the limit. Never does: reading the machine (see
//! `limits`), opening anything.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Kernel memory of one loopback connection, both ends, measured on kernel 6.18: two sockets, their receive requests and
/// what the flood tool keeps.
const BYTES_PER_PAIR: u64 = 9_400;
/// One port in this many stays free for others on the machine.
const PORT_RESERVE: u64 = 16;
/// Where sources are free to choose, each gives one in this many of its ports: the kernel looks for a free port among one
/// half of them first (by parity, since Linux 4.2), and walks all of that half for every connection once it is full.
const QUICK_PORTS: u64 = 4;
/// Process descriptors that are not a ring's: standard streams, output files, the allocator's and the shell's.
const OTHER_DESCRIPTORS: u64 = 64;
/// A ring thread's own descriptors: the ring, its event descriptor, the socket that is being made.
const DESCRIPTORS_PER_RING: u64 = 4;
/// The most direct descriptors that one ring is given: beyond it one thread has too much to do.
const MOST_PER_RING: u64 = 32_768;
/// Slots of a ring's table that stay free: a closed socket's slot comes back only after its last completion.
const SPARE_SLOTS: u64 = 64;
/// Threads of one load process at most.
pub const MOST_RINGS: u64 = 256;

/// What the machine allows, as read from the kernel.
#[derive(Clone, Debug)]
pub struct Limits {
    /// net.ipv4.ip_local_port_range, both ends included.
    pub first_port: u16,
    pub last_port: u16,
    /// RLIMIT_NOFILE, the soft limit: bounds the process's descriptors and, apart, each ring's direct descriptors.
    pub descriptors: u64,
    /// MemAvailable in bytes.
    pub memory: u64,
    /// Connections that net.netfilter.nf_conntrack_max still admits; `None` where nothing is tracked.
    pub tracked: Option<u64>,
    pub cores: u64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub connections: u64,
    pub destination: IpAddr,
    /// Empty: chosen here for IPv4 loopback, else the one address that the kernel picks.
    pub sources: Vec<IpAddr>,
    /// 0: as many as needed.
    pub rings: u64,
    /// So many connections belong together, and are on one ring.
    pub unit: u64,
}

/// How the connections are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Empty: the kernel picks the source address.
    pub sources: Vec<IpAddr>,
    /// One thread each.
    pub rings: u64,
    /// Direct descriptors to register per ring.
    pub slots: u32,
    /// Connections of the fullest ring.
    pub per_ring: u64,
    /// Connections that the sources' ports allow in all.
    pub port_capacity: u64,
    /// Expected to matter, but not known to be in the way.
    pub notes: Vec<String>,
}

/// Why the target cannot be reached, with the setting that has to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    #[error(
        "net.ipv4.ip_local_port_range ({first}-{last}) allows {capacity} connections from {sources} source address(es) to one \
         destination, {wanted} wanted: name more with --source or widen the range"
    )]
    Ports { first: u16, last: u16, sources: usize, capacity: u64, wanted: u64 },
    #[error(
        "RLIMIT_NOFILE ({limit}) allows {capacity} connections on {rings} rings, {wanted} wanted: raise it with `ulimit -n`"
    )]
    Descriptors { limit: u64, rings: u64, capacity: u64, wanted: u64 },
    #[error(
        "MemAvailable ({available} MiB) is less than the {needed} MiB of kernel memory that {wanted} connections take"
    )]
    Memory { available: u64, needed: u64, wanted: u64 },
    #[error("--source {source_address} and the destination {destination} are not of one address family")]
    Family { source_address: IpAddr, destination: IpAddr },
    #[error("nothing to do: 0 connections")]
    Nothing,
}

/// Fits what is wanted into the limits.
pub fn plan(wanted: &Wanted, limits: &Limits) -> Result<Plan, Impossible> {
    if wanted.connections == 0 {
        return Err(Impossible::Nothing);
    }
    let (sources, port_capacity) = sources(wanted, limits)?;
    let (rings, per_ring) = rings(wanted, limits)?;
    let needed = wanted.connections.saturating_mul(BYTES_PER_PAIR);
    if needed > limits.memory {
        let (available, needed) = (limits.memory >> 20, needed >> 20);
        return Err(Impossible::Memory { available, needed, wanted: wanted.connections });
    }
    let mut notes = Vec::new();
    if limits.tracked.is_some_and(|free| wanted.connections > free) {
        let free = limits.tracked.unwrap_or(0);
        notes.push(format!("net.netfilter.nf_conntrack_max admits only {free} more tracked connections"));
    }
    let slots = (per_ring + SPARE_SLOTS).min(limits.descriptors) as u32;
    Ok(Plan { sources, rings, slots, per_ring, port_capacity, notes })
}

fn ports_per_source(limits: &Limits) -> u64 {
    let all = u64::from(limits.last_port.saturating_sub(limits.first_port)) + 1;
    all - all / PORT_RESERVE
}

/// A connection is told apart by source address, source port and destination: one source gives as many as it has ports.
fn sources(wanted: &Wanted, limits: &Limits) -> Result<(Vec<IpAddr>, u64), Impossible> {
    let ports = ports_per_source(limits);
    if let Some(&source_address) = wanted.sources.iter().find(|s| s.is_ipv4() != wanted.destination.is_ipv4()) {
        return Err(Impossible::Family { source_address, destination: wanted.destination });
    }
    let mut sources = wanted.sources.clone();
    if sources.is_empty() && matches!(wanted.destination, IpAddr::V4(v4) if v4.is_loopback()) {
        let quick = (ports / QUICK_PORTS).max(1);
        sources.extend((0..wanted.connections.div_ceil(quick)).map_while(loopback_source));
    }
    let capacity = ports * sources.len().max(1) as u64;
    if capacity < wanted.connections {
        return Err(Impossible::Ports {
            first: limits.first_port,
            last: limits.last_port,
            sources: sources.len().max(1),
            capacity,
            wanted: wanted.connections,
        });
    }
    Ok((sources, capacity))
}

/// The whole of 127.0.0.0/8 is this machine (RFC 1122 section 3.2.1.3). 127.1.0.1 and up: out of the way of what listens
/// in 127.0.0.0/16.
fn loopback_source(index: u64) -> Option<IpAddr> {
    let [_, high, low] = (u32::try_from(index / 254).ok()?).to_be_bytes()[1..] else { return None };
    let second = high.checked_add(1).filter(|&b| b < 255)?;
    Some(Ipv4Addr::new(127, second, low, (index % 254) as u8 + 1).into())
}

/// RLIMIT_NOFILE bounds the direct descriptors of each ring by itself, and direct descriptors cost no process descriptor,
/// so more rings hold more connections.
fn rings(wanted: &Wanted, limits: &Limits) -> Result<(u64, u64), Impossible> {
    let most_rings = (limits.descriptors.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_RING).min(MOST_RINGS);
    let unit = wanted.unit.max(1);
    let units = wanted.connections.div_ceil(unit);
    let units_per_ring = limits.descriptors.min(MOST_PER_RING).saturating_sub(SPARE_SLOTS) / unit;
    let fewest = units.checked_div(units_per_ring).map_or(u64::MAX, |_| units.div_ceil(units_per_ring));
    let usual = limits.cores.min(wanted.connections.div_ceil(64)).min(units);
    let rings = if wanted.rings > 0 { wanted.rings } else { fewest.max(usual) };
    if rings > most_rings || rings < fewest {
        let rings = rings.min(most_rings);
        let capacity = rings.saturating_mul(units_per_ring * unit);
        return Err(Impossible::Descriptors { limit: limits.descriptors, rings, capacity, wanted: wanted.connections });
    }
    Ok((rings, units.div_ceil(rings) * unit))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.sources.as_slice() {
            [] => "1 source address".to_owned(),
            [one] => format!("source {one}"),
            [first, .., last] => format!("{} sources ({first} to {last})", self.sources.len()),
        };
        write!(
            f,
            "plan: {from}, ports for {}; {} ring(s) of {} direct descriptors, at most {} connections each",
            self.port_capacity, self.rings, self.slots, self.per_ring
        )?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let (first_port, last_port) = (32_768, 60_999);
        Limits { first_port, last_port, descriptors: 20_000, memory: 20 << 30, tracked: None, cores: 2 }
    }

    fn wanted(connections: u64) -> Wanted {
        Wanted { connections, destination: Ipv4Addr::LOCALHOST.into(), sources: Vec::new(), rings: 0, unit: 2 }
    }

    #[test]
    fn a_hundred_thousand_on_loopback_take_several_sources_and_rings() {
        let plan = plan(&wanted(100_000), &limits()).unwrap();
        assert_eq!(plan.sources.len(), 16); // 6,617 of the ports of each
        assert_eq!(plan.rings, 6); // 19,936 slots each
        assert!(u64::from(plan.slots) <= limits().descriptors);
        assert!(u64::from(plan.slots) > plan.per_ring);
        assert!(plan.per_ring * plan.rings >= 100_000);
    }

    #[test]
    fn what_belongs_together_is_on_one_ring() {
        let plan = plan(&Wanted { unit: 901, ..wanted(64 * 901) }, &limits()).unwrap();
        assert_eq!((plan.rings, plan.per_ring), (3, 22 * 901)); // 22 fit on a ring
        let one = super::plan(&Wanted { unit: 1_200, ..wanted(1_200) }, &limits()).unwrap();
        assert_eq!((one.rings, one.per_ring), (1, 1_200));
        let refused = super::plan(&Wanted { unit: 30_000, ..wanted(30_000) }, &limits()).unwrap_err();
        assert!(matches!(refused, Impossible::Descriptors { capacity: 0, .. }), "{refused}");
    }

    #[test]
    fn a_few_connections_take_one_ring_and_one_source() {
        let plan = plan(&wanted(10), &limits()).unwrap();
        assert_eq!((plan.sources.len(), plan.rings), (1, 1));
    }

    #[test]
    fn loopback_sources_are_distinct_and_never_a_destination() {
        let sources: Vec<_> = (0..1_000).map(|i| loopback_source(i).unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = sources.iter().collect();
        assert_eq!(distinct.len(), sources.len());
        assert!(sources.iter().all(|s| s.is_loopback() && *s != IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn a_remote_destination_needs_sources_by_name() {
        let mut far = wanted(50_000);
        far.destination = Ipv4Addr::new(192, 0, 2, 1).into();
        let refused = plan(&far, &limits()).unwrap_err();
        assert!(matches!(refused, Impossible::Ports { sources: 1, capacity: 26_468, .. }), "{refused}");
        assert!(refused.to_string().contains("ip_local_port_range"));
        far.sources = vec![Ipv4Addr::new(192, 0, 2, 10).into(), Ipv4Addr::new(192, 0, 2, 11).into()];
        assert_eq!(plan(&far, &limits()).unwrap().sources, far.sources);
    }

    #[test]
    fn too_few_descriptors_are_named() {
        let refused = plan(&wanted(1_000), &Limits { descriptors: 70, ..limits() }).unwrap_err();
        assert!(refused.to_string().starts_with("RLIMIT_NOFILE (70)"), "{refused}");
        let one_ring = Wanted { rings: 1, ..wanted(100_000) };
        assert!(matches!(plan(&one_ring, &limits()), Err(Impossible::Descriptors { capacity: 19_936, .. })));
    }

    #[test]
    fn too_little_memory_is_named() {
        let refused = plan(&wanted(1_000_000), &Limits { memory: 1 << 30, ..limits() }).unwrap_err();
        assert!(refused.to_string().starts_with("MemAvailable (1024 MiB)"), "{refused}");
    }

    #[test]
    fn connection_tracking_is_a_note() {
        let plan = plan(&wanted(2_000), &Limits { tracked: Some(1_000), ..limits() }).unwrap();
        assert!(plan.to_string().contains("note: net.netfilter.nf_conntrack_max admits only 1000"));
    }

    #[test]
    fn sources_of_another_family_are_refused() {
        let mut mixed = wanted(10);
        mixed.sources = vec!["::1".parse().unwrap()];
        assert!(matches!(plan(&mixed, &limits()), Err(Impossible::Family { .. })));
    }
}
