//! What a typed line means.

use ringpost_proto::id::{check_device, check_user};
use ringpost_proto::v1;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::privacy::Value as Privacy;

/// Records that `/history` shows unless told.
const HISTORY: u32 = 20;

pub const HELP: &str = "\
a line           is sent to the current conversation; //... sends a line that begins with /
/to NAME         write to this user from now on; g:... is a group
/group NAME WHO  makes a group of these users (bob carl, or bob,carl), and writes to it
/add WHO         adds users to the current group; /remove WHO, /leave, /members
/rename NAME     names the current group anew; /admin WHO, /member WHO set a role
/edit TEXT       replaces your last message here; /erase takes it back; /info tells who has it
/reply TEXT      answers the last message of somebody else here; /react SIGN
/block NAME      hears nothing of this user any more; /unblock NAME
/list            conversations, the newest first, with what is unread; /unread only those
/mute TIME       of the current conversation, 8h for example; /unmute
/watch NAME      tells when this user comes and goes; /unwatch NAME
/settings        shows them; /settings name TEXT, and last-seen or receipts with one of
                 everyone, contacts, nobody
/devices         your devices; /unlink DEVICE signs one out
/history [N]     the last N messages of the current conversation
/read            tell that everything shown of the current conversation was read
/who             who you are here, and where the conversation stands
/quit            leave now; what has no tick yet is kept and sent at the next start";

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Text for the current conversation.
    Say(String),
    To(Peer),
    Create {
        name: String,
        members: Vec<String>,
    },
    Add(Vec<String>),
    Remove(Vec<String>),
    Leave,
    Members,
    Edit(String),
    Erase,
    React(String),
    Reply(String),
    Info,
    Rename(String),
    Role {
        user: String,
        admin: bool,
    },
    Block {
        user: String,
        on: bool,
    },
    List,
    Unread,
    /// For how long, milliseconds; 0: no longer.
    Mute(u64),
    Watch {
        users: Vec<String>,
        on: bool,
    },
    Settings(Box<v1::Settings>),
    Devices,
    Unlink(String),
    History(u32),
    Read,
    Who,
    Help,
    Quit,
    Nothing,
}

impl Command {
    /// Of this client and no conversation.
    pub fn is_about_here(&self) -> bool {
        matches!(self, Self::Who | Self::Help | Self::Quit | Self::Nothing)
    }

    /// Of the last message of this user in the current conversation.
    pub fn is_about_own(&self) -> bool {
        matches!(self, Self::Edit(_) | Self::Erase | Self::Info)
    }

    /// Of the last message of somebody else in the current conversation.
    pub fn is_about_heard(&self) -> bool {
        matches!(self, Self::React(_) | Self::Reply(_))
    }

    /// It means the same whichever conversation is the current one, and whoever is in that.
    pub fn is_of_no_conversation(&self) -> bool {
        matches!(
            self,
            Self::List | Self::Unread | Self::Watch { .. } | Self::Settings(_) | Self::Devices | Self::Unlink(_)
        )
    }
}

