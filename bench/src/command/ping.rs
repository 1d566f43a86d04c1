//! `flood ping`: round trips on some of many connections.

use super::run::{Common, Run, RunError, Speak};
use crate::load::Stage;
use crate::report::Latencies;
use crate::scenario::ping::{Ping as Scenario, Question, Settings};
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  flood ping --connections 1000 --active 64 --duration 10s --server-pid 4711
  flood ping --echo --connections 1000 --active 64 --rate 5000 --duration 10s
  flood ping --echo --url tcp://127.0.0.1:7700 --connections 64 --active 64 --duration 10s";

/// Opens connections, of which some ask and wait for their answers: the wire's `ping` on authenticated sessions, or with
/// --echo a message to /v1/echo (plain bytes with a tcp:// URL). With --rate questions come on a fixed schedule; without
/// it each connection asks again when it was answered.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Ping {
    #[command(flatten)]
    common: Common,
    /// Connections to open.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// How many of them ask.
    #[arg(long, default_value_t = 64)]
    active: u32,
    /// Questions per second in all, on a fixed schedule; without it a closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// How long to ask.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Ask /v1/echo, or a plain echo server.
    #[arg(long)]
    echo: bool,
    /// Bytes of an echoed message.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
}

impl Ping {
    pub fn run(self) -> Result<bool, RunError> {
        let speak = if self.echo { Speak::Echo } else { Speak::Sessions };
        let question = if self.echo { Question::Echo { bytes: self.bytes.max(1) } } else { Question::Wire };
        let run = Run::prepare(&self.common, self.connections, 2, &speak)?;
        let workers = run.names.len() as u32;
        let active = self.active.min(self.connections);
        let make = |worker: u32, names| {
            let users = crate::who::Names::len(names) as u32;
            let share = active / workers + u32::from(worker < active % workers);
            let settings = Settings {
                question,
                active: share.min(users),
                rate: self.rate,
                duration: self.duration,
                worker: u64::from(worker),
            };
            Scenario::new(&run.shared, users, settings)
        };
        let mut cpu = None;
        let (scenarios, connections) = run.go(make, |shared, progress| {
            shared.run(Stage::Connect, Duration::from_secs(300), progress, "connect");
            let before = run.cpu();
            shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, "ping");
            shared.run(Stage::Settle, Duration::from_secs(5), progress, "settle");
            cpu = Some((before, run.cpu()));
        })?;
        let (mut round_trip, mut connecting) = (Latencies::default(), Latencies::default());
        let (mut answered, mut unanswered, mut wrong) = (0, 0, 0);
        for scenario in &scenarios {
            round_trip.add(&scenario.round_trip);
            connecting.add(&scenario.connecting);
            answered += scenario.answered;
            unanswered += scenario.outstanding;
            wrong += scenario.wrong;
        }
        let mut report = run.report("ping");
        report.connections = connections;
        report.latency("connect_to_welcome", &connecting);
        report.latency("round_trip", &round_trip);
        report.figure("round_trips", answered as f64 / self.duration.as_secs_f64().max(1e-9), "/s");
        if let Some((before, after)) = cpu {
            after.figures(&before, answered, &mut report);
        }
        let (established, wanted) = (report.connections.established, u64::from(self.connections));
        report.target(established == wanted, || format!("only {established} of {wanted} connections were established"));
        let lost = report.connections.lost;
        report.target(lost == 0, || format!("{lost} connections were lost"));
        report.target(answered > 0, || "nothing was answered".to_owned());
        report.target(unanswered == 0, || format!("{unanswered} questions were not answered"));
        report.target(wrong == 0, || format!("{wrong} answers or bytes were wrong"));
        run.conclude(&report)
    }
}
