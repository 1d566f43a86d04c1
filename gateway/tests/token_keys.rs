//! The keys of tokens: their algorithms, sets of keys that are fetched and rotate, key files that change, tenants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/issuer.rs"]
mod issuer;
mod support;

use issuer::{Answer, Issuer};
use ringpost_gateway::auth::Minter;
use ringpost_gateway::auth::keys::Alg;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::ws::Client;
use support::{Dir, Gateway, PATIENCE, finish, http, ringpost};

const FAILURES: &str = "ringpost_token_keys_refresh_failures_total{source=\"jwks\"}";
const FAILING: &str = "ringpost_token_keys_failing{source=\"jwks\"}";

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn jwk(name: &str, kid: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("keys/jwk.json")).unwrap();
    let mut jwk = all[name].clone();
    jwk["kid"] = json!(kid);
    jwk
}

/// Signs with the private key of tests/keys for this algorithm, as the issuer `idp`.
fn minter(alg: Alg, kid: &str) -> Minter {
    let name = match alg {
        Alg::Rs256 => "rsa",
        Alg::Es256 => "ec",
        _ => "ed",
    };
    Minter::from_pem(alg, kid, &pem(name), "idp", "ringpost").unwrap()
}

fn token(minter: &Minter, user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    minter.mint(user, "web", now + 600, now).unwrap()
}

/// The status that an upgrade with this token gets.
fn status(gateway: &Gateway, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    Client::connect(gateway.listen, "/v1/connect", &[("authorization", &bearer)])
        .map_or_else(|(status, _)| status, |_| 101)
}

/// `serve --dev` with a key file of this content.
fn gateway(dir: &Dir, toml: &str, args: &[&str]) -> Gateway {
    let keys = dir.file("keys.toml", toml);
    let args = [&["--token-issuer=idp", "--token-keys", keys.to_str().unwrap()], args].concat();
    Gateway::start_in(&dir.0.join("data"), &args)
}

fn source(issuer: &Issuer) -> String {
    format!("[[jwks]]\nurl = \"http://{}/jwks.json\"\n", issuer.address)
}

fn keys(alg: Alg) -> String {
    format!("ringpost_token_keys{{alg=\"{}\"}}", alg.name())
}

#[track_caller]
fn eventually(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn public_keys_of_every_algorithm_open_sessions() {
    let dir = Dir::new();
    let mut toml = String::new();
    for (alg, name) in [(Alg::Rs256, "rsa"), (Alg::Es256, "ec"), (Alg::EdDsa, "ed")] {
        std::fs::write(dir.0.join(name), pem(&format!("{name}.pub"))).unwrap();
        let alg = alg.name();
        toml += &format!("[[keys]]\nid = \"{alg}\"\nalg = \"{alg}\"\npublic_key_pem_file = \"{name}\"\n");
    }
    let gateway = gateway(&dir, &toml, &[]);
    for alg in Alg::PUBLIC {
        Client::open(gateway.listen, &token(&minter(alg, alg.name()), "alice")).assert_alive();
        assert_eq!(gateway.metric(&keys(alg)), 1.0);
    }
    // The right key under the id of another.
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "ES256"), "alice")), 401);
    assert_eq!(gateway.metric("ringpost_tokens_refused_total{reason=\"algorithm\"}"), 1.0);
}

