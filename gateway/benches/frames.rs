//! What the bytes of a direct message cost before and after the router: its frame unmasked, checked and decoded, SENT and push
//! encoded, the ack decoded. No kernel, no queue.
//!
//! `cargo bench -p ringpost-gateway --bench frames`; `-- --count N` does so many and prints nothing, for tools that count
//! instructions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use ringpost_gateway::transport::websocket::codec::{Decoder, Event};
use ringpost_gateway::transport::websocket::encode;
use ringpost_gateway::transport::websocket::frame::{Opcode, Role};
use ringpost_proto::v1::{self, client_frame::Request, peer::Peer, server_frame::Answer};
use ringpost_proto::wire::{self, Encoding, PeerRef};
use std::hint::black_box;
use std::time::Instant;

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TEXT: &str = "See you at the harbour at eight; bring the blue folder, the one with the drawings of the old boat house, \
                    and please ask your sister whether she still has the key for the side door: I cannot find mine. A.";
const ROUNDS: usize = 1_000_000;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let Some(count) = words.iter().position(|word| word == "--count").and_then(|at| words.get(at + 1)) {
        return run(count.parse().expect("a number"));
    }
    if !words.iter().any(|word| word == "--bench") {
        return println!("measures only when run by cargo bench");
    }
    run(ROUNDS / 10);
    let began = Instant::now();
    run(ROUNDS);
    let each = began.elapsed().as_nanos() as f64 / ROUNDS as f64;
    println!("{each:.0} ns for the frames of one direct message of {} B", TEXT.len());
}

fn run(count: usize) {
    let to = Some(v1::Peer { peer: Some(Peer::User("bob".into())) });
    let send = Request::Send(v1::Send {
        to,
        client_message_id: Bytes::from_static(&[7; 16]),
        body: Some(v1::send::Body::Text(TEXT.into())),
        ..Default::default()
    });
    let [send, ack] = [send, Request::Ack(v1::Ack { push: 1_000, ..Default::default() })].map(frame);
    let sent = v1::Sent { seq: 1_000, id: 1 << 60, ..Default::default() };
    let record = v1::Record {
        seq: 1_000,
        id: 1 << 60,
        from: "alice".into(),
        from_device: "phone".into(),
        server_time_ms: 1_764_000_000_000,
        body: Some(v1::record::Body::Text(TEXT.into())),
        ..Default::default()
    };
    let mut decoder = Decoder::new(Role::Server, 1 << 20);
    let (mut chunk, mut message, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut arrived = |bytes: &[u8]| {
        // As a receive leaves it: it is unmasked in place.
        chunk.clear();
        chunk.extend_from_slice(bytes);
        received(&mut decoder, &mut chunk);
    };
    for _ in 0..count {
        arrived(&send);
        answered(sent, &mut message, &mut out);
        pushed(&record, &mut message, &mut out);
        arrived(&ack);
    }
}

/// As a client sends it.
fn frame(request: Request) -> Vec<u8> {
    let (mut bytes, mut message) = (Vec::new(), Vec::new());
    wire::encode_client(Encoding::Protobuf, &v1::ClientFrame { id: 1_000, request: Some(request) }, &mut message);
    encode::masked(&mut bytes, Opcode::Binary, &message, [1, 2, 3, 4]);
    bytes
}

#[inline(never)]
fn received(decoder: &mut Decoder, chunk: &mut [u8]) {
    let mut rest = chunk;
    let Ok(Some(Event::Message { payload, .. })) = decoder.next(&mut rest) else { panic!("no message") };
    black_box(wire::decode_client(Encoding::Protobuf, payload).expect("a request"));
}

#[inline(never)]
fn answered(sent: v1::Sent, message: &mut Vec<u8>, out: &mut Vec<u8>) {
    let frame = v1::ServerFrame { re: 1_000, answer: Some(Answer::Sent(sent)) };
    message.clear();
    wire::encode_server(Encoding::Protobuf, &frame, message);
    out.clear();
    encode::message(out, Opcode::Binary, message);
    black_box(out);
}

#[inline(never)]
fn pushed(record: &v1::Record, message: &mut Vec<u8>, out: &mut Vec<u8>) {
    let shared = wire::shared_record(Encoding::Protobuf, record);
    message.clear();
    wire::push_record(Encoding::Protobuf, 1_000, PeerRef::User("alice"), None, &shared, message);
    out.clear();
    encode::message(out, Opcode::Binary, message);
    black_box(out);
}
