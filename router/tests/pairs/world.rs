//! Routers, the store of the simulator and connections, in virtual time: what a client would see, without a socket.

use bytes::Bytes;
use ringpost_persist::faulty::{Faults, FaultyStore};
use ringpost_persist::{DocumentKey, Outcome, Raise, Record, RegisterKey, StoreAnswer, StoreRequest, Tag};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::push::Item;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::v1::{self, peer::Peer};
use ringpost_router::envelope::{Envelope, SendOutcome};
use ringpost_router::operator::OPERATOR;
use ringpost_router::{
    ConnRef, DeviceList, Identity, Input, Now, Output, Rate, RecordPage, Request, Router, Settings, home_of_user,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub const START_UNIX_US: u64 = 1_764_000_000_000_000;

/// What reaches a connection.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a few at a time
pub enum Got {
    Frame(u64, Answer),
    Sent(u64, v1::Sent),
    Record { n: u64, peer: String, record: Arc<Record>, own: bool },
    Page(u64, Box<RecordPage>),
    Closed(CloseCode),
    Reading(bool),
    Established,
}

pub struct World {
    pub mono_us: u64,
    /// Added to the wall clock: a step of it.
    pub step_us: i64,
    pub routers: Vec<Router>,
    pub store: FaultyStore,
    asked: BTreeMap<Tag, (usize, Tag)>,
    tags: Tag,
    envelopes: VecDeque<(u16, Box<Envelope>)>,
    got: BTreeMap<(u16, u32, u32), Vec<Got>>,
    conns: u32,
    ids: u64,
    /// Envelopes between shards that are lost.
    pub loses: fn(&Envelope) -> bool,
    /// Rooms are loaded without records: those of before are no longer kept.
    pub expired: bool,
    /// Answers are held back while set.
    pub hold_store: bool,
    /// Work that was put off stays so while set: [`World::turn`] does a part of it.
    pub hold_work: bool,
    /// A router is written out and read back before every so many inputs; 0: never.
    pub swap: u64,
    inputs: u64,
    settings: Vec<Settings>,
    /// What each request of registers wrote.
    pub raises: Vec<Vec<Raise>>,
    /// Every record that was pushed, in the order in which that was decided.
    pub pushes: Vec<(ConnRef, Seq)>,
    /// What the operator was answered, by its request numbers.
    pub operator: BTreeMap<u64, SendOutcome>,
}

pub fn settings(shard: u16, shards: u16) -> Settings {
    Settings {
        shard,
        shards,
        node: "node".into(),
        worker: shard,
        store_incarnation: [7; 16],
        heartbeat_ms: 30_000,
        window_pushes: 64,
        window_bytes: 256 << 10,
        progress_ms: 30_000,
        crash_slot_ms: 10_000,
        new_conversations: 0,
        dormant_ms: 30 * 24 * 3_600_000,
        conversations: 1 << 16,
        raises: ringpost_router::RAISES,
        device_sends: Rate::default(),
        user_sends: Rate::default(),
        requests: Rate::default(),
        refuse_blocked: false,
        told: Default::default(),
        seed: 1 + u64::from(shard),
    }
}

pub fn user(name: &str) -> UserKey {
    UserKey::new("default", name).unwrap()
}

pub fn wire(name: &str) -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(Peer::User(name.to_owned())) })
}

pub fn text(to: &str, cmid: [u8; 16], text: &str) -> v1::Send {
    v1::Send {
        to: wire(to),
        client_message_id: Bytes::copy_from_slice(&cmid),
        body: Some(v1::send::Body::Text(text.to_owned())),
        ..Default::default()
    }
}

