//! Reports as one HTML page for people.
//!
//! Owns: what is told of a report, and in which order: whether it is good, tables, the run over time, what it ran under.
//! Guarantees: the page needs nothing but itself; whatever stands in a report is shown as text. Never does: judging; a plot or a
//! table of which nothing is known is left out.

mod axis;
mod plot;
mod tables;
mod text;

use crate::conditions::{Conditions, Program};
use crate::number::number;
use crate::over_time::Point;
use crate::report::{Percentiles, Report};
use crate::timeline::Entry;
use plot::{Lines, Range, Series, Stage};
use std::fmt::Write;
use text::escaped;

const STYLE: &str = include_str!("style.css");

/// One section for each report, which has the name of its file.
pub fn html(reports: &[(String, Report)]) -> String {
    let title = match reports {
        [(_, only)] => format!("flood {}", only.command),
        many => format!("{} flood reports", many.len()),
    };
    let mut out = String::from("<!doctype html>\n<html lang=en><head><meta charset=utf-8>");
    let _ = write!(
        out,
        "<meta name=viewport content=\"width=device-width, initial-scale=1\"><title>{}</title><style>\n{STYLE}</style></head><body>",
        escaped(&title)
    );
    if reports.len() > 1 {
        out.push_str("<nav>");
        for (index, (name, _)) in reports.iter().enumerate() {
            let _ = write!(out, "<a href=\"#report-{index}\">{}</a>", escaped(name));
        }
        out.push_str("</nav>");
    }
    for (index, (name, report)) in reports.iter().enumerate() {
        let _ = write!(out, "\n<section id=report-{index}>");
        head(name, report, &mut out);
        latencies(report, &mut out);
        over_time(report, &mut out);
        tables::write(report, &mut out);
        if let Some(conditions) = &report.conditions {
            ran_under(conditions, &mut out);
        }
        out.push_str("</section>");
    }
    out.push_str("\n</body></html>\n");
    out
}

fn head(name: &str, report: &Report, out: &mut String) {
    let (class, verdict) = if report.missed.is_empty() { ("ok", "ok") } else { ("missed", "missed") };
    let _ = write!(
        out,
        "<header><h1>flood {}<span class=\"verdict {class}\">{verdict}</span></h1><p>{} &middot; {}",
        escaped(&report.command),
        escaped(&report.url),
        escaped(name)
    );
    if let Some(conditions) = &report.conditions {
        let _ = write!(out, " &middot; {}", escaped(&conditions.began_at));
    }
    if let Some(last) = report.timeline.last() {
        let _ = write!(out, " &middot; {} s", number(last.seconds));
    }
    out.push_str("</p></header>");
    if !report.missed.is_empty() {
        out.push_str("<ul class=missed>");
        for sentence in &report.missed {
            let _ = write!(out, "<li>{}</li>", escaped(sentence));
        }
        out.push_str("</ul>");
    }
}

fn latencies(report: &Report, out: &mut String) {
    let range = |(name, p): (&_, &Percentiles)| {
        let ms = [p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us].map(|us| us as f64 / 1_000.0);
        Range { name: tables::spaced(name), values: ms }
    };
    let rows: Vec<Range> = report.latencies.iter().map(|(name, p)| range((name, p))).collect();
    if !rows.is_empty() {
        out.push_str("<h2>Latencies</h2><div class=grid-of-plots>");
        // Long plots are worse to read than two.
        for part in rows.chunks(rows.len().div_ceil(if rows.len() > 3 { 2 } else { 1 })) {
            out.push_str(&plot::ranges("Percentiles", part));
        }
        out.push_str("</div>");
    }
}

fn over_time(report: &Report, out: &mut String) {
    let entries = &report.timeline;
    let Some(last) = entries.last() else { return };
    let stages = stages(entries);
    let of = |name, value: fn(&Entry) -> Option<f64>| Series {
        name,
        points: entries.iter().map(|entry| (entry.seconds, value(entry))).collect(),
    };
    // What is of the time since the sample before has no value at the first of two that are close: the line goes on.
    let rate = |name, value: fn(&Entry) -> Option<f64>| {
        let mut series = of(name, value);
        series.points.retain(|(_, value)| value.is_some());
        series
    };
    let slice = |name, value: fn(&Point) -> Option<u64>| Series {
        name,
        points: report
            .over_time
            .iter()
            .filter_map(|point| Some((point.run_seconds?, value(point).map(|us| us as f64 / 1_000.0))))
            .collect(),
    };
    let plot = |title, unit, is_log, series| {
        Lines { title, unit, is_log, series, stages: &stages, until: last.seconds }.html()
    };
    let kernel = |name, value: fn(&Entry) -> f64| {
        let least = entries.iter().map(value).fold(f64::MAX, f64::min);
        Series { name, points: entries.iter().map(|entry| (entry.seconds, Some(value(entry) - least))).collect() }
    };
    out.push_str("<h2>Over time</h2>");
    list(&stages, last.seconds, out);
    out.push_str("<div class=grid-of-plots>");
    for figure in [
        plot("Connections", "established", false, vec![of("established", |e| Some(e.established as f64))]),
        plot(
            "From send to push",
            "ms, logarithmic, by when it was due",
            true,
            vec![slice("p50", |p| p.push_p50_us), slice("p99", |p| p.push_p99_us), slice("p99.9", |p| p.push_p999_us)],
        ),
        plot(
            "From send to SENT",
            "ms, logarithmic, by when it was due",
            true,
            vec![slice("p50", |p| p.sent_p50_us), slice("p99", |p| p.sent_p99_us), slice("p99.9", |p| p.sent_p999_us)],
        ),
        plot(
            "Processor time",
            "% of one core",
            false,
            vec![rate("gateway", |e| e.server_cpu_percent), rate("flood", |e| e.own_cpu_percent)],
        ),
        plot(
            "Resident memory",
            "MiB",
            false,
            vec![of("gateway", |e| e.server_rss_mib), of("flood", |e| Some(e.own_rss_mib))],
        ),
        plot(
            "Kernel memory of the machine",
            "MiB above its least",
            false,
            vec![kernel("slab", |e| e.slab_mib), kernel("sockets", |e| e.sockets_mib)],
        ),
        plot("Taken by the host", "% of the processor time wanted", false, vec![rate("stolen", |e| e.stolen_percent)]),
    ] {
        out.push_str(&figure);
    }
    out.push_str("</div>");
}

