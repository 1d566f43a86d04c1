//! `flood connect`: open sessions and hold them.

use super::run::{Common, Run, RunError, Speak};
use crate::load::Stage;
use crate::report::{Latencies, Report};
use crate::scenario::connect::Connect as Scenario;
use crate::text::Texts;
use crate::verify::Totals;
use std::time::{Duration, Instant};

/// Waiting for all to answer: pings, and the messages of the pairs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a text between a pair.
const TEXT_BYTES: usize = 64;

const EXAMPLES: &str = "Examples:
  flood connect --connections 1000 --hold 10s
  flood connect --connections 100000 --hold 10s --ping-all --pairs 1000 --server-pid 4711 --max-bytes-per-session 1024
  flood connect --url ws://192.0.2.1:7600 --connections 50000 --source 192.0.2.10 --source 192.0.2.11 --json report.json";

/// Opens authenticated sessions, counted when welcome is received, and holds them answering pings; then all may answer a
/// ping request and pairs exchange a message.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Connect {
    #[command(flatten)]
    common: Common,
    /// Sessions to open.
    #[arg(long)]
    connections: u32,
    /// How long to hold them.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// After holding, every session asks for a pong.
    #[arg(long)]
    ping_all: bool,
    /// After holding, this many random pairs exchange a message, one each way.
    #[arg(long, default_value_t = 0)]
    pairs: u32,
    /// More growth of the gateway's resident memory per session than this is a failure; needs --server-pid or
    /// --admin.
    #[arg(long)]
    max_bytes_per_session: Option<u64>,
    /// How long opening all of them may take.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    connect_within: Duration,
}

/// What is measured between the stages.
#[derive(Default)]
struct Marks {
    connecting: Duration,
    rss_before: Option<u64>,
    rss_after: Option<u64>,
}

impl Connect {
    pub fn run(self) -> Result<bool, RunError> {
        let run = Run::prepare(&self.common, self.connections, 2, &Speak::Sessions)?;
        let mut marks = Marks { rss_before: run.server_rss(), ..Marks::default() };
        let workers = run.names.len() as u32;
        let make = |worker, names| {
            let share = self.pairs / workers + u32::from(worker < self.pairs % workers);
            let most = crate::who::Names::len(names) as u32 / 2;
            let pairs = (0..share.min(most)).map(|pair| (2 * pair, 2 * pair + 1)).collect();
            Scenario::new(&run.shared, names, pairs, Texts::new(run.seed, worker, TEXT_BYTES))
        };
        let before = run.cpu();
        let mut connected = before;
        let (scenarios, connections) = run.go(make, |shared, progress| {
            let start = Instant::now();
            shared.run(Stage::Connect, self.connect_within, progress, "connect");
            marks.connecting = start.elapsed();
            connected = run.cpu();
            shared.run(Stage::Hold, self.hold, progress, "hold");
            marks.rss_after = run.server_rss();
            if self.ping_all {
                shared.run(Stage::PingAll, ANSWERS_WITHIN, progress, "ping");
            }
            if self.pairs > 0 {
                shared.run(Stage::Load, ANSWERS_WITHIN, progress, "pairs");
            }
        })?;
        let mut report = run.report("connect");
        report.connections = connections;
        let seconds = marks.connecting.as_secs_f64();
        report.figure("connect_time", seconds, "s");
        report.figure("connect_rate", report.connections.established as f64 / seconds.max(1e-9), "/s");
        connected.figures(&before, report.connections.established, &mut report);
        self.add_answers(&scenarios, &mut report);
        self.add_memory(&marks, &mut report);
        self.targets(&scenarios, &mut report);
        run.conclude(&report)
    }

    fn add_answers(&self, scenarios: &[Scenario<'_>], report: &mut Report) {
        let (mut connecting, mut to_sent, mut to_push) =
            (Latencies::default(), Latencies::default(), Latencies::default());
        let mut totals = Totals::default();
        for scenario in scenarios {
            connecting.add(&scenario.connecting);
            to_sent.add(&scenario.to_sent);
            to_push.add(&scenario.to_push);
            totals.add(&scenario.totals());
        }
        report.latency("connect_to_welcome", &connecting);
        report.latency("send_to_sent", &to_sent);
        report.latency("send_to_push", &to_push);
        if self.pairs > 0 {
            report.messages = Some(totals);
        }
    }

    fn add_memory(&self, marks: &Marks, report: &mut Report) {
        let (Some(before), Some(after)) = (marks.rss_before, marks.rss_after) else {
            let unknown = self.max_bytes_per_session.is_some();
            return report.target(!unknown, || "the gateway's memory could not be read".to_owned());
        };
        let each = after.saturating_sub(before) as f64 / report.connections.established.max(1) as f64;
        report.figure("server_rss_before", before as f64 / f64::from(1 << 20), "MiB");
        report.figure("server_rss_holding", after as f64 / f64::from(1 << 20), "MiB");
        report.figure("server_rss_per_session", each, "B");
        if let Some(most) = self.max_bytes_per_session {
            report.target(each <= most as f64, || {
                format!("{each:.0} B of server memory per session, at most {most} wanted")
            });
        }
    }

    fn targets(&self, scenarios: &[Scenario<'_>], report: &mut Report) {
        let wanted = u64::from(self.connections);
        let established = report.connections.established;
        report.target(established == wanted, || format!("only {established} of {wanted} sessions were established"));
        let lost = report.connections.lost;
        report.target(lost == 0, || format!("{lost} sessions were lost"));
        let (alive, ponged) = scenarios.iter().fold((0, 0), |sum, scenario| {
            let (alive, ponged) = scenario.alive();
            (sum.0 + alive, sum.1 + ponged)
        });
        if self.ping_all {
            report.figure("answered_ping", ponged as f64, "sessions");
            report.target(ponged == wanted, || {
                format!("only {ponged} of {alive} open sessions answered a ping, {wanted} wanted")
            });
        }
        if let Some(totals) = report.messages {
            report.missed.extend(totals.violations());
            let wanted = 2 * u64::from(self.pairs.min(self.connections / 2));
            let through = totals.acknowledged.min(totals.delivered);
            report.target(through >= wanted, || {
                format!("only {through} of {wanted} messages between pairs came through")
            });
        }
    }
}
