//! The ring against real sockets: echo under starvation, close with everything pending, slots used again, sockets and
//! wake-ups between rings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ringpost_gateway::ring::{Completion, Config, Handle, RecvEnd, Ring};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn listening(config: &Config) -> (Ring, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut ring = Ring::new(config).unwrap();
    ring.listen(listener.into());
    (ring, address)
}

fn small() -> Config {
    Config {
        submissions: 32,
        completions: 64,
        buffers: 16,
        buffer_bytes: 2048,
        slots: 600,
        connect_slots: 0,
        backlog: 64,
    }
}

/// Turns the ring until `done` says so; `step` gets every completion.
fn run(ring: &mut Ring, mut step: impl FnMut(&mut Ring, Completion), mut done: impl FnMut(&Ring) -> bool) {
    let start = Instant::now();
    while !done(ring) {
        assert!(start.elapsed() < PATIENCE, "not done in time: {:?}", ring.counters());
        ring.turn(Some(Duration::from_millis(20))).unwrap();
        while let Some(completion) = ring.poll() {
            step(ring, completion);
        }
    }
}

/// An echo server's step: one send in flight per socket, the rest waits here.
#[derive(Default)]
struct Echo {
    waiting: HashMap<Handle, Vec<u8>>,
    busy: HashMap<Handle, bool>,
    closed: usize,
}

impl Echo {
    fn step(&mut self, ring: &mut Ring, completion: Completion) {
        match completion {
            Completion::Accepted { handle, .. } => ring.recv(handle).unwrap(),
            Completion::Received { handle, bytes } => {
                self.waiting.entry(handle).or_default().extend_from_slice(&bytes);
                self.flush(ring, handle);
            }
            Completion::Sent { handle, .. } => {
                self.busy.remove(&handle);
                self.flush(ring, handle);
            }
            Completion::RecvEnded { handle, .. } => ring.close(handle),
            Completion::Closed { .. } => self.closed += 1,
            _ => {}
        }
    }

    fn flush(&mut self, ring: &mut Ring, handle: Handle) {
        if self.busy.contains_key(&handle) {
            return;
        }
        if let Some(bytes) = self.waiting.remove(&handle)
            && ring.send(handle, bytes).is_ok()
        {
            self.busy.insert(handle, true);
        }
    }
}

#[test]
fn everybody_is_echoed_with_tiny_queues_and_buffers() {
    const CLIENTS: usize = 300;
    let (mut ring, address) = listening(&small());
    let clients = std::thread::spawn(move || {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
        for round in 0..20_usize {
            let message = vec![round as u8; 3000];
            clients.iter_mut().for_each(|client| client.write_all(&message).unwrap());
            for client in &mut clients {
                let mut echo = vec![0; message.len()];
                client.read_exact(&mut echo).unwrap();
                assert_eq!(echo, message);
            }
        }
    });
    let mut echo = Echo::default();
    run(&mut ring, |ring, completion| echo.step(ring, completion), |_| clients.is_finished());
    clients.join().unwrap();
    let counters = ring.counters();
    assert!(counters.no_buffers > 0 && counters.rearmed > 0, "the test did not starve the ring: {counters:?}");
    run(&mut ring, |ring, completion| echo.step(ring, completion), |ring| ring.occupied() == 0);
    assert_eq!(echo.closed, CLIENTS);
    assert_eq!(ring.buffers_out(), 0);
    // Idle: nothing spins.
    let before = ring.counters();
    for _ in 0..5 {
        ring.turn(Some(Duration::from_millis(10))).unwrap();
    }
    assert_eq!(ring.counters().submissions, before.submissions);
    assert_eq!(before.in_flight, 1, "only the accept is left");
}

