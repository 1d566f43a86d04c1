//! Names of things: conversations, positions, users, devices, client message ids.
//!
//! Owns: how each is formed and bounded. Guarantees: a value of a type here is valid, so nothing behind the edge checks
//! again. Never does: I/O, clocks, randomness.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use unicode_normalization::is_nfc;

/// Position in a conversation's log: 1, 2, 3 ... dense, assigned by the commit. 0 means "before the first".
pub type Seq = u64;

/// A record's display id: 41 bits of milliseconds since 2024-01-01 UTC, 13 bits worker, 9 bits count. Never a cursor.
pub type RecordId = u64;

/// Milliseconds between 1970-01-01 and 2024-01-01 UTC, the epoch of [`RecordId`].
pub const RECORD_ID_EPOCH_MS: u64 = 1_704_067_200_000;

/// The id that a record committed at `unix_ms` by `worker` gets, if the one before it in the log is `previous`:
/// max(clock, previous + 1), so that id order is seq order within a conversation whatever the clock does.
pub fn record_id(unix_ms: u64, worker: u16, previous: RecordId) -> RecordId {
    let ms = unix_ms.saturating_sub(RECORD_ID_EPOCH_MS) & ((1 << 41) - 1);
    let fresh = ms << 22 | u64::from(worker & 0x1fff) << 9;
    fresh.max(previous.saturating_add(1))
}

/// 128-bit id of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId(pub [u8; 16]);

impl ConversationId {
    /// The direct conversation of two users of one tenant: the first 128 bits of SHA-256 over a domain tag, the tenant and
    /// the two user ids, length-prefixed and sorted, so that both sides compute the same. A user may talk to itself.
    pub fn direct(tenant: &str, a: &str, b: &str) -> Self {
        let (lo, hi) = if a <= b { (a, b) } else { (b, a) };
        let mut hash = Sha256::new();
        hash.update(b"ringpost direct conversation v1");
        for part in [tenant, lo, hi] {
            hash.update((part.len() as u32).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// The group that a request creates: the first 128 bits of SHA-256 over a domain tag, the tenant, the creator, its device
    /// and the request's own id, so that a repeated request finds the same log.
    pub fn group(tenant: &str, user: &str, device: &str, cmid: &ClientMessageId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"ringpost group v1");
        for part in [tenant.as_bytes(), user.as_bytes(), device.as_bytes(), &cmid.0] {
            hash.update((part.len() as u32).to_le_bytes());
            hash.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// A number that spreads conversations over shards; the id is a hash already.
    pub fn spread(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("d:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Why a name is refused; the text is fit for an error frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must be 1 to {0} bytes long")]
    Length(usize),
    #[error("must be in Unicode normal form C")]
    NotNfc,
    #[error("must not hold control characters")]
    Control,
    #[error("must consist of A-Z a-z 0-9 . _ -")]
    Alphabet,
}

/// A user's name within its tenant: 1 to 64 bytes UTF-8, NFC, no control characters.
pub fn check_user(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > 64 {
        return Err(NameError::Length(64));
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if !name.is_ascii() && !is_nfc(name) {
        return Err(NameError::NotNfc);
    }
    Ok(())
}

/// A device's name within its user: 1 to 32 of A-Z a-z 0-9 . _ -
pub fn check_device(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > 32 {
        return Err(NameError::Length(32));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(NameError::Alphabet);
    }
    Ok(())
}

/// (tenant, user), the key of everything that belongs to a user. One shared allocation "tenant\0user": cloning counts a
/// reference. Both parts are valid by construction.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey(Arc<str>);

impl UserKey {
    pub fn new(tenant: &str, user: &str) -> Result<Self, NameError> {
        check_user(user)?;
        if tenant.is_empty() || tenant.len() > 32 {
            return Err(NameError::Length(32));
        }
        if tenant.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        Ok(Self(format!("{tenant}\0{user}").into()))
    }

    /// Bytes on the heap, shared by all copies: the name, and two counters before it.
    pub fn heap_bytes(&self) -> usize {
        2 * size_of::<usize>() + self.0.len()
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('\0').unwrap_or(("", &self.0))
    }

    pub fn tenant(&self) -> &str {
        self.parts().0
    }

    pub fn user(&self) -> &str {
        self.parts().1
    }

    /// The direct conversation of this user with another of the same tenant.
    pub fn direct_with(&self, other: &UserKey) -> ConversationId {
        ConversationId::direct(self.tenant(), self.user(), other.user())
    }

    /// The user of the same tenant with this name.
    pub fn sibling(&self, user: &str) -> Result<UserKey, NameError> {
        UserKey::new(self.tenant(), user)
    }

    /// A number that spreads users over shards, the same in every process.
    pub fn spread(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.0.as_bytes())
    }

    /// "tenant\0user", for keys on disk. [`UserKey::from_bytes`] reads it back.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tenant, user) = std::str::from_utf8(bytes).ok()?.split_once('\0')?;
        Self::new(tenant, user).ok()
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user())
    }
}

/// A device's name, at most 32 bytes, kept inline: `Copy`, no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    len: u8,
    bytes: [u8; 32],
}

impl DeviceId {
    /// Before every other in their order; no device is called so.
    pub const FIRST: Self = Self { len: 0, bytes: [0; 32] };
    /// After every other in their order; no device is called so.
    pub const LAST: Self = Self { len: 33, bytes: [0xff; 32] };

    pub fn new(name: &str) -> Result<Self, NameError> {
        check_device(name)?;
        let mut bytes = [0; 32];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { len: name.len() as u8, bytes })
    }

    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The sender's own id of a message, UUIDv7 advised; scope (conversation, sender, device).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientMessageId(pub [u8; 16]);

impl ClientMessageId {
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A version 7 UUID (RFC 9562 section 5.7) of this Unix time in milliseconds (48 bits) and the low 80 of the random bits,
    /// of which version and variant take six.
    pub fn uuid_v7(unix_ms: u64, random: u128) -> Self {
        let version_and_variant = 0xf << 76 | 0b11 << 62;
        let bits = u128::from(unix_ms) << 80 | random & ((1 << 80) - 1) & !version_and_variant;
        Self((bits | 7 << 76 | 0b10 << 62).to_be_bytes())
    }

    /// The Unix time in milliseconds that a version 7 UUID carries (RFC 9562 section 5.7), else `None`.
    pub fn uuid_v7_ms(&self) -> Option<u64> {
        if self.0[6] >> 4 != 7 || self.0[8] >> 6 != 0b10 {
            return None;
        }
        let mut ms = [0; 8];
        ms[2..].copy_from_slice(&self.0[..6]);
        Some(u64::from_be_bytes(ms))
    }

    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for ClientMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_id_is_of_version_7_and_carries_its_time() {
        for random in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            for ms in [0, 1_700_000_000_123, (1 << 48) - 1] {
                assert_eq!(ClientMessageId::uuid_v7(ms, random).uuid_v7_ms(), Some(ms));
            }
        }
        // Bytes 6 and 8 keep what is not version and variant.
        assert_eq!(ClientMessageId::uuid_v7(0, u128::MAX).0[6..9], [0x7f, 0xff, 0xbf]);
        assert_eq!(ClientMessageId::uuid_v7(1, 0).0, [0, 0, 0, 0, 0, 1, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    }
}
