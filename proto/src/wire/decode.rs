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
        Encoding::Protobuf => F::decode(bytes).map_err(|error| DecodeError::new(error.to_string())),
        Encoding::Json => decode_json(&bytes),
    }
}

/// What is wrong where no field of the frame is.
const WHOLE: &str = "frame";

fn decode_json<F: DeserializeOwned>(bytes: &[u8]) -> Result<F, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let frame = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { WHOLE } else { &path };
        DecodeError::new(format!("{field}: {}", error.inner()))
    })?;
    json.end().map_err(|error| DecodeError::new(format!("{WHOLE}: {error}")))?;
    Ok(frame)
}