#[test]
fn a_recv_that_the_kernel_ends_is_armed_again() {
    let (mut ring, address) = listening(&small());
    let mut client = TcpStream::connect(address).unwrap();
    let handle = Cell::new(None);
    run(
        &mut ring,
        |ring, completion| {
            if let Completion::Accepted { handle: accepted, .. } = completion {
                ring.recv(accepted).unwrap();
                handle.set(Some(accepted));
            }
        },
        |_| handle.get().is_some(),
    );
    let mut received = 0;
    for round in 1..=10 {
        ring.interrupt_recv(handle.get().unwrap()).unwrap();
        client.write_all(b"x").unwrap();
        let start = Instant::now();
        while received < round {
            assert!(start.elapsed() < PATIENCE);
            ring.turn(Some(Duration::from_millis(20))).unwrap();
            while let Some(completion) = ring.poll() {
                match completion {
                    Completion::Received { bytes, .. } => received += bytes.len(),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert!(ring.counters().rearmed > 0);
}

#[test]
fn closing_cancels_a_pending_recv_and_a_stuck_send_and_frees_the_slot() {
    let (mut ring, address) = listening(&Config { slots: 64, ..small() });
    for round in 0..200 {
        let mut client = TcpStream::connect(address).unwrap();
        let handle = Cell::new(None);
        run(
            &mut ring,
            |_, completion| {
                if let Completion::Accepted { handle: accepted, .. } = completion {
                    handle.set(Some(accepted));
                }
            },
            |_| handle.get().is_some(),
        );
        let handle = handle.get().unwrap();
        ring.recv(handle).unwrap();
        let stuck = round % 2 == 0;
        if stuck {
            // More than the socket's buffers take from a client that does not read.
            ring.send(handle, vec![7; 16 << 20]).unwrap();
            assert!(ring.send(handle, vec![1]).is_err(), "one send at a time");
        }
        ring.turn(Some(Duration::ZERO)).unwrap();
        while ring.poll().is_some() {}
        ring.close(handle);
        assert!(ring.recv(handle).is_err());
        let (mut closed, mut sent) = (0, 0);
        run(
            &mut ring,
            |_, completion| match completion {
                Completion::Closed { handle: gone } => {
                    assert_eq!(gone, handle);
                    closed += 1;
                }
                Completion::Sent { result, payload, .. } => {
                    assert!(result.is_err());
                    assert_eq!(payload.as_slice().len(), 16 << 20);
                    sent += 1;
                }
                other => panic!("{other:?}"),
            },
            |ring| ring.occupied() == 0,
        );
        assert_eq!((closed, sent), (1, usize::from(stuck)));
        // The client sees the end: nothing holds the socket any more.
        client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let end = client.read_to_end(&mut Vec::new());
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        assert!(ring.recv(handle).is_err(), "an old handle does nothing");
    }
    assert!(ring.counters().in_flight <= 16, "only accepts are left");
    assert_eq!(ring.buffers_out(), 0);
}

#[test]
fn a_full_table_stops_accepting_and_goes_on_when_there_is_room() {
    let (mut ring, address) = listening(&Config { slots: 16, ..small() });
    let clients = std::thread::spawn(move || {
        // Each waits its turn in the listener's backlog.
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        for mut client in clients {
            client.write_all(b"x").unwrap();
            let mut echo = [0];
            client.read_exact(&mut echo).unwrap();
        }
    });
    let mut most = 0;
    let mut echo = Echo::default();
    run(
        &mut ring,
        |ring, completion| {
            most = most.max(ring.occupied());
            echo.step(ring, completion);
        },
        |_| clients.is_finished(),
    );
    clients.join().unwrap();
    assert!(most <= 16);
}

#[test]
fn a_socket_moves_to_another_ring_with_nothing_lost() {
    let (mut source, address) = listening(&small());
    let mut target = Ring::new(&small()).unwrap();
    let peer = source.add_peer(target.waker());
    for round in 0..50_u64 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"first").unwrap();
        let (moved, mut seen) = (std::cell::Cell::new(false), Vec::new());
        run(
            &mut source,
            |ring, completion| match completion {
                Completion::Accepted { handle, .. } => ring.recv(handle).unwrap(),
                Completion::Received { handle, bytes } => {
                    seen.extend_from_slice(&bytes);
                    ring.pause_recv(handle).unwrap();
                    client.write_all(b"second").unwrap();
                }
                Completion::RecvEnded { handle, why } => {
                    assert_eq!(why, RecvEnd::Paused);
                    ring.send_fd(handle, peer, round << 20).unwrap();
                }
                Completion::Departed { result, .. } => {
                    result.unwrap();
                    moved.set(true);
                }
                _ => {}
            },
            |ring| moved.get() && ring.occupied() == 0,
        );
        let mut arrived = None;
        let expected = b"firstsecond".len() - seen.len();
        let mut rest = Vec::new();
        let start = Instant::now();
        while rest.len() < expected {
            assert!(start.elapsed() < PATIENCE, "{seen:?} {rest:?}");
            target.turn(Some(Duration::from_millis(20))).unwrap();
            while let Some(completion) = target.poll() {
                match completion {
                    Completion::Arrived { handle, tag } => {
                        assert_eq!(tag, round << 20);
                        arrived = Some(handle);
                        target.recv(handle).unwrap();
                    }
                    Completion::Received { bytes, .. } => rest.extend_from_slice(&bytes),
                    other => panic!("{other:?}"),
                }
            }
        }
        seen.extend_from_slice(&rest);
        assert_eq!(seen, b"firstsecond");
        target.close(arrived.unwrap());
        run(&mut target, |_, _| {}, |ring| ring.occupied() == 0);
    }
}

#[test]
fn a_socket_stays_when_the_other_table_is_full() {
    let (mut source, address) = listening(&small());
    let mut client = TcpStream::connect(address).unwrap();
    let mut refused = None;
    let start = Instant::now();
    // The target must run for the message to arrive.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let waker = {
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut target = Ring::new(&Config { slots: 0, connect_slots: 1, ..small() }).unwrap();
            tx.send(target.waker()).unwrap();
            while stopped.try_recv().is_err() {
                target.turn(Some(Duration::from_millis(5))).unwrap();
                assert!(target.poll().is_none());
            }
        });
        rx.recv().unwrap()
    };
    let peer = source.add_peer(waker);
    while refused.is_none() {
        assert!(start.elapsed() < PATIENCE);
        source.turn(Some(Duration::from_millis(5))).unwrap();
        while let Some(completion) = source.poll() {
            match completion {
                Completion::Accepted { handle, .. } => source.send_fd(handle, peer, 1).unwrap(),
                Completion::Departed { handle, result } => {
                    assert!(result.is_err());
                    refused = Some(handle);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    stop.send(()).unwrap();
    // And works on.
    source.send(refused.unwrap(), b"still here".to_vec()).unwrap();
    source.turn(Some(Duration::ZERO)).unwrap();
    let mut text = [0; 10];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"still here");
}

#[test]
fn rings_and_threads_wake_a_sleeping_ring() {
    let (mut ring, _) = listening(&small());
    let waker = ring.waker();
    ring.turn(Some(Duration::ZERO)).unwrap();
    while ring.poll().is_some() {}
    let by_thread = std::thread::spawn({
        let waker = waker.clone();
        move || waker.wake()
    });
    let start = Instant::now();
    ring.turn(Some(PATIENCE)).unwrap();
    assert!(start.elapsed() < PATIENCE);
    by_thread.join().unwrap();
    while ring.poll().is_some() {}
    let by_ring = std::thread::spawn(move || {
        let mut other = Ring::new(&small()).unwrap();
        let peer = other.add_peer(waker);
        other.wake(peer);
        other.turn(Some(Duration::ZERO)).unwrap();
    });
    ring.turn(Some(PATIENCE)).unwrap();
    assert!(start.elapsed() < PATIENCE);
    by_ring.join().unwrap();
}

#[test]
fn a_client_that_is_to_reset_does_so_when_it_is_closed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let mut ring = Ring::new(&Config { slots: 0, connect_slots: 2, ..small() }).unwrap();
    for resets in [true, false] {
        let handle = if resets { ring.connect_to_reset(None, to) } else { ring.connect(None, to) }.unwrap();
        run(&mut ring, |_, _| {}, |ring| ring.counters().in_flight == 0);
        let (mut peer, _) = listener.accept().unwrap();
        ring.close(handle);
        run(&mut ring, |_, _| {}, |ring| ring.occupied() == 0);
        let end = peer.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(end, if resets { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) });
    }
}

