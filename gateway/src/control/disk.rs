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

/// One line about the disk that holds `data`, if it reads too far ahead.
pub fn warning(data: &Path) -> Option<String> {
    let device = std::fs::metadata(data).ok()?.dev();
    warning_of(Path::new("/sys/dev/block"), &format!("{}:{}", major(device), minor(device)))
}

fn warning_of(devices: &Path, device: &str) -> Option<String> {
    let (setting, kib) = read_ahead(&devices.join(device))?;
    (kib > READ_AHEAD_KIB).then(|| {
        format!(
            "the disk of the data reads {kib} KiB ahead: messages wait behind such reads of the store's upkeep; \
             better is 128: {}",
            setting.display()
        )
    })
}

/// The setting is the disk's; a partition is below its disk.
fn read_ahead(device: &Path) -> Option<(PathBuf, u64)> {
    let device = device.canonicalize().ok()?;
    let disk = if device.join("queue").exists() { &device } else { device.parent()? };
    let setting = disk.join("queue/read_ahead_kb");
    let kib = std::fs::read_to_string(&setting).ok()?.trim().parse().ok()?;
    Some((setting, kib))
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
        assert_eq!(warning_of(&sys, "8:0"), None);
        for device in ["8:16", "8:17"] {
            let told = warning_of(&sys, device).unwrap();
            assert!(told.contains("8192 KiB") && told.ends_with("8:16/queue/read_ahead_kb"), "{told}");
        }
        assert_eq!(warning_of(&sys, "0:42"), None, "no disk at all");
        std::fs::remove_dir_all(&sys).unwrap();
    }
}
