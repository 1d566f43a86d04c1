//! The grammar of the command line. The flags of settings come from the table of settings.

use crate::config::value::Bounds;
use crate::config::{ConfigError, Layers, Origin, SETTINGS, Setting};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;
use std::sync::LazyLock;

/// The flags of the settings, in the order of the table: the grammar keeps names for as long as the process lives.
static FLAGS: LazyLock<Vec<String>> = LazyLock::new(|| SETTINGS.iter().map(Setting::flag).collect());

pub fn command() -> Command {
    Command::new("ringpost")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A messaging gateway: one process, one ring per core, durable before acknowledged")
        .after_help("Try it:\n  ringpost serve --dev        then open http://127.0.0.1:7600/")
        .subcommand(serve())
        .subcommand(token())
        .subcommand(config())
        .subcommand(super::chat::command())
        .subcommand(super::check_client::command())
        .subcommand(super::ledger::command())
        .subcommand(super::restored::command())
        .subcommand(super::revoke::command())
        .subcommand(super::user::command())
}

fn serve() -> Command {
    let command = Command::new("serve").about("Run the gateway").long_about(
        "Run the gateway. Prints one line on stdout when it serves; logs go to stderr.\n\
         SIGTERM or SIGINT: sessions are closed with 4000 DRAINING; a second one ends at once.",
    );
    with_settings(command, |_| true).after_help(
        "Examples:\n  \
         ringpost serve --dev\n  \
         ringpost serve --config /etc/ringpost.toml --listen 0.0.0.0:7600 --data /var/lib/ringpost\n  \
         RINGPOST_MAX_SESSIONS=100000 ringpost serve --token-keys keys.toml",
    )
}

fn token() -> Command {
    let command = Command::new("token")
        .about("Sign a token: with the development key, an HS256 key of a key file, or a private key")
        .arg(Arg::new("user").long("user").value_name("NAME").required(true).help("The user's name"))
        .arg(Arg::new("device").long("device").value_name("NAME").default_value("phone").help("The device's name"))
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .value_name("DURATION")
                .default_value("1h")
                .value_parser(humantime::parse_duration)
                .help("For how long it is good: 90s, 15m, 1h, 30days"),
        )
        .arg(Arg::new("tenant").long("tenant").value_name("NAME").help("The user's tenant [default: default]"))
        .arg(
            Arg::new("private-key")
                .long("private-key")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .requires("alg")
                .requires("key")
                .help("Sign with this private key (PEM) under the id of --key, as --token-issuer"),
        )
        .arg(
            Arg::new("alg")
                .long("alg")
                .value_name("NAME")
                .value_parser(["RS256", "ES256", "EdDSA"])
                .requires("private-key")
                .help("The algorithm of the private key"),
        )
        .arg(
            Arg::new("key")
                .long("key")
                .value_name("ID")
                .help("The id of the signing key; needed where the file has several"),
        );
    with_settings(command, |setting| setting.key.starts_with("token_")).after_help(
        "Examples:\n  \
         ringpost token --user alice\n  \
         ringpost token --user alice --device laptop --ttl 15m\n  \
         ringpost token --user alice --token-keys keys.toml --key internal\n  \
         ringpost token --user alice --private-key key.pem --alg ES256 --key 2026-11",
    )
}

fn config() -> Command {
    let command = Command::new("config")
        .about("Print every setting: effective value, where it is from, bounds and reason, as a file that can be used");
    with_settings(command, |_| true).after_help(
        "Examples:\n  \
         ringpost config --dev\n  \
         ringpost config --config /etc/ringpost.toml\n  \
         ringpost config --dev > ringpost.toml && ringpost serve --config ringpost.toml",
    )
}

pub fn with_settings(command: Command, wanted: fn(&Setting) -> bool) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Read settings from this TOML file [variable: RINGPOST_CONFIG]");
    let flags = SETTINGS.iter().zip(FLAGS.iter()).filter(|(setting, _)| wanted(setting)).map(|(setting, flag)| {
        let arg = Arg::new(setting.key).long(flag.as_str()).action(ArgAction::Set).help(help(setting));
        match setting.bounds {
            Bounds::Switch => arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => arg.value_name("VALUE"),
        }
    });
    // The last flag wins, so that a script can append to a command line.
    command
        .args_override_self(true)
        .arg(file)
        .next_help_heading("Settings (variable RINGPOST_NAME, key name in the file)")
        .args(flags)
}

fn help(setting: &Setting) -> String {
    let default = setting.default_text();
    let default = if default.is_empty() { "none".to_owned() } else { default };
    format!("{} [default: {default}; {}]", setting.about.trim(), setting.bounds)
}

/// The settings of the file, the environment and the flags.
pub fn layers(matches: &ArgMatches) -> Result<Layers, ConfigError> {
    let mut layers = Layers::default();
    let file = matches.get_one::<PathBuf>("config").cloned();
    let file = file.or_else(|| std::env::var_os("RINGPOST_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
    if let Some(file) = file {
        layers.file(&file)?;
    }
    // A variable that is no UTF-8 is none of ours.
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    layers.environment(variables)?;
    for setting in SETTINGS {
        if let Ok(Some(value)) = matches.try_get_one::<String>(setting.key) {
            layers.set(setting.key, value.clone(), Origin::Flag)?;
        }
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_of_serve_and_reaches_the_layers() {
        for setting in SETTINGS {
            let flag = format!("--{}=1", setting.flag());
            let matches = command().try_get_matches_from(["ringpost", "serve", &flag]).unwrap();
            let (_, matches) = matches.subcommand().unwrap();
            assert_eq!(layers(matches).unwrap().origin(setting.key), Origin::Flag, "{flag}");
        }
    }

    #[test]
    fn a_switch_needs_no_value() {
        let matches = command().try_get_matches_from(["ringpost", "serve", "--dev", "--shards", "2"]).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let layers = layers(matches).unwrap();
        assert_eq!((layers.origin("dev"), layers.origin("shards")), (Origin::Flag, Origin::Flag));
    }
}