#[test]
fn clients_connect_from_the_address_they_are_given() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let mut ring = Ring::new(&Config { slots: 0, connect_slots: 2, ..small() }).unwrap();
    let from = Ipv4Addr::new(127, 0, 5, 1);
    let first = ring.connect(Some(from.into()), to).unwrap();
    let second = ring.connect(None, to).unwrap();
    assert!(ring.connect(None, to).is_err(), "two slots only");
    let mut connected = Vec::new();
    run(
        &mut ring,
        |_, completion| match completion {
            Completion::Connected { handle, result } => {
                result.unwrap();
                connected.push(handle);
            }
            other => panic!("{other:?}"),
        },
        |ring| ring.counters().in_flight == 0,
    );
    assert!(connected.contains(&first) && connected.contains(&second));
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), std::net::IpAddr::from(from));
    ring.close(first);
    run(&mut ring, |_, _| {}, |ring| ring.occupied() == 1);
    // The slot is free again; nobody listens there.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let refused = ring.connect(None, port).unwrap();
    let mut error = None;
    run(
        &mut ring,
        |_, completion| {
            if let Completion::Connected { handle, result } = completion {
                assert_eq!(handle, refused);
                error = result.err();
            }
        },
        |ring| ring.counters().in_flight == 0,
    );
    assert_eq!(error, Some(ringpost_gateway::ring::Errno::CONNREFUSED));
}

#[test]
fn each_accepted_socket_says_where_it_comes_from() {
    let listeners = ["127.0.0.1:0", "[::1]:0", "[::]:0"].map(|address| TcpListener::bind(address).unwrap());
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let mut ring = Ring::new(&small()).unwrap();
    listeners.into_iter().for_each(|listener| ring.listen(listener.into()));
    let to = [("127.0.0.1", ports[0]), ("::1", ports[1]), ("::1", ports[2]), ("127.0.0.1", ports[2])];
    // More than one batch of a multishot accept; some are gone before they are asked for.
    let clients: Vec<_> = to.iter().cycle().take(200).map(|to| TcpStream::connect(*to).unwrap()).collect();
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    for client in clients.iter().step_by(3) {
        rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO)).unwrap();
    }
    let mut kept = clients.into_iter().enumerate().filter(|(at, _)| at % 3 != 0).collect::<Vec<_>>();
    let seen = RefCell::new(Vec::new());
    let step = |_: &mut Ring, completion| {
        if let Completion::Accepted { peer, .. } = completion {
            let peer: SocketAddr = peer.expect("an address");
            seen.borrow_mut().push(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        }
    };
    run(&mut ring, step, |_| seen.borrow().len() == 200);
    let mut seen = seen.into_inner();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    kept.clear();
}
