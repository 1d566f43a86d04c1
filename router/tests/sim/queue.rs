//! What happens next: events in the order of their times, those of one time in the order in which they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events stay where they are while the heap moves their times about.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    planned: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), planned: 0 }
    }

    pub fn push(&mut self, at: u64, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() as u32 - 1
        });
        self.events[slot as usize] = Some(event);
        self.planned += 1;
        self.heap.push(Reverse((at, self.planned, slot)));
    }

    /// The first event, if it happens at `end` or before, and its time.
    pub fn pop(&mut self, end: u64) -> Option<(u64, E)> {
        let Reverse((at, ..)) = *self.heap.peek()?;
        if at > end {
            return None;
        }
        let Reverse((_, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.events[slot as usize].take()?))
    }
}
