use super::*;
use crate::auth::keys::{Alg, Bound, Key};
use crate::auth::testing::{self, Dir};
use crate::auth::{MintError, Minter, SigningKey, dev, public_key};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// 2026-01-01 in seconds.
const NOW: u64 = 1_767_225_600;

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
        ("ten", json!("t".repeat(33))),
        ("ten", json!("a\u{0}b")),
        ("ten", json!(7)),
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

/// A verifier with one public key, under the id `k`, for tokens of `issuer`.
fn public(alg: Alg, tenant: Option<&str>) -> Verifier {
    let mut set = KeySet::default();
    set.add("k".into(), public_key(alg, "issuer", tenant));
    Verifier::new(set, dev::AUDIENCE)
}

fn public_key(alg: Alg, issuer: &str, tenant: Option<&str>) -> Arc<Key> {
    let bound = Bound { issuer: issuer.into(), tenant: tenant.map(str::to_owned) };
    Arc::new(Key::public(alg, public_key::from_pem(alg, testing::public_pem(alg)).unwrap(), bound))
}

fn private(alg: Alg) -> EncodingKey {
    let pem = testing::private_pem(alg);
    match alg {
        Alg::Rs256 => EncodingKey::from_rsa_pem(pem).unwrap(),
        Alg::Es256 => EncodingKey::from_ec_pem(pem).unwrap(),
        _ => EncodingKey::from_ed_pem(pem).unwrap(),
    }
}

fn claims_of(issuer: &str) -> Value {
    let mut claims = claims();
    claims["iss"] = json!(issuer);
    claims
}

/// The same token under another header.
fn with_header(token: &str, header: &Value) -> String {
    use base64::Engine;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header.to_string());
    format!("{header}.{}", token.split_once('.').unwrap().1)
}

#[test]
fn a_public_key_verifies_what_its_private_key_signed_with_its_algorithm() {
    for alg in Alg::PUBLIC {
        let verifier = public(alg, None);
        let token = sign_as(alg.jwt(), Some("k"), &private(alg), &claims_of("issuer"));
        assert_eq!(verifier.verify(&token, NOW * 1_000).unwrap().user.user(), "alice", "{alg:?}");
        let other = sign_as(alg.jwt(), Some("k"), &private(alg), &claims_of("somebody"));
        assert_eq!(verifier.verify(&other, NOW * 1_000), Err(AuthError::Invalid("wrong issuer")));
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    for alg in Alg::PUBLIC {
        let verifier = public(alg, None);
        let pem = std::str::from_utf8(testing::public_pem(alg)).unwrap();
        let der = public_key(alg, "issuer", None).decoding.try_get_as_bytes().unwrap().to_vec();
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der] {
            for hmac in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let forged = sign_as(hmac, Some("k"), &EncodingKey::from_secret(secret), &claims_of("issuer"));
                let refused = verifier.verify(&forged, NOW * 1_000);
                assert_eq!(refused, Err(AuthError::Invalid("algorithm is not the key's")), "{alg:?}");
            }
        }
        assert_eq!(verifier.counters().refused(Reason::Algorithm), 9);
    }
}

#[test]
fn a_header_can_only_agree_with_its_key() {
    for alg in Alg::PUBLIC {
        let verifier = public(alg, None);
        let token = sign_as(alg.jwt(), Some("k"), &private(alg), &claims_of("issuer"));
        for named in ["HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "none", "NONE", ""] {
            let changed = with_header(&token, &json!({"alg": named, "kid": "k", "typ": "JWT"}));
            assert!(matches!(verifier.verify(&changed, NOW * 1_000), Err(AuthError::Invalid(_))), "{alg:?} {named}");
        }
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert!(matches!(verifier.verify(&unsigned, NOW * 1_000), Err(AuthError::Invalid(_))));
    }
    // The right signature with a sibling of the algorithm.
    let token = sign_as(Algorithm::RS512, Some("k"), &private(Alg::Rs256), &claims_of("issuer"));
    let refused = public(Alg::Rs256, None).verify(&token, NOW * 1_000);
    assert_eq!(refused, Err(AuthError::Invalid("algorithm is not the key's")));
}

#[test]
fn a_key_that_a_token_brings_along_is_not_used() {
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = serde_json::from_value(testing::jwk("ec", "k")).unwrap();
    header.jku = Some("http://127.0.0.1:1/jwks.json".into());
    let verifier = public(Alg::Rs256, None);
    for (kid, answer) in
        [(None, "token names no key"), (Some("x"), "unknown key"), (Some("k"), "algorithm is not the key's")]
    {
        header.kid = kid.map(str::to_owned);
        let token = encode(&header, &claims_of("issuer"), &private(Alg::Es256)).unwrap();
        assert_eq!(verifier.verify(&token, NOW * 1_000), Err(AuthError::Invalid(answer)));
    }
}

#[test]
fn a_key_bound_to_a_tenant_signs_for_no_other() {
    let verifier = public(Alg::Es256, Some("acme"));
    let token = |ten: Option<&str>| {
        let mut claims = claims_of("issuer");
        if let Some(ten) = ten {
            claims["ten"] = json!(ten);
        }
        sign_as(Algorithm::ES256, Some("k"), &private(Alg::Es256), &claims)
    };
    assert_eq!(verifier.verify(&token(Some("acme")), NOW * 1_000).unwrap().user.tenant(), "acme");
    for other in [None, Some("default"), Some("Acme"), Some("acme ")] {
        let refused = verifier.verify(&token(other), NOW * 1_000);
        assert_eq!(refused, Err(AuthError::Invalid("the key is not for this tenant")), "{other:?}");
    }
    assert_eq!(verifier.counters().refused(Reason::Tenant), 4);
}

