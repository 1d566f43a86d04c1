//! The segment after this one, written full of zeros while nobody waits.
//!
//! Owns: the file of that name, until the log takes it. Guarantees: what is taken has all its blocks written and synced, so
//! that an fdatasync of a batch in it has nothing to do but that batch: no block to allocate, no length to record, and no
//! extent to convert from reserved to written, for which ext4 would wait until a worker of the kernel is given a processor.
//! Never does: touch a segment that has batches; retry. An error costs the log nothing: it makes a short segment itself.

use super::capacity;
use crate::files::{File, Files, SECTOR};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Zeros are written and synced in pieces of this size, so that a batch waits for one of them at most.
const PIECE: usize = 256 << 10;
/// Of the name that the file has until it becomes a segment. A start removes it.
const NAME: &str = "wal-ahead.new";

/// An empty segment without a header.
pub(super) struct Empty {
    pub(super) file: Box<dyn File>,
    pub(super) path: PathBuf,
    pub(super) capacity: u64,
}

#[derive(Default)]
enum State {
    /// None is there and none is being made.
    #[default]
    Wanted,
    Making,
    Made(Empty),
    /// Could not be made: not tried again before the log has gone on to its next segment.
    Failed,
}

/// Where the log finds it. Clones are the same place.
#[derive(Clone, Default)]
pub(super) struct Ahead(Arc<Mutex<State>>);

impl Ahead {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment made ahead, if it has room for `needed` bytes.
    pub(super) fn take(&self, needed: u64) -> Option<Empty> {
        let mut state = self.state();
        match std::mem::take(&mut *state) {
            State::Made(empty) if empty.capacity >= needed => Some(empty),
            State::Failed => None,
            other => {
                *state = other;
                None
            }
        }
    }

    /// The work of making it, if that is to be done and nobody does it.
    pub(super) fn work(&self, files: &Arc<dyn Files>, dir: &Path, wanted: u64) -> Option<MakeAhead> {
        let mut state = self.state();
        if !matches!(*state, State::Wanted) {
            return None;
        }
        *state = State::Making;
        Some(MakeAhead { ahead: self.clone(), files: Arc::clone(files), dir: dir.to_owned(), wanted })
    }
}

/// Makes the next segment: to be run beside the committer.
pub struct MakeAhead {
    ahead: Ahead,
    files: Arc<dyn Files>,
    dir: PathBuf,
    wanted: u64,
}

impl MakeAhead {
    /// Until it is made, or `stop` says so. Returns whether it was made. An error is the disk's: nothing is lost by it.
    pub fn run(self, stop: &dyn Fn() -> bool) -> io::Result<bool> {
        let path = self.dir.join(NAME);
        let made = self.make(&path, stop);
        let (state, told) = match made {
            Ok(Some(empty)) => (State::Made(empty), Ok(true)),
            Ok(None) => (State::Failed, Ok(false)),
            Err(error) => (State::Failed, Err(error)),
        };
        if matches!(state, State::Failed) {
            // What is left of it a start removes.
            let _ = self.files.remove(&path);
        }
        *self.ahead.state() = state;
        told
    }

    fn make(&self, path: &Path, stop: &dyn Fn() -> bool) -> io::Result<Option<Empty>> {
        let capacity = capacity(&*self.files, &self.dir, self.wanted, SECTOR);
        if self.files.list(&self.dir)?.iter().any(|name| name == NAME) {
            self.files.remove(path)?;
        }
        let file = self.files.create(path)?;
        file.allocate(capacity)?;
        let zeros = vec![0; PIECE.min(capacity as usize)];
        for at in (0..capacity).step_by(PIECE) {
            if stop() {
                return Ok(None);
            }
            write_zeros(&*file, &zeros, at, capacity)?;
            file.sync_data()?;
        }
        Ok(Some(Empty { file, path: path.to_owned(), capacity }))
    }
}

/// All of a new file at once, for want of one made ahead; durable with its next sync.
pub(super) fn fill(file: &dyn File, capacity: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE.min(capacity as usize)];
    (0..capacity).step_by(PIECE).try_for_each(|at| write_zeros(file, &zeros, at, capacity))
}

fn write_zeros(file: &dyn File, zeros: &[u8], at: u64, capacity: u64) -> io::Result<()> {
    let len = (capacity - at).min(zeros.len() as u64) as usize;
    file.write_at(zeros.get(..len).unwrap_or(zeros), at)
}
