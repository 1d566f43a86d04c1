use super::*;
use crate::auth::keys::Alg;
use crate::auth::schedule::{ASKED_EVERY_MS, RETRY_MS};
use crate::auth::testing::{self, Dir, jwk, set};
use crate::auth::{AuthError, Minter};
use serde_json::Value;

/// 2026-01-01 in seconds.
const NOW: u64 = 1_767_225_600;
const EVERY: u64 = 600_000;

const SOURCE: &str = "[[jwks]]\nurl = \"https://id.example/jwks\"\nissuer = \"idp\"\ntenant = \"acme\"\n";
const SECRET: &str = "[[keys]]\nid = \"s\"\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n";

fn ring(dir: &Dir, toml: &str) -> Keyring {
    let file = dir.file("keys.toml", toml);
    let config = Config::from_pairs(&[("token_keys", file.to_str().unwrap())]).unwrap();
    Keyring::load(&config).unwrap()
}

fn reread(ring: &mut Keyring, now_ms: u64) -> Option<String> {
    let read = Material::read(ring.path().unwrap());
    ring.reread(read, now_ms)
}

/// Makes the fetches that are due; gives how many there were.
fn fetch(ring: &mut Keyring, now_ms: u64, answer: &Result<Vec<u8>, String>) -> usize {
    let due = ring.due(now_ms);
    due.iter().for_each(|fetch| drop(ring.fetched(fetch.id, answer.clone(), now_ms)));
    due.len()
}

fn good(keys: &[Value]) -> Result<Vec<u8>, String> {
    Ok(set(keys))
}

/// Whether a token of the private key under this id is taken.
fn takes(ring: &Keyring, alg: Alg, id: &str) -> bool {
    let minter = Minter::from_pem(alg, id, testing::private_pem(alg), "idp", "ringpost").unwrap();
    let token = minter.tenant("acme").unwrap().mint("alice", "web", NOW + 60, NOW).unwrap();
    match ring.verifier().verify(&token, NOW * 1_000) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, AuthError::Invalid("unknown key"));
            false
        }
    }
}

#[test]
fn keys_come_and_go_with_their_set() {
    let dir = Dir::new("rotate");
    let mut ring = ring(&dir, SOURCE);
    assert!(ring.verifier().is_empty());
    assert_eq!(fetch(&mut ring, 0, &good(&[jwk("rsa", "1")])), 1);
    assert!(takes(&ring, Alg::Rs256, "1"));
    assert_eq!(fetch(&mut ring, EVERY - 1, &good(&[])), 0);
    assert_eq!(fetch(&mut ring, EVERY, &good(&[jwk("rsa", "1"), jwk("ec", "2")])), 1);
    assert!(takes(&ring, Alg::Rs256, "1") && takes(&ring, Alg::Es256, "2"));
    assert_eq!(fetch(&mut ring, 2 * EVERY, &good(&[jwk("ec", "2")])), 1);
    assert!(!takes(&ring, Alg::Rs256, "1") && takes(&ring, Alg::Es256, "2"));
    let counters = ring.verifier().counters();
    assert_eq!(Alg::ALL.map(|alg| counters.keys(alg)), [0, 0, 1, 0]);
}

#[test]
fn until_a_source_has_answered_an_unknown_key_may_be_a_good_one() {
    let dir = Dir::new("unready");
    let mut ring = ring(&dir, SOURCE);
    let token = || {
        let minter = Minter::from_pem(Alg::Rs256, "1", testing::private_pem(Alg::Rs256), "idp", "ringpost").unwrap();
        minter.tenant("acme").unwrap().mint("alice", "web", NOW + 60, NOW).unwrap()
    };
    let verify = |ring: &Keyring| ring.verifier().verify(&token(), NOW * 1_000).map(drop);
    assert_eq!(verify(&ring), Err(AuthError::Unready));
    fetch(&mut ring, 0, &Err("down".into()));
    assert_eq!(verify(&ring), Err(AuthError::Unready));
    fetch(&mut ring, RETRY_MS, &good(&[]));
    assert_eq!(verify(&ring), Err(AuthError::Invalid("unknown key")));
    fetch(&mut ring, EVERY * 2, &Err("down".into()));
    assert_eq!(verify(&ring), Err(AuthError::Invalid("unknown key")), "it is gone, as far as anybody knows");
}

#[test]
fn an_empty_set_takes_all_keys_away() {
    let dir = Dir::new("empty");
    let mut ring = ring(&dir, SOURCE);
    fetch(&mut ring, 0, &good(&[jwk("rsa", "1")]));
    fetch(&mut ring, EVERY, &good(&[]));
    assert!(ring.verifier().is_empty());
}

