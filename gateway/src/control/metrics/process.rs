//! What the kernel says about this process.

use super::{Kind, Text};

/// Adds memory, CPU, descriptors and the build. What cannot be read is left out.
pub fn add(text: &mut Text) {
    text.sample(Kind::Gauge, "ringpost_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1.0);
    if let Some(bytes) = resident_bytes() {
        text.sample(Kind::Gauge, "process_resident_memory_bytes", "", bytes as f64);
    }
    if let Some(seconds) = cpu_seconds() {
        text.sample(Kind::Counter, "process_cpu_seconds_total", "", seconds);
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

/// User and system time, from the fields utime and stime of /proc/self/stat (proc_pid_stat(5)).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold blanks; utime and stime are the 14th and 15th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
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
}
