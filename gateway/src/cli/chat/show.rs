//! How things look on a terminal.
//!
//! Guarantees: nothing that a peer or the server chose reaches the terminal as anything but printable text. Control
//! characters become visible signs, and so do those that turn the direction of a line around; a further line of a message
//! is indented, so that it cannot pass for a line of somebody else.

use ringpost_proto::v1::change::Change;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::record::Body;
use ringpost_proto::v1::{self, Record, kind};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Further lines of a message begin with this.
const INDENT: &str = "\n    ";
/// Characters of a message that is only referred to.
const SNIPPET: usize = 32;

/// Text of others made harmless.
pub fn safe(text: &str) -> String {
    text.split('\n').map(safe_line).collect::<Vec<_>>().join(INDENT)
}

fn safe_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.trim_end_matches('\r').chars() {
        match c {
            '\t' => out.push(' '),
            // The signs of Unicode for C0 and DEL.
            '\0'..='\x1f' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\x7f' => out.push('\u{2421}'),
            _ if c.is_control() || turns_lines(c) => drop(write!(out, "<U+{:04X}>", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// Bidirectional controls (UAX 9 section 2) and the separators that end a line or paragraph.
fn turns_lines(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text, in quotes.
pub fn snippet(text: &str) -> String {
    let line = safe_line(text.lines().next().unwrap_or_default());
    let short: String = line.chars().take(SNIPPET).collect();
    if short.len() < text.trim_end().len() { format!("\"{short}...\"") } else { format!("\"{short}\"") }
}

pub fn peer(peer: &Peer) -> String {
    match peer {
        Peer::User(name) => safe_line(name),
        Peer::Group(id) => id.iter().fold("g:".to_owned(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        }),
    }
}

/// Day and time of Unix milliseconds, UTC.
pub fn day_and_time(unix_ms: u64) -> (String, String) {
    // Years beyond 9999 are nobody's message.
    let seconds = (unix_ms / 1_000).min(253_402_300_799);
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    match text.split_once('T') {
        Some((day, time)) => (day.to_owned(), time.to_owned()),
        None => (text, String::new()),
    }
}

/// What a record says.
pub fn body(record: &Record) -> String {
    if let Some(change) = &record.change {
        return format!("[{}]", changed(change));
    }
    let about = record.ref_seq;
    match (&record.body, record.kind()) {
        (None, _) if record.erased => "[taken back]".to_owned(),
        (Some(Body::Text(text)), kind) => said(kind, about, text),
        (None, kind::Value::Erase) => said(kind::Value::Erase, about, ""),
        (Some(Body::Payload(bytes)), kind) => format!("[{}, {} bytes]", kind.as_str_name(), bytes.len()),
        (None, kind) => format!("[{}]", kind.as_str_name()),
    }
}

/// What a text says, by its kind; `about`: the message that an edit, erasure or reaction names.
pub fn said(kind: kind::Value, about: u64, text: &str) -> String {
    match kind {
        kind::Value::Text => safe(text),
        kind::Value::Edit => format!("[message {about} is now] {}", safe(text)),
        kind::Value::Erase => format!("[takes back message {about}]"),
        kind::Value::Reaction => format!("[to message {about}] {}", safe(text)),
        kind => format!("[{}] {}", kind.as_str_name(), safe(text)),
    }
}

/// What became of a group.
fn changed(change: &v1::Change) -> String {
    let names = |names: &[String]| names.iter().map(|name| safe_line(name)).collect::<Vec<_>>().join(", ");
    let line = match &change.change {
        Some(Change::Created(group)) => {
            format!("made the group {} with {}", safe_line(&group.name), names(&group.members))
        }
        Some(Change::Updated(update)) => match &update.name {
            Some(name) => format!("named the group {}", safe_line(name)),
            None => "changed what is said of the group".to_owned(),
        },
        Some(Change::Added(users)) => format!("added {}", names(&users.users)),
        Some(Change::Removed(users)) => format!("removed {}", names(&users.users)),
        Some(Change::Left(_)) => "left".to_owned(),
        Some(Change::Role(role)) if role.role() == v1::role::Value::Admin => {
            format!("made {} an admin", safe_line(&role.user))
        }
        Some(Change::Role(role)) => format!("made {} a member", safe_line(&role.user)),
        Some(Change::Blocked(blocked)) if blocked.on => "blocked this user".to_owned(),
        Some(Change::Blocked(_)) => "unblocked this user".to_owned(),
        None => "changed the group".to_owned(),
    };
    match change.promoted.as_str() {
        "" => line,
        heir => format!("{line}; {} is an admin now", safe_line(heir)),
    }
}

/// The members of a group, in one line.
pub fn group(group: &v1::Group) -> String {
    let member = |member: &v1::GroupMember| match member.role() {
        v1::role::Value::Admin => format!("{} (admin)", safe_line(&member.user)),
        v1::role::Value::Member => safe_line(&member.user),
    };
    let members: Vec<String> = group.members.iter().map(member).collect();
    format!("{} ({}): {}", peer(&Peer::Group(group.group.clone())), safe_line(&group.name), members.join(", "))
}

/// How a user is; nothing where nothing is known.
pub fn presence(state: &v1::PresenceState) -> Option<String> {
    let name = state.profile.as_ref().and_then(|profile| profile.name.as_deref()).map(safe_line);
    let user = match name {
        Some(name) => format!("{} ({name})", safe_line(&state.user)),
        None => safe_line(&state.user),
    };
    match state.last_seen_ms {
        _ if state.online => Some(format!("{user} is online")),
        0 => None,
        at_ms => {
            let (day, time) = day_and_time(at_ms);
            Some(format!("{user} was last seen {day} {time}"))
        }
    }
}

/// Who has received and read a message, a line each.
pub fn info(members: &[v1::MemberState]) -> Vec<String> {
    let line = |member: &v1::MemberState| {
        let state = match member.state() {
            v1::member_state::state::Value::Sent => "not delivered yet",
            v1::member_state::state::Value::Delivered => "delivered",
            v1::member_state::state::Value::Read => "read",
            v1::member_state::state::Value::Hidden => "not told",
        };
        let at = match member.at_ms {
            0 => String::new(),
            at_ms => format!(" at {}", day_and_time(at_ms).1),
        };
        format!("{}: {state}{at}", safe_line(&member.user))
    };
    members.iter().map(line).collect()
}

pub fn settings(settings: &v1::Settings) -> String {
    let name = settings.profile.as_ref().and_then(|profile| profile.name.as_deref()).unwrap_or("none");
    let audience = |value: v1::privacy::Value| match value {
        v1::privacy::Value::Nobody => "nobody",
        v1::privacy::Value::Contacts => "contacts",
        v1::privacy::Value::Everyone | v1::privacy::Value::Unchanged => "everyone",
    };
    let (seen, read) = (audience(settings.last_seen()), audience(settings.read_receipts()));
    let muted: Vec<String> =
        settings.mute.iter().filter_map(|mute| mute.conversation.as_ref()?.peer.as_ref()).map(peer).collect();
    let muted = if muted.is_empty() { "none".to_owned() } else { muted.join(", ") };
    format!("name: {}; last seen: {seen}; read receipts: {read}; muted: {muted}", safe_line(name))
}

/// The devices of a user, a line each. `here`: the one that asks.
pub fn devices(list: &v1::DeviceList, here: &str) -> Vec<String> {
    let line = |device: &v1::Device| {
        let seen = match device.last_seen_ms {
            _ if device.device == here => " (this one)".to_owned(),
            0 => String::new(),
            at_ms => {
                let (day, time) = day_and_time(at_ms);
                format!(", last seen {day} {time}")
            }
        };
        let primary = if device.primary { ", primary" } else { "" };
        format!("{}{primary}{seen}", safe_line(&device.device))
    };
    list.devices.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_peers_become_signs() {
        assert_eq!(safe("a\x1b[31mred\x07\x7f"), "a\u{241b}[31mred\u{2407}\u{2421}");
        assert_eq!(safe("\u{9b}2J"), "<U+009B>2J");
        assert_eq!(safe("a\u{202e}b"), "a<U+202E>b");
        assert_eq!(safe("over\rwritten\ttab"), "over\u{240d}written tab");
        assert_eq!(safe("Grüße 🎉"), "Grüße 🎉");
    }

    #[test]
    fn a_second_line_cannot_pass_for_somebody_else() {
        assert_eq!(safe("hi\r\n12:00:00Z bob: lie"), "hi\n    12:00:00Z bob: lie");
        assert_eq!(snippet("one\ntwo"), "\"one...\"");
        assert_eq!(snippet("one"), "\"one\"");
    }

    #[test]
    fn nothing_that_is_no_printable_text_passes() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|&c| c != '\n') {
            let shown = safe(&c.to_string());
            assert!(shown.chars().all(|c| !c.is_control() && !turns_lines(c)), "{c:?} became {shown:?}");
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(day_and_time(1_704_067_200_000), ("2024-01-01".to_owned(), "00:00:00Z".to_owned()));
        assert_eq!(day_and_time(u64::MAX).0, "9999-12-31");
    }
}
