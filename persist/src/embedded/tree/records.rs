//! The memory table of one month: its records that are newer than its tree on disk, by conversation.
//!
//! A tree's own table looks for the place of every row among all of its rows; here a record goes behind the one before it in
//! its conversation. The tree is given them in its order, once per checkpoint.
//! Guarantees: whoever looks here first and then into the tree finds every record, as it was written last.

use super::{id_key, record_key};
use foldhash::fast::FixedState;
use hashbrown::hash_table::Entry as Place;
use hashbrown::{HashMap, HashTable};
use lsm_tree::Slice;
use ringpost_proto::id::{ConversationId, Seq};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock};

/// What finds a record by its client message id, see [`id_hash`](super::staging::id_hash).
pub(super) type IdHash = [u8; 12];

/// What a record takes beside its stored form: its place (32 B) and its id's (25 B), of which tables that double have room for
/// half as many again, and a header and the rounding of the form's own allocation.
const RECORD_BYTES: u64 = 136;

/// What a conversation takes beside its records: its place (81 B, likewise), and the least that its two tables begin with.
const CONVERSATION_BYTES: u64 = 280;

/// One row.
pub(super) enum Row {
    /// A record in its stored form; it takes the place of one with this position.
    Record(Seq, Slice),
    /// Where the record of an id is.
    Id(IdHash, Seq),
}

/// See the module.
pub(super) struct Records {
    generations: RwLock<Generations>,
    seed: u64,
}

struct Generations {
    /// Since the last checkpoint.
    fresh: Table,
    /// How many conversations were closed last. As many are to be expected again: growing takes milliseconds, in which nobody
    /// is answered.
    expected: usize,
    /// Being written to the tree by a checkpoint.
    sealed: Option<Arc<Table>>,
}

/// Records of many conversations.
pub(super) struct Table {
    conversations: HashMap<ConversationId, OfOne, FixedState>,
}

/// What there is of one conversation.
#[derive(Default)]
struct OfOne {
    /// By position. Erased forms of older records come before the newest ones, so there is room at both ends.
    records: VecDeque<(Seq, Slice)>,
    ids: HashTable<(IdHash, Seq)>,
}

/// Records of one conversation, in the order asked for, and whether there may be more behind the last one.
pub(super) struct Chunk {
    pub(super) records: Vec<(Seq, Slice)>,
    pub(super) more: bool,
}

impl Records {
    /// `seed`: a secret, as clients have a hand in the ids.
    pub(super) fn new(seed: u64) -> Self {
        let generations = Generations { fresh: Table::new(seed), expected: 0, sealed: None };
        Self { generations: RwLock::new(generations), seed }
    }

    /// Takes rows of a batch. Returns by how many bytes there is more here.
    pub(super) fn write(&self, rows: impl Iterator<Item = (ConversationId, Row)>) -> u64 {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        let Generations { fresh, expected, .. } = &mut *generations;
        // Not before there is something: nothing comes into months that are over.
        fresh.conversations.reserve(std::mem::take(expected));
        rows.map(|(conversation, row)| fresh.put(conversation, row)).sum()
    }

    /// `None`: not here, so as the tree has it.
    pub(super) fn get(&self, conversation: &ConversationId, seq: Seq) -> Option<Slice> {
        self.newest(conversation, |of| of.at(seq).ok().map(|at| of.records[at].1.clone()))
    }

    /// Where the record of an id is; `None`: as the tree says.
    pub(super) fn find(&self, conversation: &ConversationId, id: &IdHash) -> Option<Seq> {
        let hash = FixedState::with_seed(self.seed).hash_one(id);
        self.newest(conversation, |of| of.ids.find(hash, |(known, _)| known == id).map(|(_, seq)| *seq))
    }

    fn newest<T>(&self, conversation: &ConversationId, look: impl Fn(&OfOne) -> Option<T>) -> Option<T> {
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        let in_table = |table: &Table| table.conversations.get(conversation).and_then(&look);
        in_table(&generations.fresh).or_else(|| generations.sealed.as_deref().and_then(in_table))
    }

    /// The first `most` of the records from..=to, or the last ones in descending order if not `upwards`.
    pub(super) fn chunk(
        &self,
        conversation: &ConversationId,
        (from, to): (Seq, Seq),
        upwards: bool,
        most: usize,
    ) -> Chunk {
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        let of = |table: &Table| table.conversations.get(conversation).map(|of| of.chunk((from, to), upwards, most));
        let fresh = of(&generations.fresh);
        let sealed = generations.sealed.as_deref().and_then(of);
        drop(generations);
        match (fresh, sealed) {
            (None, None) => Chunk { records: Vec::new(), more: false },
            (Some(chunk), None) | (None, Some(chunk)) => chunk,
            (Some(fresh), Some(sealed)) => fresh.over(sealed, upwards, most),
        }
    }

