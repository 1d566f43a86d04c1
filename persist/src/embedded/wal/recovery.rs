//! Reading the log back.

use super::batch::{self, Batch};
use super::segment::{Header, segment_name, segment_number};
use super::{Entropy, OpenError, Wal, begin_segment, short_segment};
use crate::files::{File, Files, SECTOR};
use crate::record::RecordError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::embedded) struct Recovered {
    /// Segments read.
    pub(in crate::embedded) segments: u64,
    /// Bytes behind the end of the log that were not zero: the torn last batch.
    pub(in crate::embedded) cut_bytes: u64,
    /// Bytes of the batches that were given back.
    pub(in crate::embedded) replayed_bytes: u64,
}

/// Where a batch is in the log.
#[derive(Clone, Copy, Debug)]
pub(in crate::embedded) struct Place {
    segment: u64,
    offset: u64,
}

impl Place {
    /// The batch is as it was written, and yet it cannot be applied.
    pub(in crate::embedded) fn undecodable(self, reason: RecordError) -> OpenError {
        let (segment, reason) = (segment_name(self.segment), reason.to_string());
        OpenError::Undecodable { segment, offset: self.offset, reason }
    }
}

type Each<'a> = &'a mut dyn FnMut(Place, u64, &[u8]) -> Result<(), OpenError>;

/// A log that was read to its end.
pub(in crate::embedded) struct Read {
    /// The last segment.
    last: Option<(u64, Box<dyn File>)>,
    /// Of the last batch.
    lsn: u64,
    checksum: u32,
    /// Where it ends in that segment.
    end: u64,
    found: Recovered,
}

/// Where the log has got to while it is read.
struct Reader<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
    incarnation: [u8; 16],
    /// The last batch that the trees hold: what comes after it is given back.
    covered: u64,
    bytes: Vec<u8>,
    lsn: u64,
    checksum: u32,
    /// Where the log ends in the segment read last: if the next one goes on from elsewhere, the damage is there.
    end: u64,
    found: Recovered,
}

impl Wal {
    /// Reads every batch of the log in `dir` in order and gives place, lsn and payload of each after `covered`, which is durable by
    /// then, to `each`.
    pub(in crate::embedded) fn read(
        files: &dyn Files,
        dir: &Path,
        incarnation: [u8; 16],
        covered: u64,
        each: Each<'_>,
    ) -> Result<Read, OpenError> {
        let numbers = segments(files, dir, covered)?;
        let mut reader = Reader {
            files,
            dir,
            incarnation,
            covered,
            bytes: Vec::new(),
            lsn: 0,
            checksum: 0,
            end: 0,
            found: Recovered::default(),
        };
        let mut last = None;
        for &number in &numbers {
            let is_last = Some(&number) == numbers.last();
            let is_first = Some(&number) == numbers.first();
            last = Some((number, reader.segment(number, is_first, is_last, each)?));
        }
        let Reader { lsn, checksum, end, found, .. } = reader;
        if lsn < covered {
            // The trees hold what was durable in the log before.
            let segment = segment_name(numbers.last().copied().unwrap_or(1));
            return Err(match &last {
                Some(_) => OpenError::Damaged { segment, offset: end },
                None => OpenError::Missing { segment },
            });
        }
        Ok(Read { last, lsn, checksum, end, found })
    }

    /// Starts a new segment behind what was read. The names in `dir` are durable already.
    pub(in crate::embedded) fn open(
        files: Arc<dyn Files>,
        dir: PathBuf,
        incarnation: [u8; 16],
        segment_bytes: u64,
        mut entropy: Entropy,
        read: Read,
    ) -> Result<(Self, Recovered), OpenError> {
        let Read { last, lsn, checksum, end, found } = read;
        let number = last.as_ref().map_or(0, |(number, _)| *number) + 1;
        let header = Header { incarnation, number, salt: entropy(), first_lsn: lsn + 1, previous: checksum };
        let (segment, capacity) = short_segment(&*files, &dir, segment_bytes, number, SECTOR)
            .and_then(|empty| begin_segment(&*files, &dir, &header, empty))
            .map_err(|(action, source)| OpenError::io(action, &dir.join(segment_name(number)))(source))?;
        if let Some((number, file)) = last {
            // The torn end and what was reserved; the new header says that the log does not go on there.
            file.truncate(end).map_err(OpenError::io("truncate", &dir.join(segment_name(number))))?;
        }
        let batch = Batch::new();
        let offset = SECTOR as u64;
        let wal = Self {
            files,
            dir,
            segment_bytes,
            ahead: Default::default(),
            entropy,
            batch,
            segment,
            header,
            offset,
            capacity,
            lsn,
            checksum,
            found_end: end,
            late: 1,
        };
        Ok((wal, found))
    }
}

