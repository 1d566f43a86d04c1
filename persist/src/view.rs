//! What a member is shown of a log: which records an answer holds, and how far it looked.
//!
//! Owns: the limits of an answer. Guarantees: pure, and the same for every backend that reads its records one by one.
//! Never does: read them.

use crate::ranges::{self, Ranges};
use crate::{ConversationKind, EXCLUDED_RANGES, Member, Outcome, ReadRange, Record};
use ringpost_proto::id::{Seq, UserKey};
use std::sync::Arc;

/// The tail that a room is given: at least so many records ...
const TAIL: usize = 256;
/// ... and those of the last [`TAIL_MS`], up to so many ...
const TAIL_MOST: usize = 4_096;
/// ... but of all of them beyond the newest no more than cost so much: a record may be long, and a load is held whole.
const TAIL_BYTES: usize = 8 << 20;
/// Of the records of this time a room knows the client message ids, so that a new one need not be looked for; an older one is,
/// with `FindCmid`.
pub const TAIL_MS: u64 = 120_000;
/// Records looked at for the newest that a user may see, and for each that one read of the log asks for.
pub(crate) const LOOKED: usize = 64;

/// The answer to a read of a log that nobody wrote to.
pub(crate) fn nothing(range: ReadRange) -> Outcome {
    let reached = match range {
        ReadRange::From { from, .. } => from.max(1) - 1,
        ReadRange::Before(_) => 1,
    };
    Outcome::LogSlice { head: 0, reached, records: Vec::new(), gone: Ranges::new() }
}

/// What of a range that was looked at up to `reached` is no longer kept, where `gone` is not of the log.
pub(crate) fn gone_of(gone: &[(Seq, Seq)], range: ReadRange, reached: Seq) -> Ranges {
    match range {
        ReadRange::From { from, .. } => ranges::within(gone, from, reached),
        ReadRange::Before(before) => ranges::within(gone, reached, before.saturating_sub(1)),
    }
}

/// Whether the record is one of those that a member has to read.
pub(crate) fn is_unread(record: &Record, member: &Member) -> bool {
    record.counts() && record.sender != member.user && member.sees(record)
}

/// How much of a log a room is given when it is loaded.
pub(crate) struct Tail {
    /// However many there are, those from here on are wanted.
    from_us: u64,
    taken: usize,
    room: usize,
}

impl Tail {
    /// The last minutes end at the newest record (`newest_us`), not now: never fewer records than by the clock, and no clock
    /// here.
    pub(crate) fn new(newest_us: u64) -> Self {
        Self { from_us: newest_us.saturating_sub(TAIL_MS * 1_000), taken: 0, room: TAIL_BYTES }
    }

    /// Whether the next record, from the newest to the oldest, is part of it; `false`: nor is any after it.
    pub(crate) fn take(&mut self, us: u64, cost: usize) -> bool {
        let wanted = self.taken < TAIL || (self.taken < TAIL_MOST && us >= self.from_us);
        // The newest one always is: what comes next holds its hash.
        let beyond = if self.taken == 0 { 0 } else { cost };
        if !wanted || beyond > self.room {
            return false;
        }
        self.room -= beyond;
        self.taken += 1;
        true
    }
}

/// One read of a log, within its limits.
pub(crate) struct View<'a> {
    range: ReadRange,
    viewer: Option<&'a Member>,
    first: Seq,
    end: Seq,
    records: Vec<Record>,
    most: usize,
    room: usize,
    looks: usize,
    /// The first record that was not looked at.
    stopped: Option<Seq>,
}

impl<'a> View<'a> {
    /// `viewer`: `None` sees everything. `head`: of the log.
    pub(crate) fn new(range: ReadRange, viewer: Option<&'a Member>, head: Seq, records: u32, bytes: u32) -> Self {
        let last = viewer.map_or(head, |viewer| viewer.end(head));
        let join = viewer.map_or(1, |viewer| viewer.join);
        let (first, end) = match range {
            ReadRange::From { from, to } => (from.max(1).max(join), to.min(last)),
            ReadRange::Before(before) => (join, before.saturating_sub(1).min(last)),
        };
        let most = records.max(1) as usize;
        let (records, room, looks) = (Vec::new(), bytes as usize, LOOKED * most);
        Self { range, viewer, first, end, records, most, room, looks, stopped: None }
    }

    /// The newest record of the log that a member sees.
    pub(crate) fn newest(viewer: &'a Member, head: Seq) -> Self {
        Self::new(ReadRange::Before(Seq::MAX), Some(viewer), head, 1, 0)
    }

    pub(crate) fn is_upwards(&self) -> bool {
        matches!(self.range, ReadRange::From { .. })
    }

    /// What is to be read, in this order.
    pub(crate) fn spans(&self) -> Vec<(Seq, Seq)> {
        let mut seen = visible(self.viewer, self.first, self.end);
        if !self.is_upwards() {
            seen.reverse();
        }
        seen
    }

    /// Looks at the next record, which costs so much; `false`: it is beyond the limits, was not looked at, and none is after
    /// it.
    pub(crate) fn take(&mut self, record: Record, cost: usize) -> bool {
        let beyond = cost > self.room && !self.records.is_empty();
        let sees = self.viewer.is_none_or(|viewer| viewer.sees(&record));
        if self.looks == 0 || self.records.len() >= self.most || (sees && beyond) {
            self.stopped = Some(record.seq);
            return false;
        }
        self.looks -= 1;
        if sees {
            self.room = self.room.saturating_sub(cost);
            self.records.push(record);
        }
        true
    }

    /// Whether the limits are reached.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The records, and how far was looked.
    pub(crate) fn finish(self) -> (Vec<Record>, Seq) {
        let reached = match (self.range, self.stopped) {
            (ReadRange::From { .. }, Some(seq)) => seq - 1,
            // Of what comes after its part of the log a member does not even learn that it is there.
            (ReadRange::From { from, .. }, None) => self.end.max(from.max(1) - 1),
            (ReadRange::Before(_), Some(seq)) => seq + 1,
            (ReadRange::Before(_), None) => self.first.min(self.end + 1),
        };
        (self.records, reached)
    }
}

/// What of first..=end is not hidden from the viewer, ascending.
pub(crate) fn visible(viewer: Option<&Member>, first: Seq, end: Seq) -> Vec<(Seq, Seq)> {
    let mut seen = Vec::new();
    let mut from = first;
    for (hidden, until) in viewer.iter().flat_map(|viewer| &viewer.hidden) {
        if from < *hidden {
            seen.push((from, end.min(hidden - 1)));
        }
        from = from.max(until.saturating_add(1));
    }
    seen.push((from, end));
    seen.retain(|(from, to)| from <= to);
    seen
}

/// What senders are told of: up to `upto`, what is hidden from the other side of a direct conversation, and what the others
/// missed.
pub(crate) fn excluded(peer: Option<&Member>, missed: impl IntoIterator<Item = Ranges>, upto: Seq) -> Ranges {
    let hidden = peer.map(|peer| peer.excluded(upto));
    ranges::union(hidden.into_iter().chain(missed), EXCLUDED_RANGES, upto)
}

/// The other side of a direct conversation; `None`: a user talks to itself, or it is a group.
pub(crate) fn peer_of<'a>(kind: &'a ConversationKind, user: &UserKey) -> Option<&'a UserKey> {
    kind.members().iter().find(|member| *member != user)
}

/// For answers.
pub(crate) fn shared(records: Vec<Record>) -> Vec<Arc<Record>> {
    records.into_iter().map(Arc::new).collect()
}
