//! What other servers speak over WebSocket, so that one load tool measures all of them.
//!
//! Owns: the bytes of a hello, a subscription, a publication, a question, and what arrives as an answer, one file per protocol.
//! Guarantees: whatever a server sends, nothing panics and no buffer passes [`MOST_CARRIED`]; what a publication holds is compared
//! as a whole when it is delivered. Never does: I/O, waiting, deciding what is said when; [`crate::scenario::pubsub`] does.

mod centrifugo;
mod mqtt;
mod nats;
mod rooms;
mod xmpp;

use serde::{Deserialize, Serialize};

/// Bytes of an unfinished command that are kept until the rest of it comes; more are a refusal.
const MOST_CARRIED: usize = 64 << 10;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Kind {
    /// Plain messages: /echo gives them back, /room/NAME to all others there.
    Rooms,
    /// MQTT 3.1.1, subprotocol `mqtt`.
    Mqtt,
    /// The text protocol of NATS.
    Nats,
    /// Centrifugo's JSON protocol.
    Centrifugo,
    /// XMPP over WebSocket (RFC 7395): chat messages, groups by XEP-0060.
    Xmpp,
}

/// What the run wants of every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Publications are acknowledged by the server, and by those who get them.
    pub durable: bool,
    /// Sessions ask and are answered; nothing is published.
    pub asks: bool,
    /// Of a publication, or of a question that is a message.
    pub bytes: usize,
}

impl Kind {
    /// The rules of this protocol.
    pub fn protocol(self, wish: Wish) -> Box<dyn Protocol> {
        match self {
            Self::Rooms => Box::new(rooms::Rooms(wish)),
            Self::Mqtt => Box::new(mqtt::Mqtt(wish)),
            Self::Nats => Box::new(nats::Nats(wish)),
            Self::Centrifugo => Box::new(centrifugo::Centrifugo(wish)),
            Self::Xmpp => Box::new(xmpp::Xmpp { wish, run: std::process::id() }),
        }
    }

    /// The path of the upgrade; rooms alone have others.
    pub fn path(self) -> &'static str {
        match self {
            Self::Rooms => "/echo",
            Self::Mqtt => "/mqtt",
            Self::Nats => "/",
            Self::Centrifugo => "/connection/websocket",
            Self::Xmpp => "/ws",
        }
    }

    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Mqtt => Some("mqtt"),
            Self::Xmpp => Some("xmpp"),
            Self::Rooms | Self::Nats | Self::Centrifugo => None,
        }
    }

    /// Whether its messages are text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Centrifugo | Self::Xmpp)
    }

    /// Whether nobody may write to a room without being in it.
    pub fn writer_joins(self, room: &Room) -> bool {
        self == Self::Xmpp && room.members > 1
    }

    /// Whether a server of it can acknowledge a publication.
    pub fn acknowledges(self) -> bool {
        matches!(self, Self::Mqtt | Self::Nats | Self::Xmpp)
    }
}

/// A place that is published to, by one session, and that others subscribe to: of one load thread, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub thread: u32,
    pub number: u32,
    /// The user who writes there; its members are the next ones.
    pub writer: u32,
    pub members: u32,
}

impl Room {
    fn name(&self, between: char) -> String {
        format!("r{between}{}{between}{}", self.thread, self.number)
    }
}

/// One session, as far as its protocol has to remember something.
#[derive(Debug, Default)]
pub struct Line {
    pub thread: u32,
    pub user: u32,
    /// The beginning of a command whose rest has not come yet.
    carried: Vec<u8>,
    /// How far the hello is.
    step: u8,
    /// Requests so far: their ids.
    requests: u32,
}

impl Line {
    pub fn new(thread: u32, user: u32) -> Self {
        Self { thread, user, ..Self::default() }
    }

    fn next_request(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The hello is over.
    Welcome,
    Subscribed,
    /// A publication with this number; `None`: it is not one of this run's.
    Delivered(Option<u32>),
    /// The server has the oldest publication that it had not acknowledged.
    Accepted,
    Pong,
    /// An error that the server told, or what was not understood.
    Refused(String),
}

/// What a protocol has to say after it heard or was told something: messages of WebSocket, and what they meant.
#[derive(Debug, Default)]
pub struct Talk {
    said: Vec<u8>,
    ends: Vec<usize>,
    pub heard: Vec<Heard>,
}

impl Talk {
    /// Says one message.
    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.said);
        self.ends.push(self.said.len());
    }

    fn hear(&mut self, heard: Heard) {
        self.heard.push(heard);
    }

    /// Gives each message that is to be sent, and forgets them.
    pub fn take_said(&mut self, mut send: impl FnMut(&[u8])) {
        let mut start = 0;
        for end in self.ends.drain(..) {
            send(self.said.get(start..end).unwrap_or_default());
            start = end;
        }
        self.said.clear();
    }
}

/// One of the protocols.
pub trait Protocol {
    /// The connection is open.
    fn hello(&self, line: &mut Line, talk: &mut Talk);
    fn subscribe(&self, line: &mut Line, room: Room, talk: &mut Talk);
    fn publish(&self, line: &mut Line, room: Room, payload: &[u8], talk: &mut Talk);
    /// The smallest question that the server itself answers.
    fn ask(&self, line: &mut Line, talk: &mut Talk);
    /// A message of WebSocket has come. Acknowledges deliveries where that is wished for, and answers the server's pings.
    fn hear(&self, line: &mut Line, message: &[u8], talk: &mut Talk);
}

