use super::*;
use crate::auth::testing::{jwk, set};
use serde_json::json;

fn policy(algs: &[Alg]) -> Policy {
    Policy { bound: Bound { issuer: "issuer".into(), tenant: None }, algs: algs.to_vec() }
}

fn read(json: &[u8]) -> Result<Set, SetError> {
    Set::parse(json, &policy(&Alg::PUBLIC))
}

#[test]
fn the_usable_keys_of_a_set_are_used_and_the_others_told() {
    let mut private = jwk("ec", "leaked");
    private["d"] = json!("AQAB");
    let keys = [
        jwk("rsa", "a"),
        private,
        json!({"kty": "oct", "kid": "shared", "k": "AQAB"}),
        jwk("rsa-1024", "weak"),
        jwk("ec", "a"),
        jwk("ec", ""),
        jwk("ed", &"k".repeat(KEY_ID_BYTES + 1)),
        json!("no key"),
        jwk("ed", "b"),
    ];
    let read = read(&set(&keys)).unwrap();
    assert_eq!(
        read.keys.iter().map(|(id, key)| (id.as_str(), key.alg)).collect::<Vec<_>>(),
        [("a", Alg::Rs256), ("b", Alg::EdDsa)]
    );
    assert_eq!(read.unused.len(), 7);
    assert!(read.keys.iter().all(|(_, key)| key.secret.is_none() && key.bound.issuer == "issuer"));
    assert_eq!(
        read.summary(),
        "keys in use: 2, not used: 7 (first: \"leaked\": it holds a private key: only the public one belongs here)"
    );
}

#[test]
fn a_source_gives_keys_of_its_algorithms_only() {
    let keys = set(&[jwk("rsa", "a"), jwk("ec", "b"), jwk("ed", "c")]);
    for alg in Alg::PUBLIC {
        let read = Set::parse(&keys, &policy(&[alg])).unwrap();
        assert_eq!(read.keys.iter().map(|(_, key)| key.alg).collect::<Vec<_>>(), [alg]);
    }
}

#[test]
fn an_empty_set_is_one() {
    assert!(read(b"{\"keys\":[]}").unwrap().keys.is_empty());
}

#[test]
fn what_is_no_set_is_refused_as_a_whole() {
    for json in [&b""[..], b"<html>", b"[]", b"{}", b"{\"keys\":{}}", b"{\"keys\":[]", b"\xff"] {
        assert_eq!(read(json).err(), Some(SetError::Syntax));
    }
    let many: Vec<_> = (0..=SET_KEYS).map(|n| jwk("ed", &n.to_string())).collect();
    assert_eq!(read(&set(&many)).err(), Some(SetError::TooMany));
    assert_eq!(read(&vec![b' '; SET_BYTES + 1]).err(), Some(SetError::TooLarge));
}
