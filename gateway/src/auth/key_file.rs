//! The key file: one TOML file that names every key and every source of keys.
//!
//! ```toml
//! [[keys]]
//! id = "2026-11"               # the token's `kid`
//! alg = "RS256"                # or ES256, EdDSA
//! public_key_pem_file = "2026-11.pub.pem"
//! issuer = "https://id.example/" # what `iss` must be; token_issuer where it is left out
//! tenant = "acme"              # what `ten` must be; any where it is left out
//!
//! [[keys]]
//! id = "internal"
//! alg = "HS256"
//! secret_file = "internal.key" # or secret = "..."; at least 32 bytes (RFC 7518 section 3.2)
//!
//! [[jwks]]
//! url = "https://id.example/jwks.json" # or file = "jwks.json"
//! algs = ["RS256"]             # RS256, ES256 and EdDSA where it is left out
//! ca_pem_file = "ca.pem"       # trusted instead of the machine's certificates
//! ```
//!
//! Paths are relative to the key file. One trailing line break of a secret file is not part of the secret. Reading
//! ([`Material`]) and meaning ([`KeyFile`]) are apart: what was read is compared with what was read before.

use super::jwks::{Policy, Set};
use super::keys::{Alg, Bound, KEY_ID_BYTES, Key, KeySet, Named};
use super::{dev, public_key};
use ringpost_proto::id::UserKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a shared secret at least: as many as the hash has (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;
/// Keys of one file at most: rotation needs a handful.
const KEYS: usize = 64;
/// Sources of one file at most.
const SOURCES: usize = 64;
/// Bytes of a key file, secret, PEM or JWKS file at most.
const FILE_BYTES: u64 = 1 << 20;

/// What was wrong with the key file. One line, names the file, never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read {what} {}: {source}", path.display())]
    Read { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("{}: {owner}: {source}", path.display())]
    Named { path: PathBuf, owner: String, source: Box<KeyFileError> },
    #[error("{}: {owner}: {reason}", path.display())]
    Entry { path: PathBuf, owner: String, reason: String },
}

/// What a key file says.
#[derive(Default)]
pub(super) struct KeyFile {
    /// Its keys, then those of JWKS files.
    pub keys: Vec<Named>,
    pub sources: Vec<Arc<UrlSource>>,
}

/// A set of keys that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlSource {
    /// http or https, with a host and without a user.
    pub url: http::Uri,
    /// The only certificates trusted; without any, those of the machine.
    pub trusted: Vec<CertificateDer<'static>>,
    pub policy: Policy,
}

