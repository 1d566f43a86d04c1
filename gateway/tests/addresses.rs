//! Limits of client addresses over real sockets. Loopback has many addresses: 127.10.0.0/16 stands for the trusted proxies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, HttpClient, PATIENCE, Response, Server, authorization, eventually, token, upgrade_request};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::net::{SocketAddr, TcpStream};

const PROXY: &str = "127.10.0.1";
const CLIENT: &str = "127.51.100.7";

/// Nothing is exempt; five connections and no limit of upgrades.
const CONNECTIONS: [&str; 5] = [
    "--exempt-addresses=127.99.0.1",
    "--trusted-proxies=127.10.0.0/16",
    "--address-connections=5",
    "--address-upgrades-per-second=0",
    "--shards=2",
];

/// A connection from an address of loopback.
fn from(server: &Server, address: &str) -> HttpClient {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    connect(&fd, &server.listen).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    HttpClient::new(stream)
}

fn request(user: &str, headers: &str) -> Vec<u8> {
    upgrade_request("/v1/connect", &(authorization(&token(user, "one")) + headers)).into_bytes()
}

/// Asks for an upgrade. The connection, or the answer that refused it.
fn upgrade(server: &Server, address: &str, user: &str, headers: &str) -> Result<Client, Response> {
    let mut http = from(server, address);
    http.send(&request(user, headers));
    http.try_upgraded()
}

/// Five are upgraded with the n-th of `headers`, the sixth hears why not.
fn five_and_no_more(server: &Server, address: &str, headers: impl Fn(usize) -> String) -> Vec<Client> {
    let open = |n: usize| upgrade(server, address, &format!("user{n}"), &headers(n));
    let open_ones: Vec<Client> = (0..5).map(|n| open(n).unwrap_or_else(|refused| panic!("{n}: {refused:?}"))).collect();
    refused(open(5), "10");
    open_ones
}

fn refused(answer: Result<Client, Response>, seconds: &str) {
    let answer = answer.err().expect("a refusal");
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some(seconds));
    assert_eq!(answer.json()["code"], "RATE_LIMITED");
}

fn forgotten(server: &Server) {
    eventually(|| server.metrics().sum("ringpost_addresses", "") == 0.0, "the table is not empty again");
}

#[test]
fn a_client_that_is_no_proxy_cannot_choose_its_address() {
    let server = Server::start(&CONNECTIONS);
    let open = five_and_no_more(&server, CLIENT, |n| format!("X-Forwarded-For: 203.0.113.{n}\r\n"));
    // Those that it named, and others, have all that is theirs.
    let victim = five_and_no_more(&server, PROXY, |_| "X-Forwarded-For: 203.0.113.1\r\n".to_owned());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("ringpost_addresses", ""), 2.0);
    assert_eq!(metrics.sum("ringpost_refused_total", "reason=\"address_connections\""), 2.0);
    drop((open, victim));
    forgotten(&server);
}

#[test]
fn behind_proxies_it_is_the_first_untrusted_address_from_the_right() {
    let server = Server::start(&CONNECTIONS);
    let forms = [
        "X-Forwarded-For: 203.0.113.1, 198.51.100.7\r\n",
        "X-Forwarded-For: 198.51.100.7, 127.10.0.9\r\n",
        "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 198.51.100.7\r\n",
        "X-Forwarded-For: 198.51.100.7:4711\r\n",
        "X-Forwarded-For: ::ffff:198.51.100.7\r\n",
    ];
    let open = five_and_no_more(&server, PROXY, |n| forms[n % forms.len()].to_owned());
    // Left of it stands what anybody may write.
    assert!(upgrade(&server, PROXY, "victim", "X-Forwarded-For: 203.0.113.1\r\n").is_ok());
    drop(open);
    forgotten(&server);
    // What was given back can be had again.
    drop(five_and_no_more(&server, PROXY, |n| forms[n % forms.len()].to_owned()));
}

#[test]
fn what_is_no_address_counts_for_the_proxy_and_nobody_else() {
    let server = Server::start(&CONNECTIONS);
    let open = five_and_no_more(&server, PROXY, |_| "X-Forwarded-For: 198.51.100.7, garbage\r\n".to_owned());
    assert!(upgrade(&server, PROXY, "other", "X-Forwarded-For: 198.51.100.7\r\n").is_ok());
    drop(open);
    forgotten(&server);
}

#[test]
fn an_ipv6_client_is_its_network() {
    let server = Server::start(&CONNECTIONS);
    let open = five_and_no_more(&server, PROXY, |n| format!("X-Forwarded-For: [2001:db8:0:1::{n}]:4711\r\n"));
    assert!(upgrade(&server, PROXY, "other", "X-Forwarded-For: 2001:db8:0:2::1\r\n").is_ok());
    drop(open);
    forgotten(&server);
}

