//! The upgrade to WebSocket (RFC 6455 section 4.2): whether a request may have it, what it offers, and the answer.
//!
//! Decides from the head alone: whether a token is good is asked by the caller, after everything here was right.

use base64::Engine;
use http::StatusCode;
use sha1::{Digest, Sha1};

use ringpost_proto::wire::Encoding;

use super::head::{BodyLength, RequestHead};
use super::headers;
use super::refusal::Refusal;
use super::response;

const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const PROTOBUF: &str = "ringpost.v1";
const JSON: &str = "ringpost.v1.json";
const BEARER_PREFIX: &str = "bearer.";
const BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    // The last character of a key carries four bits that nobody reads.
    base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The two paths that are answered by the data plane itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Connect,
    /// Only with `--dev`; without it an ordinary path, which nobody answers.
    Echo,
}

impl Endpoint {
    pub fn of(path: &str, dev: bool) -> Option<Self> {
        match path {
            "/v1/connect" => Some(Self::Connect),
            "/v1/echo" if dev => Some(Self::Echo),
            _ => None,
        }
    }
}

/// What the client offers as proof of who it is. Where it offers several, the first of this order is taken.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// In `Authorization: Bearer`: if it is bad, the answer is 401.
    Header(Box<str>),
    /// As subprotocol `bearer.<token>`: if it is bad, the upgrade happens and is closed with 4501 or 4502, for browsers
    /// cannot see a 401.
    Subprotocol(Box<str>),
    /// `?ticket=`; the same.
    Ticket(Box<str>),
}

impl std::fmt::Debug for Credential {
    /// Never the secret itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header(_) => "Header(..)",
            Self::Subprotocol(_) => "Subprotocol(..)",
            Self::Ticket(_) => "Ticket(..)",
        })
    }
}

/// A request that may be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// How frames travel: JSON where no subprotocol was offered.
    pub encoding: Encoding,
    /// `None`: a token has to come in hello.
    pub credential: Option<Credential>,
    accept: [u8; 28],
    protocol: Option<&'static str>,
}

impl Upgrade {
    /// Appends the 101 response; the client may send frames as soon as it reads it.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        response::status_line(out, StatusCode::SWITCHING_PROTOCOLS);
        response::header(out, "Upgrade", b"websocket");
        response::header(out, "Connection", b"Upgrade");
        response::header(out, "Sec-WebSocket-Accept", &self.accept);
        if let Some(protocol) = self.protocol {
            response::header(out, "Sec-WebSocket-Protocol", protocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Decides on a request to one of the endpoints. `allowed_origins`: those of browsers that may connect besides the server's
/// own, like `https://chat.example`.
///
/// # Errors
/// The answer for a request that is no upgrade, or a wrong one: 405, 426 or 400; 403 for a foreign origin; 401 for an
/// Authorization that is no bearer token.
pub fn decide(head: &RequestHead, allowed_origins: &[String]) -> Result<Upgrade, Refusal> {
    check_request(head)?;
    let accept = accept(key(head)?);
    check_origin(head, allowed_origins)?;
    let (protocol, encoding, bearer) = subprotocol(head)?;
    let credential = match authorization(head)? {
        Some(token) => Some(Credential::Header(token.into())),
        None => bearer.map(|token| Credential::Subprotocol(token.into())).or_else(|| ticket(head)),
    };
    Ok(Upgrade { encoding, credential, accept, protocol })
}

fn check_request(head: &RequestHead) -> Result<(), Refusal> {
    if head.method() != "GET" {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "an upgrade is a GET").with("Allow", "GET"));
    }
    if !head.is_http_11() {
        return Err(Refusal::bad_request("an upgrade needs HTTP/1.1"));
    }
    if !headers::contains(head.values("upgrade"), "websocket")
        || !headers::contains(head.values("connection"), "upgrade")
    {
        let refusal = Refusal::new(StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket");
        return Err(refusal.with("Upgrade", "websocket"));
    }
    if head.single("sec-websocket-version")? != Some("13") {
        let refusal = Refusal::new(StatusCode::UPGRADE_REQUIRED, "WebSocket version not supported");
        return Err(refusal.with("Sec-WebSocket-Version", "13"));
    }
    if head.body() != BodyLength::None {
        return Err(Refusal::bad_request("an upgrade has no body"));
    }
    Ok(())
}

fn key(head: &RequestHead) -> Result<&str, Refusal> {
    const BAD_KEY: Refusal = Refusal::bad_request("Sec-WebSocket-Key is not 16 bytes in base64");
    let key = head.single("sec-websocket-key")?.ok_or(BAD_KEY)?;
    let mut nonce = [0; 18];
    match BASE64.decode_slice(key, &mut nonce) {
        Ok(16) => Ok(key),
        _ => Err(BAD_KEY),
    }
}

fn accept(key: &str) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; 28];
    // 20 bytes always make 28 characters.
    let written = BASE64.encode_slice(digest, &mut accept);
    debug_assert_eq!(written.ok(), Some(28));
    accept
}

/// A browser names the page's origin; whoever is no browser leaves it out.
fn check_origin(head: &RequestHead, allowed: &[String]) -> Result<(), Refusal> {
    let Some(origin) = head.single("origin")? else { return Ok(()) };
    if allowed.iter().any(|known| known.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    // The scheme may be https although this side sees plain text: a proxy may have taken TLS off.
    let own = head.single("host")?.unwrap_or_default();
    let is_own = origin.split_once("://").is_some_and(|(scheme, authority)| match scheme {
        "http" => same_authority(authority, own, ":80"),
        "https" => same_authority(authority, own, ":443"),
        _ => false,
    });
    if is_own { Ok(()) } else { Err(Refusal::new(StatusCode::FORBIDDEN, "origin not allowed")) }
}

/// Whether two host[:port] are the same where `default` is the port that may be left out.
fn same_authority(a: &str, b: &str, default: &str) -> bool {
    let bare = |authority: &str| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
    !a.is_empty() && bare(a) == bare(b)
}

/// The subprotocol to answer with, the encoding that it means, and a token offered among them.
fn subprotocol(head: &RequestHead) -> Result<(Option<&'static str>, Encoding, Option<&str>), Refusal> {
    let mut offered = 0;
    let mut chosen = None;
    let mut bearer = None;
    for element in headers::elements(head.values("sec-websocket-protocol")) {
        offered += 1;
        match element {
            PROTOBUF => chosen = chosen.or(Some((PROTOBUF, Encoding::Protobuf))),
            JSON => chosen = chosen.or(Some((JSON, Encoding::Json))),
            _ => match element.strip_prefix(BEARER_PREFIX) {
                Some(_) if bearer.is_some() => return Err(Refusal::bad_request("several bearer subprotocols")),
                Some(token) => bearer = Some(token),
                None => {}
            },
        }
    }
    match chosen {
        Some((name, encoding)) => Ok((Some(name), encoding, bearer)),
        None if offered == 0 => Ok((None, Encoding::Json, None)),
        None => Err(Refusal::bad_request("no subprotocol offered that is spoken here: ringpost.v1, ringpost.v1.json")),
    }
}

fn authorization(head: &RequestHead) -> Result<Option<&str>, Refusal> {
    let Some(value) = head.single("authorization")? else { return Ok(None) };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim_matches(' '))),
        _ => Err(Refusal::unauthorized("Authorization is not a bearer token")),
    }
}

fn ticket(head: &RequestHead) -> Option<Credential> {
    let query = head.query()?;
    let ticket = query.split('&').find_map(|pair| pair.strip_prefix("ticket="))?;
    Some(Credential::Ticket(ticket.into()))
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
