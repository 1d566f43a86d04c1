//! What the kernel says: this machine's limits, and another process's memory and processor time.
//!
//! Owns: reading /proc. Never does: changing a setting of the machine.

use crate::plan::Limits;
use std::time::Duration;

/// What this machine allows. A value that cannot be read is taken at the kernel's default.
pub fn read() -> Limits {
    let ports = number_list("/proc/sys/net/ipv4/ip_local_port_range");
    let port = |at: usize, default: u16| ports.get(at).and_then(|&p| u16::try_from(p).ok()).unwrap_or(default);
    let tracked = number("/proc/sys/net/netfilter/nf_conntrack_count")
        .filter(|&count| count > 0)
        .and_then(|count| number("/proc/sys/net/netfilter/nf_conntrack_max").map(|most| most.saturating_sub(count)));
    let memory = field("/proc/meminfo", "MemAvailable:").map_or(u64::MAX, |kib| kib << 10);
    Limits {
        first_port: port(0, 32_768),
        last_port: port(1, 60_999),
        descriptors: rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX),
        memory,
        tracked,
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
    }
}

/// Raises the soft limit of descriptors to the hard one; where that is refused, the soft one holds.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Resident memory of a process in bytes; `None` if there is no such process.
pub fn rss(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib << 10)
}

/// Memory that the kernel has for itself, in bytes: its slabs, and what sockets of TCP hold, which is in pages of their own.
pub fn kernel_memory() -> (u64, u64) {
    let slab = field("/proc/meminfo", "Slab:").map_or(0, |kib| kib << 10);
    let pages = std::fs::read_to_string("/proc/net/sockstat").map_or(0, |text| parse_tcp_pages(&text).unwrap_or(0));
    (slab, pages * rustix::param::page_size() as u64)
}

/// `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 183`; sockets of IPv6 are in the same sum.
fn parse_tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_once(" mem ")?.1.split_ascii_whitespace().next()?.parse().ok()
}

/// User and system time that this process has used since its start, to the nanosecond: a short run takes less than a tick.
pub fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

/// The same of another process, in ticks of 10 ms; `None` if there is no such process.
pub fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = parse_cpu_ticks(&stat)?;
    Some(Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second()))
}

/// utime + stime: the 14th and 15th field of proc_pid_stat(5). The second is a name in parentheses that may itself hold
/// spaces and parentheses.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Processor time of all processors together, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    pub used: u64,
    /// What programs wanted and the host of a virtual machine gave to others.
    pub stolen: u64,
}

/// Of this machine since its start; `None` where nobody tells it.
pub fn processors() -> Option<Processors> {
    parse_processors(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, and guests, who are in user and nice.
fn parse_processors(stat: &str) -> Option<Processors> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = ticks[..] else { return None };
    Some(Processors { used: user + nice + system + irq + softirq, stolen })
}

impl Processors {
    /// Of what was wanted since `before`, the share that was stolen, percent; `None` where nothing was wanted.
    pub fn stolen_since(&self, before: &Self) -> Option<f64> {
        let (used, stolen) = (self.used.saturating_sub(before.used), self.stolen.saturating_sub(before.stolen));
        (used + stolen > 0).then(|| 100.0 * stolen as f64 / (used + stolen) as f64)
    }
}

fn number(path: &str) -> Option<u64> {
    number_list(path).first().copied()
}

fn number_list(path: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

pub fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_survives_a_strange_process_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        assert_eq!(parse_cpu_ticks(stat), Some(300));
    }

    #[test]
    fn what_the_host_took_is_a_share_of_what_was_wanted() {
        let at = |text| parse_processors(text).unwrap();
        let before = at("cpu  100 10 50 9000 70 1 4 20 33 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        assert_eq!(before, Processors { used: 165, stolen: 20 });
        let after = at("cpu  160 10 80 9900 90 1 4 40 33 0\n");
        assert_eq!(after.stolen_since(&before), Some(100.0 * 20.0 / 110.0));
        assert_eq!((after.stolen_since(&after), parse_processors("cpu  1 2 3\n")), (None, None));
        assert!(processors().is_some_and(|now| now.used > 0));
    }

    #[test]
    fn pages_of_sockets_are_those_of_tcp() {
        let text = "sockets: used 20\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 183\nUDP: inuse 0 mem 7\n";
        assert_eq!((parse_tcp_pages(text), parse_tcp_pages("UDP: inuse 0 mem 7\n")), (Some(183), None));
        assert!(kernel_memory().0 > 0);
    }

    #[test]
    fn this_process_has_memory_and_limits() {
        assert!(rss(std::process::id()).unwrap() > 0);
        assert!(cpu(std::process::id()).is_some());
        let limits = read();
        assert!(limits.first_port < limits.last_port && limits.descriptors > 0 && limits.cores > 0);
    }
}
