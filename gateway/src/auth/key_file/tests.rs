use super::*;
use crate::auth::testing::{self, Dir, jwk, set};

fn parse(dir: &Dir, toml: &str) -> Result<KeyFile, KeyFileError> {
    Material::read(&dir.file("keys.toml", toml))?.parse("default-issuer")
}

#[track_caller]
fn refused(dir: &Dir, toml: &str, part: &str) {
    let line = parse(dir, toml).err().unwrap_or_else(|| panic!("taken: {toml}")).to_string();
    assert!(line.contains(part) && line.contains("keys.toml") && !line.contains('\n'), "{part:?} in {line:?}");
}

#[test]
fn every_algorithm_has_its_kind_of_key() {
    let dir = Dir::new("algs");
    for alg in Alg::PUBLIC {
        dir.file(&format!("{}.pem", alg.name()), testing::public_pem(alg));
    }
    dir.file("secret", "0123456789abcdef0123456789abcdef\r\n");
    let public =
        |alg: &str| format!("[[keys]]\nid = \"{alg}\"\nalg = \"{alg}\"\npublic_key_pem_file = \"{alg}.pem\"\n");
    let all = format!(
        "{}{}{}[[keys]]\nid = \"s\"\nalg = \"HS256\"\nsecret_file = \"secret\"\nissuer = \"other\"\ntenant = \"acme\"",
        public("RS256"),
        public("ES256"),
        public("EdDSA")
    );
    let file = parse(&dir, &all).unwrap();
    let algs: Vec<_> = file.keys.iter().map(|(_, key)| key.alg).collect();
    assert_eq!(algs, [Alg::Rs256, Alg::Es256, Alg::EdDsa, Alg::Hs256]);
    assert_eq!(file.keys[0].1.bound, Bound { issuer: "default-issuer".into(), tenant: None });
    assert_eq!(file.keys[3].1.bound, Bound { issuer: "other".into(), tenant: Some("acme".into()) });
    assert_eq!(file.keys[3].1.secret.as_deref(), Some(&b"0123456789abcdef0123456789abcdef"[..]));
}

#[test]
fn a_weak_or_confused_key_is_refused_by_name() {
    let dir = Dir::new("weak");
    dir.file("weak.pem", testing::RSA_1024);
    dir.file("rsa.pem", testing::public_pem(Alg::Rs256));
    dir.file("private.pem", testing::private_pem(Alg::Rs256));
    let key = |rest: &str| format!("[[keys]]\nid = \"a\"\n{rest}");
    refused(
        &dir,
        &key("alg = \"RS256\"\npublic_key_pem_file = \"weak.pem\""),
        "key \"a\": the RSA key has fewer than 2048",
    );
    refused(&dir, &key("alg = \"ES256\"\npublic_key_pem_file = \"rsa.pem\""), "not a PEM file of a P-256 public key");
    refused(&dir, &key("alg = \"RS256\"\npublic_key_pem_file = \"private.pem\""), "private key");
    refused(&dir, &key("alg = \"HS256\"\nsecret_file = \"rsa.pem\""), "no HS256 secret");
    refused(&dir, &key("alg = \"RS256\"\nsecret_file = \"rsa.pem\""), "exactly public_key_pem_file");
    refused(&dir, &key("alg = \"PS256\"\npublic_key_pem_file = \"rsa.pem\""), "alg must be");
    refused(
        &dir,
        &key("alg = \"RS256\"\npublic_key_pem_file = \"rsa.pem\"\ntenant = \"\""),
        "a tenant has 1 to 32 bytes",
    );
    refused(
        &dir,
        &key("alg = \"RS256\"\npublic_key_pem_file = \"rsa.pem\"\nissuer = \"\""),
        "an issuer has 1 to 256 bytes",
    );
}

