//! What the commands that ask a running server have in common: one request to its admin port.
//!
//! Guarantees: an answer other than 200 is a failure with the server's own words. Never does: retry.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(10);
/// The server says something at least so often, unless it hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// Asks, and gives the body of the answer as it comes. HTTP/1.0, so that it is not cut into chunks; it ends with the connection,
/// and says by itself that it is whole.
pub(super) fn ask(admin: SocketAddr, method: &str, target: &str) -> Result<impl BufRead + use<>, String> {
    let sent = TcpStream::connect_timeout(&admin, CONNECT).and_then(|mut stream| {
        stream.set_read_timeout(Some(SILENCE))?;
        let request = format!("{method} {target} HTTP/1.0\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    });
    let mut answer = BufReader::new(sent.map_err(|e| format!("cannot ask the admin port {admin}: {e}"))?);
    let status = status(&mut answer, admin)?;
    if status.split(' ').nth(1) != Some("200") {
        return Err(refused(&status, answer));
    }
    Ok(answer)
}

/// The status line; the rest of the head is read over.
fn status(answer: &mut impl BufRead, admin: SocketAddr) -> Result<String, String> {
    let broken = |e: std::io::Error| format!("the admin port {admin} did not answer: {e}");
    let (mut status, mut head) = (String::new(), String::new());
    answer.read_line(&mut status).map_err(broken)?;
    while head != "\r\n" {
        head.clear();
        if answer.read_line(&mut head).map_err(broken)? == 0 {
            return Err(format!("the admin port {admin} does not speak HTTP"));
        }
    }
    Ok(status)
}

fn refused(status: &str, mut answer: impl Read) -> String {
    let mut body = String::new();
    // Without a body the status has to do.
    let _ = answer.read_to_string(&mut body);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    match json["message"].as_str() {
        Some(message) => format!("refused by the server: {message}"),
        None => format!("refused by the server: {}", status.trim()),
    }
}

/// Percent-encoded (RFC 3986 section 2.1), all but what never has to be.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // Also dots: a segment of two of them would be taken for the way up.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_whatever_is_in_them() {
        assert_eq!(escaped("alice-1_~"), "alice-1_~");
        assert_eq!(escaped("a/b?c=..&\u{e9} %"), "a%2Fb%3Fc%3D%2E%2E%26%C3%A9%20%25");
    }
}
