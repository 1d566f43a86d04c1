//! Ranges of positions: of a log, what is no longer kept; of a member, what it never received.
//!
//! Guarantees: ascending, and apart from each other by one position at least.

use ringpost_proto::id::Seq;
use smallvec::SmallVec;

/// Both ends included.
pub type Ranges = SmallVec<[(Seq, Seq); 1]>;

/// Adds from..=to, if that is a range. Returns whether it is more than there was.
pub fn add(ranges: &mut Ranges, from: Seq, to: Seq) -> bool {
    if from > to || ranges.iter().any(|range| range.0 <= from && to <= range.1) {
        return false;
    }
    let (mut first, mut last) = (from, to);
    ranges.retain(|range| {
        let apart = range.1.saturating_add(1) < from || to.saturating_add(1) < range.0;
        if !apart {
            (first, last) = (first.min(range.0), last.max(range.1));
        }
        apart
    });
    let at = ranges.partition_point(|range| range.0 < first);
    ranges.insert(at, (first, last));
    true
}

/// The same with all of `more`.
pub fn add_all(ranges: &mut Ranges, more: &[(Seq, Seq)]) {
    for (from, to) in more {
        add(ranges, *from, *to);
    }
}

/// The end of a range that has none.
pub const OPEN: Seq = i64::MAX as Seq;

/// There are at most `most`, and the last one of so many has no end: whatever comes is in it. So nothing that was outside of them
/// comes in later, but for what is newer than all of them.
pub fn bound(ranges: &mut Ranges, most: usize) {
    ranges.truncate(most);
    if ranges.len() == most {
        ranges.last_mut().into_iter().for_each(|last| last.1 = OPEN);
    }
}

/// What of them lies in from..=to.
pub fn within(ranges: &[(Seq, Seq)], from: Seq, to: Seq) -> Ranges {
    let cut = ranges.iter().map(|range| (range.0.max(from), range.1.min(to)));
    cut.filter(|(from, to)| from <= to).collect()
}

/// What any of them holds up to `upto`, in at most `most` ranges: see [`bound`].
pub fn union(all: impl IntoIterator<Item = Ranges>, most: usize, upto: Seq) -> Ranges {
    let mut union = Ranges::new();
    all.into_iter().for_each(|ranges| add_all(&mut union, &ranges));
    bound(&mut union, most);
    within(&union, 1, upto)
}

/// What of them lies in none of `others`, which are ascending.
pub fn without(ranges: &[(Seq, Seq)], others: &[(Seq, Seq)]) -> Ranges {
    let mut left = Ranges::new();
    for (mut from, to) in ranges.iter().copied() {
        for (first, last) in others {
            if from <= *last && *first <= to {
                add(&mut left, from, first.saturating_sub(1));
                from = last.saturating_add(1);
            }
        }
        add(&mut left, from, to);
    }
    left
}

/// The end of the range that `seq` is in.
pub fn end_of(ranges: &[(Seq, Seq)], seq: Seq) -> Option<Seq> {
    ranges.iter().find(|(from, to)| (*from..=*to).contains(&seq)).map(|(_, to)| *to)
}

/// How many positions they hold.
pub fn len(ranges: &[(Seq, Seq)]) -> u64 {
    ranges.iter().map(|(from, to)| to - from + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn they_hold_what_was_added_in_as_few_ranges_as_can_be(added in proptest::collection::vec((1..40_u64, 0..8_u64), 0..12)) {
            let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
            for (from, more) in added {
                let before = model.len();
                model.extend(from..=from + more);
                prop_assert_eq!(add(&mut ranges, from, from + more), model.len() > before);
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                prop_assert_eq!(ranges.iter().flat_map(|(from, to)| *from..=*to).collect::<BTreeSet<_>>(), model.clone());
                prop_assert_eq!(len(&ranges), model.len() as u64);
                let cut = within(&ranges, 5, 20);
                prop_assert_eq!(len(&cut), model.range(5..=20).count() as u64);
                let (hole, below, above) = ([(7, 9), (12, 12)], without(&ranges, &[(1, 14)]), without(&ranges, &[]));
                let holed: u64 = model.iter().filter(|seq| !(7..=9).contains(*seq) && **seq != 12).count() as u64;
                prop_assert_eq!((len(&without(&ranges, &hole)), above), (holed, ranges.clone()));
                prop_assert_eq!(len(&below), model.range(15..).count() as u64);
                prop_assert!((1..50).all(|seq| end_of(&ranges, seq).is_some() == model.contains(&seq)));
            }
            let before = ranges.clone();
            bound(&mut ranges, 2);
            prop_assert!(ranges.len() <= 2 && model.iter().all(|seq| end_of(&ranges, *seq).is_some()));
            // What lies before the last of them is as it was.
            let last = ranges.last().map_or(u64::MAX, |last| last.0);
            prop_assert!((1..50).take_while(|seq| *seq < last).all(|seq| end_of(&ranges, seq) == end_of(&before, seq)));
        }
    }

    #[test]
    fn what_many_missed_is_told_in_few_ranges_and_nothing_of_it_is_left_out() {
        // Each of three missed every sixth record, others than the next.
        let missed: Vec<Ranges> =
            (1..=3).map(|of| (0..20).map(|n| (6 * n + 2 * of, 6 * n + 2 * of)).collect()).collect();
        assert_eq!(union(missed.clone(), 64, 119), (1..60).map(|n| (2 * n, 2 * n)).collect::<Ranges>());
        let bounded = union(missed, 8, 119);
        assert_eq!(bounded[..7], (1..8).map(|n| (2 * n, 2 * n)).collect::<Ranges>()[..]);
        assert_eq!(bounded[7..], [(16, 119)], "the last one holds the rest");
    }

    #[test]
    fn the_last_of_as_many_as_there_may_be_has_no_end() {
        let mut ranges: Ranges = [(1, 2), (5, 6)].into_iter().collect();
        bound(&mut ranges, 3);
        assert_eq!(ranges[..], [(1, 2), (5, 6)]);
        assert!(!add(&mut ranges, 7, 6), "no range");
        add(&mut ranges, 9, 9);
        bound(&mut ranges, 3);
        assert_eq!(ranges[..], [(1, 2), (5, 6), (9, OPEN)]);
        assert!(!add(&mut ranges, 20, 30), "it is in it");
    }
}
