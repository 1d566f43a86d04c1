//! MQTT 3.1.1 (OASIS standard of 2014): a stream of packets in binary messages. Where it is to be durable, sessions are kept
//! (clean session 0) and QoS is 1, so that PUBACK is the acknowledgement, each way; else QoS 0.

use super::{Heard, Line, Protocol, Room, Talk, Wish, commands, payload};

pub struct Mqtt(pub Wish);

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;

/// A packet: type and flags, length in base 128, body (section 2.2).
fn packet(out: &mut Vec<u8>, head: u8, parts: &[&[u8]]) {
    out.push(head);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let more = if length >= 128 { 128 } else { 0 };
        out.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Bytes of the head of a packet and of its body; `None`: no head; zeros: more of it is to come.
fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 127) << (7 * at);
        if byte < 128 {
            return Some((at + 2, length));
        }
    }
    (bytes.len() < 5).then_some((0, 0))
}

fn cut(bytes: &[u8]) -> Option<usize> {
    measure(bytes).map(|(head, body)| head + body).map(|all| if all <= bytes.len() { all } else { 0 })
}

fn counted(text: &str) -> [u8; 2] {
    (text.len() as u16).to_be_bytes()
}

impl Protocol for Mqtt {
    fn hello(&self, line: &mut Line, talk: &mut Talk) {
        let name = format!("f-{}-{}", line.thread, line.user);
        let clean = if self.0.durable { 0 } else { 2 };
        // Level 4; no will, no user, and no keep-alive that the server would wait for.
        let fixed = [0, 4, b'M', b'Q', b'T', b'T', 4, clean, 0, 0];
        talk.say(|out| packet(out, 0x10, &[&fixed, &counted(&name), name.as_bytes()]));
    }

    fn subscribe(&self, line: &mut Line, room: Room, talk: &mut Talk) {
        let (topic, id) = (room.name('/'), line.next_request() as u16);
        let most = [u8::from(self.0.durable)];
        talk.say(|out| packet(out, 0x82, &[&id.to_be_bytes(), &counted(&topic), topic.as_bytes(), &most]));
    }

    fn publish(&self, line: &mut Line, room: Room, payload: &[u8], talk: &mut Talk) {
        let topic = room.name('/');
        if !self.0.durable {
            return talk.say(|out| packet(out, 0x30, &[&counted(&topic), topic.as_bytes(), payload]));
        }
        // Ids are from 1 on (section 2.3.1).
        let id = (line.next_request() % 0xffff + 1) as u16;
        talk.say(|out| packet(out, 0x32, &[&counted(&topic), topic.as_bytes(), &id.to_be_bytes(), payload]));
    }

    fn ask(&self, _line: &mut Line, talk: &mut Talk) {
        talk.say(|out| packet(out, 0xc0, &[]));
    }

    fn hear(&self, line: &mut Line, message: &[u8], talk: &mut Talk) {
        commands(line, message, talk, cut, |_, command, talk| {
            let Some((head, _)) = measure(command) else { return };
            let (&[first, ..], Some(body)) = (command, command.get(head..)) else { return };
            match (first >> 4, body) {
                (CONNACK, [_, 0]) => talk.hear(Heard::Welcome),
                (SUBACK, [_, _, granted]) if *granted <= 2 => talk.hear(Heard::Subscribed),
                (PUBACK, _) => talk.hear(Heard::Accepted),
                (PINGRESP, _) => talk.hear(Heard::Pong),
                (PUBLISH, _) => self.delivered(first, body, talk),
                (kind, body) => talk.hear(Heard::Refused(format!("packet {kind}: {body:?}"))),
            }
        });
    }
}

impl Mqtt {
    /// A publication (section 3.3): topic, an id if its QoS is not 0, payload. Of QoS 1, it is acknowledged.
    fn delivered(&self, first: u8, body: &[u8], talk: &mut Talk) {
        let after_topic = match body {
            [high, low, rest @ ..] => rest.get(usize::from(u16::from_be_bytes([*high, *low]))..),
            _ => None,
        };
        let has_id = first & 0b110 != 0;
        match after_topic {
            Some([high, low, payload @ ..]) if has_id => {
                talk.hear(Heard::Delivered(payload::read(payload, self.0.bytes)));
                talk.say(|out| packet(out, 0x40, &[&[*high, *low]]));
            }
            Some(payload) if !has_id => talk.hear(Heard::Delivered(payload::read(payload, self.0.bytes))),
            _ => talk.hear(Heard::Refused("a publication that is cut".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn packets_are_as_the_standard_has_them() {
        let (mut line, mut talk) = (Line::new(0, 12), Talk::default());
        Mqtt(PLAIN).hello(&mut line, &mut talk);
        Mqtt(PLAIN).publish(&mut line, ROOM, b"00000003", &mut talk);
        Mqtt(DURABLE).publish(&mut line, ROOM, b"00000003", &mut talk);
        Mqtt(PLAIN).ask(&mut line, &mut talk);
        let said = said(&mut talk);
        assert_eq!(said[0], "\u{10}\u{12}\0\u{4}MQTT\u{4}\u{2}\0\0\0\u{6}f-0-12");
        assert_eq!(said[1], "0\u{f}\0\u{5}r/0/700000003");
        assert_eq!(said[2], "2\u{11}\0\u{5}r/0/7\0\u{2}00000003");
        let mut long = Vec::new();
        packet(&mut long, 0x30, &[&[7; 321]]);
        assert_eq!(long[..3], [0x30, 0xc1, 0x02], "321 in base 128, as in section 2.2.3");
        assert_eq!(measure(&long), Some((3, 321)));
    }

    #[test]
    fn several_packets_in_one_message_and_one_in_several() {
        let mqtt = Mqtt(DURABLE);
        let mut line = Line::new(0, 0);
        let stream = b"\x20\x02\0\0\x90\x03\0\x01\x01\x32\x11\0\x05r/0/7\0\x0900000003\x40\x02\0\x01\xd0\0";
        let (all, acks) = heard(&mqtt, &mut line, &[stream]);
        assert_eq!(all, [Heard::Welcome, Heard::Subscribed, Heard::Delivered(Some(3)), Heard::Accepted, Heard::Pong]);
        assert_eq!(acks, ["@\u{2}\0\t"], "PUBACK names the id of the delivery");
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(heard(&mqtt, &mut line, &bytes).0.len(), 5);
    }

    #[test]
    fn a_refusal_is_told() {
        let (all, _) = heard(&Mqtt(PLAIN), &mut Line::new(0, 0), &[b"\x20\x02\0\x05\x90\x03\0\x01\x80"]);
        assert!(matches!(&all[..], [Heard::Refused(_), Heard::Refused(_)]), "{all:?}");
    }
}
