//! What became of the client message ids of late: enough to answer a message that is sent again, without its record.
//!
//! Owns: the ids of the newest records, in the order of the log, and what their senders were told. Guarantees: an id is
//! known while its record is one of the newest [`MANY`] and no older than [`REMEMBERED_MS`] before the newest, or one of the
//! newest [`FEW`], or fewer after a load of long records; [`Known::covers`] is true only of ids that no older record carries.
//! About 110 bytes an id. Never does: say that an id was not used; whoever is not covered asks the log.

use crate::frozen::{Frozen, Read, Reader, frozen};
use hashbrown::HashTable;
use ringpost_persist::{MemberAt, Record};
use ringpost_proto::id::{ClientMessageId, DeviceId, RecordId, Seq};
use ringpost_proto::v1;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// Ids that are known however old they are; and at most, however young.
const FEW: usize = 256;
const MANY: usize = 4_096;
/// Longer than [`CLOCK_MS`], so that a new id is covered; the rare retry of later asks the log.
const REMEMBERED_MS: u64 = ringpost_persist::TAIL_MS;
/// A clock may be behind by this much before a fresh id is taken for an old one, which costs a search. One that is ahead is
/// known by what it has left behind.
const CLOCK_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Known {
    /// In seq order.
    sent: VecDeque<Sent>,
    /// The seq of each, by its id.
    by_id: HashTable<Seq>,
    hasher: foldhash::fast::FixedState,
    /// No id that is in the log and is no longer known names a later time.
    left_ms: u64,
}

/// A message that is in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub cmid: ClientMessageId,
    pub device: DeviceId,
    pub sender: MemberAt,
    pub seq: Seq,
    pub id: RecordId,
    pub us: u64,
    pub content_hash: [u8; 16],
}

impl Sent {
    pub fn of(record: &Record, sender: MemberAt) -> Self {
        let Record { cmid, device, seq, id, us, content_hash, .. } = *record;
        Self { cmid, device, sender, seq, id, us, content_hash }
    }

    /// What who sends it again is told.
    pub fn answer(&self) -> v1::Sent {
        v1::Sent { seq: self.seq, id: self.id, server_time_ms: self.us / 1_000, duplicate: true }
    }

    fn key(&self) -> (ClientMessageId, DeviceId, MemberAt) {
        (self.cmid, self.device, self.sender)
    }
}

impl Known {
    /// `seed`: not chosen by clients, who choose the ids.
    pub fn new(seed: u64) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Self { sent: VecDeque::new(), by_id: HashTable::new(), hasher, left_ms: 0 }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.sent.capacity() * size_of::<Sent>() + self.by_id.allocation_size()
    }

    /// Ids of records before those that are about to be added name no later time than this.
    pub fn before(&mut self, left_ms: u64) {
        self.left_ms = left_ms;
    }

    /// Adds the next message of the log.
    pub fn add(&mut self, message: Sent) {
        self.trim(message.us);
        let Self { sent, by_id, hasher, .. } = self;
        sent.push_back(message);
        by_id.insert_unique(hasher.hash_one(message.key()), message.seq, |seq| {
            at(sent, *seq).map_or(0, |it| hasher.hash_one(it.key()))
        });
    }

    /// Makes room for one more: before it comes, so that memory is not doubled for it.
    fn trim(&mut self, now_us: u64) {
        while self.sent.len() >= FEW {
            let Some(oldest) = self.sent.front() else { return };
            let old = oldest.us + REMEMBERED_MS * 1_000 < now_us;
            if !old && self.sent.len() < MANY {
                return;
            }
            self.left_ms = self.left_ms.max(oldest.cmid.uuid_v7_ms().unwrap_or(0));
            let hash = self.hasher.hash_one(oldest.key());
            if let Ok(entry) = self.by_id.find_entry(hash, |seq| *seq == oldest.seq) {
                entry.remove();
            }
            self.sent.pop_front();
        }
    }

    /// The message that carries this id.
    pub fn find(&self, cmid: ClientMessageId, device: DeviceId, sender: MemberAt) -> Option<&Sent> {
        let key = (cmid, device, sender);
        let is = |seq: &Seq| at(&self.sent, *seq).is_some_and(|it| it.key() == key);
        at(&self.sent, *self.by_id.find(self.hasher.hash_one(key), is)?)
    }

    /// Whether an id made at `made_ms` can only be among those that are known, in a log with this head.
    pub fn covers(&self, made_ms: Option<u64>, head: Seq) -> bool {
        match (self.sent.front(), made_ms) {
            (None, _) => head == 0,
            (Some(oldest), _) if oldest.seq == 1 => true,
            (Some(oldest), Some(ms)) => ms > self.left_ms.max(oldest.us / 1_000 + CLOCK_MS),
            (Some(_), None) => false,
        }
    }
}

