//! `flood report`: reports as a page for people.

use super::compare::read;
use super::run::RunError;
use crate::page;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  flood report chat.json --out chat.html
  flood report monday.json tuesday.json --out week.html";

/// Writes one HTML page of what --json wrote: tables, the run over time, the exact command lines and the machine. It needs
/// nothing else: no script, no font, no network.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Page {
    /// Reports; each becomes a section.
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
}

impl Page {
    pub fn run(self) -> Result<bool, RunError> {
        let mut named = Vec::new();
        for path in &self.reports {
            named.push((path.display().to_string(), read(path)?));
        }
        std::fs::write(&self.out, page::html(&named))
            .map_err(|error| RunError::File { path: self.out.clone(), error })?;
        Ok(true)
    }
}
