//! The files that the embedded store stands on: a small trait, the real implementation, and a layer in memory that at a
//! crash forgets what was not synced.
//!
//! The contract is Linux's: what `write_at`, `allocate` and `truncate` did is durable once a later `sync_data` of that file
//! returned; what `create`, `rename` and `remove` did once a later `sync_dir` of the directory returned; of the rest any
//! part may be there after a crash. After an error of `sync_data` nothing is known of what was written since the last one,
//! and calling it again proves nothing.

pub mod crash;
mod real;

pub use real::RealFiles;
pub(crate) use real::shrink;

use std::io;
use std::path::Path;

/// What a disk writes as one: a sector is either old or new after a crash, never both, if it had been synced.
pub const SECTOR: usize = 512;

/// Files by path. Directories are given with every call; only one directory is used by a store.
pub trait Files: Send + Sync {
    /// Makes the directory and those above it, durably; it may exist.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// A new, empty file for reading and writing; `AlreadyExists` if there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// An existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Within a directory; replaces what is there, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The same of a large file, bit by bit where that spares those who use the disk: it takes a while, until `stop` says so,
    /// and then the rest goes at once.
    fn give_back(&self, path: &Path, _stop: &dyn Fn() -> bool) -> io::Result<()> {
        self.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Holds a lock file until the guard is dropped or the process ends, however it ends; `WouldBlock` while another
    /// process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// One open file; closed by drop.
pub trait File: Send + Sync {
    /// All of it, or an error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// How many bytes were read: fewer than asked for only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Content and length become durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves blocks for the first `len` bytes and makes the file that long; what was not written reads as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;

    fn truncate(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free: u64,
    pub total: u64,
}
