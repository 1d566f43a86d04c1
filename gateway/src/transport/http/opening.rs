//! The client's side of the opening handshake (RFC 6455 section 4.1), without I/O: for the commands that are clients.

use std::time::Duration;

/// What the server's bytes say so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete yet.
    More,
    /// 101 and the right accept value; the first `head` bytes are used up, frames follow.
    Switched { head: usize },
    /// Any other status, a wrong accept value, or no HTTP.
    Refused(Refused),
}

/// Why a server did not switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status of its answer; `None` where that was no HTTP.
    pub status: Option<u16>,
    /// Its first line, or what is wrong with it.
    pub line: String,
    /// Retry-After, where it is a number of seconds (RFC 9110 section 10.2.3).
    pub retry_after: Option<Duration>,
    /// `message` of a JSON body, where that came with the head.
    pub message: Option<String>,
}

impl Refused {
    fn broken(line: &str) -> Self {
        Self { status: None, line: line.to_owned(), retry_after: None, message: None }
    }

    /// All that is known of it.
    pub fn text(&self) -> String {
        match &self.message {
            Some(message) => format!("{}: {message}", self.line),
            None => self.line.clone(),
        }
    }
}

/// The longest response head that is read, in bytes.
const MOST_HEAD: usize = 8 << 10;

/// Sixteen bytes in base64. The key proves that a server speaks WebSocket, not who the client is, so one is enough.
const KEY: &str = "cmluZ3Bvc3QgY2xpZW50IQ==";
/// Base64 of SHA-1 over the key and the GUID of RFC 6455 section 1.3: what a server must answer to [`KEY`].
const ACCEPT: &str = "wmk+McudyImvyJGDG3Mn8za1Qhg=";

/// Appends the request for `path` to `out`.
pub fn request(out: &mut Vec<u8>, host: &str, path: &str, subprotocol: Option<&str>, token: Option<&str>) {
    let mut line =
        |parts: &[&str]| parts.iter().chain(&["\r\n"]).for_each(|part| out.extend_from_slice(part.as_bytes()));
    line(&["GET ", path, " HTTP/1.1"]);
    line(&["Host: ", host]);
    line(&["Connection: Upgrade"]);
    line(&["Upgrade: websocket"]);
    line(&["Sec-WebSocket-Version: 13"]);
    line(&["Sec-WebSocket-Key: ", KEY]);
    if let Some(subprotocol) = subprotocol {
        line(&["Sec-WebSocket-Protocol: ", subprotocol]);
    }
    if let Some(token) = token {
        line(&["Authorization: Bearer ", token]);
    }
    line(&[]);
}

/// Reads the response head at the start of `bytes`.
pub fn answer(bytes: &[u8]) -> Answer {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > MOST_HEAD {
            Answer::Refused(Refused::broken("response head too long"))
        } else {
            Answer::More
        };
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let header = |name: &str| {
        let mut headers = lines.clone().filter_map(|line| line.split_once(':'));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    if !first.starts_with("HTTP/1.1 101") {
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let line = first.chars().take(60).collect();
        return Answer::Refused(Refused { status, line, retry_after, message: message(bytes.get(end + 4..)) });
    }
    if header("sec-websocket-accept") == Some(ACCEPT) {
        Answer::Switched { head: end + 4 }
    } else {
        Answer::Refused(Refused::broken("wrong Sec-WebSocket-Accept"))
    }
}

fn message(body: Option<&[u8]>) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body?).ok()?;
    Some(body.get("message")?.as_str()?.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(accept: &str) -> Vec<u8> {
        format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n")
            .into_bytes()
    }

    #[test]
    fn a_switch_is_recognised_at_every_cut_and_leaves_the_frames() {
        let mut bytes = response(ACCEPT);
        let head = bytes.len();
        bytes.extend_from_slice(b"\x82\x00");
        assert!((0..head).all(|cut| answer(&bytes[..cut]) == Answer::More));
        assert_eq!(answer(&bytes), Answer::Switched { head });
    }

    #[test]
    fn refusals_say_why() {
        let refused = |bytes: &[u8]| match answer(bytes) {
            Answer::Refused(refused) => refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&response("AAAA")).line, "wrong Sec-WebSocket-Accept");
        let unauthorized = refused(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((unauthorized.status, unauthorized.line.as_str()), (Some(401), "HTTP/1.1 401 Unauthorized"));
        let body = b"HTTP/1.1 401 Unauthorized\r\n\r\n{\"code\":\"UNAUTHENTICATED\",\"message\":\"unknown key\"}";
        assert_eq!(refused(body).text(), "HTTP/1.1 401 Unauthorized: unknown key");
        assert_eq!(refused(&body[..body.len() - 1]).text(), "HTTP/1.1 401 Unauthorized");
        let later = refused(b"HTTP/1.1 503 Service Unavailable\r\nRETRY-AFTER: 3\r\n\r\n");
        assert_eq!((later.status, later.retry_after), (Some(503), Some(Duration::from_secs(3))));
        assert_eq!(refused(b"SSH-2.0-x\r\n\r\n").status, None);
        assert_eq!(refused(&[b'x'; MOST_HEAD + 1]).line, "response head too long");
    }

    #[test]
    fn a_request_names_what_it_wants() {
        let mut out = Vec::new();
        request(&mut out, "127.0.0.1:7600", "/v1/connect", Some("ringpost.v1"), Some("abc"));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("GET /v1/connect HTTP/1.1\r\nHost: 127.0.0.1:7600\r\n"));
        assert!(text.contains("Sec-WebSocket-Protocol: ringpost.v1\r\nAuthorization: Bearer abc\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }
}
