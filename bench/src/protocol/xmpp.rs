//! XMPP over WebSocket (RFC 7395): one stanza a message. Sessions log in by SASL PLAIN under a name of their own. A room of one member
//! is chat from one to the other; a larger one a multi-user chat (XEP-0045) that its writer has to be in. Where it is to be durable,
//! sessions make themselves an account (XEP-0077), and the server acknowledges stanzas by XEP-0198. The rooms of each run are its
//! own: a server may still be taking the occupants of the last run out of theirs, and with them those of the same name now.

use super::{Heard, Line, Protocol, Room, Talk, Wish, payload};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub struct Xmpp {
    pub wish: Wish,
    /// Tells the rooms of runs apart.
    pub run: u32,
}

const DOMAIN: &str = "peer";
const ROOMS: &str = "conference.peer";
const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='peer' version='1.0'/>";
const BIND: &str = "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                    <resource>f</resource></bind></iq>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const PING: &str = "<iq xmlns='jabber:client' type='get' id='p' to='peer'><ping xmlns='urn:xmpp:ping'/></iq>";

/// How far a session is.
const LOGGING_IN: u8 = 0;
const ENABLING: u8 = 1;
const HERE: u8 = 2;

fn name(thread: u32, user: u32) -> String {
    format!("f{thread}-{user}")
}

/// What stands between these two, first of all.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

impl Protocol for Xmpp {
    /// All of it at once: the server goes through it in order.
    fn hello(&self, line: &mut Line, talk: &mut Talk) {
        line.step = LOGGING_IN;
        let name = name(line.thread, line.user);
        let secret = STANDARD.encode(format!("\0{name}\0{name}"));
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>");
        let account = format!(
            "<iq xmlns='jabber:client' type='set' id='r'><query xmlns='jabber:iq:register'><username>{name}</username>\
             <password>{name}</password></query></iq>"
        );
        let own = self.wish.durable.then_some(account.as_str());
        let stanzas = [Some(OPEN), own, Some(&auth), Some(OPEN), Some(BIND)];
        stanzas.into_iter().flatten().for_each(|stanza| talk.say(|out| out.extend_from_slice(stanza.as_bytes())));
    }

    fn subscribe(&self, line: &mut Line, room: Room, talk: &mut Talk) {
        if room.members == 1 {
            return talk.hear(Heard::Subscribed);
        }
        let presence = format!(
            "<presence xmlns='jabber:client' to='{}/{}'><x xmlns='http://jabber.org/protocol/muc'>\
             <history maxstanzas='0'/></x></presence>",
            self.room(room),
            name(line.thread, line.user),
        );
        talk.say(|out| out.extend_from_slice(presence.as_bytes()));
    }

    fn publish(&self, _line: &mut Line, room: Room, payload: &[u8], talk: &mut Talk) {
        let (to, kind) = match room.members {
            1 => (format!("{}@{DOMAIN}/f", name(room.thread, room.writer + 1)), "chat"),
            _ => (self.room(room), "groupchat"),
        };
        let body = String::from_utf8_lossy(payload);
        let stanza = format!("<message xmlns='jabber:client' to='{to}' type='{kind}'><body>{body}</body></message>");
        talk.say(|out| out.extend_from_slice(stanza.as_bytes()));
        if self.wish.durable {
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
        if is("open") || is("stream:features") || is("success") {
            return;
        }
        line.requests = line.requests.wrapping_add(u32::from(is("iq") || is("presence")));
        let is_error = text.contains("type='error'");
        match line.step {
            // Whether the account is new: if there is none, the login fails.
            LOGGING_IN if is("iq") && text.contains("id='r'") => {}
            LOGGING_IN if is("iq") && !is_error && self.wish.durable => {
                line.step = ENABLING;
                talk.say(|out| out.extend_from_slice(ENABLE.as_bytes()));
            }
            LOGGING_IN | ENABLING if is("enabled") || (is("iq") && !is_error) => {
                (line.step, line.requests) = (HERE, 0);
                talk.hear(Heard::Welcome);
            }
            HERE if is("iq") && !is_error => talk.hear(Heard::Pong),
            // Of those who are in a room; the room's subject, a message, ends them.
            HERE if is("presence") && !is_error => {}
            _ => talk.hear(Heard::Refused(text.to_owned())),
        }
    }
}

impl Xmpp {
    fn room(&self, room: Room) -> String {
        format!("{}-{}@{ROOMS}", room.name('-'), self.run)
    }

