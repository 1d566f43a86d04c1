//! XMPP over WebSocket (RFC 7395): one stanza a message. Sessions log in by SASL PLAIN under a name of their own. A room of one member
//! is chat from one to the other; a larger one a multi-user chat (XEP-0045) that its writer has to be in. Where it is to be durable,
//! the server acknowledges stanzas by XEP-0198.

use super::{Heard, Line, Protocol, Room, Talk, Wish, payload};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub struct Xmpp(pub Wish);

const DOMAIN: &str = "localhost";
const ROOMS: &str = "conference.localhost";
const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
const BIND: &str =
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>f</resource></bind></iq>";
const SESSION: &str = "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const PING: &str = "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";

/// How far a session is: what it has said last, in this order.
const OPENED: u8 = 0;
const AUTHENTICATING: u8 = 1;
const REOPENED: u8 = 2;
const BINDING: u8 = 3;
const ENABLING: u8 = 4;
const HERE: u8 = 5;

fn name(thread: u32, user: u32) -> String {
    format!("f{thread}-{user}")
}

/// What stands between these two, first of all.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

impl Protocol for Xmpp {
    fn hello(&self, line: &mut Line, talk: &mut Talk) {
        line.step = OPENED;
        talk.say(|out| out.extend_from_slice(OPEN.as_bytes()));
    }

    fn subscribe(&self, line: &mut Line, room: Room, talk: &mut Talk) {
        if room.members == 1 {
            return talk.hear(Heard::Subscribed);
        }
        let presence = format!(
            "<presence to='{}@{ROOMS}/{}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
            room.name('-'),
            name(line.thread, line.user),
        );
        talk.say(|out| out.extend_from_slice(presence.as_bytes()));
    }

    fn publish(&self, _line: &mut Line, room: Room, payload: &[u8], talk: &mut Talk) {
        let (to, kind) = match room.members {
            1 => (format!("{}@{DOMAIN}/f", name(room.thread, room.writer + 1)), "chat"),
            _ => (format!("{}@{ROOMS}", room.name('-')), "groupchat"),
        };
        let body = String::from_utf8_lossy(payload);
        talk.say(|out| {
            out.extend_from_slice(format!("<message to='{to}' type='{kind}'><body>{body}</body></message>").as_bytes())
        });
        if self.0.durable {
            talk.say(|out| out.extend_from_slice(REQUEST.as_bytes()));
        }
    }

    fn ask(&self, _line: &mut Line, talk: &mut Talk) {
        talk.say(|out| out.extend_from_slice(PING.as_bytes()));
    }

    fn hear(&self, line: &mut Line, message: &[u8], talk: &mut Talk) {
        let Ok(text) = std::str::from_utf8(message) else {
            return talk.hear(Heard::Refused("not UTF-8".to_owned()));
        };
        let is = |element: &str| text.strip_prefix('<').is_some_and(|text| text.starts_with(element));
        if is("message") {
            return self.message(line, text, talk);
        }
        if is("r ") {
            // Stanzas that came in, counted modulo 2^32 (XEP-0198 section 4).
            let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", line.requests);
            return talk.say(|out| out.extend_from_slice(answer.as_bytes()));
        }
        if is("a ") {
            return talk.hear(Heard::Accepted);
        }
        line.requests = line.requests.wrapping_add(u32::from(line.step == HERE && (is("iq") || is("presence"))));
        self.step(line, text, is, talk);
    }
}

impl Xmpp {
    fn message(&self, line: &mut Line, text: &str, talk: &mut Talk) {
        line.requests = line.requests.wrapping_add(1);
        match between(text, "<body>", "</body>") {
            _ if text.contains("type='error'") || text.contains("type=\"error\"") => {
                talk.hear(Heard::Refused(text.to_owned()));
            }
            Some(body) => talk.hear(Heard::Delivered(payload::read(body.as_bytes()))),
            // A subject, or what a room says of itself.
            None => {}
        }
    }

    fn step(&self, line: &mut Line, text: &str, is: impl Fn(&str) -> bool, talk: &mut Talk) {
        let step = line.step;
        let mut say = |step: u8, what: &str| {
            line.step = step;
            talk.say(|out| out.extend_from_slice(what.as_bytes()));
        };
        let is_result = text.contains("type='result'") || text.contains("type=\"result\"");
        match step {
            _ if is("open") => {}
            OPENED if is("stream:features") => {
                let name = name(line.thread, line.user);
                let secret = STANDARD.encode(format!("\0{name}\0{name}"));
                say(
                    AUTHENTICATING,
                    &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"),
                );
            }
            AUTHENTICATING if is("success") => say(REOPENED, OPEN),
            REOPENED if is("stream:features") => say(BINDING, BIND),
            BINDING if is("iq") && is_result && text.contains("xmpp-bind") && self.0.durable => say(ENABLING, ENABLE),
            BINDING if is("iq") && is_result && text.contains("xmpp-bind") => say(ENABLING, SESSION),
            ENABLING if is("enabled") || (is("iq") && is_result) => {
                line.requests = 0;
                // Without it nobody is there to be written to.
                say(HERE, "<presence/>");
                talk.hear(Heard::Welcome);
            }
            HERE if is("presence") && text.contains("110") => talk.hear(Heard::Subscribed),
            HERE if is("presence") && !text.contains("error") => {}
            HERE if is("iq") && is_result => talk.hear(Heard::Pong),
            _ => talk.hear(Heard::Refused(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn a_session_logs_in_and_says_that_it_is_there() {
        let (xmpp, mut line, mut talk) = (Xmpp(DURABLE), Line::new(0, 15), Talk::default());
        xmpp.hello(&mut line, &mut talk);
        assert_eq!(said(&mut talk), [OPEN]);
        let open: &[u8] = b"<open id='1' xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
        let features: &[u8] = b"<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>";
        let bound: &[u8] = b"<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>f0-15@localhost/f</jid></bind></iq>";
        let enabled: &[u8] = b"<enabled xmlns='urn:xmpp:sm:3'/>";
        let (all, said) = heard(&xmpp, &mut line, &[open, features, b"<success/>", open, features, bound, enabled]);
        assert_eq!(all, [Heard::Welcome]);
        assert_eq!(said[1..], [OPEN, BIND, ENABLE, "<presence/>"]);
        assert!(said[0].contains("AGYwLTE1AGYwLTE1"), "{}", said[0]);
    }

    #[test]
    fn chat_is_between_neighbours_and_acknowledged() {
        let (xmpp, mut line, mut talk) = (Xmpp(DURABLE), Line::new(0, 14), Talk::default());
        xmpp.publish(&mut line, ROOM, b"00000002", &mut talk);
        let said = said(&mut talk);
        assert_eq!(said, ["<message to='f0-15@localhost/f' type='chat'><body>00000002</body></message>", REQUEST]);
        line.step = HERE;
        let (all, acks) = heard(&xmpp, &mut line, &[said[0].as_bytes(), b"<r xmlns='urn:xmpp:sm:3'/>", b"<a h='1'/>"]);
        assert_eq!(all, [Heard::Delivered(Some(2)), Heard::Accepted]);
        assert_eq!(acks, ["<a xmlns='urn:xmpp:sm:3' h='1'/>"]);
        let refused = b"<message type='error'><body>00000002</body></message>";
        assert!(matches!(&heard(&xmpp, &mut line, &[refused]).0[..], [Heard::Refused(_)]));
    }
}
