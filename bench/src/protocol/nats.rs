//! The client protocol of NATS: lines, and payloads of the length that a line names. Where it is to be durable, what is published
//! is in the stream [`STREAM`], which the first session makes: a publication has a reply subject to which JetStream says that it is
//! stored, and each subscriber has a durable consumer that wants every message acknowledged.

use super::{Heard, Line, Protocol, Room, Talk, Wish, commands, payload};

pub struct Nats(pub Wish);

/// The stream of all rooms of a run: subjects `r.>`.
const STREAM: &str = "FLOOD";
/// Messages that a consumer may be owed an acknowledgement for.
const MOST_UNACKNOWLEDGED: u32 = 1_000;

/// Subscriptions of a session.
const ROOM_SID: &str = "1";
const REPLY_SID: &str = "2";

/// Where a session hears what was asked of JetStream; what a publication is answered goes to `.p`.
fn inbox(line: &Line) -> String {
    format!("_INBOX.{}.{}", line.thread, line.user)
}

fn publication(out: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    let space = if reply.is_empty() { "" } else { " " };
    out.extend_from_slice(format!("PUB {subject} {reply}{space}{}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|two| two == b"\r\n").map(|at| at + 2)
}

/// The words of a command's first line.
fn words(bytes: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(bytes).unwrap_or_default().split_ascii_whitespace()
}

fn cut(bytes: &[u8]) -> Option<usize> {
    let Some(end) = line_end(bytes) else { return Some(0) };
    let line = bytes.get(..end)?;
    let has_payload = line.starts_with(b"MSG ") || line.starts_with(b"HMSG ");
    let length = if has_payload { words(line).last()?.parse::<usize>().ok()?.checked_add(2)? } else { 0 };
    let all = end.checked_add(length)?;
    Some(if all <= bytes.len() { all } else { 0 })
}

impl Protocol for Nats {
    fn hello(&self, line: &mut Line, talk: &mut Talk) {
        let mut hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"protocol\":1,\"headers\":true,\
                         \"no_responders\":true,\"lang\":\"rust\",\"version\":\"1\"}\r\n"
            .to_owned();
        if self.0.durable {
            hello += &format!("SUB {}.* {REPLY_SID}\r\n", inbox(line));
        }
        hello += "PING\r\n";
        talk.say(|out| out.extend_from_slice(hello.as_bytes()));
        if self.makes_stream(line) {
            let request =
                serde_json::json!({"name": STREAM, "subjects": ["r.>"], "storage": "file", "num_replicas": 1});
            let (subject, reply) = (format!("$JS.API.STREAM.CREATE.{STREAM}"), format!("{}.s", inbox(line)));
            talk.say(|out| publication(out, &subject, &reply, request.to_string().as_bytes()));
        }
    }

    fn subscribe(&self, line: &mut Line, room: Room, talk: &mut Talk) {
        if !self.0.durable {
            let subscription = format!("SUB {} {ROOM_SID}\r\nPING\r\n", room.name('.'));
            return talk.say(|out| out.extend_from_slice(subscription.as_bytes()));
        }
        let (deliver, name) = (format!("d.{}.{}", line.thread, line.user), format!("c-{}-{}", line.thread, line.user));
        let request = serde_json::json!({"stream_name": STREAM, "config": {
            "durable_name": name, "deliver_subject": deliver, "filter_subject": room.name('.'), "ack_policy": "explicit",
            "deliver_policy": "new", "max_ack_pending": MOST_UNACKNOWLEDGED,
            // On disk it would be a file of its own for each, written and synced ten times a second.
            "mem_storage": true,
        }});
        let subscription = format!("SUB {deliver} {ROOM_SID}\r\n");
        let (subject, reply) =
            (format!("$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{name}"), format!("{}.c", inbox(line)));
        talk.say(|out| {
            out.extend_from_slice(subscription.as_bytes());
            publication(out, &subject, &reply, request.to_string().as_bytes());
        });
    }

    fn publish(&self, line: &mut Line, room: Room, payload: &[u8], talk: &mut Talk) {
        let reply = if self.0.durable { format!("{}.p", inbox(line)) } else { String::new() };
        talk.say(|out| publication(out, &room.name('.'), &reply, payload));
    }

    fn ask(&self, _line: &mut Line, talk: &mut Talk) {
        talk.say(|out| out.extend_from_slice(b"PING\r\n"));
    }

    fn hear(&self, line: &mut Line, message: &[u8], talk: &mut Talk) {
        commands(line, message, talk, cut, |line, command, talk| {
            let end = line_end(command).unwrap_or_default();
            let (head, rest) = command.split_at_checked(end).unwrap_or_default();
            let payload = rest.strip_suffix(b"\r\n").unwrap_or(rest);
            let mut words = words(head);
            match words.next() {
                Some("MSG") => self.message(words, payload, talk),
                Some("PING") => talk.say(|out| out.extend_from_slice(b"PONG\r\n")),
                // The first PONG is the answer to the hello; later ones are to subscriptions, or to questions.
                Some("PONG") if std::mem::replace(&mut line.step, 1) == 1 => {
                    talk.hear(if self.0.asks { Heard::Pong } else { Heard::Subscribed });
                }
                // Who makes the stream is here when it is made.
                Some("PONG") if self.makes_stream(line) => {}
                Some("PONG") => talk.hear(Heard::Welcome),
                Some("INFO" | "+OK") => {}
                _ => talk.hear(Heard::Refused(String::from_utf8_lossy(head).trim().to_owned())),
            }
        });
    }
}

impl Nats {
    fn makes_stream(&self, line: &Line) -> bool {
        self.0.durable && (line.thread, line.user) == (0, 0)
    }

    /// Subject, subscription, perhaps a reply subject, length; then the payload.
    fn message<'w>(&self, mut words: impl Iterator<Item = &'w str>, payload: &[u8], talk: &mut Talk) {
        let (subject, sid, third, fourth) = (words.next(), words.next(), words.next(), words.next());
        if sid != Some(REPLY_SID) {
            talk.hear(Heard::Delivered(payload::read(payload, self.0.bytes)));
            if let (true, Some(reply), Some(_length)) = (self.0.durable, third, fourth) {
                talk.say(|out| publication(out, reply, "", b"+ACK"));
            }
            return;
        }
        let answer: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        let ends = |end: &str| subject.is_some_and(|subject| subject.ends_with(end));
        talk.hear(if answer.get("error").is_some() || !answer.is_object() {
            Heard::Refused(String::from_utf8_lossy(payload).into_owned())
        } else if ends(".p") {
            Heard::Accepted
        } else if ends(".s") {
            Heard::Welcome
        } else {
            Heard::Subscribed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn hello_subscription_and_delivery() {
        let (mut line, mut talk) = (Line::new(0, 3), Talk::default());
        let nats = Nats(PLAIN);
        nats.hello(&mut line, &mut talk);
        nats.subscribe(&mut line, ROOM, &mut talk);
        nats.publish(&mut line, ROOM, b"0000000a", &mut talk);
        let said = said(&mut talk);
        assert!(said[0].starts_with("CONNECT {") && said[0].ends_with("}\r\nPING\r\n"), "{}", said[0]);
        assert_eq!(said[1..], ["SUB r.0.7 1\r\nPING\r\n", "PUB r.0.7 8\r\n0000000a\r\n"]);
        let stream = b"INFO {\"max_payload\":1}\r\nPONG\r\nPONG\r\nMSG r.0.7 1 8\r\n0000000a\r\nPING\r\n-ERR 'Slow Consumer'\r\n";
        for size in [1, 5, 1_000] {
            let mut line = Line::new(0, 3);
            let (all, answers) = heard(&nats, &mut line, &stream.chunks(size).collect::<Vec<_>>());
            assert_eq!(all[..3], [Heard::Welcome, Heard::Subscribed, Heard::Delivered(Some(10))]);
            assert_eq!(all[3..], [Heard::Refused("-ERR 'Slow Consumer'".to_owned())]);
            assert_eq!(answers, ["PONG\r\n"]);
        }
    }

    #[test]
    fn jetstream_acknowledges_and_is_acknowledged() {
        let (mut line, mut talk) = (Line::new(0, 3), Talk::default());
        let nats = Nats(DURABLE);
        nats.publish(&mut line, ROOM, b"00000001", &mut talk);
        assert_eq!(said(&mut talk), ["PUB r.0.7 _INBOX.0.3.p 8\r\n00000001\r\n"]);
        let stored = b"MSG _INBOX.0.3.p 2 27\r\n{\"stream\":\"FLOOD\",\"seq\":1}\n\r\n";
        let made = b"MSG _INBOX.0.3.c 2 16\r\n{\"name\":\"c-0-3\"}\r\n";
        let pushed = b"MSG r.0.7 1 $JS.ACK.FLOOD.c-0-3.1.1.1.9.0 8\r\n00000001\r\n";
        let (all, acks) = heard(&nats, &mut line, &[stored, made, pushed]);
        assert_eq!(all, [Heard::Accepted, Heard::Subscribed, Heard::Delivered(Some(1))]);
        assert_eq!(acks, ["PUB $JS.ACK.FLOOD.c-0-3.1.1.1.9.0 4\r\n+ACK\r\n"]);
        let mut first = Line::new(0, 0);
        nats.hello(&mut first, &mut talk);
        assert!(said(&mut talk)[1].starts_with("PUB $JS.API.STREAM.CREATE.FLOOD _INBOX.0.0.s "));
        let stream = b"MSG _INBOX.0.0.s 2 19\r\n{\"did_create\":true }\r\n";
        assert_eq!(heard(&nats, &mut first, &[b"PONG\r\n", stream]).0, [Heard::Welcome], "once the stream is there");
        let refused = b"MSG _INBOX.0.3.p 2 22\r\n{\"error\":{\"code\":503}}\r\n";
        assert!(matches!(&heard(&nats, &mut line, &[refused]).0[..], [Heard::Refused(_)]));
    }
}
