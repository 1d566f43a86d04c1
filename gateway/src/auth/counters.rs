//! What is counted about tokens and their keys. Atomics: shards and the control plane count, a scrape reads.

use super::keys::{Alg, KeySet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a token was refused. A closed list: no label comes from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// No JWT, or one that cannot be ours.
    Malformed,
    UnknownKey,
    /// As above, while a source of keys has not answered for the first time.
    Unready,
    /// The header names another algorithm than the key has.
    Algorithm,
    Signature,
    Issuer,
    Audience,
    /// A claim is missing, has the wrong type, or holds no valid name.
    Claims,
    /// The key is bound to another tenant.
    Tenant,
    NotYetValid,
    Expired,
}

impl Reason {
    pub const ALL: [Reason; 11] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::Unready,
        Self::Algorithm,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::Claims,
        Self::Tenant,
        Self::NotYetValid,
        Self::Expired,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Unready => "unready",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Tenant => "tenant",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
        }
    }
}

/// Read by /metrics.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; Reason::ALL.len()],
    keys: [AtomicU64; Alg::ALL.len()],
    /// Keys of fetched sets that cannot be used.
    pub unused: AtomicU64,
    /// Failed readings of the key file, and failed fetches.
    pub file_failures: AtomicU64,
    pub jwks_failures: AtomicU64,
    /// Whether the last reading failed; how many sources failed at their last fetch.
    pub file_failing: AtomicU64,
    pub jwks_failing: AtomicU64,
    /// Sources that are fetched.
    pub sources: AtomicU64,
    /// When the source that has waited longest was last fetched, on the clock of the key ring.
    pub fresh_ms: AtomicU64,
}

impl Counters {
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Relaxed)
    }

    pub fn keys(&self, alg: Alg) -> u64 {
        self.keys[alg as usize].load(Relaxed)
    }

    pub(super) fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn set_keys(&self, set: &KeySet) {
        for alg in Alg::ALL {
            self.keys[alg as usize].store(set.count(alg) as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_algorithm_has_a_place_of_its_own() {
        let counters = Counters::default();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            counters.refuse(reason);
        }
        assert!(Reason::ALL.into_iter().all(|reason| counters.refused(reason) == 1));
        assert!(Alg::ALL.into_iter().enumerate().all(|(n, alg)| alg as usize == n));
    }
}