#[test]
fn the_command_signs_with_a_private_key() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("ec"), pem("ec.pub")).unwrap();
    let gateway =
        gateway(&dir, "[[keys]]\nid = \"k\"\nalg = \"ES256\"\npublic_key_pem_file = \"ec\"\ntenant = \"acme\"", &[]);
    let key = format!("{}/tests/keys/ec.pem", env!("CARGO_MANIFEST_DIR"));
    let args = ["token", "--user=alice", "--token-issuer=idp", "--alg=ES256", "--key=k", "--private-key", &key];
    let signed = |tenant: &str| {
        let output = finish(ringpost().args(args).args(["--tenant", tenant]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(status(&gateway, &signed("acme")), 101);
    assert_eq!(status(&gateway, &signed("other")), 401);
    support::refused(ringpost().args(args).arg("--tenant="), &["tenant"]);
    support::refused(
        ringpost().args(["token", "--user=a", "--alg=RS256", "--key=k", "--private-key", &key]),
        &["RS256"],
    );
}

#[test]
fn keys_that_are_fetched_rotate_under_open_sessions() {
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Keys(vec![jwk("rsa", "1")])));
    let gateway = gateway(&dir, &source(&issuer), &["--jwks-refresh-ms=1000"]);
    gateway.await_metric(&keys(Alg::Rs256), 1.0);
    let (old, new) = (minter(Alg::Rs256, "1"), minter(Alg::Es256, "2"));
    let mut session = Client::open(gateway.listen, &token(&old, "alice"));
    issuer.set(Answer::Keys(vec![jwk("rsa", "1"), jwk("ec", "2")]));
    gateway.await_metric(&keys(Alg::Es256), 1.0);
    for minter in [&old, &new] {
        Client::open(gateway.listen, &token(minter, "bob")).assert_alive();
    }
    issuer.set(Answer::Keys(vec![jwk("ec", "2")]));
    gateway.await_metric(&keys(Alg::Rs256), 0.0);
    assert_eq!(status(&gateway, &token(&old, "alice")), 401);
    assert_eq!(status(&gateway, &token(&new, "bob")), 101);
    session.assert_alive();
    assert!(gateway.metric("ringpost_jwks_age_seconds") < 20.0);
}

#[test]
fn an_unknown_key_is_refused_and_asked_for_once() {
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Keys(vec![jwk("rsa", "1")])));
    let gateway = gateway(&dir, &source(&issuer), &[]);
    gateway.await_metric(&keys(Alg::Rs256), 1.0);
    issuer.set(Answer::Keys(vec![jwk("rsa", "1"), jwk("ec", "2")]));
    let start = Instant::now();
    let new = token(&minter(Alg::Es256, "2"), "alice");
    assert_eq!(status(&gateway, &new), 401);
    gateway.await_metric(&keys(Alg::Es256), 1.0);
    assert_eq!(status(&gateway, &new), 101);
    for n in 0..20 {
        assert_eq!(status(&gateway, &token(&minter(Alg::EdDsa, &format!("x{n}")), "alice")), 401);
    }
    std::thread::sleep(Duration::from_secs(1));
    // One fetch at the start, one for the new key, and made-up ones bring at most one in 10 s.
    let made_up = start.elapsed().as_secs() as usize / 10;
    assert!((2..=2 + made_up).contains(&issuer.requests()), "{}", issuer.requests());
    assert_eq!(gateway.metric("ringpost_tokens_refused_total{reason=\"unknown_key\"}"), 21.0);
}

#[test]
fn a_source_that_fails_keeps_its_keys_and_is_counted() {
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Keys(vec![jwk("rsa", "1")])));
    let gateway = gateway(&dir, &source(&issuer), &["--jwks-refresh-ms=1000"]);
    gateway.await_metric(&keys(Alg::Rs256), 1.0);
    let good = token(&minter(Alg::Rs256, "1"), "alice");
    for bad in [
        Answer::Status("500 Internal Server Error"),
        Answer::Status("302 Found\r\nlocation: http://127.0.0.1:1/"),
        Answer::Text("<html>sign in</html>"),
        Answer::Close,
        Answer::Endless,
    ] {
        let before = gateway.metric(FAILURES);
        issuer.set(bad);
        eventually(|| gateway.metric(FAILURES) > before);
        assert_eq!(gateway.metric(FAILING), 1.0);
        assert_eq!(status(&gateway, &good), 101);
    }
    assert!(issuer.written() > 0 && issuer.written() < 64 << 20, "{} bytes", issuer.written());
    issuer.set(Answer::Keys(vec![jwk("ec", "2")]));
    gateway.await_metric(FAILING, 0.0);
    gateway.await_metric(&keys(Alg::Rs256), 0.0);
    assert_eq!(status(&gateway, &good), 401);
}

