//! The write-ahead log: numbered segments of batches; one batch is one group commit.
//!
//! Owns: the segment files of one directory. Guarantees: a batch is durable when [`Wal::commit`] has returned; recovery
//! gives back every such batch that the trees do not hold yet, in order, or refuses. Never does: read what it wrote while
//! it runs; retry after an error; overwrite a byte that was synced.
//!
//! - A segment is made under another name, filled with zeros, given its header, synced, renamed, and its directory synced,
//!   before anything is written to it. So a segment that bears its name has a good header, and a bad one is damage.
//! - The next one is filled ahead ([`Wal::make_ahead`]). Where it is not there in time, and at a start, a short one is made
//!   on the spot.
//! - At most one batch is outstanding, so only the last batch of the log can be torn. A valid batch behind an invalid
//!   place therefore proves that the place was once synced: damage, not a torn end.
//! - The header of a segment names the lsn and checksum with which the log went on: what lies behind that end in the
//!   segment before was never acknowledged. Recovery always goes on in a new segment.
//! - Segments go from the oldest on, once the trees hold all their batches, and never the one that is written to. Their
//!   removal is not synced: a crash may bring some of them back, with gaps, all before the first one that is needed.

mod ahead;
mod batch;
mod recovery;
mod segment;

pub use ahead::MakeAhead;
pub(super) use recovery::Place;
pub use segment::segment_name;

use super::tree::TreeError;
use crate::files::{File, Files, SECTOR};
use ahead::{Ahead, Empty};
use batch::Batch;
use segment::Header;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most that is filled with zeros while somebody waits for it: some milliseconds.
const SHORT_BYTES: u64 = 4 << 20;

/// Random numbers for salts and incarnations.
pub type Entropy = Box<dyn FnMut() -> u64 + Send>;

/// Why a store does not open. Each is one line that says what is wrong and where.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Something that had been durable is not as it was written.
    #[error("{segment} is damaged at offset {offset}: acknowledged messages may be missing, refusing to start")]
    Damaged { segment: String, offset: u64 },
    #[error("{segment} is missing, though later segments are there: refusing to start")]
    Missing { segment: String },
    #[error("{segment} belongs to another store: refusing to start")]
    Foreign { segment: String },
    #[error("{segment} at offset {offset}: {reason}; was it written by a newer version?")]
    Undecodable { segment: String, offset: u64, reason: String },
    #[error("{what} has version {version}, which this build does not read")]
    Version { what: String, version: u32 },
    #[error("{} is missing or damaged, though there are log segments: refusing to start", .0.display())]
    Identity(PathBuf),
    #[error("{} is no data directory: it has no file `identity`", .0.display())]
    NoStore(PathBuf),
    /// A tree of the records or of the state is not as it was written.
    #[error("{} is damaged: {reason}: acknowledged messages may be missing, refusing to start", path.display())]
    Tree { path: PathBuf, reason: String },
    #[error(
        "{segment} begins with batch {first}, but the trees end with batch {covered}: what was between is missing, refusing to start"
    )]
    Gap { segment: String, first: u64, covered: u64 },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// An error that ends the process: after it nobody knows what is on the disk.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("write-ahead log: cannot {action} {segment}: {source}")]
    Log { action: &'static str, segment: String, source: io::Error },
    /// What is in the log could not be brought into the trees; nothing of it is lost.
    #[error("{0}")]
    Tree(OpenError),
    #[error("checkpoint: {0}")]
    Checkpoint(TreeError),
}

/// The log, open for writing.
pub(super) struct Wal {
    files: Arc<dyn Files>,
    dir: PathBuf,
    segment_bytes: u64,
    ahead: Ahead,
    entropy: Entropy,
    batch: Batch,
    segment: Box<dyn File>,
    header: Header,
    /// Where the next batch goes.
    offset: u64,
    capacity: u64,
    /// Of the last batch.
    lsn: u64,
    checksum: u32,
    /// Where the log ended when it was opened.
    found_end: u64,
    /// Segments that were not there when they were needed, the first one included.
    late: u64,
}

