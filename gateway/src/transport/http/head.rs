//! The head of a request: from the first byte up to and including the empty line.
//!
//! Owns the bytes of an incomplete head; a head that lies whole in one chunk is copied once. Guarantees: at most
//! [`HEAD_BYTES`] are kept, each byte is looked at a bounded number of times however the head is cut, and a
//! [`RequestHead`] has one meaning.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use ringpost_proto::limits::HEAD_BYTES;
use smallvec::SmallVec;
use std::ops::Range;

use super::headers;
use super::refusal::Refusal;

/// Header lines of one request.
const HEADERS: usize = 100;
const END: &[u8] = b"\r\n\r\n";

/// Collects a head from the chunks of a connection. One per request; idle, it holds nothing.
#[derive(Debug, Default)]
pub struct HeadReader {
    kept: Vec<u8>,
    /// Bytes of empty lines before the request line: ignored (RFC 9112 section 2.2), but counted.
    skipped: u16,
}

impl HeadReader {
    /// Takes the head's bytes from the front of `chunk`; bytes that follow the head stay in it. `None`: the chunk is used
    /// up and the head is not complete.
    ///
    /// # Errors
    /// 431 for a head over the limit, 400 for anything that is not a request of HTTP/1, 501 for transfer codings that are
    /// not known here. Nothing more can be read from the connection.
    pub fn read(&mut self, chunk: &mut &[u8]) -> Result<Option<RequestHead>, Refusal> {
        if self.kept.is_empty() {
            self.skip_empty_lines(chunk)?;
        }
        let room = HEAD_BYTES - self.kept.len() - usize::from(self.skipped);
        let within = chunk.get(..room.min(chunk.len())).unwrap_or_default();
        let Some(taken) = self.end_in(within)? else {
            if chunk.len() >= room {
                return Err(TOO_LARGE);
            }
            self.kept.extend_from_slice(chunk);
            *chunk = &[];
            return Ok(None);
        };
        let (end, rest) = chunk.split_at_checked(taken).unwrap_or_default();
        *chunk = rest;
        let bytes = if self.kept.is_empty() {
            Bytes::copy_from_slice(end)
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(end);
            kept.into()
        };
        self.skipped = 0;
        RequestHead::parse(bytes).map(Some)
    }

    /// Whether nothing of a request has arrived.
    pub fn is_idle(&self) -> bool {
        self.kept.is_empty()
    }

    fn skip_empty_lines(&mut self, chunk: &mut &[u8]) -> Result<(), Refusal> {
        while let Some((b'\r' | b'\n', rest)) = chunk.split_first() {
            *chunk = rest;
            self.skipped += 1;
            if usize::from(self.skipped) >= HEAD_BYTES {
                return Err(TOO_LARGE);
            }
        }
        match chunk.first() {
            // A method begins with a letter: whatever else this is (TLS, say), waiting for its end makes no sense.
            Some(first) if !first.is_ascii_alphabetic() => Err(NOT_HTTP),
            _ => Ok(()),
        }
    }

