//! The disk under the crash layer: what is seen, what is durable, and what a power loss makes of the difference.

use crate::files::SECTOR;
use crate::prng::Prng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The unit in which unsynced content reaches the disk or does not.
const PAGE: usize = 4_096;

/// What becomes of the unsynced content of a file when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// A random part of the pages was written.
    Pages,
    /// All was written, but the file ends at a random place of it.
    Cut,
    /// Random sectors of it, and of what is behind, are zero.
    Zeroed,
    /// Random sectors of it, and of what is behind, hold what was there before, or what another file or another place of
    /// this one holds.
    Stale,
    /// Random sectors of it, and of what is behind, hold noise, or one wrong bit.
    Garbled,
}

impl Remainder {
    pub const ALL: [Self; 5] = [Self::Pages, Self::Cut, Self::Zeroed, Self::Stale, Self::Garbled];
}

/// A change of the directory.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
pub(super) struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes since the last sync of the directory, with the file that each made or moved.
    unsynced: Vec<(Change, Option<usize>)>,
}

impl Disk {
    pub(super) fn find(&self, path: &Path) -> Option<usize> {
        self.names.get(path).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.names.keys()
    }

    pub(super) fn read(&self, path: &Path) -> Option<&[u8]> {
        Some(&self.inodes.get(self.find(path)?)?.seen)
    }

    pub(super) fn inode(&mut self, number: usize) -> &mut Inode {
        &mut self.inodes[number]
    }

    pub(super) fn change(&mut self, change: Change) {
        let inode = match &change {
            Change::Create(_) => {
                self.inodes.push(Inode::default());
                Some(self.inodes.len() - 1)
            }
            Change::Rename(path, _) | Change::Remove(path) => self.find(path),
        };
        apply(&mut self.names, &change, inode);
        self.unsynced.push((change, inode));
    }

    pub(super) fn sync_dir(&mut self) {
        self.durable_names = self.names.clone();
        self.unsynced.clear();
    }

    pub(super) fn tamper(&mut self, path: &Path, bytes: Option<Vec<u8>>) {
        let Some(bytes) = bytes else {
            self.change(Change::Remove(path.to_owned()));
            return self.sync_dir();
        };
        if self.find(path).is_none() {
            self.change(Change::Create(path.to_owned()));
            self.sync_dir();
        }
        if let Some(number) = self.find(path) {
            self.inodes[number] = Inode { durable: bytes.clone(), seen: bytes, dirty: BTreeSet::new() };
        }
    }

    /// Each change of the directory since its last sync is kept or lost by itself; so is each unsynced page of a file.
    pub(super) fn lose_power(&mut self, prng: &mut Prng, remainder: Remainder) {
        for (change, inode) in std::mem::take(&mut self.unsynced) {
            if prng.chance(5_000) {
                apply(&mut self.durable_names, &change, inode);
            }
        }
        self.names = self.durable_names.clone();
        for number in 0..self.inodes.len() {
            let other = prng.below(self.inodes.len() as u64) as usize;
            let other = if remainder == Remainder::Stale { self.inodes[other].seen.clone() } else { Vec::new() };
            self.inodes[number].lose_power(prng, remainder, &other);
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change, inode: Option<usize>) {
    match change {
        Change::Create(path) => {
            names.extend(inode.map(|inode| (path.clone(), inode)));
        }
        Change::Rename(from, to) => {
            names.remove(from);
            names.extend(inode.map(|inode| (to.clone(), inode)));
        }
        Change::Remove(path) => {
            names.remove(path);
        }
    }
}

/// One file.
#[derive(Default)]
pub(super) struct Inode {
    /// What is read.
    seen: Vec<u8>,
    /// What the last completed sync covers.
    durable: Vec<u8>,
    /// Pages written since.
    dirty: BTreeSet<usize>,
}

impl Inode {
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / PAGE..end.div_ceil(PAGE));
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let rest = self.seen.get(offset..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        len
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.seen.resize(len, 0);
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            copy_page(&self.seen, &mut self.durable, page);
        }
    }

    /// As after a failed sync: the pages look clean and are not on the disk.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
    }

    fn lose_power(&mut self, prng: &mut Prng, remainder: Remainder, other: &[u8]) {
        let synced = self.durable.clone();
        // The length is metadata: of an unsynced change of it the old or the new value is there.
        let len = if prng.chance(5_000) { self.durable.len() } else { self.seen.len() };
        self.durable.resize(len, 0);
        for page in std::mem::take(&mut self.dirty) {
            if remainder != Remainder::Pages || prng.chance(5_000) {
                copy_page(&self.seen, &mut self.durable, page);
            }
        }
        if remainder != Remainder::Pages {
            self.spoil(&synced, prng, remainder, other);
        }
        self.seen = self.durable.clone();
    }

    /// From the first sector on that is not as it was synced everything may be spoilt, what was only reserved included; what
    /// lies before it never is.
    fn spoil(&mut self, synced: &[u8], prng: &mut Prng, remainder: Remainder, other: &[u8]) {
        let sectors = self.durable.len().div_ceil(SECTOR);
        let Some(first) = (0..sectors).find(|at| differ(sector(&self.durable, *at), sector(synced, *at))) else {
            return;
        };
        if remainder == Remainder::Cut {
            let most = self.durable.len() - first * SECTOR;
            return self.durable.truncate(first * SECTOR + prng.below(most as u64 + 1) as usize);
        }
        let before = self.durable.clone();
        // Between one sector in ten and all of them.
        let share = 1_000 + prng.below(9_001) as u32;
        let shift = prng.below(8) as usize;
        let sources = prng.below(4);
        for at in (first..sectors).filter(|_| prng.chance(share)).collect::<Vec<_>>() {
            let end = self.durable.len().min((at + 1) * SECTOR);
            let place = &mut self.durable[at * SECTOR..end];
            let from: &[u8] = match remainder {
                Remainder::Zeroed => &[],
                Remainder::Stale => match if sources == 3 { prng.below(3) } else { sources } {
                    0 => sector(synced, at),
                    1 => sector(other, at - first + shift),
                    _ => sector(&before, prng.below(at as u64 + 1) as usize),
                },
                _ => {
                    garble(place, prng);
                    continue;
                }
            };
            place.fill(0);
            place.iter_mut().zip(from).for_each(|(place, byte)| *place = *byte);
        }
    }
}

fn garble(place: &mut [u8], prng: &mut Prng) {
    if prng.chance(5_000) {
        place.iter_mut().for_each(|byte| *byte = prng.next_u64() as u8);
    } else {
        let bit = prng.below(place.len() as u64 * 8) as usize;
        place[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A longer file reads as zero where nothing was written: that alone is no difference.
fn differ(now: &[u8], synced: &[u8]) -> bool {
    let (same, more) = now.split_at(now.len().min(synced.len()));
    same != &synced[..same.len()] || more.iter().any(|byte| *byte != 0)
}

fn sector(bytes: &[u8], at: usize) -> &[u8] {
    let start = (at * SECTOR).min(bytes.len());
    &bytes[start..bytes.len().min(start + SECTOR)]
}

/// As far as both files reach.
fn copy_page(from: &[u8], to: &mut [u8], page: usize) {
    let start = page * PAGE;
    let end = from.len().min(to.len()).min(start + PAGE);
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}
