//! Keys and directories for the tests of this module.

use super::KeySet;
use super::key_file::KeyFileError;
use super::keys::Alg;
use serde_json::{Value, json};

macro_rules! key {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/keys/", $name))
    };
}

pub const RSA_1024: &[u8] = key!("rsa-1024.pub.pem");
pub const RSA_PKCS1: &[u8] = key!("rsa.pkcs1.pub.pem");
pub const EC_P384: &[u8] = key!("ec-p384.pub.pem");
pub const CERTIFICATE: &[u8] = key!("tls.pem");

pub fn public_pem(alg: Alg) -> &'static [u8] {
    match alg {
        Alg::Rs256 => key!("rsa.pub.pem"),
        Alg::Es256 => key!("ec.pub.pem"),
        Alg::EdDsa | Alg::Hs256 => key!("ed.pub.pem"),
    }
}

pub fn private_pem(alg: Alg) -> &'static [u8] {
    match alg {
        Alg::Rs256 => key!("rsa.pem"),
        Alg::Es256 => key!("ec.pem"),
        Alg::EdDsa | Alg::Hs256 => key!("ed.pem"),
    }
}

/// A public key of tests/keys as a JSON Web Key with this id.
pub fn jwk(name: &str, kid: &str) -> Value {
    let all: Value = serde_json::from_slice(key!("jwk.json")).unwrap();
    let mut jwk = all[name].clone();
    assert!(jwk.is_object(), "{name}");
    jwk["kid"] = json!(kid);
    jwk
}

pub fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// A directory of its own, removed at the end.
pub struct Dir(pub std::path::PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringpost-keys-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn keys(&self, toml: &str) -> Result<KeySet, KeyFileError> {
        KeySet::load(&self.file("keys.toml", toml), "issuer")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