    /// Closes what there is; nothing may be closed already. It stays readable until [`Records::written`]. `None`: nothing is
    /// here.
    pub(super) fn seal(&self) -> Option<Arc<Table>> {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.fresh.conversations.is_empty() {
            return None;
        }
        generations.expected = generations.fresh.conversations.len();
        let sealed = Arc::new(std::mem::replace(&mut generations.fresh, Table::new(self.seed)));
        generations.sealed = Some(Arc::clone(&sealed));
        Some(sealed)
    }

    /// The tree has what was closed.
    pub(super) fn written(&self) {
        let sealed = self.generations.write().unwrap_or_else(PoisonError::into_inner).sealed.take();
        // Freed outside the lock.
        drop(sealed);
    }
}

impl Table {
    fn new(seed: u64) -> Self {
        Self { conversations: HashMap::with_hasher(FixedState::with_seed(seed)) }
    }

    fn put(&mut self, conversation: ConversationId, row: Row) -> u64 {
        let mut bytes = 0;
        let hasher = self.conversations.hasher().clone();
        let of = self.conversations.entry(conversation).or_insert_with(|| {
            bytes += CONVERSATION_BYTES;
            OfOne::default()
        });
        match row {
            Row::Record(seq, form) => {
                bytes += form.len() as u64;
                match of.at(seq) {
                    Ok(at) => of.records[at].1 = form,
                    Err(at) => {
                        bytes += RECORD_BYTES;
                        of.records.insert(at, (seq, form));
                    }
                }
            }
            Row::Id(id, seq) => {
                let rehash = |(id, _): &(IdHash, Seq)| hasher.hash_one(id);
                match of.ids.entry(hasher.hash_one(id), |(known, _)| *known == id, rehash) {
                    Place::Occupied(mut known) => known.get_mut().1 = seq,
                    Place::Vacant(place) => drop(place.insert((id, seq))),
                }
            }
        }
        bytes
    }

    /// All rows as a tree has them, in the order of their keys.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Slice, Slice)> {
        let mut all: Vec<_> = self.conversations.iter().collect();
        all.sort_unstable_by_key(|(conversation, _)| **conversation);
        all.into_iter().flat_map(|(conversation, of)| {
            let mut ids: Vec<_> = of.ids.iter().collect();
            ids.sort_unstable();
            let ids = ids.into_iter().map(|(id, seq)| (id_key(conversation, id).into(), seq.to_le_bytes().into()));
            let records = of.records.iter();
            records.map(|(seq, form)| (record_key(conversation, *seq).into(), form.clone())).chain(ids)
        })
    }
}

impl OfOne {
    /// Where the record is, or would be. The next one is behind the last.
    fn at(&self, seq: Seq) -> Result<usize, usize> {
        match self.records.back() {
            Some((last, _)) if *last >= seq => self.records.binary_search_by_key(&seq, |(seq, _)| *seq),
            _ => Err(self.records.len()),
        }
    }

    fn chunk(&self, (from, to): (Seq, Seq), upwards: bool, most: usize) -> Chunk {
        let first = self.records.partition_point(|(seq, _)| *seq < from);
        let end = self.records.partition_point(|(seq, _)| *seq <= to).max(first);
        let within = self.records.range(first..end);
        let more = within.len() > most;
        let records = match upwards {
            true => within.take(most).cloned().collect(),
            false => within.rev().take(most).cloned().collect(),
        };
        Chunk { records, more }
    }
}

