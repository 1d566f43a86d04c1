//! Outputs that name records, as the frames that a client sees: built, or through the bytes that the gateway would write.

use super::network::encoded;
use super::world::World;
use bytes::Bytes;
use ringpost_persist::{Peer, Record};
use ringpost_proto::v1::{self, server_frame::Answer};
use ringpost_proto::wire::{self, Encoding, decode_server, encode_server};
use ringpost_router::RecordPage;

impl World {
    pub fn push_frame(&self, n: u64, peer: &Peer, record: &Record, own: bool) -> v1::ServerFrame {
        if let Some(encoding) = self.plan.encoding {
            let mut bytes = Vec::new();
            let cmid = own.then_some(&record.cmid.0);
            wire::push_record(encoding, n, peer.wire_ref(), cmid, &shared(encoding, record), &mut bytes);
            return decode_server(encoding, bytes.into()).unwrap();
        }
        let push = v1::Push { n, item: Some(v1::push::Item::Record(wire_record(record, peer, own))) };
        v1::ServerFrame { re: 0, answer: Some(Answer::Push(push)) }
    }

    pub fn page_frame(&self, re: u64, page: &RecordPage) -> v1::ServerFrame {
        let peer = &page.peer;
        if let Some(encoding) = self.plan.encoding {
            let mut bytes = Vec::new();
            let shared: Vec<Bytes> = page.records.iter().map(|(record, _)| shared(encoding, record)).collect();
            let cmids = page.records.iter().map(|(record, own)| own.then_some(&record.cmid.0));
            wire::page(
                encoding,
                re,
                peer.wire_ref(),
                cmids.zip(&shared),
                &page.skips,
                page.next_before_seq,
                &mut bytes,
            );
            return decode_server(encoding, bytes.into()).unwrap();
        }
        let records = page.records.iter().map(|(record, own)| wire_record(record, peer, *own)).collect();
        let page = v1::Page { records, skips: page.skips.clone(), next_before_seq: page.next_before_seq };
        v1::ServerFrame { re, answer: Some(Answer::Page(page)) }
    }

    /// Any other frame.
    pub fn plain_frame(&self, frame: v1::ServerFrame) -> v1::ServerFrame {
        match self.plan.encoding {
            Some(encoding) => encoded(&frame, encoding, encode_server, decode_server),
            None => frame,
        }
    }
}

fn shared(encoding: Encoding, record: &Record) -> Bytes {
    wire::shared_record(encoding, &record.to_wire())
}

fn wire_record(record: &Record, peer: &Peer, own: bool) -> v1::Record {
    let mut wire = record.to_wire();
    wire.conversation = Some(peer.to_wire());
    if own {
        wire.client_message_id = record.cmid.to_bytes();
    }
    wire
}
