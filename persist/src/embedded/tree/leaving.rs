//! Tables that are no longer needed, given back to the disk bit by bit.
//!
//! Where the last name of a file is removed all its blocks are freed at once. On a file system that is mounted with `discard`
//! the disk is told of all of them in one request, and serves nobody meanwhile: 20 to 30 ms for 64 MiB, in which no batch
//! becomes durable (measured; a merge removes several such tables). So tables stay open here, and those that have lost their
//! names are made shorter in steps.
//!
//! Owns: an open file of each table. Guarantees: a file is touched only when it has had no name for [`GRACE`], so that nobody
//! reads it any more. Never does: keep anything over a restart; what is open then is freed by the kernel.

use crate::files::shrink;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A read that began before a table lost its name has ended by then.
const GRACE: Duration = Duration::from_secs(5);
/// Files open at most, or a quarter of what the process may open; the rest is removed at once. Of tables of 16 MiB they are 64
/// GiB.
const MOST: usize = 4_096;

/// See the module.
pub(super) struct Leaving {
    /// By their numbers.
    held: Mutex<BTreeMap<u64, Held>>,
    most: usize,
}

struct Held {
    file: File,
    /// Since when it is known to have no name.
    gone: Option<Instant>,
}

impl Default for Leaving {
    fn default() -> Self {
        let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let quarter = open.map_or(MOST, |open| usize::try_from(open / 4).unwrap_or(MOST));
        Self { held: Mutex::default(), most: quarter.min(MOST) }
    }
}

impl Leaving {
    /// Opens the files of a directory: before anything is removed there. What cannot be opened is removed at once, later.
    pub(super) fn hold(&self, dir: &Path) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            // By number: a file that is open keeps its number, a name may come again.
            if held.len() < self.most
                && !held.contains_key(&entry.ino())
                && let Ok(file) = OpenOptions::new().write(true).open(entry.path())
                && file.metadata().is_ok_and(|it| it.is_file() && it.ino() == entry.ino())
            {
                held.insert(entry.ino(), Held { file, gone: None });
            }
        }
    }

    /// Gives back what has had no name for long enough at `now`. Returns how many bytes have none and are not given back yet.
    pub(super) fn give_back(&self, now: Instant, stop: &dyn Fn() -> bool) -> io::Result<u64> {
        let mut left = 0;
        let mut due = Vec::new();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, held) in held.iter_mut() {
            let about = held.file.metadata()?;
            if about.nlink() > 0 {
                continue;
            }
            if now.saturating_duration_since(*held.gone.get_or_insert(now)) >= GRACE {
                due.push(*number);
            } else {
                left += about.len();
            }
        }
        let due: Vec<_> = due.iter().filter_map(|number| held.remove(number)).collect();
        drop(held);
        due.iter().try_for_each(|held| shrink(&held.file, stop))?;
        Ok(left)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_a_name_becomes_shorter_and_one_with_a_name_never() {
        let dir = std::env::temp_dir().join(format!("ringpost-leaving-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (kept, gone) = (dir.join("1"), dir.join("2"));
        let bytes = vec![7; 5 << 20];
        [&kept, &gone].iter().for_each(|path| std::fs::write(path, &bytes).unwrap());
        let leaving = Leaving::default();
        leaving.hold(&dir);
        leaving.hold(&dir);
        assert_eq!(leaving.held.lock().unwrap().len(), 2, "each once");
        // Who reads it still, as a read does that began before.
        let reader = File::open(&gone).unwrap();
        std::fs::remove_file(&gone).unwrap();
        // Another file of that name is another file.
        std::fs::write(&gone, b"new").unwrap();
        leaving.hold(&dir);
        let (now, go_on) = (Instant::now(), || false);
        assert_eq!(leaving.give_back(now, &go_on).unwrap(), 5 << 20);
        assert_eq!(leaving.give_back(now + GRACE / 2, &go_on).unwrap(), 5 << 20);
        assert_eq!(reader.metadata().unwrap().len(), 5 << 20);
        assert_eq!(leaving.give_back(now + GRACE, &go_on).unwrap(), 0);
        assert!(reader.metadata().unwrap().len() <= 2 << 20, "the rest goes when it is closed");
        assert_eq!((std::fs::read(&kept).unwrap(), std::fs::read(&gone).unwrap()), (bytes, b"new".to_vec()));
        assert_eq!(leaving.held.lock().unwrap().len(), 2);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
