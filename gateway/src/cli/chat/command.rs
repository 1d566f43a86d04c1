//! What a typed line means.

use ringpost_proto::id::check_user;
use ringpost_proto::v1::peer::Peer;

/// Records that `/history` shows unless told.
const HISTORY: u32 = 20;

pub const HELP: &str = "\
a line           is sent to the current conversation; //... sends a line that begins with /
/to NAME         write to this user from now on
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

/// A conversation as it is named on the command line.
///
/// # Errors
/// The name is not one that a user can have.
pub fn peer(name: &str) -> Result<Peer, String> {
    check_user(name).map_err(|error| format!("the name of a user {error}"))?;
    Ok(Peer::User(name.to_owned()))
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
        assert!(parse("/history none").unwrap_err().contains("none"));
        assert!(parse("/to").unwrap_err().contains("1 to 64 bytes"));
        assert!(parse("/tu bob").unwrap_err().contains("/help"));
    }
}