/// # Errors
/// What is wrong with the line, for whoever typed it.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(command) = line.strip_prefix('/') else {
        return Ok(if line.trim().is_empty() { Command::Nothing } else { Command::Say(line.to_owned()) });
    };
    if command.starts_with('/') {
        return Ok(Command::Say(command.to_owned()));
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("to", user) => Ok(Command::To(peer(user)?)),
        ("group", rest) => {
            let (name, who) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            match name {
                "" => Err("/group takes a name and the users".to_owned()),
                name => Ok(Command::Create { name: name.to_owned(), members: users(who)? }),
            }
        }
        ("add", who) => some(users(who)?, "/add").map(Command::Add),
        ("remove", who) => some(users(who)?, "/remove").map(Command::Remove),
        ("leave", "") => Ok(Command::Leave),
        ("members", "") => Ok(Command::Members),
        ("edit", text) if !text.is_empty() => Ok(Command::Edit(text.to_owned())),
        ("erase", "") => Ok(Command::Erase),
        ("info", "") => Ok(Command::Info),
        ("reply", text) if !text.is_empty() => Ok(Command::Reply(text.to_owned())),
        ("rename", text) if !text.is_empty() => Ok(Command::Rename(text.to_owned())),
        ("admin", user) => Ok(Command::Role { user: name_of(user)?, admin: true }),
        ("member", user) => Ok(Command::Role { user: name_of(user)?, admin: false }),
        ("mute", time) => Ok(Command::Mute(milliseconds(time)?)),
        ("unmute", "") => Ok(Command::Mute(0)),
        ("watch", who) => some(users(who)?, "/watch").map(|users| Command::Watch { users, on: true }),
        ("unwatch", who) => some(users(who)?, "/unwatch").map(|users| Command::Watch { users, on: false }),
        ("settings", what) => Ok(Command::Settings(Box::new(settings(what)?))),
        ("devices", "") => Ok(Command::Devices),
        ("unlink", device) => {
            check_device(device).map_err(|error| format!("the name of a device {error}"))?;
            Ok(Command::Unlink(device.to_owned()))
        }
        ("react", sign) => Ok(Command::React(sign.to_owned())),
        ("block", user) => Ok(Command::Block { user: name_of(user)?, on: true }),
        ("unblock", user) => Ok(Command::Block { user: name_of(user)?, on: false }),
        ("history", "") => Ok(Command::History(HISTORY)),
        ("history", count) => match count.parse() {
            Ok(count) if count > 0 => Ok(Command::History(count)),
            _ => Err(format!("/history takes a number of messages, not {count:?}")),
        },
        ("list", "") => Ok(Command::List),
        ("unread", "") => Ok(Command::Unread),
        ("read", "") => Ok(Command::Read),
        ("who", "") => Ok(Command::Who),
        ("help", _) => Ok(Command::Help),
        ("quit" | "exit", _) => Ok(Command::Quit),
        _ => Err(format!("no such command: /{} (/help lists them, // sends a line that begins with /)", name.trim())),
    }
}

/// A conversation as it is named on the command line: a user, or g: and the 32 hex digits of a group.
///
/// # Errors
/// The name is not one that a user can have.
pub fn peer(name: &str) -> Result<Peer, String> {
    let group = name.strip_prefix("g:").filter(|hex| hex.len() == 32);
    if let Some(id) = group.and_then(|hex| u128::from_str_radix(hex, 16).ok()) {
        return Ok(Peer::Group(id.to_be_bytes().to_vec().into()));
    }
    name_of(name).map(Peer::User)
}

fn milliseconds(time: &str) -> Result<u64, String> {
    let time =
        humantime::parse_duration(time).map_err(|_| format!("/mute takes a time like 8h or 2days, not {time:?}"))?;
    u64::try_from(time.as_millis()).map_err(|_| "/mute takes a shorter time".to_owned())
}

/// What is to change; nothing: they are only shown.
fn settings(what: &str) -> Result<v1::Settings, String> {
    let mut settings = v1::Settings::default();
    match what.split_once(char::is_whitespace).unwrap_or((what, "")) {
        ("", _) => {}
        ("name", name) => {
            settings.profile = Some(v1::settings::Profile { name: Some(name.trim().to_owned()), avatar: None });
        }
        ("last-seen", who) => settings.last_seen = audience(who)?,
        ("receipts", who) => settings.read_receipts = audience(who)?,
        (other, _) => return Err(format!("no such setting: {other} (name, last-seen and receipts are)")),
    }
    Ok(settings)
}

fn audience(who: &str) -> Result<i32, String> {
    let audience = match who.trim() {
        "everyone" => Privacy::Everyone,
        "contacts" => Privacy::Contacts,
        "nobody" => Privacy::Nobody,
        other => return Err(format!("one of everyone, contacts and nobody sees it, not {other:?}")),
    };
    Ok(audience as i32)
}

fn name_of(user: &str) -> Result<String, String> {
    check_user(user).map_err(|error| format!("the name of a user {error}"))?;
    Ok(user.to_owned())
}

/// Names with blanks or commas between them, as in the chat page.
fn users(names: &str) -> Result<Vec<String>, String> {
    let names = names.split(|c: char| c.is_whitespace() || c == ',').filter(|name| !name.is_empty());
    names.map(name_of).collect()
}

