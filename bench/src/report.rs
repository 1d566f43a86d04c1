//! What came out: totals, percentiles, the targets that were missed.
//!
//! Owns: the form of a report, as a table for people and as JSON for programs. Guarantees: local failures are never counted
//! as the server's. Never does: deciding what a target is; the commands add what they missed.

use crate::conditions::Conditions;
use crate::metrics::Bounds;
use crate::over_time::Point;
use crate::timeline::Entry;
use crate::verify::Totals;
use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The longest latency that is told apart, in microseconds; longer ones count as this.
const MOST_MICROS: u64 = 600_000_000;
/// Latencies that are taken from another process: sums of them stay far below what a counter holds.
const MOST_RECORDED: u64 = 1 << 48;
/// Significant digits of those that are kept many times.
const COARSE_DIGITS: u8 = 2;

/// What a figure is called: a constant here, and whatever stands there in a report that was read.
pub type Name = Cow<'static, str>;

/// Latencies in microseconds, 3 significant digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Recorded", into = "Recorded")]
pub struct Latencies(Histogram<u64>);

/// Latencies as they go from process to process: each value that was recorded, and how often.
#[derive(Serialize, Deserialize)]
struct Recorded {
    is_coarse: bool,
    counts: Vec<(u64, u64)>,
}

impl From<Latencies> for Recorded {
    fn from(Latencies(histogram): Latencies) -> Self {
        let counts = histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()));
        Self { is_coarse: histogram.sigfig() == COARSE_DIGITS, counts: counts.collect() }
    }
}

impl TryFrom<Recorded> for Latencies {
    type Error = &'static str;

    fn try_from(recorded: Recorded) -> Result<Self, Self::Error> {
        let all = recorded.counts.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
        if all > MOST_RECORDED {
            return Err("more latencies than a run has");
        }
        let mut latencies = if recorded.is_coarse { Self::coarse() } else { Self::default() };
        for (value, count) in recorded.counts {
            latencies.0.saturating_record_n(value.clamp(1, MOST_MICROS), count);
        }
        Ok(latencies)
    }
}

impl Default for Latencies {
    #[allow(clippy::expect_used, reason = "the bounds are constants: 1 <= low, 2 low <= high, at most 5 digits")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_MICROS, 3).expect("constant bounds"))
    }
}

impl Latencies {
    /// 2 significant digits in an eighth of the memory.
    #[allow(clippy::expect_used, reason = "as of the default")]
    pub fn coarse() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_MICROS, COARSE_DIGITS).expect("constant bounds"))
    }

    /// Enters the time between two points of one clock, in nanoseconds.
    pub fn record(&mut self, from: u64, to: u64) {
        self.0.saturating_record((to.saturating_sub(from) / 1_000).clamp(1, MOST_MICROS));
    }

    pub fn add(&mut self, other: &Latencies) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.0.add(&other.0);
    }

    /// How many were at most `limit`.
    pub fn within(&self, limit: Duration) -> u64 {
        self.0.count_between(0, u64::try_from(limit.as_micros()).unwrap_or(u64::MAX))
    }

    /// `None` when nothing was recorded.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.0.value_at_quantile(quantile);
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

/// What became of the connections that were opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    pub attempted: u64,
    /// Welcome was received.
    pub established: u64,
    /// The server said no: connection refused, an HTTP status, a close before welcome.
    pub refused: u64,
    /// No welcome in time.
    pub timed_out: u64,
    /// Ended by the server or the network after welcome.
    pub lost: u64,
    /// Opened again after having been lost or refused.
    pub reconnected: u64,
    /// This machine's own failures (ports, descriptors, memory), by name: not the server's doing.
    pub local_errors: BTreeMap<Name, u64>,
    /// What refused and ended connections said, the first of each kind.
    pub reasons: BTreeMap<String, u64>,
}

impl Connections {
    /// Different reasons that are kept; more are counted as one.
    const MOST_REASONS: usize = 16;
    /// Bytes of a reason: a server may say as much as it likes.
    const MOST_REASON: usize = 200;

    pub fn reason(&mut self, reason: &str) {
        let reason = reason.get(..reason.floor_char_boundary(Self::MOST_REASON)).unwrap_or(reason);
        let known = self.reasons.len() < Self::MOST_REASONS || self.reasons.contains_key(reason);
        *self.reasons.entry(if known { reason } else { "others" }.to_owned()).or_default() += 1;
    }

