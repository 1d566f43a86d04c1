//! The check of a token: signature by key id, algorithm, issuer, audience, tenant, times, names.

use super::counters::{Counters, Reason};
use super::keys::Key;
use super::{AuthError, DEFAULT_TENANT, Identity, KeySet};
use arc_swap::ArcSwap;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Validation, decode, decode_header};
use ringpost_proto::id::{DeviceId, UserKey};
use ringpost_proto::limits::TOKEN_LEEWAY_MS;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of a token at most. A head holds 8 KiB; ours have about 300.
pub const TOKEN_BYTES: usize = 4 << 10;

/// The last millisecond of the year 9999 (RFC 3339's end of time): no sum of a deadline overflows.
const LATEST_MS: u64 = 253_402_300_799_999;

/// Checks tokens. One per process, shared; a check is 2 us (HS256) to 100 us (EdDSA) of CPU, takes no lock and never waits.
pub struct Verifier {
    keys: ArcSwap<KeySet>,
    audience: String,
    counters: Counters,
    /// A token named a key that nobody knows: a source may have a new one.
    wanted: AtomicBool,
    /// The sources of keys that have not answered yet, as far as logs may name them.
    unanswered: ArcSwap<Vec<String>>,
}

/// The claims of RFC 7519 that we read and our own; others are ignored.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    dev: String,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    ten: Option<String>,
    primary: Option<bool>,
}

/// The one claim that is read before the signature is checked, to find the key. Nothing else follows from it.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// A refusal: what is counted, and what the peer is told.
#[derive(Clone, Copy)]
struct Refusal(Reason, &'static str);

impl Verifier {
    pub fn new(keys: KeySet, audience: impl Into<String>) -> Self {
        let verifier = Self {
            keys: ArcSwap::default(),
            audience: audience.into(),
            counters: Counters::default(),
            wanted: AtomicBool::new(false),
            unanswered: ArcSwap::default(),
        };
        verifier.replace(keys);
        verifier
    }

    /// From here on tokens are checked with these keys and no others.
    pub fn replace(&self, keys: KeySet) {
        self.counters.set_keys(&keys);
        self.keys.store(Arc::new(keys));
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether there is no key, so that nobody can come in.
    pub fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    /// The sources of keys that have not answered for the first time: until all have, an unknown key may be a good one.
    pub(super) fn set_unanswered(&self, sources: Vec<String>) {
        self.unanswered.store(Arc::new(sources));
    }

    /// The urls of the sources of keys that have never answered, without what may be a secret.
    pub fn unanswered(&self) -> Arc<Vec<String>> {
        self.unanswered.load_full()
    }

    /// Whether a token named an unknown key since this was asked last.
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Relaxed)
    }

    /// Who the token says is calling, if it is right at `now_ms` (Unix milliseconds; 5 s of leeway either way).
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, AuthError> {
        self.check(token, now_ms).map_err(|Refusal(reason, text)| {
            self.counters.refuse(reason);
            if reason == Reason::UnknownKey {
                self.wanted.store(true, Relaxed);
            }
            match reason {
                Reason::Expired => AuthError::Expired,
                Reason::Unready => AuthError::Unready,
                _ => AuthError::Invalid(text),
            }
        })
    }

    fn check(&self, token: &str, now_ms: u64) -> Result<Identity, Refusal> {
        if token.len() > TOKEN_BYTES {
            return Err(Refusal(Reason::Malformed, "token too long"));
        }
        let header = decode_header(token).map_err(|_| Refusal(Reason::Malformed, "not a token"))?;
        if header.crit.is_some() {
            // RFC 7515 section 4.1.11: what is critical and not understood must be refused.
            return Err(Refusal(Reason::Malformed, "critical header not understood"));
        }
        let kid = header.kid.ok_or(Refusal(Reason::Malformed, "token names no key"))?;
        let keys = self.keys.load();
        let issuer = || insecure_decode_claims::<Issuer>(token).ok().map(|claims| claims.iss);
        let key = keys.find(&kid, issuer).ok_or_else(|| match self.unanswered.load().is_empty() {
            false => Refusal(Reason::Unready, "the keys of tokens are not loaded yet"),
            true => Refusal(Reason::UnknownKey, "unknown key"),
        })?;
        let mut rules = Validation::new(key.alg.jwt());
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.set_issuer(&[&key.bound.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.validate_exp = false; // below, on the caller's clock
        let claims = decode::<Claims>(token, &key.decoding, &rules).map_err(|e| refusal(&e))?.claims;
        identity(&claims, key, now_ms)
    }
}

fn identity(claims: &Claims, key: &Key, now_ms: u64) -> Result<Identity, Refusal> {
    let tenant = claims.ten.as_deref().unwrap_or(DEFAULT_TENANT);
    let user =
        UserKey::new(tenant, &claims.sub).map_err(|_| Refusal(Reason::Claims, "sub or ten is not a valid name"))?;
    let device = DeviceId::new(&claims.dev).map_err(|_| Refusal(Reason::Claims, "dev is not a valid device name"))?;
    if key.bound.tenant.as_deref().is_some_and(|bound| bound != tenant) {
        return Err(Refusal(Reason::Tenant, "the key is not for this tenant"));
    }
    let exp_ms = unix_ms(claims.exp);
    let latest = now_ms.saturating_add(TOKEN_LEEWAY_MS);
    if unix_ms(claims.iat) > latest || claims.nbf.is_some_and(|nbf| unix_ms(nbf) > latest) {
        return Err(Refusal(Reason::NotYetValid, "token is not valid yet"));
    }
    if exp_ms.saturating_add(TOKEN_LEEWAY_MS) <= now_ms {
        return Err(Refusal(Reason::Expired, "token expired"));
    }
    let (issued_ms, primary) = (unix_ms(claims.iat), claims.primary);
    Ok(Identity { user, device, issued_ms, exp_ms, primary })
}

/// A NumericDate (RFC 7519 section 2: seconds, fractions allowed) in milliseconds, the nearest, since a fraction such as .123 has
/// no exact form; the cast saturates.
fn unix_ms(seconds: f64) -> u64 {
    ((seconds * 1_000.0).round() as u64).min(LATEST_MS)
}

fn refusal(error: &jsonwebtoken::errors::Error) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => Refusal(Reason::Signature, "bad signature"),
        ErrorKind::InvalidAlgorithm => Refusal(Reason::Algorithm, "algorithm is not the key's"),
        ErrorKind::InvalidIssuer => Refusal(Reason::Issuer, "wrong issuer"),
        ErrorKind::InvalidAudience => Refusal(Reason::Audience, "wrong audience"),
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
            Refusal(Reason::Claims, "a claim is missing or has the wrong type")
        }
        _ => Refusal(Reason::Malformed, "not a token"),
    }
}

#[cfg(test)]
mod tests;
