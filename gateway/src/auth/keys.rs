//! The keys that tokens are checked with, read from one TOML file at start.
//!
//! ```toml
//! [[keys]]
//! id = "2026-11"               # the token's `kid`
//! alg = "EdDSA"
//! public_key_pem_file = "2026-11.pub.pem"
//!
//! [[keys]]
//! id = "internal"
//! alg = "HS256"
//! secret_file = "internal.key" # or secret = "..."; at least 32 bytes (RFC 7518 section 3.2)
//! ```
//!
//! Paths are relative to the key file. One trailing line break of a secret file is not part of the secret. Each key has one
//! algorithm; what a token's header says about its algorithm can only agree or be refused.

use super::dev;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Bytes of a shared secret at least: as many as the hash has (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;
/// Keys of one file at most: rotation needs a handful.
const KEYS: usize = 64;
/// Bytes of a key file, secret or PEM at most.
const FILE_BYTES: u64 = 1 << 20;

/// What was wrong with the key file. One line, names the file, never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read {what} {}: {source}", path.display())]
    Read { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("{}: key {id:?}: {source}", path.display())]
    KeyRead { path: PathBuf, id: String, source: Box<KeyFileError> },
    #[error("{}: key {id:?}: {reason}", path.display())]
    Key { path: PathBuf, id: String, reason: &'static str },
}

/// A key, the one algorithm it is for, and who signs with it.
pub(super) struct Key {
    pub alg: Algorithm,
    pub decoding: DecodingKey,
    /// Only for HS256: tokens can be minted with it.
    pub secret: Option<Vec<u8>>,
    pub issuer: String,
}

/// The keys by id. Small and read only; shared by every thread.
#[derive(Default)]
pub struct KeySet {
    keys: HashMap<String, Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: String,
    alg: String,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    public_key_pem_file: Option<PathBuf>,
}

impl KeySet {
    /// Reads a key file. Tokens of these keys must name `issuer`.
    pub fn load(path: &Path, issuer: &str) -> Result<Self, KeyFileError> {
        let bytes = read("the token key file", path)?;
        let syntax = |reason: String| KeyFileError::Syntax { path: path.to_owned(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|_| syntax("not UTF-8".into()))?;
        let raw: RawFile = toml::from_str(text).map_err(|e| syntax(one_line(&e, text)))?;
        if raw.keys.is_empty() || raw.keys.len() > KEYS {
            return Err(syntax(format!("holds {} keys; 1 to {KEYS} are possible", raw.keys.len())));
        }
        let mut set = Self::default();
        for key in raw.keys {
            let refuse = |reason| KeyFileError::Key { path: path.to_owned(), id: key.id.clone(), reason };
            if key.id.is_empty() || key.id.len() > 128 {
                return Err(refuse("an id has 1 to 128 bytes"));
            }
            if key.id == dev::KEY_ID {
                return Err(refuse("this id is reserved for the development key"));
            }
            if set.keys.contains_key(&key.id) {
                return Err(refuse("the id occurs twice"));
            }
            let parsed = parse(path, &key, issuer)?;
            set.keys.insert(key.id, parsed);
        }
        Ok(set)
    }

    /// Adds the development key. Only where nobody but this machine can connect: its secret is public.
    pub fn with_dev(mut self) -> Self {
        let key = hs256(dev::SECRET.to_vec(), dev::ISSUER);
        self.keys.insert(dev::KEY_ID.to_owned(), key);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// The key with this id, or with `None` the only one that can sign.
    pub(super) fn signing(&self, id: Option<&str>) -> Option<(&str, &Key)> {
        match id {
            Some(id) => self.keys.get_key_value(id).map(|(id, key)| (id.as_str(), key)),
            None => {
                let mut able = self.keys.iter().filter(|(_, key)| key.secret.is_some());
                match (able.next(), able.next()) {
                    (Some((id, key)), None) => Some((id, key)),
                    _ => None,
                }
            }
        }
    }
}

fn parse(path: &Path, key: &RawKey, issuer: &str) -> Result<Key, KeyFileError> {
    let refuse = |reason| KeyFileError::Key { path: path.to_owned(), id: key.id.clone(), reason };
    let beside = |what, file: &Path| {
        let id = key.id.clone();
        let place = path.parent().unwrap_or(Path::new("")).join(file);
        read(what, &place).map_err(|error| KeyFileError::KeyRead { path: path.to_owned(), id, source: Box::new(error) })
    };
    match key.alg.as_str() {
        "HS256" => {
            let secret = match (&key.secret, &key.secret_file, &key.public_key_pem_file) {
                (Some(secret), None, None) => secret.clone().into_bytes(),
                (None, Some(file), None) => without_line_break(beside("the secret", file)?),
                _ => return Err(refuse("HS256 takes exactly one of secret and secret_file")),
            };
            if secret.len() < SECRET_BYTES {
                return Err(refuse("the secret is shorter than 32 bytes"));
            }
            Ok(hs256(secret, issuer))
        }
        "EdDSA" => {
            let (None, None, Some(file)) = (&key.secret, &key.secret_file, &key.public_key_pem_file) else {
                return Err(refuse("EdDSA takes exactly public_key_pem_file"));
            };
            let pem = beside("the public key", file)?;
            let decoding =
                DecodingKey::from_ed_pem(&pem).map_err(|_| refuse("not a PEM file of an Ed25519 public key"))?;
            if decoding.try_get_as_bytes().map_or(0, <[u8]>::len) != 32 {
                return Err(refuse("not an Ed25519 public key"));
            }
            Ok(Key { alg: Algorithm::EdDSA, decoding, secret: None, issuer: issuer.to_owned() })
        }
        _ => Err(refuse("alg must be HS256 or EdDSA")),
    }
}

fn hs256(secret: Vec<u8>, issuer: &str) -> Key {
    let decoding = DecodingKey::from_secret(&secret);
    Key { alg: Algorithm::HS256, decoding, secret: Some(secret), issuer: issuer.to_owned() }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let fail = |source| KeyFileError::Read { what, path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() {
        return Err(fail(std::io::Error::other("not a regular file")));
    }
    if meta.len() > FILE_BYTES {
        return Err(fail(std::io::Error::other("larger than 1 MiB")));
    }
    std::fs::read(path).map_err(fail)
}

fn without_line_break(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// A TOML error spans several lines and shows the text, which may be a secret: keep the message and the line's number.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes().iter().take(start).filter(|b| **b == b'\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', " "))
}
