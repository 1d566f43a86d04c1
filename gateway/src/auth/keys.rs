//! The keys that tokens are checked with.
//!
//! A key has one algorithm, one issuer, and perhaps one tenant; what a token says about these can only agree or be refused.
//! A set does not change: a new one takes its place.

use super::dev;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of a key's id at most.
pub const KEY_ID_BYTES: usize = 128;

/// The algorithms that a key can have: the names are those of RFC 7518 section 3.1 and RFC 8037 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alg {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Alg {
    pub const ALL: [Alg; 4] = [Alg::Hs256, Alg::Rs256, Alg::Es256, Alg::EdDsa];
    /// Those whose keys may be published.
    pub const PUBLIC: [Alg; 3] = [Alg::Rs256, Alg::Es256, Alg::EdDsa];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    pub(super) fn jwt(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// For whom a key may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// What the token's `iss` must be.
    pub issuer: String,
    /// What the token's `ten` must be (absent: `default`); without it, any.
    pub tenant: Option<String>,
}

/// A key, the one algorithm it is for, and for whom it signs.
pub(super) struct Key {
    pub alg: Alg,
    pub decoding: DecodingKey,
    /// Only for HS256: tokens can be minted with it.
    pub secret: Option<Vec<u8>>,
    pub bound: Bound,
}

impl Key {
    pub fn hs256(secret: Vec<u8>, bound: Bound) -> Self {
        Self { alg: Alg::Hs256, decoding: DecodingKey::from_secret(&secret), secret: Some(secret), bound }
    }

    pub fn public(alg: Alg, decoding: DecodingKey, bound: Bound) -> Self {
        Self { alg, decoding, secret: None, bound }
    }
}

/// A key under its id.
pub(super) type Named = (String, Arc<Key>);

/// The keys by id. Small and read only; shared by every thread.
///
/// Issuers choose their ids without knowing of each other, so one id may name a key of each: which of them is meant follows
/// from the token's `iss`. Within one issuer the first to be added stays.
#[derive(Default)]
pub struct KeySet {
    keys: HashMap<String, SmallVec<[Arc<Key>; 1]>>,
}

impl KeySet {
    /// Adds the development key. Only where nobody but this machine can connect: its secret is public.
    pub fn with_dev(mut self) -> Self {
        let bound = Bound { issuer: dev::ISSUER.to_owned(), tenant: None };
        self.add(dev::KEY_ID.to_owned(), Arc::new(Key::hs256(dev::SECRET.to_vec(), bound)));
        self
    }

    /// False: the issuer has a key of this id already, which stays.
    pub(super) fn add(&mut self, id: String, key: Arc<Key>) -> bool {
        let same = self.keys.entry(id).or_default();
        let free = same.iter().all(|other| other.bound.issuer != key.bound.issuer);
        if free {
            same.push(key);
        }
        free
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(SmallVec::len).sum()
    }

    /// How many keys have this algorithm.
    pub fn count(&self, alg: Alg) -> usize {
        self.keys.values().flatten().filter(|key| key.alg == alg).count()
    }

    /// The key with this id; where several issuers use it, that of the one that `issuer` gives.
    pub(super) fn find(&self, id: &str, issuer: impl FnOnce() -> Option<String>) -> Option<&Key> {
        match self.keys.get(id)?.as_slice() {
            [key] => Some(key),
            keys => {
                let issuer = issuer()?;
                keys.iter().find(|key| key.bound.issuer == issuer).map(Arc::as_ref)
            }
        }
    }

    /// The key with this id that can sign, or with `None` the only one that can.
    pub(super) fn signing(&self, id: Option<&str>) -> Option<(&str, &Key)> {
        let all = self.keys.iter().flat_map(|(id, keys)| keys.iter().map(move |key| (id.as_str(), key.as_ref())));
        let mut able = all.filter(|(known, key)| key.secret.is_some() && id.is_none_or(|id| id == *known));
        match (able.next(), able.next()) {
            (Some(found), None) => Some(found),
            _ => None,
        }
    }
}
