//! The newest records of a conversation, as far as decisions, ticks and counts need them.
//!
//! Owns: what is kept of each record: about 110 bytes, and 40 for each device that a sliced one is for; never a body, which
//! the log has. Guarantees: the records are dense and end with the head; at most [`MANY`], fewer where they cost more than
//! [`BYTES`], but for the last one. Never does: say that a record is not there; what is older is asked of the log.

use super::slices::slices_of;
use crate::frozen::{Frozen, Read, Reader, frozen};
use ringpost_persist::record::counts;
use ringpost_persist::{Body, Member, MemberAt, Record, Roster};
use ringpost_proto::id::{DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use std::collections::VecDeque;

const MANY: usize = 256;
const BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Tail {
    /// In seq order.
    records: VecDeque<Brief>,
    /// What they cost.
    bytes: usize,
}

/// A record without what was written.
#[derive(Clone, Debug)]
pub(super) struct Brief {
    pub seq: Seq,
    /// Unix microseconds at which it was committed.
    pub us: u64,
    pub sender: UserKey,
    pub device: DeviceId,
    pub kind: Kind,
    pub ref_seq: Seq,
    pub erased: bool,
    /// Only who did it is told: see [`Record::is_block`].
    is_block: bool,
    /// Of a sliced record, whom it is for.
    addressed: Option<Box<[(MemberAt, DeviceId)]>>,
}

impl Brief {
    /// `roster`: of the conversation, with whoever a slice may be for.
    pub fn of(record: &Record, roster: &Roster) -> Self {
        let addressed = match &record.body {
            Body::Slices(bytes) => Some(addressed(&slices_of(bytes), &record.sender, roster)),
            _ => None,
        };
        Self {
            seq: record.seq,
            us: record.us,
            sender: record.sender.clone(),
            device: record.device,
            kind: record.kind,
            ref_seq: record.ref_seq,
            erased: matches!(record.body, Body::Erased(_)),
            is_block: record.is_block(),
            addressed,
        }
    }

    /// Whether it counts as unread.
    pub fn counts(&self) -> bool {
        counts(self.kind)
    }

    /// Whether it is for this member.
    pub fn is_for(&self, member: &Member) -> bool {
        let own = self.sender == member.user;
        member.sees_what(self.seq, self.kind, self.ref_seq, self.is_block && !own)
    }

    pub fn is_sliced(&self) -> bool {
        self.addressed.is_some()
    }

    /// Whether there is no slice of it for any device of this member. Where there is one, a device that has none is not past
    /// it by itself: it may be one that was unlinked, and its user would count as having received what no device has.
    pub fn leaves_out(&self, member: MemberAt) -> bool {
        self.addressed.as_ref().is_some_and(|them| them.iter().all(|(at, _)| *at != member))
    }

    fn cost(&self) -> usize {
        size_of::<Self>() + self.addressed.as_ref().map_or(0, |them| size_of_val::<[_]>(them))
    }
}

fn addressed(slices: &[ringpost_proto::v1::Slice], sender: &UserKey, roster: &Roster) -> Box<[(MemberAt, DeviceId)]> {
    let known = |slice: &ringpost_proto::v1::Slice| {
        Some((roster.find(&sender.sibling(&slice.user).ok()?)?, DeviceId::new(&slice.device).ok()?))
    };
    slices.iter().filter_map(known).collect()
}

impl Tail {
    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let free = self.records.capacity() - self.records.len();
        self.bytes + free * size_of::<Brief>()
    }

    pub fn get(&self, seq: Seq) -> Option<&Brief> {
        self.records.get(self.place(seq)?)
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.records.front()?.seq)?).ok()
    }

    /// Whether all that comes after `seq` is here.
    pub fn is_whole_after(&self, seq: Seq) -> bool {
        self.records.front().is_some_and(|first| first.seq <= seq + 1)
    }

    /// Those in (after, to] that are here, in order.
    pub fn between(&self, after: Seq, to: Seq) -> impl Iterator<Item = &Brief> {
        let first = self.records.front().map_or(0, |first| first.seq);
        let skipped = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.records.iter().skip(skipped).take_while(move |record| record.seq <= to)
    }

    /// Adds the next record of the log.
    pub fn push(&mut self, record: Brief) {
        self.bytes += record.cost();
        while self.records.len() >= MANY || (self.bytes > BYTES && !self.records.is_empty()) {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.cost();
        }
        self.records.push_back(record);
    }

    pub fn erase(&mut self, seq: Seq) {
        let place = self.place(seq);
        if let Some(record) = place.and_then(|place| self.records.get_mut(place)) {
            let before = record.cost();
            (record.erased, record.addressed) = (true, None);
            self.bytes = self.bytes - before + record.cost();
        }
    }
}