    /// Adds what another thread or process has counted; sums end at the largest number.
    pub fn add(&mut self, other: &Connections) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.attempted, other.attempted);
        add(&mut self.established, other.established);
        add(&mut self.refused, other.refused);
        add(&mut self.timed_out, other.timed_out);
        add(&mut self.lost, other.lost);
        add(&mut self.reconnected, other.reconnected);
        for (name, count) in &other.local_errors {
            add(self.local_errors.entry(name.clone()).or_default(), *count);
        }
        for (reason, count) in &other.reasons {
            add(self.reasons.entry(reason.clone()).or_default(), *count);
        }
    }
}

/// One line of figures: a name, a value, its unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub name: Name,
    pub value: f64,
    pub unit: Name,
}

/// The result of one command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub command: Name,
    pub url: String,
    /// What the run ran under; absent in old reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    pub connections: Connections,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Totals>,
    /// By name, such as `send_to_sent`.
    pub latencies: BTreeMap<Name, Percentiles>,
    /// What the gateway says that it took inside, of the measured time alone, such as `server_send_direct`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server: BTreeMap<Name, Bounds>,
    pub figures: Vec<Figure>,
    /// What became of the messages that were written beside those of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Totals>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_time: Vec<Point>,
    /// The whole run, from before its first connection to its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Entry>,
    /// The targets that were missed, one sentence each; empty is success.
    pub missed: Vec<String>,
}

impl Report {
    pub fn latency(&mut self, name: &'static str, latencies: &Latencies) {
        self.latencies.extend(latencies.percentiles().map(|p| (name.into(), p)));
    }

    pub fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.into() });
    }

    /// A figure that can be told only where the gateway was asked.
    pub fn figure_if_known(&mut self, name: &'static str, value: Option<f64>, unit: &'static str) {
        self.figures.extend(value.map(|value| Figure { name: name.into(), value, unit: unit.into() }));
    }

    /// Adds `sentence` to what was missed unless `reached`.
    pub fn target(&mut self, reached: bool, sentence: impl FnOnce() -> String) {
        if !reached {
            self.missed.push(sentence());
        }
    }

    pub fn read_json(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        std::fs::write(path, text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        connection_rows(&mut table, &self.connections);
        if let Some(totals) = &self.messages {
            message_rows(&mut table, "", totals);
        }
        if let Some(totals) = &self.beside {
            message_rows(&mut table, "beside: ", totals);
        }
        for (name, p) in &self.latencies {
            let value = format!(
                "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  ({} measured)",
                millis(p.p50_us),
                millis(p.p90_us),
                millis(p.p99_us),
                millis(p.p999_us),
                millis(p.max_us),
                p.count
            );
            table.add_row([name.replace('_', " "), value]);
        }
        for (name, bounds) in &self.server {
            table.add_row([name.replace('_', " "), server_row(bounds)]);
        }
        for figure in &self.figures {
            table.add_row([figure.name.replace('_', " "), format!("{:.2} {}", figure.value, figure.unit)]);
        }
        writeln!(f, "{table}")?;
        self.missed.iter().try_for_each(|sentence| writeln!(f, "MISSED: {sentence}"))?;
        if self.missed.is_empty() { writeln!(f, "ok") } else { Ok(()) }
    }
}

fn connection_rows(table: &mut Table, c: &Connections) {
    let counts = format!(
        "{} attempted, {} established, {} refused, {} timed out, {} lost, {} reconnected",
        c.attempted, c.established, c.refused, c.timed_out, c.lost, c.reconnected
    );
    table.add_row(["connections".to_owned(), counts]);
    for (name, count) in &c.local_errors {
        table.add_row(["local error".to_owned(), format!("{count} x {name}")]);
    }
    for (reason, count) in &c.reasons {
        table.add_row(["reason".to_owned(), format!("{count} x {reason}")]);
    }
}

/// Percentiles of a histogram of the gateway's.
fn server_row(bounds: &Bounds) -> String {
    let at_most = |us: Option<u64>| us.map_or_else(|| "above all".to_owned(), |us| format!("<= {}", millis(us)));
    format!(
        "p50 {}  p99 {}  p99.9 {}  ({} timed; upper ends of buckets)",
        at_most(bounds.p50_us),
        at_most(bounds.p99_us),
        at_most(bounds.p999_us),
        bounds.count
    )
}

