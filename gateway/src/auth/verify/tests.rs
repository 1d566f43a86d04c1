use super::*;
use crate::auth::{Minter, dev};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// 2026-01-01 in seconds.
const NOW: u64 = 1_767_225_600;

/// An Ed25519 pair of RFC 8410 section 10.3; public everywhere.
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringpost-keys-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn keys(&self, toml: &str) -> Result<KeySet, crate::auth::KeyFileError> {
        let file = self.0.join("keys.toml");
        std::fs::write(&file, toml).unwrap();
        KeySet::load(&file, "issuer")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn dev_verifier() -> Verifier {
    Verifier::new(KeySet::default().with_dev(), dev::AUDIENCE)
}

fn claims() -> Value {
    json!({"sub": "alice", "dev": "phone", "iss": dev::ISSUER, "aud": dev::AUDIENCE, "iat": NOW, "exp": NOW + 60})
}

fn sign(claims: &Value) -> String {
    sign_as(Algorithm::HS256, Some(dev::KEY_ID), &EncodingKey::from_secret(dev::SECRET), claims)
}

fn sign_as(alg: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(alg);
    header.kid = kid.map(str::to_owned);
    encode(&header, claims, key).unwrap()
}

fn check(token: &str) -> Result<Identity, AuthError> {
    dev_verifier().verify(token, NOW * 1_000)
}

#[track_caller]
fn assert_invalid(token: &str) {
    assert!(matches!(check(token), Err(AuthError::Invalid(_))), "{:?}", check(token));
}

#[test]
fn a_development_token_names_user_device_and_expiry() {
    let token = dev::mint("alice", "phone", NOW + 60, NOW).unwrap();
    let identity = check(&token).unwrap();
    assert_eq!(identity.user, UserKey::new(DEFAULT_TENANT, "alice").unwrap());
    assert_eq!(identity.device.as_str(), "phone");
    assert_eq!(identity.exp_ms, (NOW + 60) * 1_000);
}

#[test]
fn a_tenant_claim_separates_users() {
    let mut with = claims();
    with["ten"] = json!("acme");
    assert_ne!(check(&sign(&with)).unwrap().user, check(&sign(&claims())).unwrap().user);
}

#[test]
fn expiry_has_five_seconds_of_leeway() {
    let verifier = dev_verifier();
    let token = sign(&claims());
    let exp_ms = (NOW + 60) * 1_000;
    assert!(verifier.verify(&token, exp_ms + 4_999).is_ok());
    assert_eq!(verifier.verify(&token, exp_ms + 5_000), Err(AuthError::Expired));
}

#[test]
fn a_token_of_the_future_is_refused_beyond_the_leeway() {
    for claim in ["iat", "nbf"] {
        let mut early = claims();
        early[claim] = json!(NOW + 5);
        assert!(check(&sign(&early)).is_ok(), "{claim}");
        early[claim] = json!(NOW + 6);
        assert_invalid(&sign(&early));
    }
}

#[test]
fn an_endless_expiry_is_clamped() {
    let mut endless = claims();
    endless["exp"] = json!(1e300);
    assert_invalid(&sign(&endless));
    endless["exp"] = json!(u64::MAX / 2);
    assert_eq!(check(&sign(&endless)).unwrap().exp_ms, LATEST_MS);
}

#[test]
fn every_claim_is_needed() {
    for claim in ["sub", "dev", "iss", "aud", "iat", "exp"] {
        let mut without = claims();
        without.as_object_mut().unwrap().remove(claim);
        assert_invalid(&sign(&without));
        let mut wrong_type = claims();
        wrong_type[claim] = json!({"a": 1});
        assert_invalid(&sign(&wrong_type));
    }
}

#[test]
fn issuer_audience_and_names_must_fit() {
    for (claim, value) in [
        ("iss", json!("somebody")),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("sub", json!("")),
        ("sub", json!("a".repeat(65))),
        ("sub", json!("a\u{0}b")),
        ("sub", json!("e\u{301}")),
        ("dev", json!("my phone")),
        ("dev", json!("d".repeat(33))),
        ("ten", json!("")),
    ] {
        let mut bad = claims();
        bad[claim] = value;
        assert_invalid(&sign(&bad));
    }
    let mut several = claims();
    several["aud"] = json!(["another", dev::AUDIENCE]);
    assert!(check(&sign(&several)).is_ok());
}

#[test]
fn a_changed_byte_or_another_secret_is_refused() {
    let token = sign(&claims());
    let body = token.find('.').unwrap() + 3;
    let mut changed = token.clone().into_bytes();
    changed[body] = if changed[body] == b'A' { b'B' } else { b'A' };
    assert_invalid(std::str::from_utf8(&changed).unwrap());
    let other = EncodingKey::from_secret(b"another secret that is long enough to be one");
    assert_invalid(&sign_as(Algorithm::HS256, Some(dev::KEY_ID), &other, &claims()));
    for garbage in ["", ".", "..", "a.b.c", &token[..token.len() - 1], &"x".repeat(TOKEN_BYTES + 1)] {
        assert_invalid(garbage);
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let key = EncodingKey::from_secret(dev::SECRET);
    assert_invalid(&sign_as(Algorithm::HS512, Some(dev::KEY_ID), &key, &claims()));
    assert_invalid(&sign_as(Algorithm::HS256, None, &key, &claims()));
    assert_invalid(&sign_as(Algorithm::HS256, Some("nobody"), &key, &claims()));
    // {"alg":"none","kid":"dev"} with an empty signature.
    let token = sign(&claims());
    let payload = token.split('.').nth(1).unwrap();
    assert_invalid(&format!("eyJhbGciOiJub25lIiwia2lkIjoiZGV2In0.{payload}."));
}

#[test]
fn an_ed25519_key_verifies_and_its_public_part_is_no_secret() {
    let dir = Dir::new("ed");
    std::fs::write(dir.0.join("pub.pem"), ED_PUBLIC).unwrap();
    let keys = dir.keys("[[keys]]\nid = \"ed\"\nalg = \"EdDSA\"\npublic_key_pem_file = \"pub.pem\"").unwrap();
    let verifier = Verifier::new(keys, dev::AUDIENCE);
    let mut claims = claims();
    claims["iss"] = json!("issuer");
    let private = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
    let token = sign_as(Algorithm::EdDSA, Some("ed"), &private, &claims);
    assert_eq!(verifier.verify(&token, NOW * 1_000).unwrap().user.user(), "alice");
    // The classic confusion: the public key as an HMAC secret.
    for secret in [ED_PUBLIC.as_bytes(), ED_PUBLIC.trim().as_bytes()] {
        let forged = sign_as(Algorithm::HS256, Some("ed"), &EncodingKey::from_secret(secret), &claims);
        assert!(matches!(verifier.verify(&forged, NOW * 1_000), Err(AuthError::Invalid(_))));
    }
}

#[test]
fn the_development_issuer_does_not_pass_with_another_key() {
    let dir = Dir::new("issuer");
    std::fs::write(dir.0.join("s"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let keys = dir.keys("[[keys]]\nid = \"k\"\nalg = \"HS256\"\nsecret_file = \"s\"").unwrap();
    let minter = Minter::from_keys(&keys, None, "ringpost").unwrap();
    let token = minter.mint("alice", "phone", NOW + 60, NOW).unwrap();
    let verifier = Verifier::new(keys, "ringpost");
    assert!(verifier.verify(&token, NOW * 1_000).is_ok());
    let dev_token = dev::mint("alice", "phone", NOW + 60, NOW).unwrap();
    assert!(matches!(verifier.verify(&dev_token, NOW * 1_000), Err(AuthError::Invalid("unknown key"))));
}

#[test]
fn a_bad_key_file_is_one_line_without_the_secret() {
    let dir = Dir::new("bad");
    std::fs::write(dir.0.join("pub.pem"), "hello").unwrap();
    for toml in [
        "",
        "keys = []",
        "[[keys]]\nid = \"a\"\nalg = \"none\"",
        "[[keys]]\nid = \"a\"\nalg = \"HS256\"",
        "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret = \"tooshort-secret\"",
        "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef-secret\"\nextra = 1",
        "[[keys]]\nid = \"dev\"\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef-secret\"",
        "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret_file = \"absent\"",
        "[[keys]]\nid = \"a\"\nalg = \"EdDSA\"\npublic_key_pem_file = \"pub.pem\"",
        "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef-secret",
    ] {
        let line = dir.keys(toml).err().unwrap().to_string();
        assert!(!line.contains('\n') && !line.contains("-secret"), "{line}");
    }
    let twice = "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n".repeat(2);
    assert!(dir.keys(&twice).err().unwrap().to_string().contains("twice"));
}