/// What a publication holds: its number and filler, in letters that JSON and XML leave alone.
pub mod payload {
    const DIGITS: usize = 8;
    const FILLER: u8 = b'-';

    /// Writes number `number` at a length of `bytes`, at least the digits'.
    pub fn write(number: u32, bytes: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(format!("{number:08x}").as_bytes());
        out.resize(bytes.max(DIGITS), FILLER);
    }

    /// Its number; `None` if it is not as [`write()`] writes it at this length.
    pub fn read(payload: &[u8], bytes: usize) -> Option<u32> {
        let (digits, filler) = payload.split_at_checked(DIGITS)?;
        let is_same = payload.len() == bytes.max(DIGITS)
            && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && filler.iter().all(|&byte| byte == FILLER);
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_same)
    }
}

/// Takes whole commands off a stream that comes in messages: `cut` gives the length of the first command, 0 where its end has not
/// come; `each` gets every whole one.
fn commands(
    line: &mut Line,
    message: &[u8],
    talk: &mut Talk,
    cut: impl Fn(&[u8]) -> Option<usize>,
    mut each: impl FnMut(&mut Line, &[u8], &mut Talk),
) {
    let mut carried = std::mem::take(&mut line.carried);
    let mut rest = if carried.is_empty() {
        message
    } else {
        carried.extend_from_slice(message);
        carried.as_slice()
    };
    while !rest.is_empty() {
        match cut(rest).map(|length| rest.split_at_checked(length)) {
            Some(Some((_, same))) if same.len() == rest.len() => break,
            Some(Some((command, others))) => {
                each(line, command, talk);
                rest = others;
            }
            Some(None) => break,
            None => return talk.hear(Heard::Refused("not understood: no command of the protocol".to_owned())),
        }
    }
    if rest.len() > MOST_CARRIED {
        return talk.hear(Heard::Refused(format!("a command of more than {MOST_CARRIED} bytes")));
    }
    if !rest.is_empty() {
        line.carried = rest.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 5] = [Kind::Rooms, Kind::Mqtt, Kind::Nats, Kind::Centrifugo, Kind::Xmpp];

    /// What was said, as text.
    pub fn said(talk: &mut Talk) -> Vec<String> {
        let mut all = Vec::new();
        talk.take_said(|message| all.push(String::from_utf8_lossy(message).into_owned()));
        all
    }

    /// What is heard of these messages.
    pub fn heard(protocol: &dyn Protocol, line: &mut Line, messages: &[&[u8]]) -> (Vec<Heard>, Vec<String>) {
        let mut talk = Talk::default();
        messages.iter().for_each(|message| protocol.hear(line, message, &mut talk));
        (std::mem::take(&mut talk.heard), said(&mut talk))
    }

    pub const PLAIN: Wish = Wish { durable: false, asks: false, bytes: 8 };
    pub const DURABLE: Wish = Wish { durable: true, ..PLAIN };
    pub const ASKS: Wish = Wish { asks: true, ..PLAIN };
    pub const ROOM: Room = Room { thread: 0, number: 7, writer: 14, members: 1 };

    #[test]
    fn a_payload_that_was_changed_is_not_taken_for_one() {
        let mut out = Vec::new();
        payload::write(0xabc, 128, &mut out);
        assert_eq!((out.len(), payload::read(&out, 128)), (128, Some(0xabc)));
        assert_eq!(payload::read(&out[..127], 128), None, "cut");
        assert_eq!(payload::read(&[&out[..], b"-"].concat(), 128), None, "longer");
        assert_eq!(payload::read(&out.to_ascii_uppercase(), 128), None, "another digit");
        out[127] = b'x';
        assert_eq!(payload::read(&out, 128), None);
        assert_eq!(payload::read(b"+0000001", 8), None, "a sign is no digit");
        assert_eq!(payload::read(b"0000001", 7), None, "too short");
        payload::write(1, 0, &mut out);
        assert_eq!((out.as_slice(), payload::read(&out, 0)), (b"00000001".as_slice(), Some(1)));
    }

    #[test]
    fn nothing_that_a_server_says_panics_or_is_kept_without_bound() {
        for kind in ALL {
            for wish in [PLAIN, DURABLE, ASKS] {
                let protocol = kind.protocol(wish);
                let (mut line, mut talk) = (Line::new(0, 0), Talk::default());
                protocol.hello(&mut line, &mut talk);
                let mut drawn = 1u64;
                for _ in 0..2_000 {
                    drawn = crate::text::mix(drawn);
                    let message: Vec<u8> = (0..drawn % 300).map(|n| crate::text::mix(drawn ^ n) as u8).collect();
                    protocol.hear(&mut line, &message, &mut talk);
                    protocol.hear(&mut line, &message.to_ascii_uppercase(), &mut talk);
                    assert!(line.carried.len() <= MOST_CARRIED, "{kind:?}");
                    talk.heard.clear();
                }
            }
        }
    }

    #[test]
    fn commands_are_found_wherever_messages_cut_them() {
        let cut = |bytes: &[u8]| Some(bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1));
        for size in 1..12 {
            let (mut line, mut talk, mut found) = (Line::new(0, 0), Talk::default(), Vec::new());
            for message in b"one\ntwo\n\nthree\nfo".chunks(size) {
                commands(&mut line, message, &mut talk, cut, |_, command, _| {
                    found.push(String::from_utf8_lossy(command).into_owned());
                });
            }
            assert_eq!(found, ["one\n", "two\n", "\n", "three\n"], "in messages of {size}");
            assert_eq!(line.carried, b"fo");
        }
    }
}
