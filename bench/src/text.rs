//! What is said: texts and client message ids that can be made again from a number.
//!
//! Owns: the form of a text. Guarantees: every text of a run is different, names its message, and is checked byte by byte
//! without having been kept; a retry has the same id and the same bytes. Never does: randomness; the run's number is an
//! argument.

use ringpost_proto::id::ClientMessageId;

/// Makes and recognises the texts of one worker of one run.
#[derive(Clone, Debug)]
pub struct Texts {
    /// The run's number, its worker's, and a dot after each.
    tag: String,
    /// Length of the run's part of the tag.
    run: usize,
    seed: u64,
    bytes: usize,
}

/// What a received text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// Message number n of this worker and run, complete and unchanged.
    Ours(u32),
    /// It says that it is of this run, but its bytes are not what was sent, or it is of another worker, whose users are
    /// none of ours.
    Damaged,
    /// Of another run or somebody else.
    Foreign,
}

impl Texts {
    /// `run` tells runs apart. A text is `bytes` long, or as long as its tag and number if that is more.
    pub fn new(run: u64, worker: u32, bytes: usize) -> Self {
        let (tag, seed) = (format!("{run:016x}.{worker}."), mix(run ^ u64::from(worker) << 48));
        Self { tag, run: "0123456789abcdef.".len(), seed, bytes }
    }

    /// The text of message `number`: its tag, the number, and letters that follow from both.
    pub fn text(&self, number: u32) -> String {
        let mut text = format!("{}{number} ", self.tag);
        let mut state = self.seed ^ u64::from(number);
        while text.len() < self.bytes {
            state = mix(state);
            let letters = state.to_le_bytes().map(|b| char::from(b'a' + b % 26));
            text.extend(letters.iter().take(self.bytes - text.len()));
        }
        text
    }

    /// What a text is, judged by every byte of it.
    pub fn recognise(&self, text: &str) -> Recognised {
        match self.number(text) {
            Some(number) if self.is_whole(number, text) => Recognised::Ours(number),
            None if !text.starts_with(self.tag.get(..self.run).unwrap_or_default()) => Recognised::Foreign,
            _ => Recognised::Damaged,
        }
    }

    /// The number that a text of this worker and run claims to have; its other bytes are not looked at.
    pub fn number(&self, text: &str) -> Option<u32> {
        text.strip_prefix(&self.tag)?.split_once(' ')?.0.parse().ok()
    }

    /// Whether a text that begins with the tag and this number is the one that [`Texts::text`] makes; without making it.
    fn is_whole(&self, number: u32, text: &str) -> bool {
        let head = self.tag.len() + number.checked_ilog10().unwrap_or(0) as usize + 2;
        let Some(letters) = text.as_bytes().get(head..) else { return false };
        let mut state = self.seed ^ u64::from(number);
        text.len() == self.bytes.max(head)
            && text.as_bytes().get(head - 1) == Some(&b' ')
            && letters.chunks(8).all(|chunk| {
                state = mix(state);
                chunk.iter().zip(state.to_le_bytes()).all(|(&letter, b)| letter == b'a' + b % 26)
            })
    }

    /// A version 7 UUID (RFC 9562 section 5.7) that follows from the number and the time of sending, `unix_ms`.
    pub fn id(&self, number: u32, unix_ms: u64) -> ClientMessageId {
        let mixed = mix(self.seed ^ u64::from(number) ^ 0x5bd1_e995_0000_0000);
        ClientMessageId::uuid_v7(unix_ms, u128::from(mixed) << 32 | u128::from(number))
    }
}

/// The finaliser of SplitMix64: spreads every bit over all.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_text_has_its_length_and_names_its_message() {
        let texts = Texts::new(7, 1, 200);
        for number in [0, 1, 4_000_000_000] {
            let text = texts.text(number);
            assert_eq!(text.len(), 200);
            assert_eq!(texts.recognise(&text), Recognised::Ours(number));
            assert_eq!(texts.number(&text), Some(number));
        }
        assert!(Texts::new(7, 1, 1).text(5).ends_with("5 "), "a number is never cut off");
    }

    #[test]
    fn damage_and_strangers_are_told_apart() {
        let texts = Texts::new(7, 1, 200);
        let mut damaged = texts.text(3);
        damaged.pop();
        assert_eq!(texts.recognise(&damaged), Recognised::Damaged);
        for at in [0, 17, 19, 20, 21, 100, 199] {
            let mut changed = texts.text(3).into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_ne!(texts.recognise(&changed), Recognised::Ours(3), "{changed}");
        }
        let padded = texts.text(3).replacen("3 ", "03 ", 1);
        assert_eq!(texts.recognise(&padded[..200]), Recognised::Damaged);
        assert_eq!(texts.recognise(&Texts::new(8, 1, 200).text(3)), Recognised::Foreign);
        assert_eq!(texts.recognise(&Texts::new(7, 2, 200).text(3)), Recognised::Damaged, "another worker's");
        assert_eq!(texts.recognise(""), Recognised::Foreign);
    }

    #[test]
    fn ids_are_distinct_version_7_uuids_that_a_retry_makes_again() {
        let texts = Texts::new(7, 1, 200);
        let ids: HashSet<_> = (0..10_000).map(|n| texts.id(n, 1_700_000_000_123)).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.uuid_v7_ms() == Some(1_700_000_000_123)));
        assert_eq!(texts.id(9, 5), texts.id(9, 5));
        assert_ne!(texts.id(9, 5), Texts::new(7, 2, 200).id(9, 5));
    }
}