#[test]
fn a_failed_fetch_keeps_the_keys_is_counted_and_tried_again_soon() {
    let dir = Dir::new("failing");
    let mut ring = ring(&dir, SOURCE);
    fetch(&mut ring, 0, &good(&[jwk("rsa", "1")]));
    let id = ring.due(EVERY)[0].id;
    let line = ring.fetched(id, Err("no complete answer within 10 s".into()), EVERY + 7).unwrap();
    assert!(line.contains("https://id.example/jwks") && line.contains("no complete answer"), "{line}");
    for (n, bad) in ["<html>", "{\"keys\": 1}"].into_iter().enumerate() {
        assert_eq!(fetch(&mut ring, EVERY * (n as u64 + 2), &Ok(bad.into())), 1);
    }
    assert!(takes(&ring, Alg::Rs256, "1"));
    let counters = ring.verifier().counters();
    assert_eq!(counters.jwks_failures.load(Relaxed), 3);
    assert_eq!((counters.jwks_failing.load(Relaxed), counters.fresh_ms.load(Relaxed)), (1, 0));
    let soon = EVERY * 3 + (RETRY_MS << 2);
    assert_eq!(fetch(&mut ring, soon - 1, &good(&[])), 0);
    assert_eq!(fetch(&mut ring, soon, &good(&[jwk("rsa", "1")])), 1);
    let counters = ring.verifier().counters();
    assert_eq!((counters.jwks_failing.load(Relaxed), counters.fresh_ms.load(Relaxed)), (0, soon));
}

#[test]
fn an_unknown_key_brings_one_fetch_and_is_refused_meanwhile() {
    let dir = Dir::new("unknown");
    let mut ring = ring(&dir, SOURCE);
    fetch(&mut ring, 0, &good(&[jwk("rsa", "1")]));
    assert!(!takes(&ring, Alg::Es256, "2"));
    assert_eq!(fetch(&mut ring, 5, &good(&[jwk("rsa", "1"), jwk("ec", "2")])), 1);
    assert!(takes(&ring, Alg::Es256, "2"));
    // Whoever makes up ids costs one fetch in ten seconds.
    let mut fetches = 0;
    for now in (6..60_000).step_by(10) {
        assert!(!takes(&ring, Alg::EdDsa, "x"));
        fetches += fetch(&mut ring, now, &good(&[jwk("rsa", "1")]));
    }
    assert_eq!(fetches as u64, 60_000 / ASKED_EVERY_MS - 1);
}

#[test]
fn sources_of_one_issuer_or_several_do_not_take_each_others_keys() {
    let dir = Dir::new("several");
    let other = SOURCE.replace("id.example", "evil.example").replace("\"idp\"", "\"evil\"").replace("acme", "evil");
    let mut ring = ring(&dir, &format!("{other}{SOURCE}"));
    let due = ring.due(0);
    // The other tenant's issuer publishes a key of its own under our id.
    ring.fetched(due[0].id, good(&[jwk("ec", "1")]), 0);
    ring.fetched(due[1].id, good(&[jwk("rsa", "1")]), 0);
    assert!(takes(&ring, Alg::Rs256, "1"));
    let minter = Minter::from_pem(Alg::Es256, "1", testing::private_pem(Alg::Es256), "idp", "ringpost").unwrap();
    let forged = minter.tenant("acme").unwrap().mint("alice", "web", NOW + 60, NOW).unwrap();
    assert!(ring.verifier().verify(&forged, NOW * 1_000).is_err());
    let minter = Minter::from_pem(Alg::Es256, "1", testing::private_pem(Alg::Es256), "evil", "ringpost").unwrap();
    let forged = minter.tenant("acme").unwrap().mint("alice", "web", NOW + 60, NOW).unwrap();
    assert_eq!(ring.verifier().verify(&forged, NOW * 1_000), Err(AuthError::Invalid("the key is not for this tenant")));
}

#[test]
fn the_key_file_is_taken_up_anew_and_sources_that_stay_keep_their_keys() {
    let dir = Dir::new("anew");
    let mut ring = ring(&dir, SOURCE);
    fetch(&mut ring, 0, &good(&[jwk("rsa", "1")]));
    assert_eq!(reread(&mut ring, 1_000), None);
    dir.file("keys.toml", format!("{SOURCE}{SECRET}"));
    assert!(reread(&mut ring, 2_000).unwrap().contains("keys: 1, urls: 1"));
    assert!(takes(&ring, Alg::Rs256, "1"));
    assert_eq!(ring.verifier().counters().keys(Alg::Hs256), 1);
    assert_eq!(ring.due(2_000).len(), 0);
    // Another tenant: another source, whose keys are not those of the one before.
    let late = ring.due(EVERY)[0].id;
    dir.file("keys.toml", SOURCE.replace("acme", "other"));
    reread(&mut ring, EVERY);
    assert!(ring.verifier().is_empty());
    assert_eq!(ring.fetched(late, good(&[jwk("rsa", "1")]), EVERY), None);
    assert!(ring.verifier().is_empty(), "an answer to who is gone");
    assert_eq!(ring.due(EVERY).len(), 1);
}

#[test]
fn a_spoiled_key_file_keeps_the_keys_and_is_told_once() {
    let dir = Dir::new("spoiled");
    let mut ring = ring(&dir, SECRET);
    dir.file("keys.toml", "[[keys]\n");
    assert!(reread(&mut ring, 1).unwrap().contains("the keys read before stay"));
    assert_eq!(reread(&mut ring, 2), None);
    std::fs::remove_file(dir.0.join("keys.toml")).unwrap();
    assert!(reread(&mut ring, 3).unwrap().contains("No such file"));
    let counters = ring.verifier().counters();
    assert_eq!((counters.file_failures.load(Relaxed), counters.file_failing.load(Relaxed)), (3, 1));
    assert_eq!(counters.keys(Alg::Hs256), 1);
    dir.file("keys.toml", SECRET);
    assert!(reread(&mut ring, 4).is_some());
    assert_eq!(ring.verifier().counters().file_failing.load(Relaxed), 0);
    assert_eq!(reread(&mut ring, 5), None);
}
