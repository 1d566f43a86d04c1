//! The client's side of the opening handshake (RFC 6455 section 4.1), without I/O.

/// What the server's bytes say so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete yet.
    More,
    /// 101 and the right accept value; the first `head` bytes are used up, frames follow.
    Switched { head: usize },
    /// Any other status, a wrong accept value, or no HTTP: the first line says which.
    Refused(String),
}

/// The longest response head that is read, in bytes.
const MOST_HEAD: usize = 8 << 10;

/// Sixteen bytes in base64. The key proves that a server speaks WebSocket, not who the client is, so one is enough.
const KEY: &str = "Zmxvb2QgbG9hZCB0b29sIQ==";
/// Base64 of SHA-1 over the key and the GUID of RFC 6455 section 1.3: what a server must answer to [`KEY`].
const ACCEPT: &str = "bHk8WEs4s5GCIgiCKdkI2+Za7gc=";

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
            Answer::Refused("response head too long".to_owned())
        } else {
            Answer::More
        };
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Answer::Refused(status.chars().take(60).collect());
    }
    let accepts = |line: &str| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT)
    };
    if lines.any(accepts) {
        Answer::Switched { head: end + 4 }
    } else {
        Answer::Refused("wrong Sec-WebSocket-Accept".to_owned())
    }
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
        assert_eq!(answer(&response("AAAA")), Answer::Refused("wrong Sec-WebSocket-Accept".to_owned()));
        let refused = answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(refused, Answer::Refused("HTTP/1.1 401 Unauthorized".to_owned()));
        assert!(matches!(answer(&[b'x'; MOST_HEAD + 1]), Answer::Refused(_)));
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
