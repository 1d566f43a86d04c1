//! UTF-8 of text messages, checked while the bytes arrive: a message is refused at its first byte that no valid text
//! could have there, however it is cut.

/// The bytes are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// What is carried from one piece of a message to the next: the beginning of a character, at most three bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8 {
    carried: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Checks the next piece of the message.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.complete_with(byte)?;
        }
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(Invalid),
            Err(error) => {
                self.carry(bytes.get(error.valid_up_to()..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Checks that the message does not end within a character.
    pub fn finish(self) -> Result<(), Invalid> {
        if self.len == 0 { Ok(()) } else { Err(Invalid) }
    }

    /// Whether the carried bytes can be the beginning of a character.
    pub fn invariants(&self) -> bool {
        self.len < 4
            && std::str::from_utf8(self.carried())
                .map_or_else(|error| error.valid_up_to() == 0 && error.error_len().is_none(), |_| self.len == 0)
    }

    fn carried(&self) -> &[u8] {
        self.carried.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn complete_with(&mut self, byte: u8) -> Result<(), Invalid> {
        if let Some(slot) = self.carried.get_mut(usize::from(self.len)) {
            *slot = byte;
            self.len += 1;
        }
        match std::str::from_utf8(self.carried()) {
            Ok(_) => {
                self.len = 0;
                Ok(())
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(Invalid),
        }
    }

    fn carry(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.carried.iter_mut().zip(bytes) {
            *slot = *byte;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pieces: &[&[u8]]) -> Result<(), Invalid> {
        let mut utf8 = Utf8::default();
        for piece in pieces {
            utf8.feed(piece)?;
            assert!(utf8.invariants());
        }
        utf8.finish()
    }

    #[test]
    fn a_character_may_be_cut_anywhere() {
        for text in ["\u{7ff}", "\u{ffff}", "\u{10ffff}", "a\u{20ac}b"] {
            let bytes = text.as_bytes();
            let singles: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(check(&singles), Ok(()));
        }
        assert_eq!(check(&[b"\xf0\x9f\x98"]), Err(Invalid), "ends within a character");
    }

    #[test]
    fn an_impossible_byte_is_refused_at_once() {
        for (start, bad) in [(&b"\xf4"[..], 0x90), (b"\xed", 0xa0), (b"\xe0", 0x80), (b"\xf0\x9f", b'a')] {
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.feed(start), Ok(()));
            assert_eq!(utf8.feed(&[bad]), Err(Invalid));
        }
        assert_eq!(Utf8::default().feed(b"\xff"), Err(Invalid));
        assert_eq!(Utf8::default().feed(b"\xc0"), Err(Invalid));
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                any::<String>().prop_map(String::into_bytes),
                (any::<String>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
                    let mut bytes = text.into_bytes();
                    bytes.insert(at.index(bytes.len() + 1), byte);
                    bytes
                }),
            ],
            size in 1usize..7,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(check(&pieces).is_ok(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
