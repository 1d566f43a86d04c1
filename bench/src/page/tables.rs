//! The tables of a report.

use super::text::escaped;
use crate::metrics::Bounds;
use crate::number::number;
use crate::report::{Connections, Figure, Percentiles, Report};
use crate::verify::Totals;
use std::collections::BTreeMap;
use std::fmt::Write;

pub fn write(report: &Report, out: &mut String) {
    out.push_str("<h2>Figures</h2>");
    percentiles("Latencies, ms", &report.latencies, out);
    bounds(&report.server, out);
    out.push_str("<div class=tables>");
    connections(&report.connections, out);
    if let Some(totals) = &report.messages {
        messages("Messages", totals, out);
    }
    if let Some(totals) = &report.beside {
        messages("Messages beside", totals, out);
    }
    figures(&report.figures, out);
    out.push_str("</div>");
}

pub fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

fn percentiles(caption: &str, latencies: &BTreeMap<crate::report::Name, Percentiles>, out: &mut String) {
    if latencies.is_empty() {
        return;
    }
    heads(caption, &["p50", "p90", "p99", "p99.9", "max", "measured"], out);
    for (name, p) in latencies {
        let times = [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us].map(ms);
        row(name, times.into_iter().chain([number(p.count as f64)]), out);
    }
    out.push_str("</table></div>");
}

fn bounds(server: &BTreeMap<crate::report::Name, Bounds>, out: &mut String) {
    if server.is_empty() {
        return;
    }
    heads("Inside the gateway, ms at most (ends of buckets)", &["p50", "p99", "p99.9", "timed"], out);
    for (name, bounds) in server {
        let at_most = |us: Option<u64>| us.map_or_else(|| "above all".to_owned(), ms);
        let times = [bounds.p50_us, bounds.p99_us, bounds.p999_us].map(at_most);
        row(name, times.into_iter().chain([number(bounds.count as f64)]), out);
    }
    out.push_str("</table></div>");
}

fn ms(us: u64) -> String {
    number(us as f64 / 1_000.0)
}

fn heads(caption: &str, columns: &[&str], out: &mut String) {
    let _ = write!(out, "<div class=scroll><table><caption>{}</caption><thead><tr><th></th>", escaped(caption));
    for column in columns {
        let _ = write!(out, "<th class=n scope=col>{}</th>", escaped(column));
    }
    out.push_str("</tr></thead>");
}

fn row(name: &str, cells: impl Iterator<Item = String>, out: &mut String) {
    let _ = write!(out, "<tr><th scope=row>{}</th>", escaped(&spaced(name)));
    for cell in cells {
        let _ = write!(out, "<td class=n>{}</td>", escaped(&cell));
    }
    out.push_str("</tr>");
}

/// A count; one that ought to be 0 and is not stands out.
fn count(name: &str, value: u64, is_fault: bool, out: &mut String) {
    let class = if is_fault && value > 0 { "n fault" } else { "n" };
    let value = number(value as f64);
    let _ = write!(out, "<tr><th scope=row>{}</th><td class=\"{class}\">{value}</td></tr>", escaped(name));
}

fn connections(c: &Connections, out: &mut String) {
    out.push_str("<table><caption>Connections</caption>");
    for (name, value, is_fault) in [
        ("attempted", c.attempted, false),
        ("established", c.established, false),
        ("refused", c.refused, true),
        ("timed out", c.timed_out, true),
        ("lost", c.lost, true),
        ("reconnected", c.reconnected, false),
    ] {
        count(name, value, is_fault, out);
    }
    for (name, value) in &c.local_errors {
        count(&format!("local error: {name}"), *value, true, out);
    }
    for (reason, value) in &c.reasons {
        count(&format!("reason: {reason}"), *value, false, out);
    }
    out.push_str("</table>");
}

fn messages(caption: &str, t: &Totals, out: &mut String) {
    let _ = write!(out, "<table><caption>{caption}</caption>");
    for (name, value, is_fault) in [
        ("sent", t.sent, false),
        ("acknowledged", t.acknowledged, false),
        ("deliveries owed", t.owed, false),
        ("delivered", t.delivered, false),
        ("redelivered", t.redelivered, false),
        ("foreign", t.foreign, false),
        ("unanswered", t.unanswered, true),
        ("refused", t.refused, true),
        ("missing", t.missing, true),
        ("duplicated", t.duplicated, true),
        ("out of order", t.out_of_order, true),
        ("contradicted", t.contradicted, true),
        ("damaged", t.damaged, true),
        ("synced early", t.synced_early, true),
        ("older first", t.older_first, true),
    ] {
        count(name, value, is_fault, out);
    }
    out.push_str("</table>");
}

fn figures(figures: &[Figure], out: &mut String) {
    if figures.is_empty() {
        return;
    }
    out.push_str("<table class=figures><caption>What was measured</caption>");
    for figure in figures {
        let _ = write!(
            out,
            "<tr><th scope=row>{}</th><td class=n>{}</td><td class=unit>{}</td></tr>",
            escaped(&spaced(&figure.name)),
            number(figure.value),
            escaped(&figure.unit)
        );
    }
    out.push_str("</table>");
}
