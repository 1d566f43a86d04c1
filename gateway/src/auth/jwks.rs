//! Sets of JSON Web Keys (RFC 7517 section 5). Pure.
//!
//! A key that cannot be used is left out and told; the others of its set are used, so that one odd key neither stops a
//! rotation nor keeps a removed key alive. An answer that is no set at all is an error, and whoever asked keeps what it had.

use super::keys::{Alg, Bound, KEY_ID_BYTES, Key, Named};
use super::public_key::{self, Jwk};
use serde::Deserialize;
use std::sync::Arc;

/// Bytes of a set at most: about a hundred times what issuers publish.
pub const SET_BYTES: usize = 256 << 10;
/// Keys of a set at most, used or not.
pub const SET_KEYS: usize = 64;

/// What a source of keys may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub bound: Bound,
    /// Never HS256: a shared secret is nothing to publish.
    pub algs: Vec<Alg>,
}

/// Why an answer is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("larger than 256 KiB")]
    TooLarge,
    #[error("not a JSON object with a list `keys`")]
    Syntax,
    #[error("more than 64 keys")]
    TooMany,
}

/// The keys of one set.
#[derive(Default)]
pub(super) struct Set {
    pub keys: Vec<Named>,
    /// (id, why) of those that are not used.
    pub unused: Vec<(String, &'static str)>,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

impl Set {
    pub fn parse(json: &[u8], policy: &Policy) -> Result<Self, SetError> {
        if json.len() > SET_BYTES {
            return Err(SetError::TooLarge);
        }
        let raw: RawSet = serde_json::from_slice(json).map_err(|_| SetError::Syntax)?;
        if raw.keys.len() > SET_KEYS {
            return Err(SetError::TooMany);
        }
        let mut set = Self::default();
        raw.keys.into_iter().for_each(|key| set.add(key, policy));
        Ok(set)
    }

    fn add(&mut self, value: serde_json::Value, policy: &Policy) {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
            return self.unused.push((String::new(), "not a JSON Web Key"));
        };
        let id = jwk.kid.clone().unwrap_or_default();
        if id.is_empty() || id.len() > KEY_ID_BYTES {
            return self.unused.push((String::new(), "it has no id (kid) of 1 to 128 bytes"));
        }
        if self.keys.iter().any(|(known, _)| *known == id) {
            return self.unused.push((id, "its id occurs twice"));
        }
        match public_key::from_jwk(&jwk, &policy.algs) {
            Ok((alg, decoding)) => self.keys.push((id, Arc::new(Key::public(alg, decoding, policy.bound.clone())))),
            Err(why) => self.unused.push((id, why)),
        }
    }

    /// What an operator wants to know about the set, in one line.
    pub fn summary(&self) -> String {
        let mut line = format!("keys in use: {}", self.keys.len());
        if let Some((id, why)) = self.unused.first() {
            line += &format!(", not used: {} (first: {id:?}: {why})", self.unused.len());
        }
        line
    }
}

#[cfg(test)]
mod tests;
