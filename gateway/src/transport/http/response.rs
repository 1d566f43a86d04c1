//! Responses: heads and body framing, appended to a buffer that the caller owns.

use http::{HeaderMap, StatusCode};
use std::io::Write;

use super::head::RequestHead;
use super::refusal::Refusal;

/// For a client that waits before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the body of one response is delimited, and whether the connection outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFraming {
    body: Body,
    /// Whether another request may follow. It may not either if the request's body was not read to its end.
    pub keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// No body and no length: 1xx, 204.
    Absent,
    /// No body, but the length that GET would have (absent if that is not known): HEAD, 304.
    Withheld(Option<u64>),
    Length(u64),
    Chunked,
    /// Unknown length towards HTTP/1.0: the end of the connection ends it.
    UntilClose,
}

impl ResponseFraming {
    /// For a response to `request`. `length`: bytes of the body where known; `keep_alive`: whether the server, too, is
    /// willing to go on.
    pub fn of(request: &RequestHead, status: StatusCode, length: Option<u64>, keep_alive: bool) -> Self {
        let body = if status.is_informational() || status == StatusCode::NO_CONTENT {
            Body::Absent
        } else if request.method() == "HEAD" || status == StatusCode::NOT_MODIFIED {
            Body::Withheld(length)
        } else if let Some(length) = length {
            Body::Length(length)
        } else if request.is_http_11() {
            Body::Chunked
        } else {
            Body::UntilClose
        };
        Self { body, keep_alive: keep_alive && request.wants_keep_alive() && body != Body::UntilClose }
    }

    /// Appends one piece of the body as it travels; nothing where the response has no body. The sum of the pieces of a body
    /// with a length is the caller's duty.
    pub fn chunk(&self, out: &mut Vec<u8>, piece: &[u8]) {
        match self.body {
            Body::Absent | Body::Withheld(_) => {}
            Body::Length(_) | Body::UntilClose => out.extend_from_slice(piece),
            // An empty chunk would end the body.
            Body::Chunked if piece.is_empty() => {}
            Body::Chunked => {
                append(out, format_args!("{:x}\r\n", piece.len()));
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends what ends the body.
    pub fn end(&self, out: &mut Vec<u8>) {
        if self.body == Body::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// Appends a response head. Framing headers and Connection are written here: those in `headers` are left out.
pub fn head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, framing: ResponseFraming) {
    use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
    status_line(out, status);
    for (name, value) in headers {
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
            header(out, name.as_str(), value.as_bytes());
        }
    }
    match framing.body {
        Body::Absent | Body::Withheld(None) | Body::UntilClose => {}
        Body::Withheld(Some(length)) | Body::Length(length) => {
            append(out, format_args!("content-length: {length}\r\n"))
        }
        Body::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    // Said in both directions: HTTP/1.0 clients that asked for it need to hear it.
    header(out, "connection", if framing.keep_alive { b"keep-alive" } else { b"close" });
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole error response. The connection is closed after it: the rest of what the peer sent is not read.
///
/// `head_only`: the request was HEAD, so that the body is left out.
pub fn refusal(out: &mut Vec<u8>, refusal: &Refusal, head_only: bool) {
    let body = refusal.body();
    status_line(out, refusal.status);
    if let Some((name, value)) = refusal.header {
        header(out, name, value.as_bytes());
    }
    header(out, "content-type", b"application/json");
    append(out, format_args!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    if !head_only {
        out.extend_from_slice(&body);
    }
}

pub(super) fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    append(out, format_args!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")));
}

pub(super) fn header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadReader;
    use super::*;

    fn request(line: &str, headers: &str) -> RequestHead {
        let bytes = format!("{line}\r\nHost: x\r\n{headers}\r\n");
        HeadReader::default().read(&mut bytes.as_bytes()).unwrap().unwrap()
    }

    fn response(request: &RequestHead, status: StatusCode, length: Option<u64>, pieces: &[&str]) -> String {
        let framing = ResponseFraming::of(request, status, length, true);
        let mut out = Vec::new();
        head(&mut out, status, &HeaderMap::new(), framing);
        for piece in pieces {
            framing.chunk(&mut out, piece.as_bytes());
        }
        framing.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_body_is_framed_as_the_request_and_its_length_allow() {
        let get = request("GET / HTTP/1.1", "");
        assert_eq!(
            response(&get, StatusCode::OK, Some(2), &["hi"]),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi"
        );
        assert_eq!(
            response(&get, StatusCode::OK, None, &["hi", "", "0123456789abcdef"]),
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n\
             2\r\nhi\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
        );
        assert_eq!(
            response(&request("GET / HTTP/1.0", "Connection: keep-alive\r\n"), StatusCode::OK, None, &["hi"]),
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi"
        );
        assert_eq!(
            response(&request("HEAD / HTTP/1.1", ""), StatusCode::OK, Some(2), &["hi"]),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            response(&get, StatusCode::NO_CONTENT, Some(0), &[]),
            "HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn the_connection_stays_open_only_if_both_want_it() {
        let keeps = |line, headers, willing| {
            ResponseFraming::of(&request(line, headers), StatusCode::OK, Some(0), willing).keep_alive
        };
        assert!(keeps("GET / HTTP/1.1", "", true));
        assert!(keeps("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", true));
        assert!(!keeps("GET / HTTP/1.0", "", true));
        assert!(!keeps("GET / HTTP/1.1", "Connection: close\r\n", true));
        assert!(!keeps("GET / HTTP/1.1", "", false));
    }

    #[test]
    fn framing_headers_of_the_application_are_left_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "upgrade"), ("content-length", "9"), ("x-a", "b")] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        let framing = ResponseFraming::of(&request("GET / HTTP/1.1", ""), StatusCode::OK, Some(0), false);
        head(&mut out, StatusCode::OK, &headers, framing);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }

    #[test]
    fn a_refusal_is_a_whole_response() {
        let mut out = Vec::new();
        refusal(&mut out, &Refusal::unauthorized("no"), false);
        let body = r#"{"code":"UNAUTHENTICATED","message":"no"}"#;
        let expected = format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