impl Frozen for Tail {
    fn write(&self, out: &mut Vec<u8>) {
        self.records.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let records = VecDeque::<Brief>::read(from)?;
        let bytes = records.iter().map(Brief::cost).sum();
        Ok(Self { records, bytes })
    }
}

frozen!(Brief { seq, us, sender, device, kind, ref_seq, erased, is_block, addressed });

impl Frozen for Box<[(MemberAt, DeviceId)]> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        self.iter().for_each(|it| it.write(out));
    }

    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Ok(Vec::<(MemberAt, DeviceId)>::read(from)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringpost_persist::ConversationKind;
    use ringpost_proto::id::ClientMessageId;
    use ringpost_proto::v1;

    fn user(name: &str) -> UserKey {
        UserKey::new("t", name).expect("a name")
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).expect("a name")
    }

    fn roster() -> Roster {
        Roster::new(&ConversationKind::Direct([user("ann"), user("bob")]))
    }

    fn record(seq: Seq, body: Body) -> Brief {
        let cmid = ClientMessageId::uuid_v7(1, u128::from(seq));
        let record = Record::new(user("ann"), device("phone"), cmid, Kind::Text, body);
        Brief::of(&Record { seq, us: seq * 1_000, ..record }, &roster())
    }

    /// For so many devices of bob.
    fn sliced(seq: Seq, devices: usize) -> Brief {
        let to = |at| v1::Slice { user: "bob".to_owned(), device: format!("d{at}"), ..Default::default() };
        let slices = v1::Slices { slices: (0..devices).map(to).collect() };
        record(seq, Body::Slices(prost::Message::encode_to_vec(&slices).into()))
    }

    fn seqs(tail: &Tail, after: Seq, to: Seq) -> Vec<Seq> {
        tail.between(after, to).map(|record| record.seq).collect()
    }

    #[test]
    fn the_newest_are_kept_within_bounds_that_no_body_counts_for() {
        let mut tail = Tail::default();
        assert!(!tail.is_whole_after(0) && tail.get(0).is_none() && seqs(&tail, 0, 9).is_empty());
        for seq in 1..=1_000 {
            tail.push(record(seq, Body::Payload(vec![0; 10_000].into())));
        }
        assert_eq!((tail.records.len(), tail.records.capacity()), (MANY, MANY), "without room for as many again");
        assert_eq!((tail.get(744).map(|it| it.seq), tail.get(745).map(|it| it.seq)), (None, Some(745)));
        assert!(tail.is_whole_after(744) && !tail.is_whole_after(743) && tail.is_whole_after(2_000));
        assert_eq!(seqs(&tail, 997, 999), [998, 999]);
        assert_eq!(seqs(&tail, 3, 746), [745, 746]);
        for seq in 1_001..=1_200 {
            tail.push(sliced(seq, 64));
        }
        assert!(tail.bytes <= BYTES + sliced(1, 64).cost() && tail.records.len() < 120, "{}", tail.bytes);
        assert_eq!(tail.bytes, tail.records.iter().map(Brief::cost).sum::<usize>());
        tail.erase(1_200);
        tail.erase(3);
        assert_eq!(tail.bytes, tail.records.iter().map(Brief::cost).sum::<usize>());
        assert!(tail.get(1_200).is_some_and(|it| it.erased && !it.is_sliced()));
    }

    #[test]
    fn a_sliced_record_is_for_the_devices_that_it_names() {
        let it = sliced(7, 2);
        assert!(!it.leaves_out(1) && it.leaves_out(0));
        assert!(!record(7, Body::Text("all".into())).leaves_out(0));
    }

    #[test]
    fn it_is_the_same_after_it_was_written_out() {
        let mut tail = Tail::default();
        (1..300)
            .for_each(|seq| tail.push(if seq % 3 == 0 { sliced(seq, 3) } else { record(seq, Body::Erased([1; 16])) }));
        let mut bytes = Vec::new();
        tail.write(&mut bytes);
        let read = Tail::read(&mut Reader(&bytes)).expect("what was written");
        assert_eq!((format!("{:?}", read.records), read.bytes), (format!("{:?}", tail.records), tail.bytes));
    }
}
