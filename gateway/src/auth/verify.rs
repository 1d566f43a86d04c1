//! The check of a token: signature by key id, issuer, audience, times, names.

use super::{AuthError, DEFAULT_TENANT, Identity, KeySet};
use jsonwebtoken::{Validation, decode, decode_header};
use ringpost_proto::id::{DeviceId, UserKey};
use ringpost_proto::limits::TOKEN_LEEWAY_MS;
use serde::Deserialize;

/// Bytes of a token at most. A head holds 8 KiB; ours have about 300.
pub const TOKEN_BYTES: usize = 4 << 10;

/// The last millisecond of the year 9999 (RFC 3339's end of time): no sum of a deadline overflows.
const LATEST_MS: u64 = 253_402_300_799_999;

/// Checks tokens. One per process, shared; a check is 2 us (HS256) to 100 us (EdDSA) of CPU and never waits.
pub struct Verifier {
    keys: KeySet,
    audience: String,
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
}

impl Verifier {
    pub fn new(keys: KeySet, audience: impl Into<String>) -> Self {
        Self { keys, audience: audience.into() }
    }

    /// Who the token says is calling, if it is right at `now_ms` (Unix milliseconds; 5 s of leeway either way).
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, AuthError> {
        if token.len() > TOKEN_BYTES {
            return Err(AuthError::Invalid("token too long"));
        }
        let header = decode_header(token).map_err(|_| AuthError::Invalid("not a token"))?;
        if header.crit.is_some() {
            // RFC 7515 section 4.1.11: what is critical and not understood must be refused.
            return Err(AuthError::Invalid("critical header not understood"));
        }
        let kid = header.kid.ok_or(AuthError::Invalid("token names no key"))?;
        let key = self.keys.get(&kid).ok_or(AuthError::Invalid("unknown key"))?;
        let mut rules = Validation::new(key.alg);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.set_issuer(&[&key.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.validate_exp = false; // below, on the caller's clock
        let claims = decode::<Claims>(token, &key.decoding, &rules).map_err(|e| AuthError::Invalid(reason(&e)))?.claims;
        identity(&claims, now_ms)
    }
}

fn identity(claims: &Claims, now_ms: u64) -> Result<Identity, AuthError> {
    let tenant = claims.ten.as_deref().unwrap_or(DEFAULT_TENANT);
    let user = UserKey::new(tenant, &claims.sub).map_err(|_| AuthError::Invalid("sub or ten is not a valid name"))?;
    let device = DeviceId::new(&claims.dev).map_err(|_| AuthError::Invalid("dev is not a valid device name"))?;
    let exp_ms = unix_ms(claims.exp);
    let latest = now_ms.saturating_add(TOKEN_LEEWAY_MS);
    if unix_ms(claims.iat) > latest || claims.nbf.is_some_and(|nbf| unix_ms(nbf) > latest) {
        return Err(AuthError::Invalid("token is not valid yet"));
    }
    if exp_ms.saturating_add(TOKEN_LEEWAY_MS) <= now_ms {
        return Err(AuthError::Expired);
    }
    Ok(Identity { user, device, exp_ms })
}

/// A NumericDate (RFC 7519 section 2: seconds, fractions allowed) in milliseconds; the cast saturates.
fn unix_ms(seconds: f64) -> u64 {
    ((seconds * 1_000.0) as u64).min(LATEST_MS)
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => "bad signature",
        ErrorKind::InvalidAlgorithm => "algorithm is not the key's",
        ErrorKind::InvalidIssuer => "wrong issuer",
        ErrorKind::InvalidAudience => "wrong audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => "a claim is missing or has the wrong type",
        _ => "not a token",
    }
}

#[cfg(test)]
mod tests;