/// The numbers of the segments to read: the last ones that follow each other without a gap. Those before a gap had been
/// removed, and a crash has brought them back: the next checkpoint removes them. Unfinished ones are removed here.
fn segments(files: &dyn Files, dir: &Path, covered: u64) -> Result<Vec<u64>, OpenError> {
    let mut numbers = Vec::new();
    for name in files.list(dir).map_err(OpenError::io("list", dir))? {
        if name.starts_with("wal-") && name.ends_with(".new") {
            // Made before a crash and never used.
            let path = dir.join(name);
            files.remove(&path).map_err(OpenError::io("remove", &path))?;
        } else if let Some(number) = segment_number(&name) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let gap = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1);
    let kept = numbers.split_off(gap.map_or(0, |gap| gap + 1));
    match kept.first() {
        // Without trees nothing was ever removed.
        Some(first) if covered == 0 && *first != 1 => {
            let missing = (1..).find(|number| !numbers.contains(number)).unwrap_or(1);
            Err(OpenError::Missing { segment: segment_name(missing) })
        }
        _ => Ok(kept),
    }
}

impl Reader<'_> {
    fn segment(
        &mut self,
        number: u64,
        is_first: bool,
        is_last: bool,
        each: Each<'_>,
    ) -> Result<Box<dyn File>, OpenError> {
        let path = self.dir.join(segment_name(number));
        let file = self.files.open(&path).map_err(OpenError::io("open", &path))?;
        if is_last {
            // Its last batch may be in the page cache only: it must outlive what is built on it, be it a tree or a segment.
            file.sync_data().map_err(OpenError::io("sync", &path))?;
        }
        let len = file.len().map_err(OpenError::io("measure", &path))?;
        self.bytes.resize(len as usize, 0);
        let read = file.read_at(&mut self.bytes, 0).map_err(OpenError::io("read", &path))?;
        self.bytes.truncate(read);
        let header = self.header(number, is_first)?;
        let end = self.batches(&header, each)?;
        let rest = self.bytes.get(end..).unwrap_or_default();
        if is_last {
            self.refuse_damage(&header, end)?;
            self.found.cut_bytes = rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        }
        self.found.segments += 1;
        // The padding of the last batch may be missing.
        self.end = end.min(read) as u64;
        Ok(file)
    }

    /// The header, if the segment goes on where the one before it ended.
    fn header(&mut self, number: u64, is_first: bool) -> Result<Header, OpenError> {
        let damaged = |segment: u64, offset| OpenError::Damaged { segment: segment_name(segment), offset };
        // Synced whole before the segment had its name: a shorter one was cut by something else than a crash.
        if self.bytes.len() < SECTOR {
            return Err(damaged(number, 0));
        }
        let header = Header::decode(&self.bytes)?.ok_or(damaged(number, 0))?;
        if header.number != number {
            return Err(damaged(number, 0));
        }
        if header.incarnation != self.incarnation {
            return Err(OpenError::Foreign { segment: segment_name(number) });
        }
        if is_first {
            if header.first_lsn > self.covered + 1 {
                let (segment, first) = (segment_name(number), header.first_lsn);
                return Err(OpenError::Gap { segment, first, covered: self.covered });
            }
            (self.lsn, self.checksum) = (header.first_lsn.saturating_sub(1), header.previous);
        }
        if (header.first_lsn, header.previous) != (self.lsn + 1, self.checksum) {
            // It was started after batches that we did not find.
            return Err(damaged(number.saturating_sub(1).max(1), self.end));
        }
        Ok(header)
    }

    /// Gives every batch up to the first invalid place to `each` and returns that place.
    fn batches(&mut self, header: &Header, each: Each<'_>) -> Result<usize, OpenError> {
        let mut offset = SECTOR;
        while let Some(found) = batch::find(header, &self.bytes, offset) {
            if found.lsn != self.lsn + 1 || found.previous != self.checksum {
                break;
            }
            if found.lsn > self.covered {
                each(Place { segment: header.number, offset: offset as u64 }, found.lsn, found.payload)?;
                self.found.replayed_bytes += found.padded_len as u64;
            }
            self.lsn = found.lsn;
            self.checksum = found.checksum;
            offset += found.padded_len;
        }
        Ok(offset)
    }

    /// A valid batch from `end` on that is later than the last one: what is at `end` had been synced.
    fn refuse_damage(&self, header: &Header, end: usize) -> Result<(), OpenError> {
        let places = (end..self.bytes.len()).step_by(SECTOR);
        let mut later = places.filter_map(|place| batch::find(header, &self.bytes, place));
        if later.any(|found| found.lsn > self.lsn) {
            return Err(OpenError::Damaged { segment: segment_name(header.number), offset: end as u64 });
        }
        Ok(())
    }
}
