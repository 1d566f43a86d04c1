//! Bytes to frames.

use super::{DecodeError, Encoding};
use crate::v1;
use bytes::Bytes;
use prost::Message;
use serde::de::DeserializeOwned;

/// A client's frame. Unknown fields and requests are ignored: an unknown request leaves `request` empty.
/// In protobuf, byte fields share `bytes`.
pub fn decode_client(encoding: Encoding, bytes: Bytes) -> Result<v1::ClientFrame, DecodeError> {
    decode(encoding, bytes)
}

/// A server's frame, for clients.
pub fn decode_server(encoding: Encoding, bytes: Bytes) -> Result<v1::ServerFrame, DecodeError> {
    decode(encoding, bytes)
}

fn decode<F: Message + Default + DeserializeOwned>(encoding: Encoding, bytes: Bytes) -> Result<F, DecodeError> {
    match encoding {
        Encoding::Protobuf => F::decode(bytes).map_err(|error| DecodeError::new(protobuf_reason(&error))),
        Encoding::Json => decode_json(&bytes),
    }
}

/// What is wrong where no field of the frame is.
const WHOLE: &str = "frame";

/// "Message.field: cause", or the whole frame where prost names none.
fn protobuf_reason(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    let cause = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    let names_field = cause.split_once(": ").is_some_and(|(path, _)| path.contains('.'));
    if names_field { cause.to_owned() } else { format!("{WHOLE}: {cause}") }
}

fn decode_json<F: DeserializeOwned>(bytes: &[u8]) -> Result<F, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let frame = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // Where the text ends or breaks off, the last step of the path is not known.
        let field = match path.trim_end_matches(['?', '.']) {
            "" => WHOLE,
            known => known,
        };
        let cause = error.inner().to_string();
        // What pbjson says of a number that is negative, broken or too large.
        let cause = if cause.contains("untagged enum") { "not a number that fits" } else { &cause };
        DecodeError::new(format!("{field}: {cause}"))
    })?;
    json.end().map_err(|error| DecodeError::new(format!("{WHOLE}: {error}")))?;
    Ok(frame)
}
