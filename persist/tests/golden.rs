//! What version 1 wrote is read for ever. The files in `golden/store-v1` were made from the description of the formats, not
//! by this code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use common::TempDir;
use ringpost_persist::embedded::committer::{Committer, Recovery};
use ringpost_persist::embedded::{Options, Stats};
use ringpost_persist::files::crash::CrashFiles;
use ringpost_persist::{Body, ConversationKind, Outcome, Raise, Record, RegisterKey, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const IDENTITY: &[u8] = include_bytes!("golden/store-v1/identity");
const SEGMENT: &[u8] = include_bytes!("golden/store-v1/wal-0000000001.log");
const CONVERSATION: ConversationId = ConversationId([0x0c; 16]);
const INCARNATION: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn user(name: &str) -> UserKey {
    UserKey::new("default", name).unwrap()
}

fn phone() -> DeviceId {
    DeviceId::new("phone").unwrap()
}

fn record(seq: Seq, kind: Value, sender: &str, body: Body, trace: Option<[u8; 16]>) -> Arc<Record> {
    Arc::new(Record {
        seq,
        id: 1_000 + seq,
        us: 1_764_000_000_000_000 + seq,
        ordinal: seq,
        sender: user(sender),
        device: phone(),
        cmid: ClientMessageId([seq as u8; 16]),
        content_hash: [0xcc; 16],
        previous_hash: [0xdd; 16],
        kind,
        ref_seq: 0,
        body,
        media: None,
        trace,
    })
}

fn records() -> [Arc<Record>; 3] {
    [
        record(1, Value::Text, "ann", Body::Text("grüße".into()), None),
        record(2, Value::Data, "bob", Body::Payload(vec![0, 255].into()), Some([0x7a; 16])),
        record(3, Value::Text, "ann", Body::Text("x".repeat(600).into()), None),
    ]
}

fn registers() -> [RegisterKey; 4] {
    [
        RegisterKey::Delivered(CONVERSATION, user("bob"), phone()),
        RegisterKey::Read(CONVERSATION, user("bob")),
        RegisterKey::TickDelivered(CONVERSATION, user("ann"), phone()),
        RegisterKey::TickRead(CONVERSATION, user("ann"), phone()),
    ]
}

fn open(files: &CrashFiles, trees: &TempDir, numbers: [u64; 4]) -> Recovery {
    let mut numbers = numbers.into_iter();
    let entropy = Box::new(move || numbers.next().unwrap());
    let trees = trees.to_path_buf();
    let mut options = Options { segment_bytes: 4 << 10, entropy, trees, ..Options::new("/data", 0) };
    Committer::open(Arc::new(files.clone()), &mut options).unwrap()
}

#[test]
fn a_store_of_version_1_is_read() {
    let files = CrashFiles::new();
    files.tamper(Path::new("/data/identity"), Some(IDENTITY.to_vec()));
    files.tamper(Path::new("/data/wal-0000000001.log"), Some(SEGMENT.to_vec()));
    let dir = TempDir::new();
    // A version before the trees wrote it: they are filled from the whole log once, and hold it from then on.
    for covered in [0, 2] {
        let mut recovery = open(&files, &dir, [1, 2, 3, 4]);
        assert_eq!((recovery.incarnation, recovery.report.covered), (INCARNATION, covered));
        let trees = recovery.committer.trees();
        assert_eq!(format!("{:?}", trees.log_of(&CONVERSATION).unwrap()), format!("{:?}", records()));
        let kind = ConversationKind::Direct([user("ann"), user("bob")]);
        assert_eq!(trees.kind(&CONVERSATION).unwrap(), Some(kind));
        assert_eq!(registers().map(|key| trees.register(&key).unwrap()), [1; 4]);
        recovery.committer.checkpoint(Instant::now(), 0).run(&Stats::default()).unwrap();
    }
}

#[test]
fn version_1_is_still_written_as_it_was() {
    let files = CrashFiles::new();
    let [low, high] = [0, 8].map(|at| u64::from_le_bytes(INCARNATION[at..at + 8].try_into().unwrap()));
    let mut committer = open(&files, &TempDir::new(), [high, low, 7, 0x5a17]).committer;
    let kind = Arc::new(ConversationKind::Direct([user("ann"), user("bob")]));
    let append = |expected_head: Seq, records: &[Arc<Record>]| StoreRequest::Append {
        tag: 0,
        conversation: CONVERSATION,
        kind: Arc::clone(&kind),
        expected_head,
        records: records.to_vec(),
    };
    let mut answers = Vec::new();
    committer.stage(0, append(0, &records()[..2]));
    committer.commit(&mut answers).unwrap();
    let raises = registers().map(|key| Raise { key, value: 1, stamp: 1_764_000_000_000_001 });
    committer.stage(0, StoreRequest::Raise { tag: 0, raises: raises.to_vec() });
    committer.stage(0, append(2, &records()[2..]));
    committer.commit(&mut answers).unwrap();
    assert!(answers.iter().all(|(_, answer)| matches!(answer.outcome, Outcome::Appended { .. } | Outcome::Raised)));
    for (name, content) in files.contents() {
        if name.ends_with("identity") {
            assert_eq!(content, IDENTITY);
        } else {
            assert_eq!(&content[..SEGMENT.len()], SEGMENT);
            assert!(content[SEGMENT.len()..].iter().all(|byte| *byte == 0));
        }
    }
}
