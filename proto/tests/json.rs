//! The JSON mapping as client developers type it.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request;
use ringpost_proto::wire::{Encoding, decode_client, encode_server};

fn decode(json: &str) -> Result<v1::ClientFrame, String> {
    decode_client(Encoding::Json, Bytes::copy_from_slice(json.as_bytes())).map_err(|e| e.reason().to_owned())
}

#[test]
fn a_hand_typed_send_is_understood() {
    let frame = decode(r#"{"id":"7","send":{"to":{"user":"bob"},"text":"hi"}}"#).unwrap();
    assert_eq!(frame.id, 7);
    let Some(Request::Send(send)) = frame.request else { panic!("not a send") };
    assert_eq!(send.to.unwrap().peer, Some(v1::peer::Peer::User("bob".into())));
    assert_eq!(send.body, Some(v1::send::Body::Text("hi".into())));
}

#[test]
fn sixty_four_bit_numbers_come_as_strings_or_numbers() {
    for json in [r#"{"ack":{"push":"12"}}"#, r#"{"ack":{"push":12}}"#] {
        let Some(Request::Ack(ack)) = decode(json).unwrap().request else { panic!("not an ack") };
        assert_eq!(ack.push, 12);
    }
}

#[test]
fn unknown_fields_and_requests_are_ignored() {
    let frame = decode(r#"{"id":"3","fly":{"to":"the moon"},"x":1}"#).unwrap();
    assert_eq!((frame.id, frame.request), (3, None));
}

#[test]
fn a_wrong_type_is_blamed_on_its_field() {
    let reason = decode(r#"{"id":"1","send":{"to":{"user":5},"text":"hi"}}"#).unwrap_err();
    assert!(reason.starts_with("send.to.user"), "{reason}");
    let reason = decode(r#"{"id":"1","read":{"seq":"many"}}"#).unwrap_err();
    assert!(reason.starts_with("read.seq"), "{reason}");
    for (json, field) in
        [(r#"{"id":-1}"#, "id"), (r#"{"id":1.5}"#, "id"), (r#"{"history":{"limit":-1}}"#, "history.limit")]
    {
        let reason = decode(json).unwrap_err();
        assert!(reason.starts_with(&format!("{field}: ")) && !reason.contains("enum"), "{json}: {reason}");
    }
}

#[test]
fn where_no_field_is_wrong_the_frame_is() {
    for json in ["{", "", "{} {}", "[]", "nonsense", r#"{"id""#] {
        let reason = decode(json).unwrap_err();
        assert!(reason.starts_with("frame: "), "{json}: {reason}");
    }
    for bytes in [&[0xff; 4][..], &[0x00]] {
        let error = decode_client(Encoding::Protobuf, Bytes::copy_from_slice(bytes)).unwrap_err();
        assert!(error.reason().starts_with("frame: "), "{bytes:?}: {error}");
    }
}

#[test]
fn a_reason_fits_a_close_frame() {
    let long = format!(r#"{{"send":{{"kind":"{}"}}}}"#, "é".repeat(400));
    assert!(decode(&long).unwrap_err().len() <= 123);
}

#[test]
fn broken_protobuf_is_blamed_on_its_field() {
    // Frame field 3 (send), length 2; inside it field 1 (to) as a varint.
    let error = decode_client(Encoding::Protobuf, Bytes::from_static(&[0x1a, 0x02, 0x08, 0x01])).unwrap_err();
    assert!(error.reason().contains("to"), "{error}");
}

#[test]
fn answers_leave_out_defaults_and_write_big_numbers_as_strings() {
    let sent = v1::Sent { seq: 1, id: 1 << 60, server_time_ms: 5, duplicate: false };
    let frame = v1::ServerFrame { re: 7, answer: Some(v1::server_frame::Answer::Sent(sent)) };
    let mut out = Vec::new();
    encode_server(Encoding::Json, &frame, &mut out);
    let json = r#"{"re":"7","sent":{"seq":"1","id":"1152921504606846976","serverTimeMs":"5"}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), json);
}
