//! Files in memory that lose what a machine may lose: kill -9 keeps the page cache and proves nothing about syncing, this
//! does not.
//!
//! Owns: a directory of files, what of it is durable, and the moment of the crash. Guarantees: what a completed sync covers
//! is kept; of everything else a random part is. Never does: real I/O; randomness of its own (it is given with the crash).
//!
//! A test lets the crash come during the nth operation from now ([`CrashFiles::crash_after`]): that operation and all
//! after it fail. Then it restarts the "machine" with [`CrashFiles::lose_power`], or only the process with
//! [`CrashFiles::kill`]. What was open before is useless afterwards.

mod disk;

pub use disk::Remainder;

use super::{File, Files, Space};
use crate::prng::Prng;
use disk::{Change, Disk};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a layer may be told to do wrong, to prove that the tests would notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    /// `sync_data` returns without doing anything.
    pub sync_data: bool,
    /// `sync_dir` returns without doing anything.
    pub sync_dir: bool,
}

/// Operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Write,
    SyncData,
    Allocate,
    SyncDir,
    /// Everything else.
    Other,
}

/// The layer; clones share it.
#[derive(Clone)]
pub struct CrashFiles(Arc<Mutex<State>>);

struct State {
    disk: Disk,
    locks: BTreeSet<PathBuf>,
    space: Space,
    /// The size of a disk that can be filled; `space` is not used then.
    size: Option<u64>,
    lies: Lies,
    /// Counted up by every operation.
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    fault: Option<(Operation, u64, i32)>,
    /// Raised by every restart: handles of an older one are useless.
    epoch: u64,
}

impl Default for CrashFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashFiles {
    /// An empty directory on a disk with room.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            disk: Disk::default(),
            locks: BTreeSet::new(),
            space: Space { free: 1 << 40, total: 1 << 40 },
            size: None,
            lies: Lies::default(),
            operations: 0,
            crash_at: None,
            crashed: false,
            fault: None,
            epoch: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_lies(&self, lies: Lies) {
        self.state().lies = lies;
    }

    pub fn set_space(&self, space: Space) {
        self.state().space = space;
    }

    /// The disk has so many bytes from now on: files take their length, and reserving more than is left fails.
    pub fn set_size(&self, bytes: u64) {
        self.state().size = Some(bytes);
    }

    /// The crash comes during the operation after the next `operations`: it takes effect, is not synced, and fails.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.operations + operations);
    }

    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The next operation of this kind, after `after` more of them, fails with this error number and nothing is done; as
    /// on Linux, what a failed `sync_data` was to write counts as written from then on, and is not.
    pub fn fail(&self, operation: Operation, after: u64, errno: i32) {
        self.state().fault = Some((operation, after, errno));
    }

    /// The power goes, now or at the crash that was planned, and comes back.
    pub fn lose_power(&self, prng: &mut Prng, remainder: Remainder) {
        let mut state = self.state();
        state.disk.lose_power(prng, remainder);
        state.restart();
    }

    /// The process ends and is started again: everything that was written is there, nothing more is durable.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// The names of all files, and what a reader of them sees.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        state.disk.names().filter_map(|name| Some((name.clone(), state.disk.read(name)?.to_vec()))).collect()
    }

    /// Changes a file on the disk behind everybody's back, durably. `None` removes it.
    pub fn tamper(&self, path: &Path, bytes: Option<Vec<u8>>) {
        self.state().disk.tamper(path, bytes);
    }
}

impl State {
    fn restart(&mut self) {
        self.locks.clear();
        self.crash_at = None;
        self.crashed = false;
        self.fault = None;
        self.epoch += 1;
    }

    fn space(&self) -> Space {
        let Some(total) = self.size else { return self.space };
        let used: u64 = self.disk.names().filter_map(|name| Some(self.disk.read(name)?.len() as u64)).sum();
        Space { free: total.saturating_sub(used), total }
    }

    /// Every operation begins here. `Err`: it fails, without effect or (where it is the crash) after `effect`.
    fn operate(&mut self, operation: Operation, effect: impl FnOnce(&mut Disk)) -> io::Result<()> {
        if self.crashed {
            return Err(power_is_off());
        }
        if let Some((failing, after, errno)) = &mut self.fault
            && *failing == operation
        {
            if *after > 0 {
                *after -= 1;
            } else {
                let error = io::Error::from_raw_os_error(*errno);
                self.fault = None;
                return Err(error);
            }
        }
        let at = self.operations;
        self.operations += 1;
        self.crashed = self.crash_at == Some(at);
        if self.crashed && matches!(operation, Operation::SyncData | Operation::SyncDir) {
            return Err(power_is_off());
        }
        effect(&mut self.disk);
        if self.crashed { Err(power_is_off()) } else { Ok(()) }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the machine has crashed")
}

impl Files for CrashFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        // The directory itself is taken to be there: its own durability is a matter of the one above.
        self.state().operate(Operation::Other, |_| {})
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        if state.disk.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.operate(Operation::Other, |disk| disk.change(Change::Create(path.to_owned())))?;
        self.handle(&state, path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.operate(Operation::Other, |_| {})?;
        self.handle(&state, path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.operate(Operation::Other, |_| {})?;
        let here = state.disk.names().filter(|name| name.parent() == Some(dir));
        Ok(here.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let change = Change::Rename(from.to_owned(), to.to_owned());
        self.state().operate(Operation::Other, |disk| disk.change(change))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().operate(Operation::Other, |disk| disk.change(Change::Remove(path.to_owned())))
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        let lies = state.lies.sync_dir;
        state.operate(Operation::SyncDir, |disk| {
            if !lies {
                disk.sync_dir();
            }
        })
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(self.state().space())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state();
        state.operate(Operation::Other, |_| {})?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { files: self.clone(), path: path.to_owned(), epoch: state.epoch }))
    }
}

struct Lock {
    files: CrashFiles,
    path: PathBuf,
    epoch: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.files.state();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

impl CrashFiles {
    fn handle(&self, state: &State, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = state.disk.find(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Handle { files: self.clone(), inode, epoch: state.epoch }))
    }
}

struct Handle {
    files: CrashFiles,
    inode: usize,
    epoch: u64,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.files.state();
        if state.epoch == self.epoch { Ok(state) } else { Err(power_is_off()) }
    }
}

impl File for Handle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state()?.operate(Operation::Write, |disk| disk.inode(self.inode).write(bytes, offset as usize))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        self.state()?.operate(Operation::Other, |disk| read = disk.inode(self.inode).read(buffer, offset as usize))?;
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let lies = state.lies.sync_data;
        let synced = state.operate(Operation::SyncData, |disk| {
            if !lies {
                disk.inode(self.inode).sync();
            }
        });
        if synced.is_err() && !state.crashed {
            state.disk.inode(self.inode).forget_dirty();
        }
        synced
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let more = len.saturating_sub(state.disk.inode(self.inode).len() as u64);
        if state.size.is_some() && more > state.space().free {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        state.operate(Operation::Allocate, |disk| {
            let inode = disk.inode(self.inode);
            inode.set_len(inode.len().max(len as usize));
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.state()?.operate(Operation::Other, |disk| disk.inode(self.inode).set_len(len as usize))
    }

    fn len(&self) -> io::Result<u64> {
        let mut len = 0;
        self.state()?.operate(Operation::Other, |disk| len = disk.inode(self.inode).len() as u64)?;
        Ok(len)
    }
}