#[test]
fn keys_that_must_not_be_published_are_not_used() {
    let mut private = jwk("ec", "leaked");
    private["d"] = json!("AQAB");
    let shared = json!({"kty": "oct", "kid": "shared", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"});
    let set = vec![private, shared, jwk("rsa-1024", "weak"), jwk("rsa", "1")];
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Keys(set)));
    let gateway = gateway(&dir, &source(&issuer), &[]);
    gateway.await_metric(&keys(Alg::Rs256), 1.0);
    assert_eq!(gateway.metric("ringpost_token_keys_unused"), 3.0);
    assert_eq!(gateway.metric(&keys(Alg::Es256)), 0.0);
    assert_eq!(status(&gateway, &token(&minter(Alg::Es256, "leaked"), "alice")), 401);
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "1"), "alice")), 101);
}

#[test]
fn a_source_that_says_nothing_is_given_up_and_disturbs_nobody() {
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Silence));
    let gateway = gateway(&dir, &source(&issuer), &[]);
    eventually(|| issuer.requests() > 0);
    let mut session = Client::open(gateway.listen, &gateway.dev_token("alice", "web"));
    session.assert_alive();
    // A renewal whose key may be among those that are awaited: not now, and the session goes on.
    session.send(&json!({"id": "2", "renew": {"token": token(&minter(Alg::Rs256, "1"), "alice")}}));
    let error = session.answer("2")["error"].clone();
    assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)), "{error}");
    session.assert_alive();
    eventually(|| gateway.metric(FAILURES) >= 1.0);
    session.assert_alive();
}

#[test]
fn https_needs_a_certificate_that_is_trusted() {
    let (dir, issuer) = (Dir::new(), Issuer::start_tls(Answer::Keys(vec![jwk("rsa", "1")])));
    std::fs::write(dir.0.join("ca.pem"), pem("tls-ca")).unwrap();
    let url = format!("[[jwks]]\nurl = \"https://{}/jwks.json\"\n", issuer.address);
    let gateway = gateway(&dir, &url, &[]);
    eventually(|| gateway.metric(FAILURES) >= 1.0);
    assert_eq!(gateway.metric(&keys(Alg::Rs256)), 0.0);
    dir.file("keys.toml", &format!("{url}ca_pem_file = \"ca.pem\"\n"));
    gateway.await_metric(&keys(Alg::Rs256), 1.0);
    gateway.await_metric(FAILING, 0.0);
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "1"), "alice")), 101);
}

#[test]
fn a_node_is_ready_once_it_has_a_key() {
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Close));
    let keys = dir.file("keys.toml", &source(&issuer));
    let mut command = ringpost();
    command.args(["serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--data", &dir.path("data"), "--token-keys"]);
    command.arg(keys).args(["--jwks-refresh-ms=1000", "--token-issuer=idp"]);
    let gateway = Gateway::spawn(command);
    eventually(|| gateway.get("/readyz").json()["why"] == "no token key is loaded");
    assert_eq!(gateway.get("/healthz").status, 200);
    // A good token whose key has yet to come: told to come back, not that it is bad.
    let token = token(&minter(Alg::Rs256, "1"), "alice");
    let bearer = format!("Bearer {token}");
    assert_eq!(status(&gateway, &token), 503);
    assert_eq!(http(gateway.listen, "POST", "/v1/ticket", &[("authorization", &bearer)], "").status, 503);
    let mut client = Client::connect(gateway.listen, "/v1/connect", &[]).unwrap();
    client.send(&json!({"id": "1", "hello": {"token": token}}));
    assert_eq!(client.closed().1, 4003);
    issuer.set(Answer::Keys(vec![jwk("rsa", "1")]));
    eventually(|| gateway.get("/readyz").status == 200);
    assert_eq!(status(&gateway, &token), 101);
}