/// Where each stage begins.
fn stages(entries: &[Entry]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for entry in entries {
        if stages.last().is_none_or(|last| last.name != entry.stage) {
            stages.push(Stage { began: entry.seconds, name: entry.stage.to_string() });
        }
    }
    stages
}

/// Every stage with how long it took: in the plots not all names have room.
fn list(stages: &[Stage], until: f64, out: &mut String) {
    let ends = stages.iter().skip(1).map(|next| next.began).chain([until]);
    let told = stages.iter().zip(ends).map(|(stage, end)| {
        let took = number(((end - stage.began) * 100.0).round() / 100.0);
        format!("{} {took} s", escaped(&stage.name))
    });
    let _ = write!(out, "<p>Stages: {}</p>", told.collect::<Vec<_>>().join(", "));
}

fn ran_under(conditions: &Conditions, out: &mut String) {
    out.push_str("<h2>Ran under</h2>");
    program("flood", &conditions.flood, out);
    program("gateway", &conditions.gateway, out);
    let machine = &conditions.machine;
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
    let rows = [
        ("processor", known(&machine.processor)),
        ("processors", number(machine.processors as f64)),
        ("memory", format!("{} MiB", number(machine.memory_mib as f64))),
        ("kernel", known(&machine.kernel)),
        ("RLIMIT_NOFILE", number(machine.descriptors as f64)),
        ("began", format!("{} ({})", conditions.began_at, conditions.began)),
    ];
    out.push_str("<table>");
    for (name, value) in rows {
        let _ = write!(out, "<tr><th scope=row>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    out.push_str("</table>");
}

fn program(name: &str, program: &Program, out: &mut String) {
    let version = program.version.as_deref().unwrap_or("of a version that is not known");
    let line = program.command_line.as_deref().unwrap_or("command line not known");
    let _ = write!(out, "<div>{name} {}</div><pre>{}</pre>", escaped(version), escaped(line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latencies;

    fn report() -> Report {
        let mut report = Report { command: "chat".into(), url: "ws://h:1".to_owned(), ..Report::default() };
        let mut latencies = Latencies::default();
        (1..2_000).for_each(|us| latencies.record(0, us * 1_000));
        report.latency("send_to_push", &latencies);
        report.figure("connect_rate", 1234.5, "/s");
        let entry = |seconds: f64, stage: &'static str| Entry { seconds, stage: stage.into(), ..Entry::default() };
        report.timeline = vec![entry(0.0, "start"), entry(0.1, "connect"), entry(9.0, "chat"), entry(11.0, "chat")];
        report.conditions = Some(Conditions::default());
        report
    }

    #[test]
    fn a_page_needs_nothing_but_itself() {
        let page = html(&[("a.json".to_owned(), report())]);
        for foreign in ["<script", "<link", "src=", "@import", "url(", "@font-face", "http://", "https://"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains(">ok</span>") && page.contains("Stages: start 0.100 s, connect 8.90 s, chat 2 s"));
    }

    #[test]
    fn whatever_stands_in_a_report_is_shown_as_text() {
        let evil = "<img onerror=x>'\"&";
        let mut report = report();
        (report.command, report.url) = (evil.into(), evil.to_owned());
        report.missed.push(evil.to_owned());
        report.connections.reasons.insert(evil.to_owned(), 1);
        report.connections.local_errors.insert(evil.into(), 1);
        let percentiles = report.latencies["send_to_push"];
        report.latencies.insert(evil.into(), percentiles);
        report.figures.extend(report.figures.first().cloned().map(|figure| crate::report::Figure {
            name: evil.into(),
            unit: evil.into(),
            ..figure
        }));
        report.timeline[2].stage = evil.into();
        let conditions = report.conditions.as_mut().unwrap();
        let program = Program { version: Some(evil.to_owned()), command_line: Some(evil.to_owned()) };
        (conditions.flood, conditions.gateway, conditions.began_at) = (program.clone(), program, evil.to_owned());
        (conditions.machine.processor, conditions.machine.kernel) = (Some(evil.to_owned()), Some(evil.to_owned()));
        let page = html(&[(evil.to_owned(), report.clone()), (evil.to_owned(), report)]);
        assert!(!page.contains("<img") && page.matches("&lt;img onerror=x&gt;&#39;&quot;&amp;").count() > 30);
    }

    #[test]
    fn each_report_is_a_section_and_what_is_not_known_is_left_out() {
        let page = html(&[("a.json".to_owned(), report()), ("b.json".to_owned(), Report::default())]);
        assert_eq!(page.matches("<section").count(), 2);
        assert_eq!(page.matches("href=\"#report-").count(), 2);
        assert_eq!(page.matches("Taken by the host").count(), 0, "nobody told");
        assert_eq!(page.matches("<b>Connections</b>").count(), 1);
    }
}