impl Chunk {
    /// Both, where the records of this one are newer.
    fn over(self, older: Self, upwards: bool, most: usize) -> Self {
        // Beyond the end of one that has more, the other says nothing about what is missing.
        let end = [&self, &older].into_iter().filter(|it| it.more).filter_map(|it| Some(it.records.last()?.0));
        let end = if upwards { end.min() } else { end.max() };
        let is_within = |seq: Seq| end.is_none_or(|end| if upwards { seq <= end } else { seq >= end });
        let mut more = self.more || older.more;
        let mut records = self.records;
        records.extend(older.records);
        // Stable: of two with one position the newer one is first.
        records.sort_by_key(|(seq, _)| if upwards { *seq } else { Seq::MAX - *seq });
        records.dedup_by_key(|(seq, _)| *seq);
        records.retain(|(seq, _)| is_within(*seq));
        more |= records.len() > most;
        records.truncate(most);
        Self { records, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, Seq, u8),
        Id(u8, u8, Seq),
        Seal,
        Written,
        Chunk(u8, Seq, Seq, bool, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (one, seq) = (0..3_u8, 1..20_u64);
        let step = prop_oneof![
            8 => (one.clone(), seq.clone(), any::<u8>()).prop_map(|(one, seq, form)| Step::Put(one, seq, form)),
            3 => (one.clone(), 0..9_u8, seq.clone()).prop_map(|(one, id, seq)| Step::Id(one, id, seq)),
            1 => Just(Step::Seal),
            1 => Just(Step::Written),
            4 => (one, seq.clone(), seq, any::<bool>(), 1..8_usize)
                .prop_map(|(one, from, to, upwards, most)| Step::Chunk(one, from, to, upwards, most)),
        ];
        proptest::collection::vec(step, 1..120)
    }

    /// What there is, and what a checkpoint has closed of it.
    #[derive(Clone, Default)]
    struct Model {
        records: BTreeMap<(u8, Seq), u8>,
        ids: BTreeMap<(u8, u8), Seq>,
    }

    impl Model {
        /// As this one says, else the older one.
        fn over(&self, older: &Self) -> Self {
            let mut both = older.clone();
            both.records.extend(self.records.clone());
            both.ids.extend(self.ids.clone());
            both
        }
    }

    fn room(one: u8) -> ConversationId {
        ConversationId([one; 16])
    }

    proptest! {
        #[test]
        fn what_was_written_last_is_found_whatever_a_checkpoint_does_meanwhile(steps in steps()) {
            let records = Records::new(7);
            let (mut fresh, mut sealed) = (Model::default(), None::<Model>);
            for step in steps {
                match step {
                    Step::Put(one, seq, form) => {
                        records.write([(room(one), Row::Record(seq, Slice::from([form])))].into_iter());
                        fresh.records.insert((one, seq), form);
                    }
                    Step::Id(one, id, seq) => {
                        records.write([(room(one), Row::Id([id; 12], seq))].into_iter());
                        fresh.ids.insert((one, id), seq);
                    }
                    Step::Seal if sealed.is_none() => {
                        let table = records.seal();
                        let model = std::mem::take(&mut fresh);
                        let wanted = model.records.iter().map(|((one, seq), form)| {
                            (record_key(&room(*one), *seq).to_vec(), vec![*form])
                        });
                        let ids = model.ids.iter().map(|((one, id), seq)| {
                            (id_key(&room(*one), &[*id; 12]).to_vec(), seq.to_le_bytes().to_vec())
                        });
                        let mut wanted: Vec<_> = wanted.chain(ids).collect();
                        wanted.sort();
                        let rows = table.iter().flat_map(|table| table.rows());
                        let rows: Vec<_> = rows.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                        prop_assert_eq!(rows, wanted);
                        sealed = table.map(|_| model);
                    }
                    Step::Seal => {}
                    Step::Written => {
                        records.written();
                        sealed = None;
                    }
                    Step::Chunk(one, from, to, upwards, most) => {
                        let all = fresh.over(&sealed.clone().unwrap_or_default());
                        let within = all.records.iter().filter(|((of, seq), _)| *of == one && (from..=to).contains(seq));
                        let mut within: Vec<_> = within.map(|((_, seq), form)| (*seq, *form)).collect();
                        if !upwards {
                            within.reverse();
                        }
                        let chunk = records.chunk(&room(one), (from, to), upwards, most);
                        let found: Vec<_> = chunk.records.iter().map(|(seq, form)| (*seq, form[0])).collect();
                        prop_assert!(within.starts_with(&found) && found.len() <= most);
                        prop_assert!(chunk.more || found.len() == within.len());
                        prop_assert!(!chunk.more || !found.is_empty());
                        for seq in 1..20 {
                            let form = records.get(&room(one), seq).map(|form| form[0]);
                            prop_assert_eq!(form, all.records.get(&(one, seq)).copied());
                        }
                        for id in 0..9 {
                            prop_assert_eq!(records.find(&room(one), &[id; 12]), all.ids.get(&(one, id)).copied());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_record_is_counted_once_however_often_it_is_written() {
        let records = Records::new(7);
        let write = |row| records.write([(room(1), row)].into_iter());
        let first = write(Row::Record(1, Slice::from([0; 100])));
        assert_eq!(first, CONVERSATION_BYTES + RECORD_BYTES + 100);
        assert_eq!(write(Row::Record(2, Slice::from([0; 50]))), RECORD_BYTES + 50);
        assert!(write(Row::Record(1, Slice::from([0; 10]))) <= 10);
    }
}