#[test]
fn a_node_that_never_got_the_keys_of_a_url_is_ready_with_others_and_names_it() {
    let (dir, issuer) = (Dir::new(), Issuer::start(Answer::Close));
    std::fs::write(dir.0.join("ec"), pem("ec.pub")).unwrap();
    let key = "[[keys]]\nid = \"2\"\nalg = \"ES256\"\npublic_key_pem_file = \"ec\"\n";
    let url = format!("http://{}/jwks.json", issuer.address);
    let source = format!("[[jwks]]\nurl = \"{url}?secret\"\n");
    let keys = dir.file("keys.toml", &(key.to_owned() + &source));
    let mut command = ringpost();
    command.args(["serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--data", &dir.path("data"), "--token-keys"]);
    command.arg(keys).args(["--jwks-refresh-ms=1000", "--token-issuer=idp"]);
    let gateway = Gateway::spawn(command);
    let ready = |port| http(port, "GET", "/readyz", &[], "");
    let warnings = || ready(gateway.admin).readiness()["warnings"].clone();
    eventually(|| warnings() == json!([format!("the keys of {url} were never fetched")]));
    assert_eq!([gateway.admin, gateway.listen].map(|port| ready(port).status), [200; 2]);
    assert!(!ready(gateway.listen).json().to_string().contains("jwks.json"), "clients do not learn of it");
    assert_eq!(gateway.metric("ringpost_token_keys_unanswered"), 1.0);
    // The one issuer's users come in, the other's are told to come back.
    assert_eq!(status(&gateway, &token(&minter(Alg::Es256, "2"), "alice")), 101);
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "1"), "bob")), 503);
    issuer.set(Answer::Keys(vec![jwk("rsa", "1")]));
    eventually(|| warnings() == json!([]));
    assert_eq!(gateway.metric("ringpost_token_keys_unanswered"), 0.0);
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "1"), "bob")), 101);
    // From now on it is a source that fails: its keys stay.
    issuer.set(Answer::Close);
    gateway.await_metric(FAILING, 1.0);
    assert_eq!(warnings(), json!([]));
}

#[test]
fn a_changed_key_file_is_taken_up_and_a_spoiled_one_is_not() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("rsa"), pem("rsa.pub")).unwrap();
    std::fs::write(dir.0.join("ec"), pem("ec.pub")).unwrap();
    let key = |id: &str, alg: &str, file: &str| {
        format!("[[keys]]\nid = \"{id}\"\nalg = \"{alg}\"\npublic_key_pem_file = \"{file}\"\n")
    };
    let gateway = gateway(&dir, &key("1", "RS256", "rsa"), &[]);
    let mut session = Client::open(gateway.listen, &token(&minter(Alg::Rs256, "1"), "alice"));
    dir.file("keys.toml", "[[keys]\n");
    gateway.await_metric("ringpost_token_keys_failing{source=\"file\"}", 1.0);
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "1"), "alice")), 101);
    dir.file("keys.toml", &key("2", "ES256", "ec"));
    gateway.await_metric(&keys(Alg::Es256), 1.0);
    assert_eq!(gateway.metric("ringpost_token_keys_failing{source=\"file\"}"), 0.0);
    assert_eq!(status(&gateway, &token(&minter(Alg::Es256, "2"), "bob")), 101);
    assert_eq!(status(&gateway, &token(&minter(Alg::Rs256, "1"), "bob")), 401);
    session.assert_alive();
}

#[test]
fn users_of_different_tenants_do_not_meet() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("rsa"), pem("rsa.pub")).unwrap();
    let gateway = gateway(&dir, "[[keys]]\nid = \"k\"\nalg = \"RS256\"\npublic_key_pem_file = \"rsa\"\n", &[]);
    let of = |tenant: &str, user: &str| token(&minter(Alg::Rs256, "k").tenant(tenant).unwrap(), user);
    let mut other = Client::open(gateway.listen, &of("default", "bob"));
    let mut bob = Client::open(gateway.listen, &of("acme", "bob"));
    let mut alice = Client::open(gateway.listen, &of("acme", "alice"));
    alice.send(&json!({"id": "2", "send": {"to": {"user": "bob"}, "text": "within acme"}}));
    assert_eq!(alice.answer("2")["sent"]["seq"], "1");
    assert_eq!(bob.frame_with("push")["push"]["record"]["text"], "within acme");
    other.send(&json!({"id": "3", "conversations": {}}));
    let answer = other.answer("3");
    assert!(!answer.to_string().contains("within acme"), "{answer}");
    // A renewal cannot change the tenant.
    bob.send(&json!({"id": "4", "renew": {"token": of("default", "bob")}}));
    assert_eq!(bob.closed().1, 4501);
}