#[test]
fn a_set_in_a_file_gives_its_keys() {
    let dir = Dir::new("set");
    dir.file("jwks.json", set(&[jwk("rsa", "a"), jwk("ec", "b")]));
    let file = parse(&dir, "[[jwks]]\nfile = \"jwks.json\"\nissuer = \"i\"\ntenant = \"t\"").unwrap();
    assert_eq!(file.keys.len(), 2);
    assert_eq!(file.keys[1].1.bound, Bound { issuer: "i".into(), tenant: Some("t".into()) });
    // A file is the operator's: nothing in it is passed over.
    let only = "[[jwks]]\nfile = \"jwks.json\"\nalgs = [\"RS256\"]";
    refused(&dir, only, "jwks \"jwks.json\": key \"b\": its algorithm is not allowed");
    dir.file("jwks.json", "hello");
    refused(&dir, "[[jwks]]\nfile = \"jwks.json\"", "not a JSON object");
}

#[test]
fn a_url_must_be_one_whose_answer_nobody_can_change() {
    let dir = Dir::new("url");
    dir.file("ca.pem", testing::CERTIFICATE);
    dir.file("not.pem", "hello");
    let source = |rest: &str| format!("[[jwks]]\n{rest}");
    for good in [
        "url = \"https://id.example/jwks.json\"",
        "url = \"https://id.example:8443/a?b=c\"\nalgs = [\"ES256\"]\nca_pem_file = \"ca.pem\"",
        "url = \"http://127.0.0.1:80/jwks\"",
        "url = \"http://[::1]/jwks\"",
        "url = \"http://localhost/jwks\"",
        "url = \"http://id.internal/jwks\"\nplaintext = true",
    ] {
        assert_eq!(parse(&dir, &source(good)).unwrap().sources.len(), 1, "{good}");
    }
    for (bad, part) in [
        ("url = \"http://id.example/jwks\"", "not https"),
        ("url = \"http://127.0.0.1.id.example/jwks\"", "not https"),
        ("url = \"ftp://id.example/jwks\"", "http or https"),
        ("url = \"/jwks\"", "a scheme and a host"),
        ("url = \"not a url\"", "not a URL"),
        ("url = \"https://user:word@id.example/\"", "must not hold a user"),
        ("url = \"https://id.example/\"\nplaintext = true", "plaintext is for an http url"),
        ("url = \"https://id.example/\"\nalgs = []", "algs must hold"),
        ("url = \"https://id.example/\"\nalgs = [\"HS256\"]", "algs must hold"),
        ("url = \"https://id.example/\"\nca_pem_file = \"not.pem\"", "ca_pem_file is not"),
        ("url = \"https://id.example/\"\nca_pem_file = \"absent.pem\"", "cannot read the certificates"),
        ("url = \"https://id.example/\"\nfile = \"ca.pem\"", "exactly one of url and file"),
        ("issuer = \"i\"", "exactly one of url and file"),
        ("url = \"https://id.example/\"\nrefresh = 1", "line 3"),
    ] {
        refused(&dir, &source(bad), part);
    }
    let secrets = source("url = \"https://user:word@id.example/jwks?key=word\"");
    let line = parse(&dir, &secrets).err().unwrap().to_string();
    assert!(line.contains("id.example/jwks") && !line.contains("word@") && !line.contains("key=word"), "{line}");
}

#[test]
fn a_change_of_any_named_file_is_a_change() {
    let dir = Dir::new("change");
    dir.file("a", "0123456789abcdef0123456789abcdef");
    let toml = "[[keys]]\nid = \"a\"\nalg = \"HS256\"\nsecret_file = \"a\"";
    let path = dir.file("keys.toml", toml);
    let read = || Material::read(&path).ok().unwrap();
    let before = read();
    assert!(before == read());
    dir.file("keys.toml", format!("# a comment\n{toml}"));
    assert!(before == read());
    dir.file("a", "fedcba9876543210fedcba9876543210");
    assert!(before != read());
}

#[test]
fn what_logs_show_of_a_url_is_no_secret() {
    for (url, seen) in [
        ("https://id.example/a@b", "https://id.example/a@b"),
        ("https://u:w@id.example/a@b?k=w", "id.example/a@b"),
        ("https://u:w@id.example", "id.example"),
        ("u:w@x?://y", "x"),
        ("", ""),
    ] {
        assert_eq!(shown(url), seen);
    }
}
