//! `ringpost revoke`: unlink a device of a user, through the admin port of a running server.

use super::admin::{ask, escaped};
use super::{Outcome, args};
use crate::config::Settings;
use clap::{Arg, ArgMatches, Command};
use std::io::Write;

pub fn command() -> Command {
    let name = |id: &'static str, value: &'static str, help: &'static str| {
        Arg::new(id).value_name(value).required(true).help(help)
    };
    let command = Command::new("revoke")
        .about("Unlink a device of a user: its session is closed with 4503, and its tokens of until now count no more")
        .arg(name("user", "USER", "The user's name"))
        .arg(name("device", "DEVICE", "The device's name"))
        .arg(Arg::new("tenant").long("tenant").value_name("NAME").default_value("default").help("The user's tenant"));
    args::with_settings(command, |setting| setting.key == "admin")
        .after_help("Examples:\n  ringpost revoke alice laptop\n  ringpost revoke alice laptop --tenant acme")
}

pub fn run(matches: &ArgMatches) -> Outcome {
    let layers = args::layers(matches).map_err(|e| e.to_string())?;
    let admin = Settings::from_layers(&layers).map_err(|e| e.to_string())?.admin;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let query = ["user", "device", "tenant"].map(|name| format!("{name}={}", escaped(text(name)))).join("&");
    ask(admin, "POST", &format!("/admin/revoke?{query}"))?;
    let line = format!("unlinked: {} of {}", text("device"), text("user"));
    writeln!(std::io::stdout(), "{line}").map_err(|e| format!("cannot write: {e}"))
}