    /// How many bytes of `chunk` complete the head, if they do. Only new bytes are searched.
    fn end_in(&self, chunk: &[u8]) -> Result<Option<usize>, Refusal> {
        let tail = self.kept.get(self.kept.len().saturating_sub(END.len() - 1)..).unwrap_or_default();
        let mut before: SmallVec<[u8; 4]> = SmallVec::from_slice(tail);
        for (at, &byte) in chunk.iter().enumerate() {
            if byte != b'\n' {
                continue;
            }
            // What stands before this line feed, at most three bytes of it.
            let new = chunk.get(at.saturating_sub(3)..at).unwrap_or_default();
            before.truncate(tail.len());
            before.extend_from_slice(new);
            if !before.ends_with(b"\r") {
                return Err(BARE_LINE_FEED);
            }
            if before.ends_with(b"\r\n\r") {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }
}

/// How long the body of a request is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    None,
    Bytes(u64),
    Chunked,
}

/// A complete head. Names and values are those of the peer: parsed, bounded, not trusted.
#[derive(Clone, Debug)]
pub struct RequestHead {
    bytes: Bytes,
    method: Range<u16>,
    target: Range<u16>,
    headers: SmallVec<[(Range<u16>, Range<u16>); 16]>,
    /// HTTP/1.0 or 1.1.
    minor: u8,
    body: BodyLength,
}

impl RequestHead {
    fn parse(bytes: Bytes) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
            _ => return Err(MALFORMED),
        }
        // `part` lies within `bytes`, which is at most 8 KiB long; an empty one may lie anywhere.
        let range = |part: &[u8]| {
            let start =
                (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize) * usize::from(!part.is_empty());
            start as u16..(start + part.len()) as u16
        };
        let mut head = Self {
            method: range(request.method.unwrap_or_default().as_bytes()),
            target: range(request.path.unwrap_or_default().as_bytes()),
            headers: request.headers.iter().map(|h| (range(h.name.as_bytes()), range(h.value))).collect(),
            minor: request.version.unwrap_or(0),
            body: BodyLength::None,
            bytes: bytes.clone(),
        };
        head.check_target()?;
        head.check_host()?;
        head.body = head.body_length()?;
        Ok(head)
    }

    pub fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// The target without scheme and authority: `/path?query`, or `*`.
    pub fn target(&self) -> &str {
        let target = self.text(&self.target);
        match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/")
            }
            _ => target,
        }
    }

    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    pub fn is_http_11(&self) -> bool {
        self.minor == 1
    }

    pub fn body(&self) -> BodyLength {
        self.body
    }

    /// The values of all lines with this name (in lower case) that are text.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.raw_values(name).filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The value of a header that may stand once. `None`: there is none.
    ///
    /// # Errors
    /// 400 if there are several, or it is not text.
    pub fn single<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.raw_values(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(REPEATED);
        }
        std::str::from_utf8(value).map(Some).map_err(|_| MALFORMED)
    }

    /// Whether the client will send another request after this one (RFC 9112 section 9.3).
    pub fn wants_keep_alive(&self) -> bool {
        let connection = || self.values("connection");
        !headers::contains(connection(), "close")
            && (self.is_http_11() || headers::contains(connection(), "keep-alive"))
    }

    /// Whether the client waits for 100 before it sends its body (RFC 9110 section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.is_http_11() && self.body != BodyLength::None && headers::contains(self.values("expect"), "100-continue")
    }

    /// The request for the control plane. Header lines keep their order.
    ///
    /// # Errors
    /// 400 if method, target or a value is not one that the `http` crate takes.
    pub fn to_request(&self) -> Result<http::Request<()>, Refusal> {
        let mut request = http::Request::new(());
        *request.method_mut() = Method::from_bytes(self.method().as_bytes()).map_err(|_| MALFORMED)?;
        *request.uri_mut() = self.target().parse::<Uri>().map_err(|_| BAD_TARGET)?;
        *request.version_mut() = if self.is_http_11() { Version::HTTP_11 } else { Version::HTTP_10 };
        let headers = request.headers_mut();
        headers.reserve(self.headers.len());
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(self.slice(name)).map_err(|_| MALFORMED)?;
            headers.append(name, HeaderValue::from_bytes(self.slice(value)).map_err(|_| MALFORMED)?);
        }
        Ok(request)
    }

    /// The values of all lines with this name (in lower case), also of those that are no text.
    pub fn raw_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(found, _)| self.slice(found).eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| self.slice(value))
    }

    fn slice(&self, range: &Range<u16>) -> &[u8] {
        self.bytes.get(usize::from(range.start)..usize::from(range.end)).unwrap_or_default()
    }

    /// Method and target, of which httparse has made sure that they are text.
    fn text(&self, range: &Range<u16>) -> &str {
        std::str::from_utf8(self.slice(range)).unwrap_or_default()
    }

    fn check_target(&self) -> Result<(), Refusal> {
        let target = self.target();
        let fits = target.starts_with('/') || (target == "*" && self.method() == "OPTIONS");
        if fits && !target.contains('#') { Ok(()) } else { Err(BAD_TARGET) }
    }

    /// HTTP/1.1 has exactly one Host line (RFC 9112 section 3.2), HTTP/1.0 at most one.
    fn check_host(&self) -> Result<(), Refusal> {
        match self.single("host")? {
            None if self.is_http_11() => Err(Refusal::bad_request("no Host header")),
            Some(host) if host.contains([' ', '\t', ',', '/', '@']) => Err(Refusal::bad_request("invalid Host header")),
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 6.3, where everything that two parsers might read differently is an error.
    fn body_length(&self) -> Result<BodyLength, Refusal> {
        let length = self.single("content-length")?;
        let mut codings = self.raw_values("transfer-encoding").peekable();
        if codings.peek().is_some() {
            let only = codings.next().unwrap_or_default();
            return match length {
                Some(_) => Err(Refusal::bad_request("both Content-Length and Transfer-Encoding")),
                None if !self.is_http_11() => Err(Refusal::bad_request("Transfer-Encoding in HTTP/1.0")),
                None if codings.next().is_some() => Err(REPEATED),
                None if only.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
                None => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "transfer coding not supported")),
            };
        }
        match length {
            None => Ok(BodyLength::None),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
                Ok(0) => Ok(BodyLength::None),
                Ok(bytes) => Ok(BodyLength::Bytes(bytes)),
                Err(_) => Err(BAD_LENGTH),
            },
            Some(_) => Err(BAD_LENGTH),
        }
    }
}

const TOO_LARGE: Refusal = Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "request head over the limit");
const NOT_HTTP: Refusal = Refusal::bad_request("not an HTTP/1 request");
const BARE_LINE_FEED: Refusal = Refusal::bad_request("line that does not end with CR LF");
const MALFORMED: Refusal = Refusal::bad_request("malformed request head");
const REPEATED: Refusal = Refusal::bad_request("repeated header that may stand once");
const BAD_TARGET: Refusal = Refusal::bad_request("invalid request target");
const BAD_LENGTH: Refusal = Refusal::bad_request("invalid Content-Length");

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
