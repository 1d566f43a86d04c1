//! Signing tokens: for development, tests and load. Production tokens come from the operator's own issuer.

use super::keys::{Alg, Bound};
use super::{DEFAULT_TENANT, KeySet, dev};
use jsonwebtoken::{EncodingKey, Header, encode};
use ringpost_proto::id::{NameError, UserKey, check_device, check_user};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error("user {0}")]
    User(NameError),
    #[error("device {0}")]
    Device(NameError),
    #[error("the tenant must have 1 to 32 bytes without control characters")]
    Tenant,
    #[error("no key that can sign: the file has no HS256 key of this id, or several keys and none is named")]
    NoKey,
    #[error("not a PEM file of a private key for {0} (PKCS #8; for RS256 also PKCS #1)")]
    PrivateKey(&'static str),
    #[error("signing failed")]
    Signing,
}

/// A key by itself, without the file it is from: whoever has it can sign.
#[derive(Clone, Serialize, Deserialize)]
pub struct SigningKey {
    id: String,
    alg: Alg,
    /// The secret of HS256, else a private key in PEM.
    key: Vec<u8>,
    bound: Bound,
}

impl SigningKey {
    /// The HS256 key of `keys` with this id; with `None` the only one there is.
    pub fn of(keys: &KeySet, id: Option<&str>) -> Result<Self, MintError> {
        let (id, key) = keys.signing(id).ok_or(MintError::NoKey)?;
        let secret = key.secret.clone().ok_or(MintError::NoKey)?;
        Ok(Self { id: id.to_owned(), alg: Alg::Hs256, key: secret, bound: key.bound.clone() })
    }

    /// A private key in a PEM file, under this id. Signs for this tenant, if there is one.
    ///
    /// # Errors
    /// It is no private key for `alg`, HS256 among them, or the tenant is none.
    pub fn private(alg: Alg, id: &str, pem: &[u8], issuer: &str, tenant: Option<&str>) -> Result<Self, MintError> {
        let minter = Minter::from_pem(alg, id, pem, issuer, "")?;
        if let Some(tenant) = tenant {
            minter.tenant(tenant)?;
        }
        let bound = Bound { issuer: issuer.to_owned(), tenant: tenant.map(str::to_owned) };
        Ok(Self { id: id.to_owned(), alg, key: pem.to_owned(), bound })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("SigningKey");
        fields.field("id", &self.id).field("alg", &self.alg).field("bound", &self.bound).finish_non_exhaustive()
    }
}

/// Signs tokens with one key.
pub struct Minter {
    header: Header,
    key: EncodingKey,
    issuer: String,
    audience: String,
    tenant: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    dev: &'a str,
    ten: &'a str,
    iss: &'a str,
    aud: &'a str,
    iat: f64,
    exp: u64,
}

impl Minter {
    /// The development key: accepted only by a gateway with `--dev` on loopback.
    pub fn dev() -> Self {
        Self::new(Alg::Hs256, dev::KEY_ID, EncodingKey::from_secret(dev::SECRET), dev::ISSUER, dev::AUDIENCE)
    }

    /// The HS256 key of `keys` with this id; with `None` the only one there is. Signs for the key's tenant, if it has one.
    pub fn from_keys(keys: &KeySet, id: Option<&str>, audience: &str) -> Result<Self, MintError> {
        Self::from_key(&SigningKey::of(keys, id)?, audience)
    }

    /// A key by itself. Signs for the key's tenant, if it has one.
    pub fn from_key(key: &SigningKey, audience: &str) -> Result<Self, MintError> {
        let issuer = &key.bound.issuer;
        let minter = match key.alg {
            Alg::Hs256 => Self::new(key.alg, &key.id, EncodingKey::from_secret(&key.key), issuer, audience),
            _ => Self::from_pem(key.alg, &key.id, &key.key, issuer, audience)?,
        };
        match &key.bound.tenant {
            Some(tenant) => minter.tenant(tenant),
            None => Ok(minter),
        }
    }

    /// A private key in a PEM file, under this id.
    pub fn from_pem(alg: Alg, id: &str, pem: &[u8], issuer: &str, audience: &str) -> Result<Self, MintError> {
        let refuse = || MintError::PrivateKey(alg.name());
        // Public keys read as RSA keys too, and would fail only when they sign.
        if !pem.windows(16).any(|text| text == b"PRIVATE KEY-----") {
            return Err(refuse());
        }
        let key = match alg {
            Alg::Rs256 => EncodingKey::from_rsa_pem(pem),
            Alg::Es256 => EncodingKey::from_ec_pem(pem),
            Alg::EdDsa => EncodingKey::from_ed_pem(pem),
            Alg::Hs256 => return Err(refuse()),
        };
        Ok(Self::new(alg, id, key.map_err(|_| refuse())?, issuer, audience))
    }

    fn new(alg: Alg, id: &str, key: EncodingKey, issuer: &str, audience: &str) -> Self {
        let mut header = Header::new(alg.jwt());
        header.kid = Some(id.to_owned());
        let tenant = DEFAULT_TENANT.to_owned();
        Self { header, key, issuer: issuer.to_owned(), audience: audience.to_owned(), tenant }
    }

    /// The tenant of the tokens from here on.
    pub fn tenant(mut self, tenant: &str) -> Result<Self, MintError> {
        // A tenant is valid if it can be part of a user's key.
        UserKey::new(tenant, "user").map_err(|_| MintError::Tenant)?;
        self.tenant = tenant.to_owned();
        Ok(self)
    }

    /// A token for this user and device. `exp` and `now` in Unix seconds.
    pub fn mint(&self, user: &str, device: &str, exp: u64, now: u64) -> Result<String, MintError> {
        self.mint_at(user, device, exp, now.saturating_mul(1_000))
    }

    /// The same with the time of issue in Unix milliseconds: a token made right after its device was unlinked is newer than
    /// that.
    pub fn mint_at(&self, user: &str, device: &str, exp: u64, now_ms: u64) -> Result<String, MintError> {
        check_user(user).map_err(MintError::User)?;
        check_device(device).map_err(MintError::Device)?;
        let iat = now_ms as f64 / 1_000.0;
        let claims =
            Claims { sub: user, dev: device, ten: &self.tenant, iss: &self.issuer, aud: &self.audience, iat, exp };
        encode(&self.header, &claims, &self.key).map_err(|_| MintError::Signing)
    }
}
