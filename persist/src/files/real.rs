//! The files of the operating system.

use super::{File, Files, Space};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, retry_on_intr};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

/// What is freed at once of a large file: a millisecond of a disk that is told of it (measured).
const STEP: u64 = 2 << 20;

/// Makes a file shorter in steps, each durable before the next and half of the time idle, until little is left of it or `stop`
/// says so: a disk serves nobody while it is told that many blocks are free.
pub(crate) fn shrink(file: &fs::File, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let mut len = file.metadata()?.len();
    while len > STEP && !stop() {
        let started = Instant::now();
        len -= STEP;
        file.set_len(len)?;
        file.sync_all()?;
        std::thread::sleep(started.elapsed());
    }
    Ok(())
}

/// Plain calls, no buffers of its own. What it makes is for its own user only: these files hold what people wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let made: Vec<_> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for new in made {
            let above = new.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.sync_dir(above)?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(RealFile(fs::OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn give_back(&self, path: &Path, stop: &dyn Fn() -> bool) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        fs::remove_file(path)?;
        // A crash is not to leave the name on a file that is cut.
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        shrink(&file, stop)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        // Never truncated or removed: the lock is on the open file, its content and name mean nothing.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len)) {
            // File systems without it: the length is set, the blocks come with the writes.
            Err(Errno::OPNOTSUPP) => self.0.set_len(len),
            done => Ok(done?),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
