//! What coordinator and workers both know, and how each proves that it does.
//!
//! Owns: the secret. Guarantees: a proof holds for one connection and one side of it; the secret itself is never sent or
//! shown. Never does: hiding what is said afterwards.

use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::path::Path;

/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;
/// Bytes of a secret at least, and of its file at most.
const LEAST: usize = 16;
const MOST: usize = 4_096;

pub type Challenge = [u8; 32];
pub type Proof = [u8; 32];

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Coordinator,
    Worker,
}

/// See the module's page. Without a file it is empty, which only loopback allows.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes of a file; one line break at its end is not part of the secret.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = std::fs::read(path)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if (LEAST..=MOST).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(io::Error::other(format!("a secret of {} bytes: want {LEAST} to {MOST}", bytes.len())))
    }

    /// Whether there is none: anybody can prove that.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What `side` answers to the challenges of both sides.
    pub fn prove(&self, side: Side, of_coordinator: &Challenge, of_worker: &Challenge) -> Proof {
        let side: &[u8] = match side {
            Side::Coordinator => b"flood coordinator",
            Side::Worker => b"flood worker",
        };
        hmac(&self.0, &[side, of_coordinator, of_worker])
    }

    /// Whether `proof` is that answer; takes as long wherever it differs.
    pub fn is_proof(&self, proof: &Proof, side: Side, of_coordinator: &Challenge, of_worker: &Challenge) -> bool {
        let right = self.prove(side, of_coordinator, of_worker);
        right.iter().zip(proof).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// HMAC-SHA-256 (RFC 2104) of the parts one after the other.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    let hashed = Sha256::digest(key);
    let key = if key.len() > BLOCK { hashed.as_slice() } else { key };
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let inner =
        parts.iter().fold(Sha256::new_with_prefix(block.map(|b| b ^ 0x36)), |hash, part| hash.chain_update(part));
    Sha256::new_with_prefix(block.map(|b| b ^ 0x5c)).chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let case_2 = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(&case_2), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let case_6 = hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(&case_6), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_proof_is_of_one_secret_one_side_and_both_challenges() {
        let (ours, other) = (Secret(vec![1; 16]), Secret(vec![2; 16]));
        let (a, b) = ([3; 32], [4; 32]);
        let proof = ours.prove(Side::Worker, &a, &b);
        assert!(ours.is_proof(&proof, Side::Worker, &a, &b));
        assert!(!other.is_proof(&proof, Side::Worker, &a, &b));
        assert!(!ours.is_proof(&proof, Side::Coordinator, &a, &b), "what one side said is no answer of the other's");
        assert!(
            !ours.is_proof(&proof, Side::Worker, &[5; 32], &b) && !ours.is_proof(&proof, Side::Worker, &a, &[5; 32])
        );
        assert_eq!(format!("{ours:?}"), "Secret");
    }

    #[test]
    fn a_secret_has_a_length_and_loses_one_line_break() {
        let path = std::env::temp_dir().join(format!("flood-secret-{}", std::process::id()));
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Secret::read(&path).map(|secret| secret.0.len()).map_err(|error| error.to_string())
        };
        assert_eq!((of("0123456789abcdef\n"), of("0123456789abcdef")), (Ok(16), Ok(16)));
        assert!(of("0123456789abcde\n").unwrap_err().contains("15 bytes"));
        assert!(of(&"x".repeat(5_000)).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