fn message_rows(table: &mut Table, whose: &str, t: &Totals) {
    let counts = format!(
        "{} sent, {} acknowledged, {} deliveries owed, {} delivered, {} refused, {} unanswered",
        t.sent, t.acknowledged, t.owed, t.delivered, t.refused, t.unanswered
    );
    table.add_row([format!("{whose}messages"), counts]);
    let faults = format!(
        "{} missing, {} duplicated, {} out of order, {} contradicted, {} damaged, {} synced early, {} older first \
         ({} redelivered, {} foreign)",
        t.missing,
        t.duplicated,
        t.out_of_order,
        t.contradicted,
        t.damaged,
        t.synced_early,
        t.older_first,
        t.redelivered,
        t.foreign
    );
    table.add_row([format!("{whose}verification"), faults]);
}

pub fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=1_000u64).for_each(|ms| latencies.record(0, ms * 1_000_000));
        let p = latencies.percentiles().unwrap();
        assert_eq!(p.count, 1_000);
        for (value, ms) in [(p.p50_us, 500), (p.p90_us, 900), (p.p99_us, 990), (p.p999_us, 999), (p.max_us, 1_000)] {
            let error = value.abs_diff(ms * 1_000);
            assert!(error <= ms, "{value} us for {ms} ms"); // 3 digits
        }
        assert_eq!(latencies.within(Duration::from_millis(100)), 100);
        let mut sum = Latencies::default();
        sum.add(&latencies);
        sum.add(&latencies);
        assert_eq!(sum.percentiles().unwrap().count, 2_000);
    }

    #[test]
    fn a_latency_beyond_every_bound_still_counts() {
        let mut latencies = Latencies::default();
        latencies.record(0, u64::MAX);
        latencies.record(5, 0); // answered before it was scheduled: 0, told as 1 us
        assert_eq!(latencies.percentiles().unwrap().count, 2);
    }

    #[test]
    fn latencies_that_went_to_another_process_are_the_same() {
        let (mut exact, mut coarse) = (Latencies::default(), Latencies::coarse());
        (1..=5_000u64).for_each(|n| {
            exact.record(0, n * n * 10_000);
            coarse.record(0, n * n * 10_000);
        });
        for latencies in [exact, coarse] {
            let text = serde_json::to_string(&latencies).unwrap();
            let mut sum: Latencies = serde_json::from_str(&text).unwrap();
            assert_eq!(sum.percentiles(), latencies.percentiles());
            sum.add(&latencies);
            assert_eq!(
                sum.percentiles().map(|p| (p.count, p.p999_us)),
                latencies.percentiles().map(|p| (2 * p.count, p.p999_us))
            );
        }
        let of = |count: u64| format!(r#"{{"is_coarse":false,"counts":[[0,1],[{},{count}]]}}"#, u64::MAX);
        let odd: Latencies = serde_json::from_str(&of(5)).unwrap();
        assert_eq!(odd.percentiles().map(|p| p.count), Some(6), "what is beyond the bounds counts as the bounds");
        assert!(serde_json::from_str::<Latencies>(&of(u64::MAX)).is_err());
    }

    #[test]
    fn missed_targets_show_in_text_and_json() {
        let mut report = Report { command: "connect".into(), ..Report::default() };
        report.target(true, || unreachable!("a target that was reached has no sentence"));
        assert!(report.to_string().ends_with("ok\n"));
        report.target(false, || "only 9 of 10 established".to_owned());
        assert!(report.to_string().ends_with("MISSED: only 9 of 10 established\n"));
        let json: serde_json::Value = serde_json::to_value(&report).unwrap();
        assert_eq!(json["missed"][0], "only 9 of 10 established");
        assert_eq!(json["connections"]["attempted"], 0);
    }

    #[test]
    fn reasons_are_bounded() {
        let mut connections = Connections::default();
        (0..100).for_each(|n| connections.reason(&format!("close {n}")));
        assert!(connections.reasons.len() <= Connections::MOST_REASONS + 1);
        assert_eq!(connections.reasons.values().sum::<u64>(), 100);
        let mut connections = Connections::default();
        ["ü".repeat(1 << 20), "ü".repeat(101)].iter().for_each(|reason| connections.reason(reason));
        assert_eq!(connections.reasons, [("ü".repeat(100), 2)].into());
    }
}
