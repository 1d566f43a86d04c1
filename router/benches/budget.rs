//! The budget of the router: at most 1 us for a send (decided, appended, answered, pushed to the other side) and 300 ns for
//! an ack (of one push, up to the tick that the sender is pushed), on one shard, outputs drained, the store's answers at
//! hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group};
use ringpost_persist::{Outcome, StoreAnswer, StoreRequest, UserPage};
use ringpost_proto::id::{DeviceId, UserKey};
use ringpost_proto::v1;
use ringpost_router::{ConnRef, Identity, Input, Now, Output, Rate, Request, Router, Settings};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const START_US: u64 = 1_764_000_000_000_000;
const ALICE: ConnRef = ConnRef { shard: 0, slot: 1, generation: 0 };
const BOB: ConnRef = ConnRef { shard: 0, slot: 2, generation: 0 };

struct World {
    router: Router,
    now: Now,
    answers: VecDeque<StoreAnswer>,
    sends: u64,
    /// The last push of each.
    pushed: [u64; 2],
    acked: u64,
}

impl World {
    fn new() -> Self {
        let now = Now { mono_ms: 1_000, unix_us: START_US };
        let settings = Settings {
            shard: 0,
            shards: 1,
            node: "bench".into(),
            worker: 0,
            store_incarnation: [0; 16],
            heartbeat_ms: 30_000,
            // Acks are measured apart, many sends later.
            window_pushes: u32::MAX,
            window_bytes: u32::MAX,
            progress_ms: 30_000,
            crash_slot_ms: 10_000,
            new_conversations: 0,
            dormant_ms: 0,
            conversations: 1 << 16,
            raises: ringpost_router::RAISES,
            device_sends: Rate::default(),
            user_sends: Rate::default(),
            requests: Rate::default(),
            refuse_blocked: false,
            told: Default::default(),
            seed: 1,
        };
        let router = Router::new(settings, now);
        let mut world = Self { router, now, answers: VecDeque::new(), sends: 0, pushed: [0; 2], acked: 0 };
        for (conn, name) in [(ALICE, "alice"), (BOB, "bob")] {
            let (user, device) = (UserKey::new("default", name).unwrap(), DeviceId::new("phone").unwrap());
            let identity =
                Arc::new(Identity { user, device, issued_ms: 1, primary: None, exp_ms: START_US / 1_000 + 86_400_000 });
            world.input(Input::Open { conn, id: 1, identity, hello: Box::default() });
        }
        let message = world.message();
        world.input(message);
        world.ack_all();
        let counted = world.router.counters();
        assert_eq!((counted.sends, counted.appends, counted.acks), (1, 1, 1), "the sessions are open");
        world
    }

    /// One input, and all that follows from it but time.
    fn input(&mut self, input: Input) {
        self.router.handle(self.now, input);
        loop {
            while let Some(output) = self.router.poll_output() {
                self.output(output);
            }
            let Some(answer) = self.answers.pop_front() else { return };
            self.router.handle(self.now, Input::Store(answer));
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Store(request) => {
                let outcome = match &request {
                    StoreRequest::Append { expected_head, records, .. } => {
                        Outcome::Appended { head: expected_head + records.len() as u64 }
                    }
                    StoreRequest::LoadConversation { .. } => Outcome::Conversation(None),
                    StoreRequest::LoadUser { .. } => {
                        Outcome::User(Box::new(UserPage { entries: Vec::new(), more: false }))
                    }
                    StoreRequest::FindCmid { .. } => Outcome::Found(None),
                    StoreRequest::ReadDocument { .. } => Outcome::Document(None),
                    StoreRequest::Cas { .. } => Outcome::Stored { version: 1 },
                    _ => Outcome::Raised,
                };
                self.answers.push_back(StoreAnswer { tag: request.tag(), outcome });
            }
            Output::PushRecord { n, .. } => self.pushed[1] = n,
            Output::Frame { conn, frame } => {
                if let Some(v1::server_frame::Answer::Push(push)) = &frame.answer {
                    self.pushed[usize::from(conn == BOB)] = push.n;
                }
            }
            other => drop(black_box(other)),
        }
    }

    /// The next message of alice to bob, decoded.
    fn message(&mut self) -> Input {
        self.sends += 1;
        self.now.unix_us += 100;
        let mut cmid = [0; 16];
        cmid[..6].copy_from_slice(&(self.now.unix_us / 1_000).to_be_bytes()[2..]);
        (cmid[6], cmid[8]) = (0x70, 0x80);
        cmid[9..].copy_from_slice(&self.sends.to_be_bytes()[1..]);
        let send = v1::Send {
            to: Some(v1::Peer { peer: Some(v1::peer::Peer::User("bob".into())) }),
            client_message_id: Bytes::copy_from_slice(&cmid),
            body: Some(v1::send::Body::Text("See you at the harbour at eight; bring the blue folder.".into())),
            ..Default::default()
        };
        Input::Request { conn: ALICE, id: self.sends, request: Request::Send(Box::new(send)) }
    }

    fn ack(&mut self, conn: ConnRef, push: u64) {
        self.input(Input::Request { conn, id: 0, request: Request::Ack { push, ranges: false } });
    }

    fn ack_all(&mut self) {
        let [alice, bob] = self.pushed;
        (self.acked, self.now.mono_ms) = (bob, self.now.mono_ms + 1);
        self.ack(BOB, bob);
        self.ack(ALICE, alice);
        self.input(Input::Timer);
    }
}

fn budget(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    let world = RefCell::new(World::new());
    let message = || {
        let mut world = world.borrow_mut();
        world.ack_all();
        world.message()
    };
    group.bench_function("send", |bencher| {
        bencher.iter_batched(message, |input| world.borrow_mut().input(input), BatchSize::SmallInput);
    });
    world.borrow_mut().ack_all();
    let pushed = || {
        let mut world = world.borrow_mut();
        let input = world.message();
        world.input(input);
    };
    let ack = |()| {
        let mut world = world.borrow_mut();
        let next = world.acked + 1;
        world.acked = next;
        world.ack(BOB, next);
    };
    group.bench_function("ack", |bencher| {
        let alice = world.borrow().pushed[0];
        world.borrow_mut().ack(ALICE, alice);
        bencher.iter_batched(pushed, ack, BatchSize::SmallInput);
    });
    group.finish();
    assert_eq!(world.borrow().router.counters().sends, world.borrow().router.counters().appends);
}

criterion_group!(benches, budget);

/// `--count N`: so many sends, each with its ack, and nothing else, for tools that count instructions.
fn main() {
    let words: Vec<String> = std::env::args().collect();
    let Some(at) = words.iter().position(|word| word == "--count") else {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    };
    let mut world = World::new();
    for _ in 0..words.get(at + 1).and_then(|count| count.parse().ok()).expect("--count N") {
        let message = world.message();
        world.input(message);
        world.ack_all();
    }
    assert_eq!(world.router.counters().sends, world.router.counters().appends);
}
