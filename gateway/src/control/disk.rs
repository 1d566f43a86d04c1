//! What the disk under the store is set to, as far as messages feel it.
//!
//! Guarantees: looks only; where the kernel does not say (network and memory file systems, containers without /sys) there is
//! nothing to tell.

use rustix::fs::{major, minor};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A merge of the store asks for so much at once at most, and a message that is to become durable waits behind it: the size in
/// which tables are written, too.
const READ_AHEAD_KIB: u64 = 512;

/// The disk that holds the store. What is asked of it later never waits for the disk itself.
#[derive(Debug)]
pub struct Disk {
    read_ahead: PathBuf,
}

impl Disk {
    /// The one that holds `data`, where the kernel tells of its settings.
    pub fn of(data: &Path) -> Option<Self> {
        let device = std::fs::metadata(data).ok()?.dev();
        Self::named(Path::new("/sys/dev/block"), &format!("{}:{}", major(device), minor(device)))
    }

    fn named(devices: &Path, device: &str) -> Option<Self> {
        let read_ahead = read_ahead_of(&devices.join(device))?;
        read_ahead.exists().then_some(Self { read_ahead })
    }

    /// One line if it reads too far ahead, as it is set now.
    pub fn warning(&self) -> Option<String> {
        let kib: u64 = std::fs::read_to_string(&self.read_ahead).ok()?.trim().parse().ok()?;
        (kib > READ_AHEAD_KIB).then(|| {
            format!(
                "the disk of the data reads {kib} KiB ahead: messages wait behind such reads of the store's upkeep; \
                 better is 128: {}",
                self.read_ahead.display()
            )
        })
    }
}

/// The setting is the disk's; a partition is below its disk.
fn read_ahead_of(device: &Path) -> Option<PathBuf> {
    let device = device.canonicalize().ok()?;
    let disk = if device.join("queue").exists() { &device } else { device.parent()? };
    Some(disk.join("queue/read_ahead_kb"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_reads_far_ahead_is_named_with_its_setting_and_others_are_not() {
        let sys = std::env::temp_dir().join(format!("ringpost-disk-{}", std::process::id()));
        let disk = |name: &str, kib: &str| {
            std::fs::create_dir_all(sys.join(name).join("queue")).unwrap();
            std::fs::write(sys.join(name).join("queue/read_ahead_kb"), kib).unwrap();
        };
        disk("8:0", "512\n");
        disk("8:16", "8192\n");
        std::fs::create_dir_all(sys.join("8:16/sdb1")).unwrap();
        std::os::unix::fs::symlink(sys.join("8:16/sdb1"), sys.join("8:17")).unwrap();
        let warning_of = |device| Disk::named(&sys, device).unwrap().warning();
        assert_eq!(warning_of("8:0"), None);
        for device in ["8:16", "8:17"] {
            let told = warning_of(device).unwrap();
            assert!(told.contains("8192 KiB") && told.ends_with("8:16/queue/read_ahead_kb"), "{told}");
        }
        assert!(Disk::named(&sys, "0:42").is_none(), "no disk at all");
        let health = super::super::health::Health::default();
        health.set_disk(Disk::named(&sys, "8:16"));
        assert_eq!(health.warnings(), [warning_of("8:16").unwrap()]);
        disk("8:16", "128\n");
        assert!(health.warnings().is_empty(), "as it is set now");
        std::fs::remove_dir_all(&sys).unwrap();
    }
}
