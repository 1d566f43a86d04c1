//! What the commands that send messages report alike.

use super::run::{Cpu, Run, STOLEN};
use crate::metrics::Metrics;
use crate::report::{Latencies, Report};
use crate::scenario::crowd::Found;
use crate::series::Series;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl super::load::Found for Found {
    fn add(&mut self, other: Self) {
        self.add(other);
    }
}

/// A share such as `30%` or `30`, from 0 to 1.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("a share in percent, 0 to 100".to_owned()),
    }
}

/// Enters what became of the messages. Gives the times from send to SENT.
pub fn add(found: &Found, report: &mut Report) -> Latencies {
    let (direct, group) = (&found.direct, &found.group);
    for (why, count) in &found.errors {
        *report.connections.reasons.entry(format!("message refused: {why}")).or_default() += count;
    }
    if direct.to_sent.percentiles().is_some() && group.to_sent.percentiles().is_some() {
        report.latency("send_to_sent_direct", &direct.to_sent);
        report.latency("send_to_sent_group", &group.to_sent);
        report.latency("send_to_push_direct", &direct.to_push);
        report.latency("send_to_push_group", &group.to_push);
    }
    let (mut to_sent, mut to_push) = (direct.to_sent.clone(), direct.to_push.clone());
    to_sent.add(&group.to_sent);
    to_push.add(&group.to_push);
    report.latency("send_to_sent", &to_sent);
    report.latency("send_to_push", &to_push);
    report.latency("schedule_lag", &found.lag);
    report.latency("return_to_welcome", &found.to_welcome);
    report.latency("return_to_synced", &found.to_synced);
    if found.to_synced.percentiles().is_some() || found.setbacks > 0 {
        report.figure("returns_tried_again", found.setbacks as f64, "openings");
    }
    if found.shed > 0 {
        report.figure("refused_and_tried_again", found.shed as f64, "answers");
    }
    report.messages = Some(found.totals);
    to_sent
}

/// What every process with messages must reach: all established, nobody lost, back and in its groups, every message answered,
/// and the delivery contract kept.
pub fn targets(users: u32, found: &Found, reconnect: bool, report: &mut Report) {
    let Found { totals, absent, uncreated, untold, .. } = found;
    let (established, lost) = (report.connections.established, report.connections.lost);
    report.target(established == u64::from(users), || format!("only {established} of {users} users were established"));
    report.target(lost == 0 || reconnect, || format!("{lost} sessions were lost"));
    report.target(*absent == 0, || format!("{absent} users did not come back"));
    report.target(*uncreated == 0, || format!("{uncreated} groups were not created"));
    report.target(*untold == 0 || *uncreated > 0, || format!("{untold} members were not told of their group"));
    report.missed.extend(totals.violations());
    report.target(totals.unanswered == 0, || format!("{} messages have no answer", totals.unanswered));
    report.target(totals.refused == 0, || format!("{} messages were refused", totals.refused));
    // Nothing is missing, so this can only differ where something was delivered that nobody acknowledged.
    let is_whole = totals.missing == 0 && totals.unanswered == 0 && totals.refused == 0;
    report.target(!is_whole || totals.delivered == totals.owed, || {
        format!("{} deliveries were owed and {} made", totals.owed, totals.delivered)
    });
}

/// One end of the load itself: what comes before and after (connecting, what is outstanding at the end) does not count.
pub struct Moment {
    at: Instant,
    cpu: Cpu,
    acknowledged: u64,
    delivered: u64,
    metrics: Option<Metrics>,
}

/// What there was between two moments.
pub struct Span {
    pub seconds: f64,
    pub acknowledged: u64,
    pub delivered: u64,
    /// Processor time of the gateway in microseconds, where it is told.
    pub server_micros: Option<f64>,
    /// Percent of the processor time wanted on this machine that it was not given.
    stolen: Option<f64>,
    metrics: Option<(Metrics, Metrics)>,
}

impl Moment {
    pub fn of(run: &Run) -> Self {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &run.shared.counters;
        let (acknowledged, delivered) = (count(&counters.acknowledged), count(&counters.delivered));
        // A gateway that cannot be asked has no figures of its own; the run goes on.
        let metrics = run.metrics().unwrap_or_default();
        Self { at: Instant::now(), cpu: run.cpu(), acknowledged, delivered, metrics }
    }

    pub fn since(&self, before: &Moment) -> Span {
        let server = self.cpu.server.zip(before.cpu.server).map(|(now, then)| now.saturating_sub(then));
        Span {
            seconds: self.at.duration_since(before.at).as_secs_f64().max(1e-9),
            acknowledged: self.acknowledged.saturating_sub(before.acknowledged),
            delivered: self.delivered.saturating_sub(before.delivered),
            server_micros: server.map(|used| used.as_secs_f64() * 1e6),
            stolen: self.cpu.stolen_since(&before.cpu),
            metrics: self.metrics.clone().zip(before.metrics.clone()),
        }
    }

    /// Enters the rate, processor time and syncs since `before`.
    pub fn figures(&self, before: &Moment, report: &mut Report) {
        let span = self.since(before);
        report.figure("acknowledged_rate", span.acknowledged as f64 / span.seconds, "messages/s");
        self.cpu.figures(&before.cpu, span.acknowledged, report);
        let used = self.cpu.own.saturating_sub(before.cpu.own).as_secs_f64();
        report.figure("own_cpu", 100.0 * used / span.seconds, "% of one core");
        span.percentiles(report);
        if let (Some(syncs), Some(records)) = (span.grown(Series::FDATASYNCS), span.grown(Series::RECORDS)) {
            report.figure("records_per_fdatasync", records / syncs.max(1.0), "records");
            report.figure("fdatasyncs", syncs / span.seconds, "/s");
        }
    }
}

impl Span {
    /// Enters what the gateway says that it took inside, and how far the host of this machine let it.
    pub fn server_times(&self, report: &mut Report) {
        self.percentiles(report);
        report.figure_if_known("stolen_cpu", self.stolen, STOLEN);
    }

    /// Of direct messages and those to groups, commits, turns of its loops.
    fn percentiles(&self, report: &mut Report) {
        let Some((now, then)) = &self.metrics else { return };
        for (told, series) in [
            ("server_send_direct", Series::SEND_DIRECT),
            ("server_send_group", Series::SEND_GROUP),
            ("server_commit", Series::COMMIT),
            ("server_turn", Series::TURN),
        ] {
            let counted = now.buckets(series).since(&then.buckets(series));
            report.server.extend(counted.percentiles().map(|bounds| (told.into(), bounds)));
        }
    }

    /// How much a counter of the gateway has grown, where it can be asked.
    pub fn grown(&self, series: Series) -> Option<f64> {
        self.metrics.as_ref().map(|(now, then)| now.sum(series) - then.sum(series))
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_share_is_a_number_of_percent() {
        assert_eq!((percent("30%"), percent("0"), percent("100 %")), (Ok(0.3), Ok(0.0), Ok(1.0)));
        assert!(["-1", "101%", "", "x"].into_iter().all(|text| percent(text).is_err()));
    }
}
