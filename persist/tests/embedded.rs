//! The embedded store on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use common::TempDir;
use common::records::options;
use ringpost_persist::conformance::{self, Driver};
use ringpost_persist::embedded::{self, OpenError, Opened, Options, StorePort};
use ringpost_persist::files::RealFiles;
use ringpost_persist::{Body, ConversationKind, Outcome, Record, StoreAnswer, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;

fn open(dir: &Path) -> Opened {
    let options = Options { segment_bytes: 256 << 10, ..options(dir, 1) };
    embedded::open(Arc::new(RealFiles), options).unwrap()
}

/// One port, and this thread woken by it.
struct Embedded {
    dir: TempDir,
    opened: Option<Opened>,
}

impl Embedded {
    fn new() -> Self {
        let mut store = Self { dir: TempDir::new(), opened: None };
        store.reopen();
        store
    }

    fn port(&mut self) -> &mut StorePort {
        &mut self.opened.as_mut().unwrap().ports[0]
    }
}

impl Driver for Embedded {
    fn submit(&mut self, request: StoreRequest) {
        self.port().submit(request).unwrap();
        self.port().flush();
    }

    fn answer(&mut self) -> StoreAnswer {
        loop {
            if let Some(answer) = self.port().poll() {
                return answer;
            }
            std::thread::park();
        }
    }

    fn reopen(&mut self) {
        self.opened = None;
        self.opened = Some(open(&self.dir));
        let waiting: Thread = std::thread::current();
        self.port().set_waker(Arc::new(move || waiting.unpark()));
    }
}

#[test]
fn it_passes_the_conformance_suite() {
    conformance::run(|| Box::new(Embedded::new()));
}

fn append(tag: u64, n: u8, expected_head: Seq) -> StoreRequest {
    let user = |name: &str| UserKey::new("default", name).unwrap();
    let body = Body::Text(format!("{n}: {tag}").into());
    let phone = DeviceId::new("phone").unwrap();
    let record = Record::new(user("ann"), phone, ClientMessageId([n; 16]), Value::Text, body);
    let seq = expected_head + 1;
    let record = Record { seq, id: seq, us: seq, ordinal: seq, ..record };
    StoreRequest::Append {
        tag,
        conversation: ConversationId([n; 16]),
        kind: Arc::new(ConversationKind::Direct([user("ann"), user(&format!("peer{n}"))])),
        expected_head,
        records: vec![Arc::new(record)],
    }
}

fn with_ports(dir: &TempDir, ports: usize, queue: usize) -> Opened {
    embedded::open(Arc::new(RealFiles), Options { segment_bytes: 64 << 10, queue, ..options(dir, ports) }).unwrap()
}

/// Waits as a shard without a ring would.
fn next(port: &mut StorePort) -> StoreAnswer {
    loop {
        if let Some(answer) = port.poll() {
            return answer;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_afterwards() {
    let dir = TempDir::new();
    let first = open(&dir);
    let second = embedded::open(Arc::new(RealFiles), options(&dir, 1));
    let error = second.err().expect("opened twice");
    assert!(matches!(error, OpenError::InUse(_)));
    assert_eq!(error.to_string(), format!("data directory {} is in use by another process", dir.display()));
    drop(first);
    open(&dir);
}

#[test]
fn a_store_that_was_put_back_is_another_one_to_clients_and_the_same_to_itself() {
    let dir = TempDir::new();
    let mut seen = vec![open(&dir).incarnation];
    assert_eq!(open(&dir).incarnation, seen[0]);
    let opened = open(&dir);
    assert!(matches!(embedded::restored(&RealFiles, &dir), Err(OpenError::InUse(_))));
    drop(opened);
    for _ in 0..2 {
        let told = embedded::restored(&RealFiles, &dir).unwrap();
        assert!(!seen.contains(&told));
        assert_eq!(open(&dir).incarnation, told);
        assert_eq!(open(&dir).incarnation, told, "for as long as nobody says so again");
        seen.push(told);
    }
    let nothing = TempDir::new();
    std::fs::create_dir_all(&*nothing).unwrap();
    assert!(matches!(embedded::restored(&RealFiles, &nothing), Err(OpenError::NoStore(_))));
    // A file that is not as it was written is not taken for another one.
    std::fs::write(dir.join("incarnation"), b"spoiled").unwrap();
    let error = embedded::open(Arc::new(RealFiles), options(&dir, 1)).err().expect("opened");
    assert!(error.to_string().contains("incarnation"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = embedded::open(Arc::new(RealFiles), Options::new("/dev/null/store", 1)).err().expect("opened");
    let line = error.to_string();
    assert!(line.contains("/dev/null/store") && line.lines().count() == 1, "{line}");
}

#[test]
fn what_people_wrote_is_for_the_servers_user_only() {
    let dir = TempDir::new();
    drop(open(&dir));
    let files = std::fs::read_dir(&*dir).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([dir.to_path_buf()]) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
}

#[test]
fn the_incarnation_stays_with_the_directory() {
    let (dir, other) = (TempDir::new(), TempDir::new());
    let first = open(&dir).incarnation;
    assert_eq!(open(&dir).incarnation, first);
    assert_ne!(open(&other).incarnation, first);
}

#[test]
fn a_full_port_gives_the_request_back_until_an_answer_is_taken() {
    let dir = TempDir::new();
    let mut opened = with_ports(&dir, 1, 4);
    let port = &mut opened.ports[0];
    for tag in 0..4 {
        port.submit(append(tag, tag as u8, 0)).unwrap();
    }
    port.flush();
    // Answered or not: the slots are taken until the answers are polled.
    assert_eq!(port.submit(append(4, 4, 0)).unwrap_err().tag(), 4);
    assert_eq!(port.submit(StoreRequest::Sweep { tag: 5 }).unwrap_err().tag(), 5);
    next(port);
    port.submit(append(4, 4, 0)).unwrap();
    port.flush();
    let mut rest: Vec<_> = (0..4).map(|_| next(port).tag).collect();
    rest.sort_unstable();
    assert_eq!(rest, [1, 2, 3, 4]);
    assert_eq!(port.outstanding(), 0);
}

#[test]
fn what_waits_together_is_synced_together() {
    let dir = TempDir::new();
    let mut opened = with_ports(&dir, 2, 256);
    let stats = Arc::clone(opened.store.stats());
    for port in &mut opened.ports {
        for tag in 0..100 {
            let n = tag as u8 + if port.outstanding() % 2 == 0 { 0 } else { 100 };
            // Some are refused where both ports write to one conversation: they count as answered, not as records.
            port.submit(append(tag, n, 0)).unwrap();
        }
    }
    opened.ports.iter_mut().for_each(StorePort::flush);
    let mut appended = 0;
    for port in &mut opened.ports {
        for _ in 0..100 {
            appended += u64::from(matches!(next(port).outcome, Outcome::Appended { head: 1 }));
        }
    }
    let (records, syncs) = (stats.records.load(Ordering::Relaxed), stats.fdatasyncs.load(Ordering::Relaxed));
    assert_eq!(records, appended);
    assert_eq!(stats.appends.load(Ordering::Relaxed), 200);
    assert!((1..=20).contains(&syncs), "{syncs} fdatasyncs for {records} records");
    assert_eq!(stats.commit_buckets.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>(), syncs);
}

#[test]
fn several_shards_at_once_lose_and_double_nothing() {
    const EACH: Seq = 300;
    let dir = TempDir::new();
    let opened = with_ports(&dir, 3, 64);
    std::thread::scope(|scope| {
        for (n, mut port) in opened.ports.into_iter().enumerate() {
            scope.spawn(move || {
                for head in 0..EACH {
                    port.submit(append(head, n as u8, head)).unwrap();
                    port.flush();
                    let answer = next(&mut port);
                    assert!(matches!(answer.outcome, Outcome::Appended { head: h } if h == head + 1));
                    // Every later read sees it.
                    let conversation = ConversationId([n as u8; 16]);
                    port.submit(StoreRequest::LoadConversation { tag: 0, conversation }).unwrap();
                    port.flush();
                    let seen = next(&mut port).outcome;
                    assert!(matches!(seen, Outcome::Conversation(Some(state)) if state.head == head + 1));
                }
            });
        }
    });
    drop(opened.store);
    let again = with_ports(&dir, 1, 8);
    assert_eq!(again.recovery.records, 3 * EACH);
    assert_eq!(again.recovery.cut_bytes, 0);
}

#[test]
fn closing_answers_what_was_submitted_and_takes_nothing_more() {
    let dir = TempDir::new();
    let Opened { store, mut ports, .. } = with_ports(&dir, 1, 64);
    let port = &mut ports[0];
    for tag in 0..50 {
        port.submit(append(tag, tag as u8, 0)).unwrap();
    }
    drop(store);
    for tag in 0..50 {
        let answer = port.poll().expect("an answer that was promised");
        assert!(answer.tag == tag && matches!(answer.outcome, Outcome::Appended { head: 1 }));
    }
    assert!(port.submit(append(50, 50, 0)).is_err());
    assert_eq!(open(&dir).recovery.records, 50);
}
