//! The first sector of a segment: who it belongs to, and what came before it.
//!
//! Version 1, little endian: magic 8 bytes, version u32, zero u32, incarnation of the store 16 bytes, number u64, salt
//! u64, first lsn u64, checksum of the batch before (0: none) u32, CRC-32C over all of that u32; zeros to the sector's end.

use super::OpenError;
use crate::files::SECTOR;
use crate::record::{Cursor, RecordError};

const MAGIC: &[u8; 8] = b"rpostWAL";
const VERSION: u32 = 1;
const CHECKED: usize = 60;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) incarnation: [u8; 16],
    /// 1, 2, 3 ...; also in its name.
    pub(super) number: u64,
    /// Random: no other segment's batches pass its checksums.
    pub(super) salt: u64,
    /// The number of its first batch, and thereby where the log ended before it: what lies behind that in the segment
    /// before was never acknowledged.
    pub(super) first_lsn: u64,
    /// The checksum of batch `first_lsn` - 1.
    pub(super) previous: u32,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.incarnation);
        for number in [self.number, self.salt, self.first_lsn] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.resize(SECTOR, 0);
        out
    }

    /// `None`: these bytes are no header, so the segment is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, OpenError> {
        Self::parse(bytes).unwrap_or(Ok(None))
    }

    fn parse(bytes: &[u8]) -> Result<Result<Option<Self>, OpenError>, RecordError> {
        let checked = Cursor(bytes).take(CHECKED)?;
        let mut from = Cursor(bytes);
        let (magic, version, _): ([u8; 8], [u8; 4], [u8; 4]) = (from.array()?, from.array()?, from.array()?);
        let incarnation = from.array()?;
        let [number, salt, first_lsn] = [from.number()?, from.number()?, from.number()?];
        let previous = u32::from_le_bytes(from.array()?);
        if magic != *MAGIC || from.array()? != crc32c::crc32c(checked).to_le_bytes() {
            return Ok(Ok(None));
        }
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Ok(Err(OpenError::Version { what: segment_name(number), version }));
        }
        Ok(Ok(Some(Self { incarnation, number, salt, first_lsn, previous })))
    }
}

/// The name of a segment's file.
pub fn segment_name(number: u64) -> String {
    format!("wal-{number:010}.log")
}

/// The number of a segment by its file's name; `None`: no segment.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}
