//! What `storm`, `backlog`, `fanout` and `slow` have in common: a load that is measured while others write beside it.

use super::aims::Aims;
use super::beside::{Beside, Others};
use super::load::Load;
use super::run::{Run, RunError};
use crate::report::Report;
use std::time::Duration;

/// How long beginning may take, who else writes meanwhile, and what is demanded. Flattened last: the heading of the aims
/// would take what follows them in --help.
#[derive(Clone, Debug, clap::Args)]
pub struct Measuring {
    /// How long opening all sessions may take at first, and creating the groups, each.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub connect_within: Duration,
    #[command(flatten)]
    pub beside: Beside,
    #[command(flatten)]
    pub aims: Aims,
}

impl Measuring {
    /// Prepares `load`, has `measure` run it while others write, and tells whether every target was reached.
    pub fn run<L: Load>(
        &self,
        load: &L,
        measure: impl FnOnce(&Run, &Others<'_>) -> Result<Report, RunError>,
    ) -> Result<bool, RunError> {
        let common = load.common();
        self.aims.check(common)?;
        if self.beside.beside.is_some() {
            common.undivided("--beside")?;
        }
        let run = Run::prepare(load)?;
        let mut report = self.beside.run(common, |others| measure(&run, others))?;
        self.aims.judge(&mut report);
        run.conclude(&report)
    }
}

/// By when those who come back must have everything.
#[derive(Clone, Debug, clap::Args)]
pub struct Returning {
    /// All must have synced within this time of the first one's return.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    pub within: Duration,
}
