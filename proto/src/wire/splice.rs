//! A record is encoded once per encoding and shared by all who get it: what depends on the receiver (the conversation as
//! seen from its side, the client message id on the sender's own devices) is written before the shared part.
//!
//! Protobuf allows it because the fields of a message may come in any order and be concatenated; JSON because an object's
//! members may too.

use super::Encoding;
use crate::v1;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

// Field numbers of ringpost/v1/{frames,messages}.proto; a test compares with the generated encoder.
const FRAME_RE: u32 = 1;
const FRAME_PUSH: u32 = 4;
const FRAME_PAGE: u32 = 7;
const PUSH_N: u32 = 1;
const PUSH_RECORD: u32 = 2;
const RECORD_CONVERSATION: u32 = 1;
const RECORD_CLIENT_MESSAGE_ID: u32 = 2;
const PEER_USER: u32 = 1;
const PEER_GROUP: u32 = 2;
const PAGE_RECORDS: u32 = 1;

/// A conversation as its receiver names it.
#[derive(Clone, Copy, Debug)]
pub enum PeerRef<'a> {
    User(&'a str),
    Group(&'a [u8; 16]),
}

impl PeerRef<'_> {
    fn field(self) -> u32 {
        match self {
            Self::User(_) => PEER_USER,
            Self::Group(_) => PEER_GROUP,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::User(name) => name.as_bytes(),
            Self::Group(id) => &id[..],
        }
    }
}

/// The part of a record that is the same for every receiver; `conversation` and `client_message_id` must be empty.
pub fn shared_record(encoding: Encoding, record: &v1::Record) -> Bytes {
    debug_assert!(record.conversation.is_none() && record.client_message_id.is_empty());
    match encoding {
        Encoding::Protobuf => record.encode_to_vec().into(),
        Encoding::Json => {
            // "{...}" becomes ",...": members to be appended to those of the receiver. A record always has some (seq >= 1).
            let mut json = serde_json::to_vec(record).unwrap_or_default();
            json.pop();
            if let Some(brace) = json.first_mut() {
                *brace = b',';
            }
            json.into()
        }
    }
}

/// Appends the frame that pushes a record of the conversation `peer` as push `n`.
pub fn push_record(
    encoding: Encoding,
    n: u64,
    peer: PeerRef<'_>,
    cmid: Option<&[u8; 16]>,
    shared: &Bytes,
    out: &mut Vec<u8>,
) {
    match encoding {
        Encoding::Protobuf => {
            let record = record_len(peer, cmid, shared);
            let push = key_len(PUSH_N) + encoded_len_varint(n) + delimited_len(PUSH_RECORD, record);
            out.reserve(delimited_len(FRAME_PUSH, push));
            delimited(FRAME_PUSH, push, out);
            varint(PUSH_N, n, out);
            delimited(PUSH_RECORD, record, out);
            write_record(peer, cmid, shared, out);
        }
        Encoding::Json => {
            out.extend_from_slice(b"{\"push\":{\"n\":\"");
            out.extend_from_slice(n.to_string().as_bytes());
            out.extend_from_slice(b"\",\"record\":");
            write_json_record(peer, cmid, shared, out);
            out.extend_from_slice(b"}}");
        }
    }
}

/// Appends the answer to fetch or history: records of the conversation `peer`, in the order given.
pub fn page<'a>(
    encoding: Encoding,
    re: u64,
    peer: PeerRef<'_>,
    records: impl Iterator<Item = (Option<&'a [u8; 16]>, &'a Bytes)> + Clone,
    skips: &[v1::Skip],
    next_before_seq: u64,
    out: &mut Vec<u8>,
) {
    match encoding {
        Encoding::Protobuf => {
            let tail = v1::Page { records: Vec::new(), skips: skips.to_vec(), next_before_seq };
            let lens =
                records.clone().map(|(cmid, shared)| delimited_len(PAGE_RECORDS, record_len(peer, cmid, shared)));
            let len = lens.sum::<usize>() + tail.encoded_len();
            if re != 0 {
                varint(FRAME_RE, re, out);
            }
            delimited(FRAME_PAGE, len, out);
            for (cmid, shared) in records {
                delimited(PAGE_RECORDS, record_len(peer, cmid, shared), out);
                write_record(peer, cmid, shared, out);
            }
            tail.encode_raw(out);
        }
        Encoding::Json => {
            out.push(b'{');
            if re != 0 {
                out.extend_from_slice(format!("\"re\":\"{re}\",").as_bytes());
            }
            out.extend_from_slice(b"\"page\":{\"records\":[");
            for (at, (cmid, shared)) in records.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_json_record(peer, cmid, shared, out);
            }
            out.push(b']');
            if !skips.is_empty() {
                out.extend_from_slice(b",\"skips\":");
                out.extend_from_slice(&serde_json::to_vec(skips).unwrap_or_default());
            }
            if next_before_seq != 0 {
                out.extend_from_slice(format!(",\"nextBeforeSeq\":\"{next_before_seq}\"").as_bytes());
            }
            out.extend_from_slice(b"}}");
        }
    }
}

