//! What was written once is read for ever: a golden file per version of the stored record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use proptest::prelude::*;
use ringpost_persist::{Body, Record, RecordError, content_hash, content_hash_v1};
use ringpost_proto::id::{ClientMessageId, DeviceId, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::kind::Value as Kind;

const VERSION_1: &[u8] = include_bytes!("golden/record-v1.bin");
/// Made from the description of the format, not by this code.
const VERSION_2: &[u8] = include_bytes!("golden/record-v2.bin");

fn golden() -> Record {
    let body = Body::Text(Bytes::from_static("grüße".as_bytes()));
    Record {
        seq: 7,
        id: 0x0123_4567_89ab_cdef,
        us: 1_764_000_000_123_456,
        ordinal: 5,
        sender: UserKey::new("default", "alice").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        cmid: ClientMessageId([0xc1; 16]),
        content_hash: content_hash_v1(Kind::Edit, 3, &body, None),
        previous_hash: [0xee; 16],
        kind: Kind::Edit,
        ref_seq: 3,
        body,
        media: None,
        trace: Some([0x7a; 16]),
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut stored = Vec::new();
    record.encode(&mut stored);
    stored
}

#[test]
fn version_1_is_still_written_and_read_as_it_was() {
    assert_eq!(encoded(&golden()), VERSION_1);
    let read = Record::decode(VERSION_1).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", golden()));
    // The hashes are kept in logs for ever. Before XXH3-128 the one of the whole record was SHA-256, too.
    assert_eq!(read.hash().map(|b| format!("{b:02x}")).concat(), "0790dd5eabe701827abdec0cf8d344a9");
    assert_eq!(read.content_hash.map(|b| format!("{b:02x}")).concat(), "929cde7f4a9fc66923098a07cbbc497b");
}

/// A file, and what is said of it.
fn golden_media() -> Record {
    let payload = Body::Payload(Bytes::from_static(&[0, 255, 1]));
    Record { kind: Kind::Media, body: payload, media: Some(Bytes::from_static(b"\x0a\x01m")), ..golden() }
}

#[test]
fn version_2_is_still_written_and_read_as_it_was() {
    assert_eq!(encoded(&golden_media()), VERSION_2);
    let read = Record::decode(VERSION_2).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", golden_media()));
    assert_eq!(read.to_wire().media.map(|media| media.media_id).as_deref(), Some("m"));
    assert_eq!(read.hash().map(|b| format!("{b:02x}")).concat(), "e918d318a84d5c4c9709bf20356a3b32");
}

#[test]
fn an_erased_record_keeps_all_but_what_it_said() {
    let erased = golden_media().erased();
    assert_eq!(erased.hash(), golden_media().hash());
    assert_eq!(
        (erased.seq, erased.id, erased.kind, erased.content_hash),
        (7, golden().id, Kind::Media, golden().content_hash)
    );
    let wire = Record::decode(&encoded(&erased)).unwrap().to_wire();
    assert!(wire.erased && wire.body.is_none() && wire.media.is_none());
}

#[test]
fn each_device_has_its_own_slice() {
    let slice = |user: &str, device: &str, bytes: &'static [u8]| v1::Slice {
        user: user.into(),
        device: device.into(),
        registration_id: 1,
        bytes: Bytes::from_static(bytes),
    };
    let slices = vec![slice("bob", "phone", b"1"), slice("alice", "tablet", b"2"), slice("bob", "tablet", b"3")];
    let body = Body::Slices(prost::Message::encode_to_vec(&v1::Slices { slices }).into());
    let record = Record::decode(&encoded(&Record { body, ..golden() })).unwrap();
    let of = |user: &str, device: &str| {
        record.slice_for(&UserKey::new("default", user).unwrap(), &DeviceId::new(device).unwrap())
    };
    assert_eq!(of("bob", "tablet").as_deref(), Some(&b"3"[..]));
    assert_eq!(of("alice", "tablet").as_deref(), Some(&b"2"[..]));
    assert_eq!(of("alice", "phone"), None);
    assert!(record.to_wire().body.is_none(), "nobody is told a body that is not for it");
}

#[test]
fn every_field_survives() {
    let payload = Body::Payload(Bytes::from_static(&[0, 255, 1]));
    let record = Record { kind: Kind::Data, body: payload, trace: None, ..golden() };
    assert_eq!(format!("{:?}", Record::decode(&encoded(&record)).unwrap()), format!("{record:?}"));
}

#[test]
fn the_hash_covers_every_field() {
    let hash = golden().hash();
    let others = [
        Record { seq: 8, ..golden() },
        Record { us: 1, ..golden() },
        Record { ordinal: 6, ..golden() },
        Record { previous_hash: [0; 16], ..golden() },
        Record { trace: None, ..golden() },
        Record { media: Some(Bytes::new()), ..golden() },
        Record { body: Body::Payload(Bytes::copy_from_slice(golden().body.bytes())), ..golden() },
        Record { sender: UserKey::new("default", "alicia").unwrap(), ..golden() },
    ];
    for other in others {
        assert_ne!(other.hash(), hash, "{other:?}");
    }
}

#[test]
fn other_content_has_another_content_hash() {
    let text = Body::Text(Bytes::from_static(b"x"));
    for content_hash in [content_hash, content_hash_v1] {
        let same = content_hash(Kind::Text, 0, &text, None);
        assert_eq!(content_hash(Kind::Text, 0, &text.clone(), None), same);
        assert_ne!(content_hash(Kind::Data, 0, &text, None), same);
        assert_ne!(content_hash(Kind::Text, 1, &text, None), same);
        assert_ne!(content_hash(Kind::Text, 0, &Body::Text(Bytes::from_static(b"y")), None), same);
        assert_ne!(content_hash(Kind::Text, 0, &Body::Payload(Bytes::from_static(b"x")), None), same);
        assert_ne!(content_hash(Kind::Text, 0, &text, Some(&Bytes::new())), same);
    }
}

#[test]
fn a_client_is_told_all_but_what_depends_on_who_it_is() {
    let wire = golden().to_wire();
    let expected = v1::Record {
        conversation: None,
        client_message_id: Bytes::new(),
        seq: 7,
        id: 0x0123_4567_89ab_cdef,
        from: "alice".into(),
        from_device: "phone".into(),
        kind: Kind::Edit as i32,
        body: Some(v1::record::Body::Text("grüße".into())),
        ref_seq: 3,
        server_time_ms: 1_764_000_000_123,
        media: None,
        change: None,
        erased: false,
    };
    assert_eq!(wire, expected);
}

#[test]
fn what_is_no_record_is_refused_with_the_reason() {
    let error = |bytes: &[u8]| Record::decode(bytes).unwrap_err();
    for len in 0..VERSION_1.len() {
        assert_eq!(error(&VERSION_1[..len]), RecordError::Truncated, "{len}");
    }
    let changed = |at: usize, to: u8| {
        let mut bytes = VERSION_1.to_vec();
        bytes[at] = to;
        error(&bytes)
    };
    assert_eq!(changed(0, 3), RecordError::Version(3));
    // One that version 1 can say is never written as version 2.
    assert_eq!(error(&[&[2, 4, 1, 0], &VERSION_1[3..]].concat()), RecordError::Field("version"));
    assert_eq!(changed(1, 200), RecordError::Field("kind"));
    assert_eq!(changed(2, 0xff), RecordError::Field("flags"));
    assert_eq!(error(&[VERSION_1, b"x"].concat()), RecordError::Trailing(1));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), version in 0u8..3) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(encoded(&record), bytes);
        }
    }
}
