//! What the kernel says about this process.

use super::{Kind, Text};
use std::sync::OnceLock;

/// Read once: what the kernel says of the boot moves by a second with its clock.
static START: OnceLock<Option<f64>> = OnceLock::new();

/// Adds memory, CPU, descriptors, the start and the build. What cannot be read is left out.
pub fn add(text: &mut Text) {
    text.sample(Kind::Gauge, "ringpost_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1.0);
    if let Some(bytes) = resident_bytes() {
        text.sample(Kind::Gauge, "process_resident_memory_bytes", "", bytes as f64);
    }
    if let Some(seconds) = cpu_seconds() {
        text.sample(Kind::Counter, "process_cpu_seconds_total", "", seconds);
    }
    if let Some(seconds) = *START.get_or_init(start_seconds) {
        text.sample(Kind::Gauge, "process_start_time_seconds", "", seconds);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        text.sample(Kind::Gauge, "process_open_fds", "", entries.count() as f64);
    }
}

/// Resident memory, from the second field of /proc/self/statm (proc_pid_statm(5)).
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// User and system time: utime and stime, the 14th and 15th field of /proc/self/stat (proc_pid_stat(5)).
fn cpu_seconds() -> Option<f64> {
    Some(stat_seconds(14)? + stat_seconds(15)?)
}

/// Seconds since 1970: of the boot, from btime in /proc/stat (proc_stat(5)), and from there on the 22nd field, starttime.
fn start_seconds() -> Option<f64> {
    let kernel = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = kernel.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + stat_seconds(22)?)
}

/// A field of /proc/self/stat that is in ticks of the clock, counted from 1 as in its manual page.
fn stat_seconds(field: usize) -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold blanks.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(resident_bytes().unwrap() > 1 << 16);
        let before = cpu_seconds().unwrap();
        assert!((0.0..1e6).contains(&before));
    }

    #[test]
    fn this_process_started_a_moment_ago() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        // The kernel tells of the boot in whole seconds.
        let age = now - start_seconds().unwrap();
        assert!((-2.0..600.0).contains(&age), "{age}");
    }
}
