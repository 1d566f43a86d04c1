//! Two reports side by side, and what of the second is worse.
//!
//! Owns: which values are told, and of each whether larger is worse. Guarantees: reports of different commands are not compared;
//! what is not known to be better or worse, or was made by too few measurements, is told and not judged. Never does: printing.

use crate::conditions::Conditions;
use crate::metrics::Bounds;
use crate::report::{Figure, Percentiles, Report};
use crate::timeline::Entry;
use serde::Serialize;

/// What a larger value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Larger {
    IsWorse,
    IsBetter,
    /// Nobody knows: a setting, a condition, or something that says more together with others.
    SaysNothing,
}

/// One value that both reports have.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub unit: String,
    pub a: f64,
    pub b: f64,
    pub larger: Larger,
}

/// One condition in which the reports differ; `None` where it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: &'static str,
    pub a: Option<String>,
    pub b: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not comparable: one is a report of `flood {a}`, the other of `flood {b}`")]
pub struct NotComparable {
    a: String,
    b: String,
}

/// Figures and latencies that their unit would judge, and that are settings, conditions, costs of what is better for it, or
/// the load tool's own.
const NOT_JUDGED: &[&str] = &[
    "bursts_wanted_rate",
    "checkpoints_took",
    "fdatasyncs",
    "first_closed_after",
    "merges_took",
    "outbound_allowed",
    "rss_after_allowed",
    "rss_before",
    "rss_growth_allowed",
    "rss_growth_when_all_read",
    "schedule_lag",
    "server_rss_before",
    "server_rss_first",
    "store_on_disk_first",
    "window",
];
/// Counts of a report that are its size, not its faults.
const SIZES: &[&str] =
    &["attempted", "established", "reconnected", "sent", "acknowledged", "owed", "delivered", "redelivered", "foreign"];

impl Row {
    /// B / A; `None` where A is 0.
    pub fn ratio(&self) -> Option<f64> {
        (self.a != 0.0).then(|| self.b / self.a)
    }

    /// Whether B is worse than A by more than this share of A.
    pub fn is_worse_by(&self, share: f64) -> bool {
        match self.larger {
            Larger::IsWorse => self.b > self.a * (1.0 + share),
            Larger::IsBetter => self.b < self.a * (1.0 - share),
            Larger::SaysNothing => false,
        }
    }
}

/// What differs in conditions, and every value that both have.
pub fn compare(a: &Report, b: &Report) -> Result<(Vec<Difference>, Vec<Row>), NotComparable> {
    if a.command != b.command {
        return Err(NotComparable { a: a.command.to_string(), b: b.command.to_string() });
    }
    let others = values(b);
    let both = values(a).into_iter().filter_map(|mut row| {
        let other = others.iter().find(|other| other.name == row.name && other.unit == row.unit)?;
        row.b = other.b;
        // What too few measurements made in one of the two is judged in neither.
        row.larger = if row.larger == other.larger { row.larger } else { Larger::SaysNothing };
        Some(row)
    });
    Ok((differences(a.conditions.as_ref(), b.conditions.as_ref()), both.collect()))
}

fn differences(a: Option<&Conditions>, b: Option<&Conditions>) -> Vec<Difference> {
    type Of = fn(&Conditions) -> Option<String>;
    let known = |of: Of| (a.and_then(of), b.and_then(of));
    let all: [(&'static str, Of); 9] = [
        ("processor", |c| c.machine.processor.clone()),
        ("processors", |c| Some(c.machine.processors.to_string())),
        ("memory, MiB", |c| Some(c.machine.memory_mib.to_string())),
        ("kernel", |c| c.machine.kernel.clone()),
        ("RLIMIT_NOFILE", |c| Some(c.machine.descriptors.to_string())),
        ("version of flood", |c| c.flood.version.clone()),
        ("version of the gateway", |c| c.gateway.version.clone()),
        ("command line of flood", |c| c.flood.command_line.clone()),
        ("command line of the gateway", |c| c.gateway.command_line.clone()),
    ];
    let each = all.into_iter().map(|(what, of)| (what, known(of)));
    each.filter(|(_, (a, b))| a != b).map(|(what, (a, b))| Difference { what, a, b }).collect()
}

/// Every value of a report, as both sides of a row.
fn values(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, p) in &report.latencies {
        percentiles(name, p, &mut rows);
    }
    for (name, bounds) in &report.server {
        buckets(&spaced(name), bounds, &mut rows);
    }
    rows.extend(report.figures.iter().map(figure));
    memory(&report.timeline, &mut rows);
    counts("connections", &report.connections, &mut rows);
    if let Some(totals) = &report.messages {
        counts("messages", totals, &mut rows);
    }
    if let Some(totals) = &report.beside {
        counts("beside: messages", totals, &mut rows);
    }
    rows
}

