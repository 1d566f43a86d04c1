//! Stores on the node of the test, and a writer that does what a room does.

use crate::common::records;
use ringpost_persist::conformance::Driver;
use ringpost_persist::scylla::{Opened, Options, Stats, StorePort, open};
use ringpost_persist::{Body, Outcome, ReadRange, Record, StoreAnswer, StoreRequest, content_hash};
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1::kind::Value;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One test at a time has the node: one of them kills it.
pub fn alone() -> MutexGuard<'static, ()> {
    static NODE: Mutex<()> = Mutex::new(());
    NODE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn variable(name: &str) -> String {
    let missing = format!("{name} is not set: see the head of persist/tests/cluster/main.rs, or run .ci/test cluster");
    std::env::var(name).expect(&missing)
}

/// On how many nodes each row is: of several, one at a time may be killed.
fn replication() -> usize {
    std::env::var("RINGPOST_TEST_REPLICATION")
        .map_or(1, |text| text.parse().expect("RINGPOST_TEST_REPLICATION: a number"))
}

/// A keyspace of this run.
pub fn keyspace(name: &str) -> String {
    format!("{name}_{}", std::process::id())
}

/// A connection beside the store.
pub struct Admin {
    runtime: tokio::runtime::Runtime,
    session: Session,
}

impl Admin {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let session = SessionBuilder::new().known_node(variable("RINGPOST_TEST_CQL"));
        let session = runtime.block_on(session.build()).unwrap();
        Self { runtime, session }
    }

    /// Makes the tables of a keyspace as they were when they were made, if they were.
    pub fn empty(&self, keyspace: &str) {
        let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let found = self.runtime.block_on(self.session.query_unpaged(tables, (keyspace,))).unwrap();
        for row in found.into_rows_result().unwrap().rows::<(String,)>().unwrap() {
            self.run(&format!("TRUNCATE {keyspace}.{}", row.unwrap().0));
        }
    }

    pub fn run(&self, cql: &str) {
        self.runtime.block_on(self.session.query_unpaged(cql, ())).unwrap();
    }

    /// What a `SELECT count(*)` says.
    pub fn count(&self, cql: &str) -> i64 {
        let found = self.runtime.block_on(self.session.query_unpaged(cql, ())).unwrap();
        found.into_rows_result().unwrap().first_row::<(i64,)>().unwrap().0
    }
}

/// Of a store with one port.
pub fn options(keyspace: &str) -> Options {
    let mut options = Options::new(vec![variable("RINGPOST_TEST_CQL")], 1);
    options.keyspace = keyspace.to_owned();
    options.replication = vec![("datacenter1".into(), replication())];
    options
}

/// One port, and the thread that opened it woken by it.
pub struct Cluster {
    keyspace: String,
    opened: Option<Opened>,
}

impl Cluster {
    pub fn open(keyspace: &str) -> Self {
        let mut store = Self { keyspace: keyspace.to_owned(), opened: None };
        store.reopen();
        store
    }

    pub fn port(&mut self) -> &mut StorePort {
        &mut self.opened.as_mut().unwrap().ports[0]
    }

    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(self.opened.as_ref().unwrap().store.stats())
    }

    /// Ends the store; its port is still there.
    pub fn close(mut self) -> StorePort {
        let Opened { store, mut ports } = self.opened.take().unwrap();
        drop(store);
        ports.remove(0)
    }

    pub fn ask(&mut self, request: StoreRequest) -> Outcome {
        self.submit(request);
        self.answer().outcome
    }

    pub fn append(&mut self, n: usize, expected_head: Seq, records: Vec<Record>) -> Outcome {
        self.ask(records::append(n, expected_head, records))
    }

    /// The head, and the records from..=to.
    pub fn read(&mut self, n: usize, from: Seq, to: Seq) -> Option<(Seq, Vec<Arc<Record>>)> {
        let request = StoreRequest::ReadLog {
            tag: 0,
            conversation: records::conversation(n),
            viewer: None,
            range: ReadRange::From { from, to },
            records: u32::MAX,
            bytes: u32::MAX,
        };
        match self.ask(request) {
            Outcome::LogSlice { head, records, .. } => Some((head, records)),
            Outcome::Unavailable => None,
            other => panic!("no slice: {other:?}"),
        }
    }

    /// Appends one record after what is there, whatever becomes of each try, as a room does: the same again while the slot is
    /// empty, behind another's record. Returns where it is.
    pub fn write(&mut self, n: usize, mut head: Seq, unique: u64) -> Seq {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            assert!(Instant::now() < deadline, "no answer that tells anything");
            let ours = note(n, head + 1, unique);
            match self.append(n, head, vec![note(n, head + 1, unique)]) {
                Outcome::Appended { head: landed } => {
                    assert_eq!(landed, head + 1);
                    return landed;
                }
                Outcome::Conflict { .. } | Outcome::Unknown => {}
                Outcome::Unavailable => std::thread::sleep(Duration::from_millis(100)),
                other => panic!("not appended: {other:?}"),
            }
            let Some((longer, records)) = self.read(n, head + 1, Seq::MAX) else { continue };
            if records.first().is_some_and(|record| record.hash() == ours.hash()) {
                return head + 1;
            }
            head = longer.max(head);
        }
    }

    /// That the log is dense, and holds what was acknowledged: (position, unique) of each.
    pub fn check(&mut self, n: usize, acknowledged: &[(Seq, u64)]) {
        let (head, log) = self.read(n, 1, Seq::MAX).unwrap();
        assert!(log.iter().map(|record| record.seq).eq(1..=head), "not dense");
        assert_eq!(log.len(), acknowledged.len(), "a record that nobody was told of, or one that is missing");
        for (seq, unique) in acknowledged {
            assert_eq!(log[*seq as usize - 1].hash(), note(n, *seq, *unique).hash(), "record {seq}");
        }
    }
}

impl Driver for Cluster {
    fn submit(&mut self, request: StoreRequest) {
        self.port().submit(request).unwrap();
        self.port().flush();
    }

    fn answer(&mut self) -> StoreAnswer {
        loop {
            if let Some(answer) = self.port().poll() {
                return answer;
            }
            std::thread::park_timeout(Duration::from_secs(1));
        }
    }

    fn reopen(&mut self) {
        self.opened = None;
        self.opened = Some(open(options(&self.keyspace)).unwrap());
        let waiting = std::thread::current();
        self.port().set_waker(Arc::new(move || waiting.unpark()));
    }
}

/// A record of conversation `n` that is like no other.
pub fn note(n: usize, seq: Seq, unique: u64) -> Record {
    let mut cmid = [0x70; 16];
    cmid[..8].copy_from_slice(&unique.to_be_bytes());
    with_body(n, seq, Body::Text(format!("note {unique}").into()), ClientMessageId(cmid))
}

/// A record of conversation `n` with so long a body.
pub fn long(n: usize, seq: Seq, len: usize) -> Record {
    with_body(n, seq, Body::Payload(vec![seq as u8; len].into()), records::cmid(seq))
}

fn with_body(n: usize, seq: Seq, body: Body, cmid: ClientMessageId) -> Record {
    let content_hash = content_hash(Value::Data, 0, &body, None);
    Record { body, content_hash, cmid, ..records::record(n, seq, 1_764_000_000_000_000 + seq) }
}

/// A record that takes another one's body back.
pub fn erasure(n: usize, seq: Seq, ref_seq: Seq) -> Record {
    Record { kind: Value::Erase, ref_seq, ..note(n, seq, 1_000_000 + seq) }
}
