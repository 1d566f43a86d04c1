//! Frames to bytes, appended to a buffer that the caller owns.

use super::Encoding;
use crate::v1;
use prost::Message;
use serde::Serialize;

/// Appends a server's frame. For pushes of records and pages see [`super::push_record`] and [`super::page`].
pub fn encode_server(encoding: Encoding, frame: &v1::ServerFrame, out: &mut Vec<u8>) {
    encode(encoding, frame, out);
}

/// Appends a client's frame.
pub fn encode_client(encoding: Encoding, frame: &v1::ClientFrame, out: &mut Vec<u8>) {
    encode(encoding, frame, out);
}

fn encode<F: Message + Serialize>(encoding: Encoding, frame: &F, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Protobuf => {
            out.reserve(frame.encoded_len());
            frame.encode_raw(out);
        }
        // Writing a generated type to memory has no error: no map keys but strings, no writer that fails, and enums come
        // from the generated code. Should one be wrong all the same, the frame is cut and the peer sees invalid JSON.
        Encoding::Json => {
            let wrote = serde_json::to_writer(&mut *out, frame);
            debug_assert!(wrote.is_ok(), "{wrote:?}");
        }
    }
}