#[test]
fn one_id_may_name_a_key_of_each_issuer() {
    let mut set = KeySet::default();
    assert!(set.add("k".into(), public_key(Alg::Rs256, "one", Some("t1"))));
    assert!(set.add("k".into(), public_key(Alg::Es256, "two", Some("t2"))));
    assert!(!set.add("k".into(), public_key(Alg::EdDsa, "two", None)), "the first of an issuer stays");
    let verifier = Verifier::new(set, dev::AUDIENCE);
    let token = |alg: Alg, issuer: &str, tenant: &str| {
        let mut claims = claims_of(issuer);
        claims["ten"] = json!(tenant);
        sign_as(alg.jwt(), Some("k"), &private(alg), &claims)
    };
    assert!(verifier.verify(&token(Alg::Rs256, "one", "t1"), NOW * 1_000).is_ok());
    assert!(verifier.verify(&token(Alg::Es256, "two", "t2"), NOW * 1_000).is_ok());
    for (alg, issuer, tenant) in [
        (Alg::Es256, "one", "t1"),
        (Alg::Rs256, "two", "t2"),
        (Alg::Rs256, "one", "t2"),
        (Alg::EdDsa, "two", "t2"),
        (Alg::Rs256, "three", "t1"),
    ] {
        let refused = verifier.verify(&token(alg, issuer, tenant), NOW * 1_000);
        assert!(matches!(refused, Err(AuthError::Invalid(_))), "{alg:?} {issuer} {tenant}");
    }
}

#[test]
fn every_refusal_is_counted_once_under_its_reason() {
    let verifier = dev_verifier();
    let changed = |claim: &str, value: Value| {
        let mut claims = claims();
        claims[claim] = value;
        sign(&claims)
    };
    let other = EncodingKey::from_secret(b"another secret that is long enough to be one");
    let key = EncodingKey::from_secret(dev::SECRET);
    for (reason, token) in [
        (Reason::Malformed, "nonsense".to_owned()),
        (Reason::UnknownKey, sign_as(Algorithm::HS256, Some("nobody"), &key, &claims())),
        (Reason::Algorithm, sign_as(Algorithm::HS512, Some(dev::KEY_ID), &key, &claims())),
        (Reason::Signature, sign_as(Algorithm::HS256, Some(dev::KEY_ID), &other, &claims())),
        (Reason::Issuer, changed("iss", json!("somebody"))),
        (Reason::Audience, changed("aud", json!("somebody"))),
        (Reason::Claims, changed("ten", json!("t".repeat(33)))),
        (Reason::NotYetValid, changed("iat", json!(NOW + 60))),
        (Reason::Expired, changed("exp", json!(NOW - 60))),
    ] {
        assert!(verifier.verify(&token, NOW * 1_000).is_err());
        assert_eq!(verifier.counters().refused(reason), 1, "{reason:?}");
    }
    let all: u64 = Reason::ALL.into_iter().map(|reason| verifier.counters().refused(reason)).sum();
    assert_eq!(all, 9);
}

#[test]
fn a_time_of_issue_is_told_to_the_millisecond() {
    let verifier = dev_verifier();
    for milli in 0..1_000 {
        let issued_ms = (NOW - 1) * 1_000 + milli;
        let token = Minter::dev().mint_at("alice", "phone", NOW + 60, issued_ms).unwrap();
        assert_eq!(verifier.verify(&token, NOW * 1_000).unwrap().issued_ms, issued_ms);
    }
}

#[test]
fn a_private_key_mints_what_its_public_key_verifies() {
    for alg in Alg::PUBLIC {
        let minter = Minter::from_pem(alg, "k", testing::private_pem(alg), "issuer", dev::AUDIENCE).unwrap();
        let token = minter.tenant("acme").unwrap().mint("alice", "phone", NOW + 60, NOW).unwrap();
        assert_eq!(public(alg, Some("acme")).verify(&token, NOW * 1_000).unwrap().user.tenant(), "acme");
        assert!(Minter::from_pem(alg, "k", testing::public_pem(alg), "issuer", dev::AUDIENCE).is_err());
    }
    assert!(Minter::dev().tenant("").is_err());
}

#[test]
fn a_private_key_that_was_handed_on_mints_the_same_and_does_not_show_itself() {
    for alg in Alg::PUBLIC {
        let pem = testing::private_pem(alg);
        let key = SigningKey::private(alg, "k", pem, "issuer", Some("acme")).unwrap();
        let text = format!("{key:?}");
        assert!(
            text.contains("acme") && !text.contains("PRIVATE") && !text.contains(&format!("{:?}", &pem[..8])),
            "{text}"
        );
        let key: SigningKey = serde_json::from_slice(&serde_json::to_vec(&key).unwrap()).unwrap();
        let token = Minter::from_key(&key, dev::AUDIENCE).unwrap().mint("alice", "phone", NOW + 60, NOW).unwrap();
        assert_eq!(public(alg, Some("acme")).verify(&token, NOW * 1_000).unwrap().user.tenant(), "acme");
        for (alg, pem) in [(alg, testing::public_pem(alg)), (Alg::Hs256, pem), (alg, b"nothing")] {
            assert!(SigningKey::private(alg, "k", pem, "issuer", None).is_err());
        }
        assert!(matches!(SigningKey::private(alg, "k", pem, "issuer", Some("")), Err(MintError::Tenant)));
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
