//! The command line: one file per command.

mod aims;
mod backlog;
mod beside;
mod chat;
mod compare;
mod connect;
mod fanout;
mod here;
mod load;
mod meanwhile;
mod measuring;
mod memory;
mod messages;
mod opening;
mod ping;
mod pubsub;
mod report;
mod run;
mod search;
mod slow;
mod slow_watch;
mod soak;
mod storm;
mod upkeep_watch;
mod watch;
mod worker;
mod workers;

use clap::{Parser, Subcommand};
use run::RunError;

/// Load for a messaging gateway: opens sessions, sends on a fixed schedule, and accounts for every message.
///
/// Says before it starts what ports and descriptors allow. Exit status 0: every target was reached; 1: one was missed, or
/// the run could not start.
#[derive(Debug, Parser)]
#[command(name = "flood", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Connect(connect::Connect),
    Chat(chat::Chat),
    Search(search::Search),
    Ping(ping::Ping),
    Pubsub(pubsub::PubSub),
    Storm(storm::Storm),
    Backlog(backlog::Backlog),
    Fanout(fanout::Fanout),
    Slow(slow::Slow),
    Worker(worker::Worker),
    Report(report::Page),
    Compare(compare::Compare),
    Soak(soak::Soak),
}

impl Cli {
    /// Whether every target was reached.
    pub fn run(self) -> Result<bool, RunError> {
        match self.command {
            Command::Connect(command) => command.run(),
            Command::Chat(command) => command.run(),
            Command::Search(command) => command.run(),
            Command::Ping(command) => command.run(),
            Command::Pubsub(command) => command.run(),
            Command::Storm(command) => command.run(),
            Command::Backlog(command) => command.run(),
            Command::Fanout(command) => command.run(),
            Command::Slow(command) => command.run(),
            Command::Worker(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Soak(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().expect("examples").to_string();
            let examples: Vec<&str> = help.lines().map(str::trim).filter(|line| line.starts_with("flood ")).collect();
            assert!(!examples.is_empty(), "{} has no example", command.get_name());
            for example in examples {
                Cli::try_parse_from(example.split_whitespace()).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }
}
