//! `flood chat`: open-loop load between pairs of users, every message accounted for.

use super::run::{Common, Cpu, Run, RunError, Speak};
use crate::load::Stage;
use crate::metrics::Metrics;
use crate::report::{Latencies, Report};
use crate::scenario::chat::{Chat as Scenario, Settings};
use crate::sent::SentFile;
use crate::text::Texts;
use crate::verify::Totals;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "Examples:
  flood chat --users 1000 --rate 5000 --duration 30s
  flood chat --users 200 --rate 500 --duration 60s --sent sent.jsonl --reconnect
  flood chat --users 2000 --rate 20000 --duration 30s --server-pid 4711 --admin 127.0.0.1:7601";

/// Users in random pairs write to each other on a fixed schedule that no answer and no stall moves; every message is
/// verified, and latencies count from the scheduled time.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Chat {
    #[command(flatten)]
    pub common: Common,
    /// Users, one session each; they write to each other in pairs, so an even number.
    #[arg(long, default_value_t = 1_000, value_parser = pairs)]
    pub users: u32,
    /// Messages per second in all.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// How long to send.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Bytes of a text.
    #[arg(long, default_value_t = 200)]
    pub bytes: usize,
    /// How long to wait for what is outstanding at the end.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// Write every SENT to this file, one JSON line each, within 100 ms.
    #[arg(long)]
    pub sent: Option<PathBuf>,
    /// Lost connections come back with back-off and repeat what has no outcome, with the same ids.
    #[arg(long)]
    pub reconnect: bool,
    /// With --reconnect: come back within this time at first, even where welcome named a longer slot.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub reconnect_within: Duration,
    /// How long opening all sessions may take.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub connect_within: Duration,
    /// Share of the messages, in percent, that must be acknowledged within --within; 0: no target.
    #[arg(long, default_value_t = 0.0)]
    pub percent: f64,
    /// See --percent.
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub within: Duration,
}

fn pairs(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(users) if users >= 2 && users % 2 == 0 => Ok(users),
        _ => Err("users write to each other in pairs: an even number, 2 or more".to_owned()),
    }
}

/// The part of a run that a search looks at.
pub struct Outcome {
    pub report: Report,
    /// Share of the messages that were acknowledged within the limit, 0 to 1.
    pub within: f64,
}

/// One end of the load itself: what comes before and after (connecting, what is outstanding at the end) does not count.
struct Moment {
    at: Instant,
    cpu: Cpu,
    acknowledged: u64,
    metrics: Option<Metrics>,
}

impl Moment {
    fn of(run: &Run) -> Self {
        let acknowledged = run.shared.counters.acknowledged.load(Ordering::Relaxed);
        // A gateway that cannot be asked has no figures of its own; the run goes on.
        Self { at: Instant::now(), cpu: run.cpu(), acknowledged, metrics: run.metrics().unwrap_or_default() }
    }

    fn figures(&self, before: &Moment, report: &mut Report) {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-9);
        let acknowledged = self.acknowledged - before.acknowledged;
        report.figure("acknowledged_rate", acknowledged as f64 / seconds, "messages/s");
        self.cpu.figures(&before.cpu, acknowledged, report);
        let used = self.cpu.own.saturating_sub(before.cpu.own).as_secs_f64();
        report.figure("own_cpu", 100.0 * used / seconds, "% of one core");
        if let (Some(now), Some(then)) = (&self.metrics, &before.metrics) {
            let grown = |name| now.sum(name) - then.sum(name);
            let syncs = grown("ringpost_store_fdatasyncs_total");
            report.figure("records_per_fdatasync", grown("ringpost_store_records_total") / syncs.max(1.0), "records");
            report.figure("fdatasyncs", syncs / seconds, "/s");
        }
    }
}

impl Chat {
    pub fn run(self) -> Result<bool, RunError> {
        let run = Run::prepare(&self.common, self.users, &Speak::Sessions)?;
        let outcome = self.measure(&run)?;
        run.conclude(&outcome.report)
    }

    /// One run from connecting to the report.
    pub fn measure(&self, run: &Run) -> Result<Outcome, RunError> {
        let file_error = |error| RunError::File { path: self.sent.clone().unwrap_or_default(), error };
        let sent_file = self.sent.as_deref().map(SentFile::create).transpose().map_err(file_error)?;
        let settings = |worker: u32| Settings {
            rate: self.rate,
            duration: self.duration,
            reconnect: self.reconnect.then_some(self.reconnect_within),
            seed: run.seed,
            worker: u64::from(worker),
        };
        let make = |worker, names| {
            let texts = Texts::new(run.seed, worker, self.bytes);
            Scenario::new(&run.shared, names, settings(worker), texts, sent_file.as_ref().map(SentFile::log))
        };
        let mut load = Vec::new();
        let (mut scenarios, connections) = run.go(make, |shared, progress| {
            shared.run(Stage::Connect, self.connect_within, progress, "connect");
            load.push(Moment::of(run));
            shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, "chat");
            load.push(Moment::of(run));
            shared.run(Stage::Settle, self.settle, progress, "settle");
        })?;
        let mut report = run.report("chat");
        report.connections = connections;
        let within = self.add_messages(&scenarios, &mut report);
        if let [before, after] = load.as_slice() {
            after.figures(before, &mut report);
        }
        self.targets(within, &mut report);
        // The workers' ends of the file close with their scenarios.
        scenarios.clear();
        sent_file.map_or(Ok(()), SentFile::close).map_err(file_error)?;
        Ok(Outcome { report, within })
    }

    fn add_messages(&self, scenarios: &[Scenario<'_>], report: &mut Report) -> f64 {
        let (mut to_sent, mut to_push, mut lag) = (Latencies::default(), Latencies::default(), Latencies::default());
        let mut totals = Totals::default();
        for scenario in scenarios {
            to_sent.add(&scenario.to_sent);
            to_push.add(&scenario.to_push);
            lag.add(&scenario.lag);
            totals.add(&scenario.totals());
            for (why, count) in &scenario.errors {
                *report.connections.reasons.entry(format!("message refused: {why}")).or_default() += count;
            }
        }
        report.latency("send_to_sent", &to_sent);
        report.latency("send_to_push", &to_push);
        report.latency("schedule_lag", &lag);
        let within = to_sent.within(self.within) as f64 / totals.sent.max(1) as f64;
        report.figure("acknowledged_in_time", 100.0 * within, "%");
        report.messages = Some(totals);
        within
    }

    fn targets(&self, within: f64, report: &mut Report) {
        let wanted = u64::from(self.users);
        let c = &report.connections;
        let (established, lost) = (c.established, c.lost);
        report.target(established == wanted, || format!("only {established} of {wanted} users were established"));
        report.target(lost == 0 || self.reconnect, || format!("{lost} sessions were lost"));
        let Some(totals) = report.messages else { return };
        report.missed.extend(totals.violations());
        report.target(totals.unanswered == 0, || format!("{} messages have no answer", totals.unanswered));
        report.target(totals.refused == 0, || format!("{} messages were refused", totals.refused));
        report.target(100.0 * within >= self.percent, || {
            let limit = humantime::format_duration(self.within);
            format!("only {:.2} % acknowledged within {limit}, {} % wanted", 100.0 * within, self.percent)
        });
    }
}
