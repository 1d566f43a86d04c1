//! What a typed line means.

use ringpost_proto::id::check_user;
use ringpost_proto::v1::peer::Peer;

/// Records that `/history` shows unless told.
const HISTORY: u32 = 20;

pub const HELP: &str = "\
a line           is sent to the current conversation; //... sends a line that begins with /
/to NAME         write to this user from now on; g:... is a group
/group NAME WHO  makes a group of these users, and writes to it
/add WHO         adds users to the current group; /remove WHO, /leave, /members
/edit TEXT       replaces your last message here; /erase takes it back
/react SIGN      to the last message of somebody else here
/block NAME      hears nothing of this user any more; /unblock NAME
/list            conversations, the newest first, with what is unread
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
    Block {
        user: String,
        on: bool,
    },
    List,
    History(u32),
    Read,
    Who,
    Help,
    Quit,
    Nothing,
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
        ("react", sign) => Ok(Command::React(sign.to_owned())),
        ("block", user) => Ok(Command::Block { user: name_of(user)?, on: true }),
        ("unblock", user) => Ok(Command::Block { user: name_of(user)?, on: false }),
        ("history", "") => Ok(Command::History(HISTORY)),
        ("history", count) => match count.parse() {
            Ok(count) if count > 0 => Ok(Command::History(count)),
            _ => Err(format!("/history takes a number of messages, not {count:?}")),
        },
        ("list", "") => Ok(Command::List),
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

fn name_of(user: &str) -> Result<String, String> {
    check_user(user).map_err(|error| format!("the name of a user {error}"))?;
    Ok(user.to_owned())
}

fn users(names: &str) -> Result<Vec<String>, String> {
    names.split_whitespace().map(name_of).collect()
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
        let group = Peer::Group(vec![0xab; 16].into());
        assert_eq!(parse(&format!("/to g:{}", "ab".repeat(16))), Ok(Command::To(group)));
        assert_eq!(parse("/edit so there"), Ok(Command::Edit("so there".to_owned())));
        assert_eq!(parse("/unblock bob"), Ok(Command::Block { user: "bob".to_owned(), on: false }));
        assert!(parse("/history none").unwrap_err().contains("none"));
        assert!(parse("/to").unwrap_err().contains("1 to 64 bytes"));
        assert!(parse("/tu bob").unwrap_err().contains("/help"));
    }
}