fn at(sent: &VecDeque<Sent>, seq: Seq) -> Option<&Sent> {
    sent.get(sent.binary_search_by_key(&seq, |it| it.seq).ok()?)
}

frozen!(Sent { cmid, device, sender, seq, id, us, content_hash });

impl Known {
    pub fn write(&self, out: &mut Vec<u8>) {
        self.left_ms.write(out);
        self.sent.write(out);
    }

    /// Into one that knows nothing yet.
    pub fn read(&mut self, from: &mut Reader<'_>) -> Read<()> {
        let (left_ms, sent) = (u64::read(from)?, VecDeque::<Sent>::read(from)?);
        sent.into_iter().for_each(|message| self.add(message));
        self.left_ms = left_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 1_750_000_000_000_000;

    fn message(seq: Seq, us: u64) -> Sent {
        let cmid = ClientMessageId::uuid_v7(us / 1_000, u128::from(seq));
        let device = DeviceId::new("phone").expect("a name");
        Sent { cmid, device, sender: 0, seq, id: seq, us, content_hash: [seq as u8; 16] }
    }

    /// `many` messages, so far apart, from seq 2 on.
    fn known(many: u64, apart_us: u64) -> Known {
        let mut known = Known::new(7);
        (2..many + 2).for_each(|seq| known.add(message(seq, DAY_US + seq * apart_us)));
        known
    }

    fn first(known: &Known) -> Seq {
        known.sent.front().map_or(0, |it| it.seq)
    }

    #[test]
    fn ids_of_the_last_minutes_are_known_and_always_the_newest_256() {
        let quiet = known(1_000, 60_000_000);
        assert_eq!((first(&quiet), quiet.sent.len(), quiet.by_id.len()), (746, 256, 256));
        let busy = known(1_000, 1_000_000);
        assert_eq!(first(&busy), 1_001 - 255, "more than two minutes of one a second");
        let busier = known(1_000, 250_000);
        assert_eq!(first(&busier), 1_001 - 480, "two minutes of four a second");
        let flood = known(10_000, 1_000);
        assert_eq!((flood.sent.len(), flood.by_id.len()), (MANY, MANY));
        for known in [&quiet, &busy, &busier, &flood] {
            for it in &known.sent {
                assert_eq!(known.find(it.cmid, it.device, 0).map(|found| found.seq), Some(it.seq));
                assert!(known.find(it.cmid, it.device, 1).is_none(), "another sender's");
            }
        }
    }

    #[test]
    fn what_is_no_longer_known_is_never_covered() {
        for apart_us in [1_000, 1_000_000, 60_000_000] {
            let known = known(10_000, apart_us);
            for seq in 2..first(&known) {
                let gone = message(seq, DAY_US + seq * apart_us);
                assert!(known.find(gone.cmid, gone.device, 0).is_none());
                assert!(!known.covers(gone.cmid.uuid_v7_ms(), 10_001), "{seq} of {apart_us}");
            }
            let next = message(10_002, DAY_US + 10_002 * apart_us);
            assert_eq!(known.covers(next.cmid.uuid_v7_ms(), 10_001), apart_us > 1_000, "a new one");
            assert!(!known.covers(None, 10_001), "one that names no time");
        }
    }

    #[test]
    fn whole_logs_cover_every_id_and_nothing_is_covered_that_was_not_read() {
        let mut known = Known::new(7);
        assert!(known.covers(None, 0) && !known.covers(Some(u64::MAX), 5));
        known.add(message(1, DAY_US));
        assert!(known.covers(None, 1));
    }

    #[test]
    fn it_is_the_same_after_it_was_written_out() {
        let known = known(700, 1_000_000);
        let mut bytes = Vec::new();
        known.write(&mut bytes);
        let mut read = Known::new(7);
        read.read(&mut Reader(&bytes)).expect("what was written");
        assert_eq!((read.left_ms, first(&read), read.sent.len()), (known.left_ms, first(&known), known.sent.len()));
        assert!(known.sent.iter().all(|it| read.find(it.cmid, it.device, 0).is_some()));
    }
}