    fn message(&self, line: &mut Line, text: &str, talk: &mut Talk) {
        line.requests = line.requests.wrapping_add(1);
        match between(text, "<body>", "</body>") {
            _ if text.contains("type='error'") => talk.hear(Heard::Refused(text.to_owned())),
            Some(body) => talk.hear(Heard::Delivered(payload::read(body.as_bytes(), self.wish.bytes))),
            None if text.contains("<subject") => talk.hear(Heard::Subscribed),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    fn speaks(wish: Wish) -> Xmpp {
        Xmpp { wish, run: 5 }
    }

    #[test]
    fn a_session_logs_in() {
        let (xmpp, mut line, mut talk) = (speaks(DURABLE), Line::new(0, 15), Talk::default());
        xmpp.hello(&mut line, &mut talk);
        let said = said(&mut talk);
        assert_eq!((said[0].as_str(), said[3].as_str(), said[4].as_str()), (OPEN, OPEN, BIND));
        assert!(said[1].contains("<username>f0-15</username>") && said[2].contains("AGYwLTE1AGYwLTE1"), "{said:?}");
        let open: &[u8] = b"<open id='1' xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
        let features: &[u8] = b"<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>";
        let bound: &[u8] = b"<iq xmlns='jabber:client' type='result' id='b'><bind><jid>f0-15@peer/f</jid></bind></iq>";
        let taken: &[u8] = b"<iq type='error' id='r'><error><conflict/></error></iq>";
        let answers =
            [open, features, taken, b"<success/>", open, features, bound, b"<enabled xmlns='urn:xmpp:sm:3'/>"];
        let (all, said) = heard(&xmpp, &mut line, &answers);
        assert_eq!((all, said), (vec![Heard::Welcome], vec![ENABLE.to_owned()]));
        let (all, said) = heard(&speaks(PLAIN), &mut Line::new(0, 15), &answers[..7]);
        assert_eq!((all, said), (vec![Heard::Welcome], vec![]), "where nothing is acknowledged, bound is enough");
        let (all, _) = heard(&xmpp, &mut Line::new(0, 15), &[b"<failure><not-authorized/></failure>"]);
        assert!(matches!(all[..], [Heard::Refused(_)]), "{all:?}");
    }

    #[test]
    fn who_is_in_a_room_is_told_its_subject_last() {
        let (xmpp, mut line, mut talk) = (speaks(PLAIN), Line::new(0, 14), Talk::default());
        line.step = HERE;
        xmpp.subscribe(&mut line, Room { members: 9, ..ROOM }, &mut talk);
        assert!(said(&mut talk)[0].starts_with("<presence xmlns='jabber:client' to='r-0-7-5@conference.peer/f0-14'>"));
        let presence: &[u8] = b"<presence from='r-0-7-5@conference.peer/f0-14'><status code='110'/></presence>";
        let subject: &[u8] = b"<message type='groupchat'><subject/></message>";
        assert_eq!(heard(&xmpp, &mut line, &[presence]).0, []);
        assert_eq!(heard(&xmpp, &mut line, &[subject]).0, [Heard::Subscribed]);
    }

    #[test]
    fn chat_is_between_neighbours_and_acknowledged() {
        let (xmpp, mut line, mut talk) = (speaks(DURABLE), Line::new(0, 14), Talk::default());
        xmpp.publish(&mut line, ROOM, b"00000002", &mut talk);
        let said = said(&mut talk);
        assert_eq!(
            said,
            ["<message xmlns='jabber:client' to='f0-15@peer/f' type='chat'><body>00000002</body></message>", REQUEST]
        );
        line.step = HERE;
        let (all, acks) = heard(&xmpp, &mut line, &[said[0].as_bytes(), b"<r xmlns='urn:xmpp:sm:3'/>", b"<a h='1'/>"]);
        assert_eq!(all, [Heard::Delivered(Some(2)), Heard::Accepted]);
        assert_eq!(acks, ["<a xmlns='urn:xmpp:sm:3' h='1'/>"]);
        let refused = b"<message type='error'><body>00000002</body></message>";
        assert!(matches!(&heard(&xmpp, &mut line, &[refused]).0[..], [Heard::Refused(_)]));
    }
}