fn some(users: Vec<String>, command: &str) -> Result<Vec<String>, String> {
    if users.is_empty() { Err(format!("{command} takes the names of users")) } else { Ok(users) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_messages_and_a_double_slash_sends_a_slash() {
        assert_eq!(parse("hi there\r\n"), Ok(Command::Say("hi there".to_owned())));
        assert_eq!(parse("//to bob"), Ok(Command::Say("/to bob".to_owned())));
        assert_eq!(parse("  \n"), Ok(Command::Nothing));
    }

    #[test]
    fn commands_and_what_is_wrong_with_them() {
        assert_eq!(parse("/to bob"), Ok(Command::To(Peer::User("bob".to_owned()))));
        assert_eq!(parse("/history 5"), Ok(Command::History(5)));
        assert_eq!(parse("/history"), Ok(Command::History(HISTORY)));
        let two = || vec!["bob".to_owned(), "carl".to_owned()];
        assert_eq!(
            parse("/group climbing bob carl"),
            Ok(Command::Create { name: "climbing".to_owned(), members: two() })
        );
        assert_eq!(parse("/add bob  carl"), Ok(Command::Add(two())));
        assert!(parse("/remove").unwrap_err().contains("/remove takes"));
        assert!(parse("/remove ,").unwrap_err().contains("/remove takes"));
        let group = Peer::Group(vec![0xab; 16].into());
        assert_eq!(parse(&format!("/to g:{}", "ab".repeat(16))), Ok(Command::To(group)));
        assert_eq!(parse("/edit so there"), Ok(Command::Edit("so there".to_owned())));
        assert_eq!(parse("/unblock bob"), Ok(Command::Block { user: "bob".to_owned(), on: false }));
        assert_eq!(parse("/reply yes"), Ok(Command::Reply("yes".to_owned())));
        assert_eq!(parse("/admin bob"), Ok(Command::Role { user: "bob".to_owned(), admin: true }));
        assert_eq!(parse("/mute 8h"), Ok(Command::Mute(8 * 3_600_000)));
        assert_eq!(parse("/unwatch bob carl"), Ok(Command::Watch { users: two(), on: false }));
        assert!(parse("/mute long").unwrap_err().contains("8h"));
        assert!(parse("/unlink a/b").unwrap_err().contains("device"));
        assert!(parse("/history none").unwrap_err().contains("none"));
        assert!(parse("/to").unwrap_err().contains("1 to 64 bytes"));
        assert!(parse("/tu bob").unwrap_err().contains("/help"));
    }

    #[test]
    fn names_have_blanks_or_commas_between_them() {
        let two = || vec!["bob".to_owned(), "carl".to_owned()];
        for who in ["bob,carl", "bob, carl", ",bob ,, carl,"] {
            let create = Command::Create { name: "climbing".to_owned(), members: two() };
            assert_eq!(parse(&format!("/group climbing {who}")), Ok(create), "{who:?}");
            assert_eq!(parse(&format!("/add {who}")), Ok(Command::Add(two())), "{who:?}");
            assert_eq!(parse(&format!("/remove {who}")), Ok(Command::Remove(two())), "{who:?}");
        }
    }

    #[test]
    fn settings_are_shown_or_changed_one_at_a_time() {
        let parsed = |line: &str| match parse(line) {
            Ok(Command::Settings(settings)) => Ok(*settings),
            Ok(other) => panic!("{other:?}"),
            Err(why) => Err(why),
        };
        assert_eq!(parsed("/settings"), Ok(v1::Settings::default()));
        let name = |settings: v1::Settings| settings.profile.and_then(|profile| profile.name);
        assert_eq!(name(parsed("/settings name Alice L.").unwrap()), Some("Alice L.".to_owned()));
        assert_eq!(parsed("/settings last-seen nobody").unwrap().last_seen(), Privacy::Nobody);
        assert_eq!(parsed("/settings receipts contacts").unwrap().read_receipts(), Privacy::Contacts);
        assert!(parsed("/settings receipts all").unwrap_err().contains("everyone"));
        assert!(parsed("/settings colour").unwrap_err().contains("colour"));
    }
}
