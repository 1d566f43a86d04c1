//! One batch: what one group commit wrote, in one write, on sectors of its own.
//!
//! Version 1, little endian: magic u32, checksum u32, payload length u32, checksum of the batch before u32, lsn u64,
//! zero u64, payload, zeros to the end of the sector. The checksum is CRC-32C over everything behind it up to the end of
//! the payload, seeded by the segment's salt and number and by the offset in it: a batch is valid in its own place only.

use super::segment::Header;
use crate::files::SECTOR;
use crate::record::Cursor;

const MAGIC: [u8; 4] = *b"rpB1";
const HEAD: usize = 32;
/// From here on the checksum counts.
const COVERED: usize = 8;

/// A batch in the making; its buffer is kept for the next one.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEAD] }
    }

    /// Where the payload is appended.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn payload_len(&self) -> usize {
        self.bytes.len() - HEAD
    }

    /// Bytes on disk.
    pub(super) fn padded_len(&self) -> usize {
        self.bytes.len().next_multiple_of(SECTOR)
    }

    /// What is to be written at `offset` of the segment, and its checksum.
    pub(super) fn seal(&mut self, segment: &Header, offset: u64, lsn: u64, previous: u32) -> (&[u8], u32) {
        let len = self.payload_len() as u32;
        let end = self.bytes.len();
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[8..12].copy_from_slice(&len.to_le_bytes());
        self.bytes[12..16].copy_from_slice(&previous.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&lsn.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed(segment, offset), &self.bytes[COVERED..end]);
        self.bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.resize(end.next_multiple_of(SECTOR), 0);
        (&self.bytes, checksum)
    }

    /// Ready for the next payload. A buffer that one large batch has grown is given back.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(HEAD);
        self.bytes.shrink_to(1 << 20);
    }
}

/// A valid batch, as found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) lsn: u64,
    pub(super) previous: u32,
    pub(super) checksum: u32,
    pub(super) payload: &'a [u8],
    /// Bytes on disk, padding included (it may be cut off by the end of the file).
    pub(super) padded_len: usize,
}

/// The batch at `offset` of a segment, if there is a valid one.
pub(super) fn find<'a>(segment: &Header, bytes: &'a [u8], offset: usize) -> Option<Found<'a>> {
    let all = bytes.get(offset..)?;
    let mut from = Cursor(all);
    let (magic, checksum, len): ([u8; 4], [u8; 4], [u8; 4]) =
        (from.array().ok()?, from.array().ok()?, from.array().ok()?);
    if magic != MAGIC {
        return None;
    }
    let previous = u32::from_le_bytes(from.array().ok()?);
    let lsn = from.number().ok()?;
    let _zero = from.number().ok()?;
    let payload = from.take(u32::from_le_bytes(len) as usize).ok()?;
    let end = HEAD + payload.len();
    let expected = crc32c::crc32c_append(seed(segment, offset as u64), all.get(COVERED..end)?);
    (expected.to_le_bytes() == checksum).then(|| Found {
        lsn,
        previous,
        checksum: expected,
        payload,
        padded_len: end.next_multiple_of(SECTOR),
    })
}

fn seed(segment: &Header, offset: u64) -> u32 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&segment.salt.to_le_bytes());
    place[8..16].copy_from_slice(&segment.number.to_le_bytes());
    place[16..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c(&place)
}
