//! What of a conversation was not delivered and will not be, as its ticks have said.
//!
//! Guarantees: it only grows: what was named once stays, whichever ticks follow; ranges are ascending and apart from each other
//! by one position at least, and at most [`RANGES`]. Beyond that the two oldest become one, with what lies between them: that
//! shows less than is true, never more.

use crate::id::Seq;

/// Ranges that are kept apart: a server tells about 48 of a direct conversation.
const RANGES: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Excluded(Vec<(Seq, Seq)>);

impl Excluded {
    pub(super) fn ranges(&self) -> &[(Seq, Seq)] {
        &self.0
    }

    /// Adds from..=to, if that is a range. Returns whether it is more than there was.
    pub(super) fn add(&mut self, from: Seq, to: Seq) -> bool {
        // Those that it touches are one behind the other.
        let first = self.0.partition_point(|range| range.1.saturating_add(1) < from);
        let end = self.0.partition_point(|range| range.0 <= to.saturating_add(1));
        if from > to || self.0.get(first).is_some_and(|range| range.0 <= from && to <= range.1) {
            return false;
        }
        let touched = self.0.get(first..end).unwrap_or_default();
        let (from, to) = touched.iter().fold((from, to), |(from, to), range| (from.min(range.0), to.max(range.1)));
        self.0.splice(first..end, [(from, to)]);
        if self.0.len() > RANGES {
            let (first, _) = self.0.remove(0);
            self.0.iter_mut().take(1).for_each(|next| next.0 = first);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn they_hold_what_was_added_and_nothing_else() {
        let (mut excluded, mut model, mut n) = (Excluded::default(), BTreeSet::new(), 7_u64);
        for _ in 0..2_000 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (from, more) = ((n >> 33) % 1_000, (n >> 50) % 4);
            let before = model.len();
            model.extend(from..=from + more);
            assert_eq!(excluded.add(from, from + more), model.len() > before);
            assert!(excluded.ranges().windows(2).all(|two| two[0].1 + 1 < two[1].0));
            assert!(excluded.ranges().iter().flat_map(|(from, to)| *from..=*to).eq(model.iter().copied()));
        }
        assert!(!excluded.add(9, 8), "no range");
        assert!(excluded.add(0, Seq::MAX) && !excluded.add(Seq::MAX, Seq::MAX));
        assert_eq!(excluded.ranges(), [(0, Seq::MAX)]);
    }

    #[test]
    fn of_too_many_the_oldest_become_one() {
        let mut excluded = Excluded::default();
        (0..3 * RANGES as u64).for_each(|n| assert!(excluded.add(2 * n, 2 * n)));
        assert_eq!(excluded.ranges().len(), RANGES);
        assert!((0..3 * RANGES as u64).all(|n| !excluded.add(2 * n, 2 * n)), "all of them are still in it");
    }
}