fn varint(field: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, out);
    encode_varint(value, out);
}

fn delimited(field: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn delimited_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn record_len(peer: PeerRef<'_>, cmid: Option<&[u8; 16]>, shared: &Bytes) -> usize {
    let conversation = delimited_len(peer.field(), peer.bytes().len());
    let cmid = cmid.map_or(0, |id| delimited_len(RECORD_CLIENT_MESSAGE_ID, id.len()));
    delimited_len(RECORD_CONVERSATION, conversation) + cmid + shared.len()
}

fn write_record(peer: PeerRef<'_>, cmid: Option<&[u8; 16]>, shared: &Bytes, out: &mut Vec<u8>) {
    delimited(RECORD_CONVERSATION, delimited_len(peer.field(), peer.bytes().len()), out);
    delimited(peer.field(), peer.bytes().len(), out);
    out.extend_from_slice(peer.bytes());
    if let Some(id) = cmid {
        delimited(RECORD_CLIENT_MESSAGE_ID, id.len(), out);
        out.extend_from_slice(id);
    }
    out.extend_from_slice(shared);
}

fn write_json_record(peer: PeerRef<'_>, cmid: Option<&[u8; 16]>, shared: &Bytes, out: &mut Vec<u8>) {
    match peer {
        PeerRef::User(name) => {
            out.extend_from_slice(b"{\"conversation\":{\"user\":");
            out.extend_from_slice(&serde_json::to_vec(name).unwrap_or_default());
            out.push(b'}');
        }
        PeerRef::Group(id) => {
            out.extend_from_slice(b"{\"conversation\":{\"group\":\"");
            out.extend_from_slice(STANDARD.encode(id).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
    if let Some(id) = cmid {
        out.extend_from_slice(b",\"clientMessageId\":\"");
        out.extend_from_slice(STANDARD.encode(id).as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(shared);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode_server, encode_server};

    fn record() -> v1::Record {
        v1::Record {
            seq: 7,
            id: 99,
            from: "alice".into(),
            from_device: "phone".into(),
            kind: v1::kind::Value::Text as i32,
            body: Some(v1::record::Body::Text("hé \"there\"".into())),
            server_time_ms: 1_700_000_000_000,
            ..Default::default()
        }
    }

    const PEERS: [PeerRef<'static>; 2] = [PeerRef::User("b\"ob"), PeerRef::Group(&[0xfb; 16])];

    fn seen(peer: PeerRef<'_>, cmid: Option<&[u8; 16]>) -> v1::Record {
        let peer = match peer {
            PeerRef::User(name) => v1::peer::Peer::User(name.into()),
            PeerRef::Group(id) => v1::peer::Peer::Group(Bytes::copy_from_slice(id)),
        };
        v1::Record {
            conversation: Some(v1::Peer { peer: Some(peer) }),
            client_message_id: cmid.map(|id| Bytes::copy_from_slice(id)).unwrap_or_default(),
            ..record()
        }
    }

    #[test]
    fn a_spliced_push_decodes_to_the_same_frame_as_a_generated_one() {
        for (encoding, peer) in [Encoding::Protobuf, Encoding::Json].into_iter().flat_map(|it| PEERS.map(|p| (it, p))) {
            for cmid in [None, Some(&[0xfe; 16])] {
                let mut spliced = Vec::new();
                push_record(encoding, 300, peer, cmid, &shared_record(encoding, &record()), &mut spliced);
                let push = v1::Push { n: 300, item: Some(v1::push::Item::Record(seen(peer, cmid))) };
                let frame = v1::ServerFrame { re: 0, answer: Some(v1::server_frame::Answer::Push(push)) };
                assert_eq!(decode_server(encoding, spliced.clone().into()), Ok(frame.clone()));
                let mut generated = Vec::new();
                encode_server(encoding, &frame, &mut generated);
                assert_eq!(generated.len(), spliced.len());
            }
        }
    }

    #[test]
    fn a_spliced_page_decodes_to_the_same_frame_as_a_generated_one() {
        for (encoding, peer) in [Encoding::Protobuf, Encoding::Json].into_iter().flat_map(|it| PEERS.map(|p| (it, p))) {
            let shared = shared_record(encoding, &record());
            let cmid = [1; 16];
            let records = [(None, &shared), (Some(&cmid), &shared)];
            for (re, skips, next) in [(5, vec![v1::Skip { from_seq: 1, to_seq: 6 }], 7), (0, Vec::new(), 0)] {
                let mut spliced = Vec::new();
                page(encoding, re, peer, records.iter().copied(), &skips, next, &mut spliced);
                let page =
                    v1::Page { records: vec![seen(peer, None), seen(peer, Some(&cmid))], skips, next_before_seq: next };
                let frame = v1::ServerFrame { re, answer: Some(v1::server_frame::Answer::Page(page)) };
                assert_eq!(decode_server(encoding, spliced.into()), Ok(frame));
            }
        }
    }
}
