//! Signing tokens: for development, tests and load. Production tokens come from the operator's own issuer.

use super::{DEFAULT_TENANT, KeySet, dev};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ringpost_proto::id::{NameError, check_device, check_user};
use serde::Serialize;

#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error("user {0}")]
    User(NameError),
    #[error("device {0}")]
    Device(NameError),
    #[error("no key that can sign: name one HS256 key of the file")]
    NoKey,
    #[error("signing failed")]
    Signing,
}

/// Signs tokens with one HS256 key.
pub struct Minter {
    header: Header,
    key: EncodingKey,
    issuer: String,
    audience: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    dev: &'a str,
    ten: &'a str,
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl Minter {
    /// The development key: accepted only by a gateway with `--dev` on loopback.
    pub fn dev() -> Self {
        Self::new(dev::KEY_ID, dev::SECRET, dev::ISSUER, dev::AUDIENCE)
    }

    /// The HS256 key of `keys` with this id; with `None` the only one there is.
    pub fn from_keys(keys: &KeySet, id: Option<&str>, audience: &str) -> Result<Self, MintError> {
        let (id, key) = keys.signing(id).ok_or(MintError::NoKey)?;
        let secret = key.secret.as_deref().ok_or(MintError::NoKey)?;
        Ok(Self::new(id, secret, &key.issuer, audience))
    }

    fn new(id: &str, secret: &[u8], issuer: &str, audience: &str) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(id.to_owned());
        Self { header, key: EncodingKey::from_secret(secret), issuer: issuer.to_owned(), audience: audience.to_owned() }
    }

    /// A token for this user and device. `exp` and `now` in Unix seconds.
    pub fn mint(&self, user: &str, device: &str, exp: u64, now: u64) -> Result<String, MintError> {
        check_user(user).map_err(MintError::User)?;
        check_device(device).map_err(MintError::Device)?;
        let claims = Claims {
            sub: user,
            dev: device,
            ten: DEFAULT_TENANT,
            iss: &self.issuer,
            aud: &self.audience,
            iat: now,
            exp,
        };
        encode(&self.header, &claims, &self.key).map_err(|_| MintError::Signing)
    }
}