#[test]
fn connections_that_say_nothing_count_and_are_refused_before_they_do() {
    let server = Server::start(&CONNECTIONS);
    let silent: Vec<_> = (0..5).map(|_| from(&server, CLIENT)).collect();
    eventually(|| server.metrics().sum("ringpost_connections", "state=\"head\"") == 5.0, "not accepted");
    let answer = from(&server, CLIENT).response();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("10")));
    // Neither a proxy's own requests nor who is exempt are limited.
    let _others: Vec<_> = (0..10).map(|_| from(&server, PROXY)).collect();
    let _exempt: Vec<_> =
        (0..10).map(|n| upgrade(&server, "127.99.0.1", &format!("exempt{n}"), "").expect("exempt")).collect();
    drop(silent);
    eventually(|| upgrade(&server, CLIENT, "again", "").is_ok(), "what was given back cannot be had again");
    forgotten(&server);
}

#[test]
fn upgrades_are_metered_before_tokens_are_looked_at() {
    let server = Server::start(&[
        "--exempt-addresses=127.99.0.1",
        "--trusted-proxies=127.10.0.0/16",
        "--address-upgrades-per-second=1",
    ]);
    // Each says that it is somebody else: that helps nobody, and harms nobody.
    let guess = |n: usize| authorization("guess") + &format!("X-Forwarded-For: 203.0.113.{n}\r\n");
    let mut guesses: Vec<_> = (0..50).map(|_| from(&server, CLIENT)).collect();
    for (n, http) in guesses.iter_mut().enumerate() {
        http.send(upgrade_request("/v1/connect", &guess(n)).as_bytes());
    }
    let answers: Vec<Response> = guesses.iter_mut().map(HttpClient::response).collect();
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    assert!(answers.iter().any(|answer| answer.status == 401), "the first is heard");
    let limited = answers.iter().filter(|answer| answer.status == 429);
    let seconds: Vec<_> = limited.map(|answer| answer.header("retry-after")).collect();
    assert!(seconds.len() > 10 && seconds.iter().all(|seconds| *seconds == Some("1")), "{seconds:?}");
    let counted = server.metrics().sum("ringpost_refused_total", "reason=\"address_upgrades\"");
    assert_eq!(counted, seconds.len() as f64);
    assert!(upgrade(&server, "127.51.100.8", "other", "").is_ok(), "another address has its own");
    assert!(upgrade(&server, PROXY, "victim", "X-Forwarded-For: 203.0.113.1\r\n").is_ok(), "who was named, too");
    drop(guesses);
    // A refused attempt costs nothing: a second later all is forgotten.
    forgotten(&server);
    assert!(upgrade(&server, CLIENT, "again", "").is_ok());
}

/// Asks for a ticket on a connection, which stays open where the answer says so.
fn ticket(http: &mut HttpClient, headers: &str) -> Response {
    http.send(format!("POST /v1/ticket HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 0\r\n\r\n").as_bytes());
    http.response()
}

#[test]
fn tickets_are_metered_before_tokens_are_looked_at() {
    let server = Server::start(&[
        "--exempt-addresses=127.99.0.1",
        "--trusted-proxies=127.10.0.0/16",
        "--address-upgrades-per-second=2",
    ]);
    // Whoever it says it is: good tokens and guesses cost the same.
    let named = |n: usize| format!("X-Forwarded-For: 203.0.113.{n}\r\n");
    let guess = |n: usize| authorization("guess") + &named(n);
    let mut guesses: Vec<_> = (0..50).map(|_| from(&server, CLIENT)).collect();
    let answers: Vec<Response> = guesses.iter_mut().enumerate().map(|(n, http)| ticket(http, &guess(n))).collect();
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    assert!(answers.iter().any(|answer| answer.status == 401), "the first is heard");
    let limited: Vec<_> = answers.into_iter().filter(|answer| answer.status == 429).collect();
    assert!(limited.len() > 10, "{}", limited.len());
    let counted = server.metrics().sum("ringpost_refused_total", "reason=\"address_tickets\"");
    assert_eq!(counted, limited.len() as f64);
    for answer in limited {
        assert_eq!((answer.header("retry-after"), &answer.json()["code"]), (Some("1"), &"RATE_LIMITED".into()));
    }
    // What asks for no token to be looked at costs nothing.
    for _ in 0..10 {
        let mut http = from(&server, CLIENT);
        http.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(http.response().status, 200);
    }
    drop(guesses);
    forgotten(&server);
    let good = authorization(&token("alice", "one"));
    // A proxy asks for many on one connection: each client has its own, and the connection is none's.
    let mut proxy = from(&server, PROXY);
    for n in 0..20 {
        let answer = ticket(&mut proxy, &(named(n) + &good));
        assert_eq!(answer.status, 200, "{n}");
    }
    let statuses: Vec<u16> = (0..10).map(|_| ticket(&mut from(&server, PROXY), &(named(99) + &good)).status).collect();
    assert!(statuses[..2] == [200; 2] && statuses.contains(&429), "{statuses:?}");
    let exempt = (0..10).map(|_| ticket(&mut from(&server, "127.99.0.1"), &good).status);
    assert!(exempt.into_iter().all(|status| status == 200));
    forgotten(&server);
}

#[test]
fn development_does_not_limit_loopback() {
    let server = Server::start(&["--address-connections=1", "--address-upgrades-per-second=1"]);
    let open: Vec<_> = (0..10).map(|n| Client::open(&server, &format!("user{n}"), "one")).collect();
    assert_eq!(server.metrics().sum("ringpost_addresses", ""), 0.0);
    drop(open);
}
