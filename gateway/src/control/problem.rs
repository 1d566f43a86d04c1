//! Errors over HTTP: the error frame of the wire in JSON, with the status that its code maps to.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ringpost_proto::v1;
use v1::code::Value as Code;

/// One refusal. Its body is the wire's error in JSON: `{"code":...,"message":...}`, as the transport's own refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub message: String,
    /// The field of the request that is wrong, where there is one.
    pub field: &'static str,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { status: status(code), code, message: message.into(), field: "" }
    }

    pub fn field(self, field: &'static str) -> Self {
        Self { field, ..self }
    }

    /// For statuses that no code of the wire has.
    pub fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The body.
    pub fn json(&self) -> String {
        let error = v1::Error {
            code: self.code.into(),
            retryable: retryable(self.code),
            message: self.message.clone(),
            field: self.field.to_owned(),
            ..Default::default()
        };
        // Serialising a message that holds no map and no float cannot fail; an empty object would still be JSON.
        serde_json::to_string(&error).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// The HTTP status of an error code.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::Invalid => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::NotMember => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict | Code::StaleGroup | Code::DeviceMismatch | Code::DeviceLimit | Code::GroupFull => {
            StatusCode::CONFLICT
        }
        Code::Expired => StatusCode::GONE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::Unavailable | Code::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Internal | Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn retryable(code: Code) -> bool {
    matches!(code, Code::RateLimited | Code::StorageFull | Code::Unavailable | Code::Overloaded | Code::Internal)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], self.json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_the_error_frame() {
        let problem = Problem::new(Code::NotFound, "no such path");
        assert_eq!(problem.json(), "{\"code\":\"NOT_FOUND\",\"message\":\"no such path\"}");
        let problem = Problem::new(Code::Overloaded, "busy").field("user");
        let json: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
        assert_eq!(json["retryable"], true);
        assert_eq!(json["field"], "user");
    }
}