/// A key file and the files that it names, as they were read.
#[derive(PartialEq, Eq)]
pub struct Material {
    path: PathBuf,
    raw: RawFile,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    keys: Vec<RawKey>,
    #[serde(default)]
    jwks: Vec<RawSource>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: String,
    alg: String,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    public_key_pem_file: Option<PathBuf>,
    issuer: Option<String>,
    tenant: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct RawSource {
    url: Option<String>,
    file: Option<PathBuf>,
    issuer: Option<String>,
    tenant: Option<String>,
    algs: Option<Vec<String>>,
    ca_pem_file: Option<PathBuf>,
    /// Allows http to hosts that are not this machine.
    #[serde(default)]
    plaintext: bool,
}

impl RawKey {
    fn owner(&self) -> String {
        format!("key {:?}", self.id)
    }
}

impl RawSource {
    fn owner(&self) -> String {
        match (&self.url, &self.file) {
            (Some(url), _) => format!("jwks {:?}", shown(url)),
            (None, Some(file)) => format!("jwks {:?}", file.display().to_string()),
            (None, None) => "jwks".to_owned(),
        }
    }
}

impl KeySet {
    /// The keys of a key file, without those that would have to be fetched. Tokens of keys that name no issuer must name
    /// `issuer`.
    pub fn load(path: &Path, issuer: &str) -> Result<Self, KeyFileError> {
        let mut set = Self::default();
        for (id, key) in Material::read(path)?.parse(issuer)?.keys {
            set.add(id, key);
        }
        Ok(set)
    }
}

impl Material {
    /// Reads the key file and what it names.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = read("the token key file", path)?;
        let syntax = |reason: String| KeyFileError::Syntax { path: path.to_owned(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|_| syntax("not UTF-8".into()))?;
        let raw: RawFile = toml::from_str(text).map_err(|e| syntax(one_line(&e, text)))?;
        if raw.keys.len() > KEYS || raw.jwks.len() > SOURCES || raw.keys.len() + raw.jwks.len() == 0 {
            let (keys, sources) = (raw.keys.len(), raw.jwks.len());
            let reason = format!(
                "holds {keys} keys and {sources} jwks; at least one of either, up to {KEYS} and {SOURCES}, are possible"
            );
            return Err(syntax(reason));
        }
        let mut named = Vec::new();
        for key in &raw.keys {
            named.extend(key.secret_file.as_ref().map(|file| ("the secret", key.owner(), file)));
            named.extend(key.public_key_pem_file.as_ref().map(|file| ("the public key", key.owner(), file)));
        }
        for source in &raw.jwks {
            named.extend(source.file.as_ref().map(|file| ("the set of keys", source.owner(), file)));
            named.extend(source.ca_pem_file.as_ref().map(|file| ("the certificates", source.owner(), file)));
        }
        let mut files = BTreeMap::new();
        for (what, owner, file) in named {
            let place = path.parent().unwrap_or(Path::new("")).join(file);
            let named = |e| KeyFileError::Named { path: path.to_owned(), owner, source: Box::new(e) };
            files.insert(file.clone(), read(what, &place).map_err(named)?);
        }
        Ok(Self { path: path.to_owned(), raw, files })
    }

    /// What it means. Pure.
    pub(super) fn parse(&self, issuer: &str) -> Result<KeyFile, KeyFileError> {
        let refuse = |owner, reason| KeyFileError::Entry { path: self.path.clone(), owner, reason };
        let mut file = KeyFile::default();
        for key in &self.raw.keys {
            let parsed = self.key(key, issuer, &file.keys).map_err(|reason| refuse(key.owner(), reason.to_owned()))?;
            file.keys.push((key.id.clone(), Arc::new(parsed)));
        }
        for source in &self.raw.jwks {
            self.source(source, issuer, &mut file).map_err(|reason| refuse(source.owner(), reason))?;
        }
        Ok(file)
    }

    fn key(&self, key: &RawKey, issuer: &str, before: &[Named]) -> Result<Key, &'static str> {
        if key.id.is_empty() || key.id.len() > KEY_ID_BYTES {
            return Err("an id has 1 to 128 bytes");
        }
        if key.id == dev::KEY_ID {
            return Err("this id is reserved for the development key");
        }
        if before.iter().any(|(id, _)| *id == key.id) {
            return Err("the id occurs twice");
        }
        let bound = bound(&key.issuer, &key.tenant, issuer)?;
        let alg = Alg::from_name(&key.alg).ok_or("alg must be HS256, RS256, ES256 or EdDSA")?;
        match (alg, &key.secret, &key.secret_file, &key.public_key_pem_file) {
            (Alg::Hs256, Some(secret), None, None) => hs256(secret.as_bytes(), bound),
            (Alg::Hs256, None, Some(file), None) => hs256(without_line_break(self.file(file)), bound),
            (Alg::Hs256, ..) => Err("HS256 takes exactly one of secret and secret_file"),
            (_, None, None, Some(file)) => Ok(Key::public(alg, public_key::from_pem(alg, self.file(file))?, bound)),
            _ => Err("RS256, ES256 and EdDSA take exactly public_key_pem_file"),
        }
    }

