//! The log, poured into the trees again by the code that decides on new requests.
//!
//! Guarantees: what the log holds and that code would not do is damage. A long log is read in the memory of a short one.

use super::entry;
use super::tree::{Staging, TreeError};
use super::wal::{OpenError, ReplayError};
use crate::Outcome;
use crate::record::RecordError;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// See the module.
pub(super) struct Replay {
    trees: Staging,
    memory_bytes: u64,
    records: u64,
    /// What was read before, on its way to the disk.
    flushing: Flushing,
}

/// A flush beside the reading of the log; it never outlives it.
#[derive(Default)]
struct Flushing(Option<JoinHandle<Result<u64, TreeError>>>);

impl Flushing {
    fn wait(&mut self) -> Result<(), TreeError> {
        match self.0.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(flushed)) => flushed.map(|_| ()),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        // The start has failed already: what became of the flush is for the next one to see.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

impl Replay {
    /// `memory_bytes`: of what was read at most, before it goes to the disk.
    pub(super) fn new(trees: Staging, memory_bytes: u64) -> Self {
        Self { trees, memory_bytes, records: 0, flushing: Flushing::default() }
    }

    /// The trees, and how many records came into them.
    pub(super) fn finish(mut self) -> Result<(Staging, u64), TreeError> {
        self.flushing.wait()?;
        Ok((self.trees, self.records))
    }

    pub(super) fn batch(&mut self, lsn: u64, payload: &[u8]) -> Result<(), ReplayError> {
        let unreadable = |error: TreeError| {
            ReplayError::Open(OpenError::Tree { path: PathBuf::from("trees"), reason: error.to_string() })
        };
        entry::decode(payload, |entry| match entry {
            entry::Entry::Raise(raise) => self.trees.raise(&raise).map(|_| ()).map_err(unreadable),
            entry::Entry::Document { key, version, bytes } => {
                match self.trees.cas(&key, version.saturating_sub(1), &bytes).map_err(unreadable)? {
                    Outcome::Stored { .. } => Ok(()),
                    _ => Err(RecordError::Field("version").into()),
                }
            }
            entry::Entry::Item(key, bytes) => {
                self.trees.put(&key, &bytes);
                Ok(())
            }
            entry::Entry::Taken(key) => self.trees.hand_out(&key).map(|_| ()).map_err(unreadable),
            entry::Entry::Append { conversation, kind, expected_head, records } => {
                let records: Vec<_> = records.into_iter().map(Arc::new).collect();
                self.records += records.len() as u64;
                match self.trees.append(&conversation, kind.as_ref(), expected_head, &records) {
                    Ok(Outcome::Appended { .. }) => Ok(()),
                    Ok(_) => Err(RecordError::Field("position").into()),
                    Err(error) => Err(unreadable(error)),
                }
            }
        })?;
        self.trees.apply(lsn).map_err(ReplayError::Open)?;
        if self.trees.fresh_bytes() >= self.memory_bytes {
            // The next checkpoint removes what this one covers.
            self.flushing.wait().map_err(unreadable)?;
            let sealed = self.trees.seal(lsn, None);
            self.flushing.0 = Some(std::thread::spawn(move || sealed.flush()));
        }
        Ok(())
    }
}
