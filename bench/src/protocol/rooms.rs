//! Plain messages: what arrives in a room goes to the others there. Membership is the connection's path, so a hello and a
//! subscription are over before they began.

use super::{Heard, Line, Protocol, Room, Talk, Wish, payload};

pub struct Rooms(pub Wish);

impl Protocol for Rooms {
    fn hello(&self, _line: &mut Line, talk: &mut Talk) {
        talk.hear(Heard::Welcome);
    }

    fn subscribe(&self, _line: &mut Line, _room: Room, talk: &mut Talk) {
        talk.hear(Heard::Subscribed);
    }

    fn publish(&self, _line: &mut Line, _room: Room, payload: &[u8], talk: &mut Talk) {
        talk.say(|out| out.extend_from_slice(payload));
    }

    fn ask(&self, _line: &mut Line, talk: &mut Talk) {
        let mut question = Vec::new();
        payload::write(0, self.0.bytes, &mut question);
        talk.say(|out| out.extend_from_slice(&question));
    }

    fn hear(&self, _line: &mut Line, message: &[u8], talk: &mut Talk) {
        talk.hear(match (self.0.asks, payload::read(message, self.0.bytes)) {
            (true, Some(0)) => Heard::Pong,
            (true, _) => Heard::Refused("an echo that differs".to_owned()),
            (false, number) => Heard::Delivered(number),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn a_publication_is_what_the_others_get_and_a_question_what_comes_back() {
        let (mut line, mut talk) = (Line::new(0, 0), Talk::default());
        Rooms(PLAIN).publish(&mut line, ROOM, b"00000009", &mut talk);
        let message = said(&mut talk).remove(0);
        assert_eq!(heard(&Rooms(PLAIN), &mut line, &[message.as_bytes()]).0, [Heard::Delivered(Some(9))]);
        Rooms(ASKS).ask(&mut line, &mut talk);
        let message = said(&mut talk).remove(0);
        assert_eq!(message.len(), ASKS.bytes);
        assert_eq!(heard(&Rooms(ASKS), &mut line, &[message.as_bytes()]).0, [Heard::Pong]);
        assert!(matches!(heard(&Rooms(ASKS), &mut line, &[b"?"]).0[..], [Heard::Refused(_)]));
    }
}
