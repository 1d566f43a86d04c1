//! Tables go to the disk while they grow, not when they are finished.
//!
//! The last step of a table is a sync of all of it. The block layer takes all of its requests at once and hands them to the
//! device one after another; a commit that comes meanwhile waits behind them, whatever its priority: 20 ms for 16 MiB, of
//! which none is in the device (measured by the tracepoints of the block layer, Linux 6.18, `mq-deadline`). So what a merge or
//! a checkpoint has written is synced in steps while it goes on.
//!
//! Owns: a thread beside that work. Guarantees: nothing of the work depends on it; where it cannot look, or the disk is slower
//! than the work, the last step is large again. Never does: write.

use std::collections::BTreeMap;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// A file that has grown by so many bytes is synced: less than a millisecond of the disk.
const STEP: u64 = 512 << 10;
/// How often that is looked at.
const INTERVAL: Duration = Duration::from_millis(2);

/// Does `work`, which makes tables in `dir`, and syncs them meanwhile. What was synced is added to `synced`, in bytes.
pub(super) fn trickled<T>(dir: &Path, synced: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let Ok(mut growing) = Growing::new(dir) else { return work() };
    std::thread::scope(|scope| {
        // Dropped when the work ends, however it ends.
        let (_working, ended) = mpsc::channel::<()>();
        let beside = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                synced.fetch_add(growing.sync(), Ordering::Relaxed);
            }
        };
        let _ = std::thread::Builder::new().name("store-trickle".into()).spawn_scoped(scope, beside);
        work()
    })
}

/// The files that are being written in a directory.
struct Growing {
    dir: PathBuf,
    watch: OwnedFd,
    /// By name, with how much of each is synced.
    files: BTreeMap<Vec<u8>, (File, u64)>,
}

impl Growing {
    /// Those that are made from now on. Errors: of inotify, of which each user has a limited number.
    fn new(dir: &Path) -> rustix::io::Result<Self> {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, dir, WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR)?;
        Ok(Self { dir: dir.to_owned(), watch, files: BTreeMap::new() })
    }

    /// Syncs what has grown enough. Returns bytes. What fails is left to who writes the file, and is told there.
    fn sync(&mut self) -> u64 {
        self.hear();
        let mut done = 0;
        for (file, synced) in self.files.values_mut() {
            let len = file.metadata().map_or(0, |about| about.len());
            if len.saturating_sub(*synced) >= STEP && file.sync_data().is_ok() {
                done += len - *synced;
                *synced = len;
            }
        }
        done
    }

    /// Which files were made, and which are finished. An overflow of the queue loses some: they are synced at their end.
    fn hear(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        while let Ok(event) = events.next() {
            let Some(name) = event.file_name().map(|name| name.to_bytes().to_vec()) else { continue };
            if event.events().contains(ReadFlags::CLOSE_WRITE) {
                self.files.remove(&name);
            } else if let Ok(file) = File::open(self.dir.join(std::ffi::OsStr::from_bytes(&name))) {
                self.files.insert(name, (file, 0));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_grows_is_synced_in_steps_until_it_is_closed() {
        let dir = std::env::temp_dir().join(format!("ringpost-trickle-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut before = File::create(dir.join("0")).unwrap();
        let mut growing = Growing::new(&dir).unwrap();
        let mut table = File::create(dir.join("1")).unwrap();
        let step = vec![7; STEP as usize];
        before.write_all(&step).unwrap();
        table.write_all(&step[1..]).unwrap();
        assert_eq!(growing.sync(), 0, "less than a step");
        table.write_all(&step).unwrap();
        assert_eq!(growing.sync(), 2 * STEP - 1);
        assert_eq!(growing.sync(), 0, "each byte once");
        table.write_all(&step).unwrap();
        drop(table);
        assert_eq!((growing.sync(), growing.files.len()), (0, 0), "its writer has synced it");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_work_is_done_where_there_is_nothing_to_watch_and_its_panic_is_its_own() {
        let synced = AtomicU64::new(0);
        assert_eq!(trickled(Path::new("/nowhere/at/all"), &synced, || 7), 7);
        let panics = || trickled(&std::env::temp_dir(), &synced, || panic!("of the work"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    }
}
