//! Masking of payloads (RFC 6455 section 5.3): XOR with a four-byte key, the same operation in both directions.

/// Masks or unmasks `bytes`, which stand at `offset` of their frame's payload.
///
/// Eight bytes at a time at any alignment; the compiler widens the loop to the vectors of the target.
pub fn apply(key: [u8; 4], offset: usize, bytes: &mut [u8]) {
    let [a, b, c, d] = rotated(key, offset);
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d].into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The key as seen from `offset`.
fn rotated(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The fast loop against the definition in the RFC, at every offset and split.
        #[test]
        fn agrees_with_the_definition(bytes: Vec<u8>, key: [u8; 4], offset in 0usize..9, cut: prop::sample::Index) {
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(i, byte)| byte ^ key[(offset + i) % 4]).collect();
            let mut masked = bytes.clone();
            let cut = cut.index(bytes.len() + 1);
            let (head, tail) = masked.split_at_mut(cut);
            apply(key, offset, head);
            apply(key, offset + cut, tail);
            prop_assert_eq!(masked, expected);
        }
    }
}
