//! Centrifugo's JSON protocol: one object or several lines of them in a message, each with the id of its request or a push.
//! It keeps nothing without a history, so publications are acknowledged by nobody who has them on disk.

use super::{Heard, Line, Protocol, Room, Talk, Wish, payload};
use serde::Deserialize;
use std::borrow::Cow;

pub struct Centrifugo(pub Wish);

/// In a namespace without a history.
fn channel(room: Room) -> String {
    format!("room:{}", room.name('-'))
}

/// What a server says, as far as it is looked at.
#[derive(Deserialize)]
struct Reply<'a> {
    id: Option<u32>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
    #[serde(borrow)]
    error: Option<Failure<'a>>,
    connect: Option<serde::de::IgnoredAny>,
    subscribe: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    code: u32,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

impl Centrifugo {
    fn request(&self, line: &mut Line, talk: &mut Talk, what: std::fmt::Arguments<'_>) {
        let id = line.next_request();
        talk.say(|out| out.extend_from_slice(format!("{{\"id\":{id},{what}}}").as_bytes()));
    }

    fn reply(&self, text: &[u8], talk: &mut Talk) {
        // A ping is an empty object, and so is its answer.
        if text == b"{}" {
            return talk.say(|out| out.extend_from_slice(b"{}"));
        }
        let Ok(reply) = serde_json::from_slice::<Reply<'_>>(text) else {
            return talk.hear(Heard::Refused(format!("not understood: {}", String::from_utf8_lossy(text))));
        };
        if let Some(Failure { code, message }) = reply.error {
            return talk.hear(Heard::Refused(format!("error {code}: {message}")));
        }
        if let Some(publication) = reply.push.and_then(|push| push.publication) {
            return talk.hear(Heard::Delivered(payload::read(publication.data.as_bytes(), self.0.bytes)));
        }
        match reply {
            Reply { connect: Some(_), .. } => talk.hear(Heard::Welcome),
            Reply { subscribe: Some(_), .. } => talk.hear(Heard::Subscribed),
            // Answers to publications and questions; who asks, publishes nothing.
            Reply { id: Some(_), .. } => talk.hear(if self.0.asks { Heard::Pong } else { Heard::Accepted }),
            _ => {}
        }
    }
}

impl Protocol for Centrifugo {
    fn hello(&self, line: &mut Line, talk: &mut Talk) {
        self.request(line, talk, format_args!("\"connect\":{{}}"));
    }

    fn subscribe(&self, line: &mut Line, room: Room, talk: &mut Talk) {
        self.request(line, talk, format_args!("\"subscribe\":{{\"channel\":\"{}\"}}", channel(room)));
    }

    fn publish(&self, line: &mut Line, room: Room, payload: &[u8], talk: &mut Talk) {
        let data = String::from_utf8_lossy(payload);
        self.request(line, talk, format_args!("\"publish\":{{\"channel\":\"{}\",\"data\":\"{data}\"}}", channel(room)));
    }

    /// There is no ping of a client's: what is published to nobody is answered, too.
    fn ask(&self, line: &mut Line, talk: &mut Talk) {
        let (room, mut question) =
            (Room { thread: line.thread, number: line.user, writer: line.user, members: 0 }, Vec::new());
        payload::write(0, self.0.bytes, &mut question);
        self.publish(line, room, &question, talk);
    }

    fn hear(&self, _line: &mut Line, message: &[u8], talk: &mut Talk) {
        message.split(|&byte| byte == b'\n').filter(|text| !text.is_empty()).for_each(|text| self.reply(text, talk));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn requests_and_what_comes_of_them() {
        let (mut line, mut talk) = (Line::new(0, 0), Talk::default());
        let centrifugo = Centrifugo(PLAIN);
        centrifugo.hello(&mut line, &mut talk);
        centrifugo.subscribe(&mut line, ROOM, &mut talk);
        centrifugo.publish(&mut line, ROOM, b"0000000a", &mut talk);
        assert_eq!(
            said(&mut talk),
            [
                r#"{"id":1,"connect":{}}"#,
                r#"{"id":2,"subscribe":{"channel":"room:r-0-7"}}"#,
                r#"{"id":3,"publish":{"channel":"room:r-0-7","data":"0000000a"}}"#,
            ]
        );
        let together = br#"{"id":1,"connect":{"client":"x","ping":25,"pong":true}}
{"id":2,"subscribe":{}}
{"push":{"channel":"room:r-0-7","pub":{"data":"0000000a","info":{"client":"x"}}}}
{"id":3,"publish":{}}
{}
{"id":4,"error":{"code":103,"message":"permission denied"}}"#;
        let (all, answers) = heard(&centrifugo, &mut line, &[together]);
        assert_eq!(all[..4], [Heard::Welcome, Heard::Subscribed, Heard::Delivered(Some(10)), Heard::Accepted]);
        assert_eq!(all[4..], [Heard::Refused("error 103: permission denied".to_owned())]);
        assert_eq!(answers, ["{}"], "its ping is answered");
    }
}
