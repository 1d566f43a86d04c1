//! A hierarchical timer wheel on slab indices: one deadline per index, O(1) to arm, move and cancel, no allocation per timer.
//!
//! Eleven levels of 64 slots cover all 64 bits. A deadline lives on the level of the highest 6-bit group in which it differs from the wheel's
//! time, so every deadline of a level comes before all those of the levels above. Guarantees: a deadline fires once, never
//! early, in the first `advance` that reaches it. Never does: read a clock.

use crate::paged::Paged;

const LEVELS: usize = 11;
const SLOTS: usize = 64;
const BITS: u32 = 6;
const NONE: u32 = u32::MAX;
/// `previous` of the first node of a list: this bit and the number of the list.
const HEAD: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
struct Node {
    at_ms: u64,
    previous: u32,
    next: u32,
}

const IDLE: Node = Node { at_ms: 0, previous: NONE, next: NONE };

/// Deadlines in milliseconds of whatever clock the caller uses. 16 B per index, and 2.9 KiB for the lists.
#[derive(Debug)]
pub struct Wheel {
    now_ms: u64,
    nodes: Paged<Node>,
    heads: [u32; LEVELS * SLOTS],
    /// Which slots of a level have a list.
    occupied: [u64; LEVELS],
    armed: usize,
}

impl Wheel {
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms, nodes: Paged::default(), heads: [NONE; LEVELS * SLOTS], occupied: [0; LEVELS], armed: 0 }
    }

    /// How many deadlines are armed.
    pub fn len(&self) -> usize {
        self.armed
    }

    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Bytes of one index, and of all that is allocated, whether it is used or not.
    pub fn bytes(&self) -> (usize, usize) {
        (size_of::<Node>(), size_of::<Self>() + self.nodes.bytes())
    }

    /// The deadline of `index`, if one is armed.
    pub fn deadline_ms(&self, index: u32) -> Option<u64> {
        self.nodes.get(index as usize).filter(|node| node.previous != NONE).map(|node| node.at_ms)
    }

    /// Arms the deadline of `index`, or moves it. One that has passed fires in the next [`Wheel::advance`] that moves time.
    /// `index` is below 2^31.
    pub fn arm(&mut self, index: u32, at_ms: u64) {
        self.cancel(index);
        self.nodes.reach(index as usize, || IDLE);
        self.insert(index, at_ms);
        self.armed += 1;
    }

    /// Disarms `index`; nothing happens if it is not armed.
    pub fn cancel(&mut self, index: u32) {
        let Some(&node) = self.nodes.get(index as usize) else { return };
        if node.previous == NONE {
            return;
        }
        if node.previous & HEAD != 0 {
            let list = (node.previous & !HEAD) as usize;
            self.heads[list] = node.next;
            if node.next == NONE {
                self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            }
        } else {
            self.node(node.previous).next = node.next;
        }
        if node.next != NONE {
            self.node(node.next).previous = node.previous;
        }
        *self.node(index) = IDLE;
        self.armed -= 1;
    }

    /// When [`Wheel::advance`] should be called at the latest: at or before the earliest deadline.
    pub fn next_ms(&self) -> Option<u64> {
        self.next_list().map(|(at_ms, _)| at_ms)
    }

    /// Moves time on and calls `fire` for each deadline that has passed, in the order of their time. A deadline that fires is disarmed.
    pub fn advance(&mut self, now_ms: u64, mut fire: impl FnMut(u32)) {
        while let Some((at_ms, list)) = self.next_list().filter(|&(at_ms, _)| at_ms <= now_ms) {
            self.now_ms = at_ms;
            let mut index = std::mem::replace(&mut self.heads[list], NONE);
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            while index != NONE {
                let node = std::mem::replace(self.node(index), IDLE);
                if node.at_ms <= at_ms {
                    self.armed -= 1;
                    fire(index);
                } else {
                    self.insert(index, node.at_ms);
                }
                index = node.next;
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn insert(&mut self, index: u32, at_ms: u64) {
        // A deadline that has passed goes to the very next millisecond.
        let place = at_ms.max(self.now_ms + 1);
        let differs = place ^ self.now_ms;
        let level = (63 - differs.leading_zeros()) / BITS;
        let slot = (place >> (level * BITS)) as usize % SLOTS;
        let list = level as usize * SLOTS + slot;
        let next = std::mem::replace(&mut self.heads[list], index);
        if next != NONE {
            self.node(next).previous = index;
        }
        self.occupied[level as usize] |= 1 << slot;
        *self.node(index) = Node { at_ms, previous: HEAD | list as u32, next };
    }

    /// A node that a list names, so it is there.
    fn node(&mut self, index: u32) -> &mut Node {
        self.nodes.reach(index as usize, || IDLE)
    }

    /// The next list in time, and when its slot begins.
    fn next_list(&self) -> Option<(u64, usize)> {
        for level in 0..LEVELS {
            let shift = level as u32 * BITS;
            let here = (self.now_ms >> shift) % SLOTS as u64;
            // Only slots after the one that time is in can be occupied.
            let ahead = self.occupied[level] & (u64::MAX << here) & !(1 << here);
            if ahead != 0 {
                let slot = u64::from(ahead.trailing_zeros());
                let base = (self.now_ms >> shift) - here;
                return Some(((base + slot) << shift, level * SLOTS + slot as usize));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        Cancel(u32),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let far = prop_oneof![0..100u64, 0..10_000u64, 0..100_000_000u64, 0..(1u64 << 38)];
        let step = prop_oneof![
            (0..20u32, far.clone()).prop_map(|(index, ahead)| Step::Arm(index, ahead)),
            (0..20u32).prop_map(Step::Cancel),
            far.prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn fires_what_a_sorted_map_fires(start in 0..(1u64 << 40), steps in steps()) {
            let (mut wheel, mut model, mut now) = (Wheel::new(start), BTreeMap::new(), start);
            for step in steps {
                match step {
                    Step::Arm(index, ahead) => {
                        let at = (now + ahead).saturating_sub(50);
                        wheel.arm(index, at);
                        model.insert(index, at);
                    }
                    Step::Cancel(index) => {
                        wheel.cancel(index);
                        model.remove(&index);
                    }
                    Step::Advance(ms) => {
                        now += ms + 1;
                        let mut fired = Vec::new();
                        wheel.advance(now, |index| fired.push(index));
                        let mut due: Vec<u32> = model.iter().filter(|(_, at)| **at <= now).map(|(i, _)| *i).collect();
                        model.retain(|_, at| *at > now);
                        fired.sort_unstable();
                        due.sort_unstable();
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                if let Some(earliest) = model.values().min() {
                    let next = wheel.next_ms();
                    prop_assert!(next.is_some_and(|ms| ms <= (*earliest).max(now + 1)), "{:?} {}", next, earliest);
                }
            }
        }
    }
}