    fn source(&self, source: &RawSource, issuer: &str, into: &mut KeyFile) -> Result<(), String> {
        let bound = bound(&source.issuer, &source.tenant, issuer)?;
        let policy = Policy { bound, algs: algs(source.algs.as_deref())? };
        match (&source.url, &source.file) {
            (None, Some(file)) => {
                if source.ca_pem_file.is_some() || source.plaintext {
                    return Err("ca_pem_file and plaintext are for a url".to_owned());
                }
                let set = Set::parse(self.file(file), &policy).map_err(|e| e.to_string())?;
                // A file is the operator's own: what is odd in it is told before anything depends on it.
                if let Some((id, why)) = set.unused.first() {
                    return Err(format!("key {id:?}: {why}"));
                }
                into.keys.extend(set.keys);
            }
            (Some(url), None) => {
                let url = checked(url, source.plaintext)?;
                let trusted = match &source.ca_pem_file {
                    Some(file) => certificates(self.file(file))?,
                    None => Vec::new(),
                };
                into.sources.push(Arc::new(UrlSource { url, trusted, policy }));
            }
            _ => return Err("takes exactly one of url and file".to_owned()),
        }
        Ok(())
    }

    /// The bytes of a file that was named; every such file was read.
    fn file(&self, name: &Path) -> &[u8] {
        self.files.get(name).map_or(&[], Vec::as_slice)
    }
}

fn bound(issuer: &Option<String>, tenant: &Option<String>, default: &str) -> Result<Bound, &'static str> {
    let issuer = issuer.as_deref().unwrap_or(default);
    if issuer.is_empty() || issuer.len() > 256 {
        return Err("an issuer has 1 to 256 bytes");
    }
    // A tenant is valid if it can be part of a user's key.
    if tenant.as_deref().is_some_and(|tenant| UserKey::new(tenant, "user").is_err()) {
        return Err("a tenant has 1 to 32 bytes without control characters");
    }
    Ok(Bound { issuer: issuer.to_owned(), tenant: tenant.clone() })
}

fn algs(names: Option<&[String]>) -> Result<Vec<Alg>, &'static str> {
    let Some(names) = names else { return Ok(Alg::PUBLIC.to_vec()) };
    let public = |name: &String| Alg::from_name(name).filter(|alg| Alg::PUBLIC.contains(alg));
    let algs: Option<Vec<Alg>> = names.iter().map(public).collect();
    algs.filter(|algs| !algs.is_empty()).ok_or("algs must hold RS256, ES256 or EdDSA")
}

/// Whoever can change the answer on its way can sign for everybody, so plaintext must be asked for.
fn checked(url: &str, plaintext: bool) -> Result<http::Uri, &'static str> {
    let uri: http::Uri = url.parse().map_err(|_| "not a URL")?;
    let authority = uri.authority().ok_or("the url needs a scheme and a host")?;
    if authority.as_str().contains('@') || url.contains('#') {
        return Err("the url must not hold a user, a password or a fragment");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let local = host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if plaintext => Err("plaintext is for an http url"),
        Some("https") => Ok(uri),
        Some("http") if local || plaintext => Ok(uri),
        Some("http") => Err("the url is not https: set plaintext = true if nobody can change what travels there"),
        _ => Err("the url must be http or https"),
    }
}

/// A URL as far as logs may hold it: without what may be a secret, a user with a password or a query.
pub(super) fn shown(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let host = url.find("://").map_or(0, |at| at + 3);
    let path = url[..end].get(host..).and_then(|rest| rest.find('/')).map_or(end, |at| host + at);
    let start = url[..path].rfind('@').map_or(0, |at| at + 1);
    &url[start..end]
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    parsed.ok().filter(|list| !list.is_empty()).ok_or("ca_pem_file is not a PEM file of certificates")
}

fn hs256(secret: &[u8], bound: Bound) -> Result<Key, &'static str> {
    // The classic confusion: what everybody may know is no secret.
    if secret.windows(11).any(|text| text == b"-----BEGIN ") {
        return Err("the secret is a PEM file: a key of another algorithm is no HS256 secret");
    }
    match secret.len() < SECRET_BYTES {
        true => Err("the secret is shorter than 32 bytes"),
        false => Ok(Key::hs256(secret.to_vec(), bound)),
    }
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

fn without_line_break(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").map_or(bytes, |bytes| bytes.strip_suffix(b"\r").unwrap_or(bytes))
}

/// A TOML error spans several lines and shows the text, which may be a secret: keep the message and the line's number.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes().iter().take(start).filter(|b| **b == b'\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', " "))
}

#[cfg(test)]
mod tests;
