//! How much of a shard goes to those who catch up.
//!
//! Owns: the pace at which pages of the store are taken. Guarantees: while messages are on their way, pages have a part of
//! the shard and no more, whatever their size; else they have all of it, turn by turn; and always some. Never does: look at
//! a clock.

use std::time::Duration;

/// Of a turn, while nobody writes.
const FREE: Duration = Duration::from_millis(1);
/// Of a millisecond, while messages are on their way: with pages of 50 records it is two of them. What a page makes the kernel
/// and its receiver do comes on top of it.
const PACED: Duration = Duration::from_micros(150);
/// After a message was committed.
const LIVE_MS: u64 = 100;

#[derive(Debug, Default)]
pub struct Pace {
    live_until_ms: u64,
    /// While messages are on their way: when the next pages are taken.
    next_ms: u64,
}

impl Pace {
    /// A message was committed.
    pub fn message(&mut self, now_ms: u64) {
        self.live_until_ms = now_ms + LIVE_MS;
    }

    /// Pages are taken now: one, and further ones until they have taken this time. `None`: not yet.
    pub fn begin(&mut self, now_ms: u64) -> Option<Duration> {
        if self.wait_ms(now_ms) > 0 {
            return None;
        }
        self.next_ms = now_ms + 1;
        Some(if now_ms < self.live_until_ms { PACED } else { FREE })
    }

    /// How long pages that are there have to wait, in milliseconds.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        if now_ms < self.live_until_ms { self.next_ms.saturating_sub(now_ms) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nobody_writes_every_turn_has_pages() {
        let mut pace = Pace::default();
        assert_eq!([pace.begin(5), pace.begin(5), pace.begin(5)], [Some(FREE); 3]);
    }

    #[test]
    fn while_messages_are_on_their_way_pages_have_a_part_of_each_millisecond() {
        let mut pace = Pace::default();
        pace.message(1_000);
        let given: Vec<_> =
            (1_000..1_000 + LIVE_MS).flat_map(|now_ms| [pace.begin(now_ms), pace.begin(now_ms)]).collect();
        assert!(given.chunks(2).all(|pair| pair == [Some(PACED), None]), "{given:?}");
        assert_eq!((pace.wait_ms(1_099), pace.wait_ms(1_100)), (1, 0));
        assert_eq!([pace.begin(1_100), pace.begin(1_100)], [Some(FREE); 2], "nobody has written for a while");
    }
}