fn row(name: String, unit: &str, value: f64, larger: Larger) -> Row {
    Row { name, unit: unit.to_owned(), a: value, b: value, larger }
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// A percentile that is the longest of so few measurements is chance, and so is the longest itself.
fn percentiles(name: &str, p: &Percentiles, rows: &mut Vec<Row>) {
    let is_judged = |least: u64| p.count >= least && !NOT_JUDGED.contains(&name);
    let judged = |least: u64| if is_judged(least) { Larger::IsWorse } else { Larger::SaysNothing };
    let spaced = spaced(name);
    for (what, us, larger) in [
        ("p50", p.p50_us, judged(2)),
        ("p90", p.p90_us, judged(10)),
        ("p99", p.p99_us, judged(100)),
        ("p99.9", p.p999_us, judged(1_000)),
        ("max", p.max_us, Larger::SaysNothing),
    ] {
        rows.push(row(format!("{spaced} {what}"), "ms", us as f64 / 1_000.0, larger));
    }
    rows.push(row(format!("{spaced} measured"), "", p.count as f64, Larger::SaysNothing));
}

/// Upper ends of buckets: from one to the next is a large step for a small change.
fn buckets(name: &str, bounds: &Bounds, rows: &mut Vec<Row>) {
    for (what, us) in [("p50", bounds.p50_us), ("p99", bounds.p99_us), ("p99.9", bounds.p999_us)] {
        let ms = us.map(|us| us as f64 / 1_000.0);
        rows.extend(ms.map(|ms| row(format!("{name} {what}, bucket"), "ms", ms, Larger::SaysNothing)));
    }
}

fn figure(figure: &Figure) -> Row {
    let (name, unit) = (&*figure.name, &*figure.unit);
    let larger = match unit {
        _ if NOT_JUDGED.contains(&name) => Larger::SaysNothing,
        _ if name == "acknowledged_in_time" => Larger::IsBetter,
        "us" | "s" | "B" | "KiB" | "MiB" | "KiB a session" | "MiB kept for their sockets" | "% of one core" => {
            Larger::IsWorse
        }
        _ if unit.ends_with("/s") => Larger::IsBetter,
        _ => Larger::SaysNothing,
    };
    // Of what is not above 0 there is no share.
    let larger = if figure.value > 0.0 { larger } else { Larger::SaysNothing };
    row(spaced(name), unit, figure.value, larger)
}

/// Of the whole run. What the kernel has is of everything on the machine.
fn memory(timeline: &[Entry], rows: &mut Vec<Row>) {
    let kernel = |entry: &Entry| entry.slab_mib + entry.sockets_mib;
    if let Some(most) = timeline.iter().filter_map(|entry| entry.server_rss_mib).max_by(f64::total_cmp) {
        rows.push(row("server rss most".to_owned(), "MiB", most, Larger::IsWorse));
    }
    if let Some(most) = timeline.iter().map(|entry| entry.own_rss_mib).max_by(f64::total_cmp) {
        rows.push(row("own rss most".to_owned(), "MiB", most, Larger::SaysNothing));
    }
    if let (Some(first), Some(most)) = (timeline.first(), timeline.iter().map(kernel).max_by(f64::total_cmp)) {
        rows.push(row("kernel memory growth".to_owned(), "MiB", most - kernel(first), Larger::SaysNothing));
    }
}

/// Every number of a set of counts, by its name there.
fn counts(of: &str, counts: &impl Serialize, rows: &mut Vec<Row>) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(counts) else { return };
    for (name, value) in &fields {
        let larger = if SIZES.contains(&name.as_str()) { Larger::SaysNothing } else { Larger::IsWorse };
        rows.extend(value.as_f64().map(|count| row(format!("{of} {}", spaced(name)), "", count, larger)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Connections, Latencies};

    fn report(figures: &[(&'static str, f64, &'static str)]) -> Report {
        let mut report = Report { command: "chat".into(), ..Report::default() };
        figures.iter().for_each(|&(name, value, unit)| report.figure(name, value, unit));
        report
    }

    fn worse(a: &Report, b: &Report, share: f64) -> Vec<String> {
        let (_, rows) = compare(a, b).unwrap();
        rows.into_iter().filter(|row| row.is_worse_by(share)).map(|row| row.name).collect()
    }

    #[test]
    fn what_is_worse_depends_on_the_figure() {
        let a = report(&[
            ("server_cpu_each", 100.0, "us"),
            ("acknowledged_rate", 100.0, "messages/s"),
            ("log_bytes_per_message", 100.0, "B"),
            ("stolen_cpu", 1.0, "% of the processor time"),
            ("fdatasyncs", 100.0, "/s"),
            ("of_tomorrow", 1.0, "bananas"),
            ("server_rss_slope", -1.0, "MiB"),
        ]);
        let all = |factor| {
            let mut b = a.clone();
            b.figures.iter_mut().for_each(|figure| figure.value *= factor);
            b
        };
        assert_eq!(worse(&a, &all(1.2), 0.1), ["server cpu each", "log bytes per message"]);
        assert_eq!(worse(&a, &all(0.8), 0.1), ["acknowledged rate"]);
        assert!(worse(&a, &all(1.1), 0.1).is_empty() && worse(&a, &all(0.95), 0.1).is_empty());
    }

    #[test]
    fn percentiles_count_where_enough_was_measured_in_both() {
        let of = |count: u64, us: u64| {
            let (mut report, mut latencies) = (report(&[]), Latencies::default());
            (0..count).for_each(|_| latencies.record(0, us * 1_000));
            report.latency("send_to_push", &latencies);
            report
        };
        let [p50, p90, p99, p999] = ["p50", "p90", "p99", "p99.9"].map(|p| format!("send to push {p}"));
        let all = [p50.clone(), p90.clone(), p99.clone(), p999];
        assert_eq!(worse(&of(1_000, 1_000), &of(1_000, 1_500), 0.1), all, "and never the longest");
        assert_eq!(worse(&of(1_000, 1_000), &of(200, 1_500), 0.1), [p50, p90, p99]);
        assert!(worse(&of(1_000, 1_500), &of(1_000, 1_000), 0.0).is_empty());
    }

    #[test]
    fn a_fault_where_there_was_none_is_worse_and_size_is_not() {
        let of = |established, lost| Report {
            connections: Connections { established, lost, ..Connections::default() },
            ..report(&[])
        };
        assert_eq!(worse(&of(100, 0), &of(50, 1), 0.5), ["connections lost"]);
    }

    #[test]
    fn only_what_both_have_is_told() {
        let (a, b) = (report(&[("x", 1.0, "s"), ("y", 4.0, "s")]), report(&[("y", 2.0, "s"), ("x", 1.0, "ms")]));
        let (_, rows) = compare(&a, &b).unwrap();
        let y = Row { name: "y".into(), unit: "s".into(), a: 4.0, b: 2.0, larger: Larger::IsWorse };
        assert_eq!(rows.iter().filter(|row| !row.name.starts_with("connections")).collect::<Vec<_>>(), [&y]);
        assert_eq!((y.ratio(), Row { a: 0.0, ..y }.ratio()), (Some(0.5), None));
    }

    #[test]
    fn conditions_that_differ_are_named_and_other_commands_are_not_compared() {
        let mut conditions = Conditions::default();
        conditions.machine.kernel = Some("6.1".to_owned());
        let a = Report { conditions: Some(conditions.clone()), ..report(&[]) };
        conditions.machine.kernel = Some("6.18".to_owned());
        let b = Report { conditions: Some(conditions), ..report(&[]) };
        let (differ, _) = compare(&a, &b).unwrap();
        let kernel = Difference { what: "kernel", a: Some("6.1".into()), b: Some("6.18".into()) };
        assert_eq!(differ, [kernel]);
        let (differ, _) = compare(&a, &report(&[])).unwrap();
        assert!(differ.iter().any(|it| it.what == "kernel" && it.b.is_none()), "not known is not the same");
        let other = Report { command: "storm".into(), ..report(&[]) };
        assert!(compare(&a, &other).unwrap_err().to_string().contains("`flood chat`, the other of `flood storm`"));
    }
}
