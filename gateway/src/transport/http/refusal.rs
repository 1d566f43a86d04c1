//! Requests that are answered with an error by the transport itself.

use http::StatusCode;
use ringpost_proto::v1::{self, code::Value as Code};

/// An error answer: its status, and a message for the developer of the client. Both are fixed texts: nothing that the peer
/// sent is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: &'static str,
    /// A header that belongs to the answer, like the version to try instead.
    pub header: Option<(&'static str, &'static str)>,
}

impl Refusal {
    pub const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, header: None }
    }

    pub const fn bad_request(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A missing, bad or expired token in `Authorization`.
    pub const fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message).with("WWW-Authenticate", "Bearer")
    }

    /// Not now; to be asked again after `seconds` (a number as text).
    pub const fn unavailable(message: &'static str, seconds: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with("Retry-After", seconds)
    }

    /// More than is allowed; to be asked again after `seconds` (a number as text).
    pub const fn too_many(message: &'static str, seconds: &'static str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with("Retry-After", seconds)
    }

    pub(super) const fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The body: an error as the wire defines it, in JSON.
    pub fn body(&self) -> Vec<u8> {
        let error = v1::Error {
            code: self.code() as i32,
            retryable: matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS),
            message: self.message.to_owned(),
            ..v1::Error::default()
        };
        // Writing a generated type to memory cannot fail; the status says the same if it ever did.
        serde_json::to_vec(&error).unwrap_or_default()
    }

    fn code(&self) -> Code {
        match self.status {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::CONFLICT => Code::DeviceLimit,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::TooLarge,
            StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
            StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            status if status.is_server_error() => Code::Internal,
            _ => Code::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_an_error_of_the_wire() {
        let body: serde_json::Value = serde_json::from_slice(&Refusal::bad_request("no").body()).unwrap();
        assert_eq!(body, serde_json::json!({"code": "INVALID", "message": "no"}));
        let body: serde_json::Value = serde_json::from_slice(&Refusal::unavailable("later", "1").body()).unwrap();
        assert_eq!(body, serde_json::json!({"code": "UNAVAILABLE", "retryable": true, "message": "later"}));
    }
}
