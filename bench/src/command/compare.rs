//! `flood compare`: what differs between two reports.

use super::run::RunError;
use crate::compare::{Difference, Row, compare};
use crate::number::number;
use crate::report::Report;
use comfy_table::{CellAlignment, Table, presets};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  flood compare before.json after.json
  flood compare before.json after.json --fail-above 10%";

/// Prints what two reports of the same command both have, with the second as a multiple of the first, and before that what
/// differs in their conditions: machine, versions, command lines.
///
/// Worse are larger latencies, times, processor time, memory and bytes, more faults, and smaller rates. Told and not judged: what
/// is neither, such as settings and what the host of this machine took; the longest of a set of latencies, and percentiles of so
/// few that they are the longest; the gateway's own percentiles, which are ends of buckets.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// The report to compare with, as --json wrote it.
    before: PathBuf,
    /// The report that is judged.
    after: PathBuf,
    /// Ends with status 1, naming each, when a value got worse by more than this.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    fail_above: Option<f64>,
}

/// `10%` or `10`, as a share of 1.
fn share(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(percent / 100.0),
        _ => Err("a share in percent, 0 or more".to_owned()),
    }
}

/// A report from a file.
pub fn read(path: &Path) -> Result<Report, RunError> {
    Report::read_json(path).map_err(|error| RunError::File { path: path.to_owned(), error })
}

impl Compare {
    pub fn run(self) -> Result<bool, RunError> {
        let (before, after) = (read(&self.before)?, read(&self.after)?);
        let (differences, rows) = compare(&before, &after)?;
        for difference in &differences {
            println!("{}", told(difference));
        }
        println!("{}", table(&rows));
        let Some(limit) = self.fail_above else { return Ok(true) };
        let mut is_ok = true;
        for row in rows.iter().filter(|row| row.is_worse_by(limit)) {
            println!("WORSE: {}", sentence(row));
            is_ok = false;
        }
        for sentence in after.missed.iter().filter(|sentence| !before.missed.contains(sentence)) {
            println!("WORSE: missed: {sentence}");
            is_ok = false;
        }
        for name in before.latencies.keys().filter(|name| !after.latencies.contains_key(*name)) {
            println!("WORSE: {} was not measured", name.replace('_', " "));
            is_ok = false;
        }
        if is_ok {
            println!("ok");
        }
        Ok(is_ok)
    }
}

fn told(difference: &Difference) -> String {
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
    format!("DIFFERS: {}\n  A  {}\n  B  {}", difference.what, known(&difference.a), known(&difference.b))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "A", "B", "B / A", "B - A", ""]);
    for row in rows {
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let difference = row.b - row.a;
        let sign = if difference > 0.0 { "+" } else { "" };
        let difference = format!("{sign}{}", number(difference));
        table.add_row([row.name.clone(), number(row.a), number(row.b), ratio, difference, row.unit.clone()]);
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn sentence(row: &Row) -> String {
    let ratio = row.ratio().map_or_else(String::new, |ratio| format!(", {ratio:.2} times as much"));
    let unit = if row.unit.is_empty() { String::new() } else { format!(" {}", row.unit) };
    format!("{} went from {} to {}{unit}{ratio}", row.name, number(row.a), number(row.b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Larger;

    #[test]
    fn a_share_is_any_number_of_percent() {
        assert_eq!((share("10%"), share("250"), share("0 %")), (Ok(0.1), Ok(2.5), Ok(0.0)));
        assert!(["-1%", "x", "", "inf"].into_iter().all(|text| share(text).is_err()));
    }

    #[test]
    fn what_got_worse_is_named_with_both_values() {
        let row = Row { name: "send to push p99".into(), unit: "ms".into(), a: 2.0, b: 3.0, larger: Larger::IsWorse };
        assert_eq!(sentence(&row), "send to push p99 went from 2 to 3 ms, 1.50 times as much");
        let lost = Row { name: "connections lost".into(), unit: String::new(), a: 0.0, ..row };
        assert_eq!(sentence(&lost), "connections lost went from 0 to 3");
    }
}
