//! Shards against real sockets, the server in this process: everything that was taken comes back (O20), starvation stops
//! nobody (O21), sockets move to their users' shards with nothing lost, slots are used again and again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ringpost_gateway::auth::dev;
use ringpost_gateway::config::Config;
use ringpost_gateway::server::{Ready, Server};
use ringpost_gateway::shard::stats::{Snapshot, Stat};
use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::ws::Client;
use support::{Dir, PATIENCE};

struct Gateway {
    server: Server,
    _dir: Dir,
}

fn gateway(settings: &[(&str, &str)]) -> Gateway {
    let dir = Dir::new();
    let data = dir.path("data");
    let mut pairs = vec![("dev", "true"), ("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0"), ("data", data.as_str())];
    pairs.extend_from_slice(&[("segment_bytes", "1048576"), ("max_sessions", "4000"), ("disk_floor", "1")]);
    pairs.extend_from_slice(settings);
    let server = Server::start(Config::from_pairs(&pairs).unwrap()).unwrap();
    Gateway { server, _dir: dir }
}

impl Gateway {
    fn address(&self) -> SocketAddr {
        self.server.ready().listen
    }

    /// Waits for counters that fulfil the condition; the sums of connections hold in every one seen.
    fn eventually(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let start = Instant::now();
        loop {
            let stats = self.server.stats();
            if condition(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "not in time: {what}: {stats:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Nothing is open, and everything that connections had is back.
    fn empty(&self, before: &Snapshot) -> Snapshot {
        let stats = self.eventually("everything is back", |stats| {
            stats.open() == 0
                && stats.value(Stat::RingSlots) == 0
                && stats.value(Stat::RingInFlight) == before.value(Stat::RingInFlight)
                && stats.value(Stat::RingBuffersOut) == 0
        });
        assert_eq!(stats.value(Stat::Accepted), stats.closed());
        assert_eq!(stats.value(Stat::Arrived), stats.value(Stat::Departed));
        assert_eq!(stats.value(Stat::RingStale), 0);
        stats
    }
}

fn token(user: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    dev::mint(user, "phone", now + 3_600, now * 1_000).unwrap()
}

/// An upgraded socket to /v1/echo.
fn echo(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /v1/echo HTTP/1.1\r\nhost: {to}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::masked(&mut bytes, Opcode::Binary, payload, [1, 2, 3, 4]);
    bytes
}

/// Reads one echoed message and compares it.
fn assert_echo(stream: &mut TcpStream, payload: &[u8]) {
    let mut expected = Vec::new();
    encode::message(&mut expected, Opcode::Binary, payload);
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == expected, "another message came back");
}

/// Reads until the server's end; whatever came before it.
fn until_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    rest
}

#[test]
fn o20_a_closed_connection_leaves_nothing_behind() {
    let gateway = gateway(&[("authenticate_ms", "300"), ("progress_ms", "300"), ("heartbeat_ms", "200")]);
    let before = gateway.server.stats();
    let to = gateway.address();
    // A receive is pending on each: no head, half a head, no hello.
    let mut clients: Vec<_> = (0..200).map(|_| TcpStream::connect(to).unwrap()).collect();
    for _ in 0..200 {
        let mut half = TcpStream::connect(to).unwrap();
        half.write_all(b"GET /v1/connect HTTP/1.1\r\nhost:").unwrap();
        clients.push(half);
    }
    let mut silent: Vec<_> = (0..100).map(|_| Client::connect(to, "/v1/connect", &[]).unwrap()).collect();
    // A send is stuck on each: they ask for more than their windows take, and do not read.
    let mut stuck: Vec<_> = (0..20).map(|_| echo(to)).collect();
    for stream in &mut stuck {
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let big = frame(&vec![7; 4 << 20]);
        // Part of it may stay here: the server stops reading when its outbox is full.
        let _ = stream.write_all(&big);
        let _ = stream.write_all(&big);
    }
    for client in &mut silent {
        assert_eq!(client.closed().1, 4501);
    }
    for stream in &mut clients {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(until_end(stream), b"", "a client that said nothing hears nothing");
    }
    // Closed while they still do not read.
    let stats = gateway.empty(&before);
    assert_eq!(stats.value(Stat::ClosedTimeout), 400);
    assert_eq!(stats.value(Stat::ClosedUnauthenticated), 100);
    assert_eq!(stats.value(Stat::ClosedSlow), 20);
    stuck.iter_mut().for_each(|stream| drop(until_end(stream)));
    gateway.server.stop();
}

#[test]
fn o20_a_thousand_cycles_end_where_they_began() {
    let gateway = gateway(&[("max_sessions", "64"), ("shards", "2")]);
    let before = gateway.server.stats();
    for cycle in 0..1000_u32 {
        let mut stream = echo(gateway.address());
        let payload = cycle.to_be_bytes();
        stream.write_all(&frame(&payload)).unwrap();
        assert_echo(&mut stream, &payload);
        match cycle % 3 {
            // Gone without a word, with a reset, or in good order with data behind the close.
            0 => {}
            1 => rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
            _ => {
                let mut bytes = Vec::new();
                encode::masked(&mut bytes, Opcode::Close, &1000_u16.to_be_bytes(), [9; 4]);
                bytes.extend_from_slice(b"what comes behind a close is not read");
                stream.write_all(&bytes).unwrap();
                let rest = until_end(&mut stream);
                assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
            }
        }
    }
    let stats = gateway.empty(&before);
    assert_eq!(stats.value(Stat::Accepted), 1000);
    assert_eq!(stats.value(Stat::ClosedNormal), 333);
    gateway.server.stop();
}

#[test]
fn o21_starved_of_completions_and_buffers_everybody_is_answered() {
    const CLIENTS: usize = 400;
    let tiny =
        [("sq_entries", "64"), ("cq_entries", "128"), ("buffers", "16"), ("buffer_bytes", "2048"), ("shards", "1")];
    let gateway = gateway(&tiny);
    let to = gateway.address();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| echo(to)).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // One connection that sends as fast as it can, and reads what comes back.
        let mut hog = echo(to);
        let done = &done;
        scope.spawn(move || {
            let mut reader = hog.try_clone().unwrap();
            let mut decoder = Decoder::new(Role::Client, 1 << 20);
            let payload = vec![3; 60_000];
            let bytes = frame(&payload);
            let (mut sent, mut echoed, mut buffer) = (0, 0, vec![0; 64 << 10]);
            while !done.load(std::sync::atomic::Ordering::Relaxed) || echoed < sent {
                if echoed + 4 > sent && !done.load(std::sync::atomic::Ordering::Relaxed) {
                    hog.write_all(&bytes).unwrap();
                    sent += 1;
                    continue;
                }
                let got = reader.read(&mut buffer).unwrap();
                assert!(got > 0, "the hog was closed");
                let mut chunk = &mut buffer[..got];
                while let Some(event) = decoder.next(&mut chunk).unwrap() {
                    assert!(matches!(event, Event::Message { payload: ref back, .. } if *back == payload));
                    echoed += 1;
                }
            }
            assert!(sent > 0);
        });
        for round in 0..10_u8 {
            let payload = vec![round; 3000];
            let bytes = frame(&payload);
            clients.iter_mut().for_each(|client| client.write_all(&bytes).unwrap());
            clients.iter_mut().for_each(|client| assert_echo(client, &payload));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let stats = gateway.server.stats();
    assert!(stats.value(Stat::RingNoBuffers) > 0, "the ring was not starved: {stats:?}");
    assert!(stats.value(Stat::RingRearmed) >= stats.value(Stat::RingNoBuffers));
    assert_eq!(stats.value(Stat::RingStale), 0);
    // Idle now: nothing is tried again and again.
    let turns = |stats: &Snapshot| stats.value(Stat::RingEnters);
    let before = gateway.eventually("quiet", |stats| stats.value(Stat::RingBuffersOut) == 0);
    std::thread::sleep(Duration::from_millis(500));
    let after = gateway.server.stats();
    assert!(turns(&after) - turns(&before) < 50, "{} turns while idle", turns(&after) - turns(&before));
    clients.iter_mut().for_each(|client| client.write_all(&frame(b"all")).unwrap());
    clients.iter_mut().for_each(|client| assert_echo(client, b"all"));
    gateway.server.stop();
}

/// hello, and in the same write requests that only the user's own shard can answer.
fn hello_and_pings(user: &str, pings: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = json!({"id": "1", "hello": {"token": token(user)}});
    encode::masked(&mut bytes, Opcode::Text, hello.to_string().as_bytes(), [5; 4]);
    for n in 0..pings {
        let ping = json!({"id": (n + 2).to_string(), "ping": {}});
        encode::masked(&mut bytes, Opcode::Text, ping.to_string().as_bytes(), [6; 4]);
    }
    bytes
}

/// The user of the welcome, once that and as many pongs, in order, have come. A ping needs no welcome.
fn welcomed(client: &mut Client, pings: u64) -> String {
    let (mut user, mut pongs) = (None, 0);
    while user.is_none() || pongs < pings {
        let frame = client.frame();
        if frame["pong"].is_object() {
            assert_eq!(frame["re"], (pongs + 2).to_string());
            pongs += 1;
        } else if let Some(name) = frame["welcome"]["user"].as_str() {
            user = Some(name.to_owned());
        }
    }
    user.unwrap()
}

#[test]
fn sockets_move_to_their_users_shards_and_nothing_on_the_way_is_lost() {
    const USERS: usize = 120;
    let gateway = gateway(&[("shards", "4")]);
    let before = gateway.server.stats();
    let mut clients = Vec::new();
    for user in 0..USERS {
        let mut client = Client::connect(gateway.address(), "/v1/connect", &[]).unwrap();
        let bytes = hello_and_pings(&format!("user{user}"), 10);
        // Cut anywhere: within hello, between frames, within a later frame, or not at all.
        let cut = (user * bytes.len() / USERS).min(bytes.len());
        client.write(&bytes[..cut]);
        if user % 2 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        client.write(&bytes[cut..]);
        clients.push(client);
    }
    for (user, client) in clients.iter_mut().enumerate() {
        assert_eq!(welcomed(client, 10), format!("user{user}"));
    }
    let stats = gateway.eventually("all are open", |stats| stats.value(Stat::ConnOpen) == USERS as u64);
    assert!(stats.value(Stat::Departed) > 0 && stats.value(Stat::Departed) < USERS as u64);
    assert_eq!(stats.value(Stat::Arrived), stats.value(Stat::Departed));
    assert_eq!(stats.value(Stat::Accepted), stats.open() + stats.closed());
    assert_eq!(stats.value(Stat::RingSlots), USERS as u64, "a moved socket holds one slot");
    drop(clients);
    gateway.empty(&before);
    gateway.server.stop();
}

#[test]
fn a_session_whose_shard_is_full_works_from_where_it_is() {
    // Tables of about 66 sockets; all users live on shard 0.
    let gateway = gateway(&[("shards", "2"), ("max_sessions", "2")]);
    let before = gateway.server.stats();
    let at_home = |name: &str| {
        let user = ringpost_proto::id::UserKey::new("default", name).unwrap();
        ringpost_router::home_of_user(&user, 2) == 0
    };
    let names = (0..).map(|n| format!("user{n}")).filter(|name| at_home(name));
    let mut clients = Vec::new();
    let mut waiting = Vec::new();
    for name in names {
        // Those that reach shard 0 when it is full wait for room; the others are taken by shard 1.
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        match upgraded(&mut stream) {
            true => {
                let mut client = Client::upgraded(stream);
                client.write(&hello_and_pings(&name, 1));
                assert_eq!(welcomed(&mut client, 1), name);
                clients.push((name, client));
            }
            false => waiting.push(stream),
        }
        if gateway.server.stats().value(Stat::MoveFailed) >= 10 {
            break;
        }
    }
    let stats = gateway.server.stats();
    assert!(stats.value(Stat::ConnOpen) >= 70, "{stats:?}");
    // The last one's socket is on shard 1, its session on shard 0, where the first one's socket is, too.
    let (first, (last, mut far)) = (clients[0].0.clone(), clients.pop().unwrap());
    far.send(&json!({"id": "9", "send": {"to": {"user": first}, "text": "from afar"}}));
    assert_eq!(far.answer("9")["sent"]["seq"], "1");
    let near = &mut clients[0].1;
    assert_eq!(near.frame_with("push")["push"]["record"]["text"], "from afar");
    near.send(&json!({"id": "8", "send": {"to": {"user": last}, "text": "and back"}}));
    assert_eq!(near.answer("8")["sent"]["seq"], "2");
    assert_eq!(far.frame_with("push")["push"]["record"]["text"], "and back");
    far.send(&json!({"id": "10", "bye": {}}));
    assert_eq!(far.closed().1, 1000);
    drop((far, clients, waiting));
    gateway.empty(&before);
    gateway.server.stop();
}

#[test]
fn connections_find_room_however_the_kernel_spreads_them() {
    find_room(&[], |ready| ready.listen, b"");
}

#[test]
fn connections_of_proxies_find_room_too() {
    let proxied = [("listen_proxied", "127.0.0.1:0"), ("trusted_proxies", "127.0.0.0/8")];
    find_room(&proxied, |ready| ready.proxied.unwrap(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}

/// The connections of one listener, each of which begins with `header`.
fn find_room(pairs: &[(&str, &str)], address: fn(&Ready) -> SocketAddr, header: &[u8]) {
    // Four tables of 66, whose last slots no socket is sent to: 61 on each would be the even spread of 244.
    let gateway = gateway(&[&[("shards", "4"), ("max_sessions", "2")], pairs].concat());
    let before = gateway.eventually("every shard has told its room", |stats| stats.value(Stat::RingSlotsTotal) == 264);
    let address = address(gateway.server.ready());
    let mut clients: Vec<_> = (0..236).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&[header, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"].concat()).unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    assert_eq!(gateway.server.stats().open(), 236);
    drop(clients);
    gateway.empty(&before);
    gateway.server.stop();
}

/// Asks for the upgrade; `false`: no shard has taken the connection yet.
fn upgraded(stream: &mut TcpStream) -> bool {
    let request = "GET /v1/connect HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && head.is_empty() => return false,
            other => panic!("{other:?} after {head:?}"),
        }
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    true
}

#[test]
fn silence_is_pinged_and_then_ended_and_any_bytes_count_as_life() {
    let gateway = gateway(&[("heartbeat_ms", "100")]);
    let (mut silent, mut talking) = (echo(gateway.address()), echo(gateway.address()));
    let ended = std::thread::spawn(move || until_end(&mut silent));
    // Parts of one frame that ends only after the other is given up (two heartbeats and five seconds).
    let bytes = frame(&[4; 10_000]);
    let mut parts = bytes.chunks(20);
    while !ended.is_finished() {
        talking.write_all(parts.next().expect("the silent one outlives the talking one")).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    parts.for_each(|part| talking.write_all(part).unwrap());
    assert_echo(&mut talking, &[4; 10_000]);
    let rest = ended.join().unwrap();
    assert_eq!(rest[..4], [0x89, 0, 0x88, rest[3]], "one ping, then the close: {rest:?}");
    assert_eq!(rest[4..6], 4001_u16.to_be_bytes());
    assert_eq!(gateway.server.stats().value(Stat::ClosedHeartbeat), 1);
    gateway.server.stop();
}

#[test]
fn stopping_tells_every_client() {
    let gateway = gateway(&[("shards", "2"), ("drain_ms", "5000")]);
    let mut sessions: Vec<_> = (0..50).map(|n| Client::open(gateway.address(), &token(&format!("user{n}")))).collect();
    let mut echoes: Vec<_> = (0..20).map(|_| echo(gateway.address())).collect();
    let mut idle: Vec<_> = (0..20).map(|_| TcpStream::connect(gateway.address()).unwrap()).collect();
    gateway.eventually("all are there", |stats| stats.open() == 90);
    let stopping = std::thread::spawn(move || gateway.server.stop());
    for session in &mut sessions {
        assert_eq!(session.closed().1, 4000);
    }
    for echo in &mut echoes {
        let rest = until_end(echo);
        assert_eq!(rest[2..4], 4000_u16.to_be_bytes());
    }
    idle.iter_mut().for_each(|stream| assert_eq!(until_end(stream), b""));
    drop((sessions, echoes, idle));
    stopping.join().unwrap();
}