pub fn cmid(n: u32) -> [u8; 16] {
    let mut id = [0x11; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    id
}

/// `from` sends texts numbered in `range` to `to`, one after the other.
pub fn send_all(world: &mut World, from: ConnRef, to: &str, range: std::ops::Range<u32>) {
    for n in range {
        world.sent(from, text(to, cmid(n), &format!("text {n}"))).unwrap();
    }
}

pub fn read(peer: &str, seq: u64) -> Request {
    Request::Read(Box::new(v1::Read { conversation: wire(peer), seq }))
}

/// A UUIDv7 made at this time.
pub fn v7(unix_ms: u64, n: u8) -> [u8; 16] {
    let mut id = [n; 16];
    id[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    (id[6], id[8]) = (0x70, 0x80);
    id
}

impl World {
    pub fn new(shards: u16) -> Self {
        Self::with(shards, Faults::none(), |_| {})
    }

    /// The store's faults follow from `seed`.
    pub fn seeded(seed: u64, shards: u16, faults: Faults) -> Self {
        Self { store: FaultyStore::new(seed, faults), ..Self::new(shards) }
    }

    pub fn with(shards: u16, faults: Faults, change: impl Fn(&mut Settings)) -> Self {
        let now = Now { mono_ms: 1_000, unix_us: START_UNIX_US };
        let mut settings: Vec<_> = (0..shards).map(|shard| settings(shard, shards)).collect();
        settings.iter_mut().for_each(change);
        Self {
            mono_us: 1_000_000,
            step_us: 0,
            routers: settings.iter().map(|settings| Router::new(settings.clone(), now)).collect(),
            store: FaultyStore::new(9, faults),
            asked: BTreeMap::new(),
            tags: 0,
            envelopes: VecDeque::new(),
            got: BTreeMap::new(),
            conns: 0,
            ids: 100,
            loses: |_| false,
            expired: false,
            hold_store: false,
            hold_work: false,
            swap: 0,
            inputs: 0,
            settings,
            raises: Vec::new(),
            pushes: Vec::new(),
            operator: BTreeMap::new(),
        }
    }

    pub fn now(&self) -> Now {
        let unix_us = (START_UNIX_US + self.mono_us - 1_000_000) as i64 + self.step_us;
        Now { mono_ms: self.mono_us / 1_000, unix_us: unix_us as u64 }
    }

    pub fn unix_ms(&self) -> u64 {
        self.now().unix_us / 1_000
    }

    pub fn identity(&self, name: &str, device: &str, ttl_ms: u64) -> Arc<Identity> {
        let device = DeviceId::new(device).unwrap();
        let now_ms = self.unix_ms();
        let (issued_ms, exp_ms, primary) = (now_ms, now_ms + ttl_ms, None);
        Arc::new(Identity { user: user(name), device, issued_ms, exp_ms, primary })
    }

    /// Says hello on a new connection at the user's home shard.
    pub fn hello(&mut self, identity: Arc<Identity>, hello: v1::Hello) -> ConnRef {
        let shard = home_of_user(&identity.user, self.routers.len() as u16);
        self.hello_at(shard, identity, hello)
    }

    /// The connection is at `shard`, wherever the user lives.
    pub fn hello_at(&mut self, shard: u16, identity: Arc<Identity>, hello: v1::Hello) -> ConnRef {
        self.conns += 1;
        let conn = ConnRef { shard, slot: self.conns, generation: 0 };
        let home = home_of_user(&identity.user, self.routers.len() as u16);
        self.input(home, Input::Open { conn, id: 1, identity, hello: Box::new(hello) });
        conn
    }

    /// These devices of a user are linked, with nothing written of what they have.
    pub fn link(&mut self, name: &str, devices: &[&str]) {
        let mut list = DeviceList::default();
        for device in devices {
            list.link(DeviceId::new(device).unwrap(), None, self.unix_ms());
        }
        self.put_devices(name, &list);
    }

    pub fn put_devices(&mut self, name: &str, list: &DeviceList) {
        self.put_document(DocumentKey::Devices(user(name)), list.encode());
    }

    pub fn put_document(&mut self, key: DocumentKey, bytes: Bytes) {
        let expected = self.document(&key).map_or(0, |(version, _)| version);
        let outcome = self.store.set_up(&StoreRequest::Cas { tag: 0, key, expected, bytes });
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }

    /// What is stored of a user's devices.
    pub fn devices(&self, name: &str) -> DeviceList {
        let stored = self.device_document(name).unwrap_or_default();
        DeviceList::decode(&stored.1).unwrap()
    }

    /// The same as it is in the store, with its version there.
    pub fn device_document(&self, name: &str) -> Option<(u64, Bytes)> {
        self.document(&DocumentKey::Devices(user(name)))
    }

    /// Its version in the store, and its bytes.
    pub fn document(&self, key: &DocumentKey) -> Option<(u64, Bytes)> {
        match self.store.read(&StoreRequest::ReadDocument { tag: 0, key: key.clone() }) {
            Some(Outcome::Document(found)) => found,
            other => panic!("{other:?}"),
        }
    }

    /// A session of an hour, synced.
    pub fn open(&mut self, name: &str, device: &str) -> ConnRef {
        let conn = self.hello(self.identity(name, device, 3_600_000), v1::Hello::default());
        self.settle();
        conn
    }

    pub fn input(&mut self, shard: u16, input: Input) {
        let now = self.now();
        self.inputs += 1;
        if self.swap != 0 && self.inputs.is_multiple_of(self.swap) {
            self.write_out_and_read_back(shard);
        }
        self.routers[usize::from(shard)].handle(now, input);
        self.drain(shard);
    }

    fn write_out_and_read_back(&mut self, shard: u16) {
        let at = usize::from(shard);
        let snapshot = self.routers[at].snapshot();
        let router = Router::restore(self.settings[at].clone(), self.now(), &snapshot).expect("its own snapshot");
        assert!(router.snapshot() == snapshot, "what was read back is what was written");
        self.routers[at] = router;
    }

    /// A request on a connection at its user's home; returns its id.
    pub fn ask(&mut self, conn: ConnRef, request: Request) -> u64 {
        self.ids += 1;
        self.input(conn.shard, Input::Request { conn, id: self.ids, request });
        self.ids
    }

    pub fn send(&mut self, conn: ConnRef, send: v1::Send) -> u64 {
        self.ask(conn, Request::Send(Box::new(send)))
    }

    /// Sends, waits, and returns the answer.
    pub fn sent(&mut self, conn: ConnRef, send: v1::Send) -> Result<v1::Sent, v1::Error> {
        let id = self.send(conn, send);
        self.settle();
        self.outcome(conn, id).expect("an answer")
    }

    /// What became of a send, if it is known; takes it out of what the connection got.
    pub fn outcome(&mut self, conn: ConnRef, id: u64) -> Option<Result<v1::Sent, v1::Error>> {
        let got = self.got.entry(key(conn)).or_default();
        let at = got.iter().position(|got| match got {
            Got::Sent(re, _) | Got::Frame(re, Answer::Error(_)) => *re == id,
            _ => false,
        })?;
        match got.remove(at) {
            Got::Sent(_, sent) => Some(Ok(sent)),
            Got::Frame(_, Answer::Error(error)) => Some(Err(error)),
            _ => None,
        }
    }

    /// The answer to a request that has one frame as its answer.
    pub fn answer(&mut self, conn: ConnRef, request: Request) -> Answer {
        let id = self.ask(conn, request);
        self.settle();
        let got = self.got.entry(key(conn)).or_default();
        let at = got.iter().position(|got| matches!(got, Got::Frame(re, _) if *re == id)).expect("an answer");
        match got.remove(at) {
            Got::Frame(_, answer) => answer,
            _ => unreachable!(),
        }
    }

    pub fn error(&mut self, conn: ConnRef, request: Request) -> v1::Error {
        match self.answer(conn, request) {
            Answer::Error(error) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn ack(&mut self, conn: ConnRef, push: u64) {
        self.input(conn.shard, Input::Request { conn, id: 0, request: Request::Ack { push, ranges: false } });
    }

    pub fn close(&mut self, conn: ConnRef) {
        self.input(conn.shard, Input::Closed { conn });
    }

    /// What the connection got since the last call.
    pub fn got(&mut self, conn: ConnRef) -> Vec<Got> {
        self.got.remove(&key(conn)).unwrap_or_default()
    }

    /// The seqs that were pushed since the last call, in order; everything else is dropped.
    pub fn pushed(&mut self, conn: ConnRef) -> Vec<Seq> {
        let seq = |got: Got| if let Got::Record { record, .. } = got { Some(record.seq) } else { None };
        self.got(conn).into_iter().filter_map(seq).collect()
    }

    /// (delivered, read) of the ticks since the last call; everything else is dropped.
    pub fn ticks(&mut self, conn: ConnRef) -> Vec<(Seq, Seq)> {
        self.wire_ticks(conn).into_iter().map(|tick| (tick.delivered_seq, tick.read_seq)).collect()
    }

    pub fn wire_ticks(&mut self, conn: ConnRef) -> Vec<v1::Tick> {
        let tick = |got| match got {
            Got::Frame(_, Answer::Push(v1::Push { item: Some(Item::Tick(tick)), .. })) => Some(tick),
            _ => None,
        };
        self.got(conn).into_iter().filter_map(tick).collect()
    }

    /// The log of a group.
    pub fn log(&self, group: &[u8]) -> Vec<Arc<Record>> {
        self.store.log(&ConversationId(group.try_into().unwrap())).to_vec()
    }

    pub fn closed(&mut self, conn: ConnRef) -> Option<CloseCode> {
        self.got(conn).into_iter().find_map(|got| if let Got::Closed(code) = got { Some(code) } else { None })
    }

    pub fn delivered(&self, a: &str, b: &str, device: &str) -> Seq {
        let (a, device) = (user(a), DeviceId::new(device).unwrap());
        self.store.register(&RegisterKey::Delivered(a.direct_with(&user(b)), a, device))
    }

    /// Until nothing is under way; no timer is due meanwhile but those that come first.
    pub fn settle(&mut self) {
        loop {
            self.deliver();
            if !self.hold_work && self.routers.iter().any(|router| router.next_deadline_ms() == Some(0)) {
                // Work that was put off, not a deadline.
                self.timers();
                continue;
            }
            let Some(at_us) = self.store.next_ready_us().filter(|_| !self.hold_store) else { return };
            self.mono_us = self.mono_us.max(at_us);
            self.timers();
            self.poll_store();
        }
    }

    /// Moves time on by `ms`, and does whatever is due on the way.
    pub fn advance(&mut self, ms: u64) {
        let end_us = self.mono_us + ms * 1_000;
        loop {
            self.deliver();
            let timer = self.routers.iter().filter_map(Router::next_deadline_ms).min().map(|at_ms| at_ms * 1_000);
            let store = self.store.next_ready_us().filter(|_| !self.hold_store);
            let Some(at_us) = [timer, store].into_iter().flatten().min().filter(|at| *at <= end_us) else { break };
            self.mono_us = self.mono_us.max(at_us);
            self.timers();
            if !self.hold_store {
                self.poll_store();
            }
        }
        self.mono_us = end_us;
    }

    /// One turn of a shard's work.
    pub fn turn(&mut self, shard: u16) {
        self.input(shard, Input::Timer);
        self.deliver();
    }

    fn timers(&mut self) {
        for shard in 0..self.routers.len() as u16 {
            let due = self.routers[usize::from(shard)].next_deadline_ms().filter(|&at_ms| !self.hold_work || at_ms > 0);
            if due.is_some_and(|at_ms| at_ms <= self.mono_us / 1_000) {
                self.input(shard, Input::Timer);
            }
        }
    }

    fn poll_store(&mut self) {
        while let Some(StoreAnswer { tag, mut outcome }) = self.store.poll(self.mono_us) {
            if let Outcome::Conversation(Some(state)) = &mut outcome
                && self.expired
            {
                state.tail.clear();
            }
            let (shard, tag) = self.asked.remove(&tag).expect("an answer to a question, once");
            self.input(shard as u16, Input::Store(StoreAnswer { tag, outcome }));
        }
    }

    fn deliver(&mut self) {
        while let Some((shard, envelope)) = self.envelopes.pop_front() {
            match *envelope {
                Envelope::Outcome { re, outcome, .. } if shard == OPERATOR => drop(self.operator.insert(re, outcome)),
                envelope if (self.loses)(&envelope) => {}
                envelope => self.input(shard, Input::Envelope(Box::new(envelope))),
            }
        }
    }

    fn drain(&mut self, shard: u16) {
        while let Some(output) = self.routers[usize::from(shard)].poll_output() {
            let (conn, got) = match output {
                Output::Store(request) => {
                    self.tags += 1;
                    if let StoreRequest::Raise { raises, .. } = &request {
                        self.raises.push(raises.clone());
                    }
                    self.asked.insert(self.tags, (usize::from(shard), request.tag()));
                    self.store.submit(request.with_tag(self.tags), self.mono_us);
                    continue;
                }
                Output::Envelope { shard, envelope } => {
                    self.envelopes.push_back((shard, envelope));
                    continue;
                }
                Output::Frame { conn, frame } => (conn, Got::Frame(frame.re, frame.answer.expect("an answer"))),
                Output::Sent { conn, re, sent } => (conn, Got::Sent(re, sent)),
                Output::PushRecord { conn, n, peer, record, own } => {
                    self.pushes.push((conn, record.seq));
                    (conn, Got::Record { n, peer: named(&peer), record, own })
                }
                Output::Page { conn, re, page } => (conn, Got::Page(re, page)),
                Output::Close { conn, code, .. } => (conn, Got::Closed(code)),
                Output::Reading { conn, on } => (conn, Got::Reading(on)),
                Output::Established { conn } => (conn, Got::Established),
            };
            assert_eq!(conn.shard, shard, "an output reaches the shard of its connection");
            self.got.entry(key(conn)).or_default().push(got);
        }
    }
}

fn key(conn: ConnRef) -> (u16, u32, u32) {
    (conn.shard, conn.slot, conn.generation)
}

fn named(peer: &ringpost_persist::Peer) -> String {
    match peer {
        ringpost_persist::Peer::User(user) => user.user().to_owned(),
        ringpost_persist::Peer::Group(id) => format!("{id:?}"),
    }
}