impl Wal {
    /// Where the next batch is made; cleared by [`Wal::commit`].
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        self.batch.payload()
    }

    pub(super) fn payload_len(&self) -> usize {
        self.batch.payload_len()
    }

    /// Where the log ended in the segment before the one that recovery has made.
    pub(super) fn end(&self) -> u64 {
        self.found_end
    }

    /// The number of the last batch.
    pub(super) fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Of the segment that is written to.
    pub(super) fn segment_number(&self) -> u64 {
        self.header.number
    }

    /// The work of making the next segment, if it is to be done; beside this.
    pub(super) fn make_ahead(&self) -> Option<MakeAhead> {
        self.ahead.work(&self.files, &self.dir, self.segment_bytes)
    }

    /// Segments that were made while something waited for them.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Makes the batch durable: one write, one fdatasync. Returns the bytes written. After an error the log must not be
    /// used again.
    pub(super) fn commit(&mut self) -> Result<usize, Failure> {
        let len = self.batch.padded_len();
        if self.offset + len as u64 > self.capacity {
            self.rotate(len)?;
        }
        let (bytes, checksum) = self.batch.seal(&self.header, self.offset, self.lsn + 1, self.checksum);
        let written = self.segment.write_at(bytes, self.offset);
        written.map_err(failure("write", self.header.number))?;
        self.segment.sync_data().map_err(failure("sync", self.header.number))?;
        self.offset += len as u64;
        self.lsn += 1;
        self.checksum = checksum;
        self.batch.clear();
        Ok(len)
    }

    /// The next segment, large enough for a batch of `len`.
    fn rotate(&mut self, len: usize) -> Result<(), Failure> {
        // What was reserved and not used is given back. Nothing depends on it, so it is not synced.
        let full = self.header.number;
        self.segment.truncate(self.offset).map_err(failure("truncate", full))?;
        let number = full + 1;
        let header =
            Header { number, salt: (self.entropy)(), first_lsn: self.lsn + 1, previous: self.checksum, ..self.header };
        let needed = SECTOR + len;
        let ahead = self.ahead.take(needed as u64);
        self.late += u64::from(ahead.is_none());
        let (segment, capacity) = ahead
            .map_or_else(|| short_segment(&*self.files, &self.dir, self.segment_bytes, number, needed), Ok)
            .and_then(|empty| begin_segment(&*self.files, &self.dir, &header, empty))
            .map_err(|(action, error)| failure(action, number)(error))?;
        self.segment = segment;
        self.header = header;
        self.capacity = capacity;
        self.offset = SECTOR as u64;
        Ok(())
    }
}

/// Removes the segments before `first_kept`, which the trees cover.
pub(super) fn remove_before(files: &dyn Files, dir: &Path, first_kept: u64, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let mut covered: Vec<_> = files.list(dir)?.iter().filter_map(|name| segment::segment_number(name)).collect();
    covered.retain(|number| *number < first_kept);
    covered.sort_unstable();
    covered.into_iter().try_for_each(|number| files.give_back(&dir.join(segment_name(number)), stop))
}

fn failure(action: &'static str, segment: u64) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Log { action, segment: segment_name(segment), source }
}

/// What a segment reserves: `wanted`, but no more than an eighth of what is free, so that a disk that fills up is under the
/// floor, and appends are refused, long before a segment cannot be made. At least `needed`.
fn capacity(files: &dyn Files, dir: &Path, wanted: u64, needed: usize) -> u64 {
    let most = files.space(dir).map_or(u64::MAX, |space| space.free / 8);
    wanted.min(most).max(needed as u64)
}

/// What could not be done, and why.
type Failed = (&'static str, io::Error);

/// An empty segment of the least size that will do, filled on the spot.
fn short_segment(
    files: &dyn Files,
    dir: &Path,
    segment_bytes: u64,
    number: u64,
    needed: usize,
) -> Result<Empty, Failed> {
    let capacity = capacity(files, dir, segment_bytes.min(SHORT_BYTES), needed);
    let path = dir.join(segment_name(number)).with_extension("new");
    let file = files.create(&path).map_err(|error| ("create", error))?;
    file.allocate(capacity).map_err(|error| ("allocate", error))?;
    ahead::fill(&*file, capacity).map_err(|error| ("fill", error))?;
    Ok(Empty { file, path, capacity })
}

/// Makes an empty segment the next one, durably, header and name included. Its capacity comes with it.
fn begin_segment(files: &dyn Files, dir: &Path, header: &Header, empty: Empty) -> Result<(Box<dyn File>, u64), Failed> {
    let Empty { file, path, capacity } = empty;
    file.write_at(&header.encode(), 0).map_err(|error| ("write", error))?;
    file.sync_data().map_err(|error| ("sync", error))?;
    files.rename(&path, &dir.join(segment_name(header.number))).map_err(|error| ("rename", error))?;
    files.sync_dir(dir).map_err(|error| ("sync the directory of", error))?;
    Ok((file, capacity))
}
