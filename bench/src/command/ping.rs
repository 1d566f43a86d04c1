//! `flood ping`: round trips on some of many connections.

use super::load::{Load, Sessions, Speak};
use super::opening::Opening;
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::scenario::ping::{Found, Ping as Scenario, Question, Settings};
use crate::who::Names;
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
    /// Hold the connections for so long before, and read the memory then.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// Ask /v1/echo, or a plain echo server.
    #[arg(long)]
    echo: bool,
    /// Bytes of an echoed message.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
}

impl Load for Ping {
    type Scene<'r> = Scenario<'r>;
    type Found = Found;

    fn common(&self) -> &Common {
        &self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        let speak = if self.echo { Speak::Echo } else { Speak::Sessions };
        Ok(Sessions { users: self.connections, unit: 2, speak })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scenario<'r> {
        let question = if self.echo { Question::Echo { bytes: self.bytes.max(1) } } else { Question::Wire };
        let active = run.share.part(self.active.min(self.connections).into()) as u32;
        let (users, threads) = (names.len() as u32, run.names().len() as u32);
        let share = active / threads + u32::from(thread < active % threads);
        let settings = Settings {
            question,
            active: share.min(users),
            rate: self.rate.map(|rate| run.share.rate(rate)),
            duration: self.duration,
            worker: u64::from(thread),
        };
        Scenario::new(&run.shared, users, settings)
    }

    fn found(&self, scene: Scenario<'_>) -> Found {
        scene.into_found()
    }
}

impl super::load::Found for Found {
    fn add(&mut self, other: Self) {
        self.round_trip.add(&other.round_trip);
        self.connecting.add(&other.connecting);
        self.answered = self.answered.saturating_add(other.answered);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        self.wrong = self.wrong.saturating_add(other.wrong);
    }
}

impl Ping {
    pub fn run(self) -> Result<bool, RunError> {
        let run = Run::prepare(&self)?;
        let (mut opening, mut cpu) = (Opening::begin(&run), None);
        let accounts = run.go(&self, |shared, progress| {
            shared.run(Stage::Connect, Duration::from_secs(300), progress, "connect");
            opening.connected(&run);
            shared.run(Stage::Hold, self.hold, progress, "hold");
            opening.held(&run);
            let before = run.cpu();
            shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, "ping");
            shared.run(Stage::Settle, Duration::from_secs(5), progress, "settle");
            cpu = Some((before, run.cpu()));
        })?;
        let mut report = run.report("ping");
        accounts.judge(&mut report, |account, own| {
            let (established, wanted) = (own.connections.established, account.users);
            own.target(established == u64::from(wanted), || {
                format!("only {established} of {wanted} connections were established")
            });
            let (lost, Found { unanswered, wrong, .. }) = (own.connections.lost, &account.found);
            own.target(lost == 0, || format!("{lost} connections were lost"));
            own.target(*unanswered == 0, || format!("{unanswered} questions were not answered"));
            own.target(*wrong == 0, || format!("{wrong} answers or bytes were wrong"));
        });
        let found = accounts.sum(&mut report);
        opening.figures(&mut report);
        report.latency("connect_to_welcome", &found.connecting);
        report.latency("round_trip", &found.round_trip);
        report.figure("round_trips", found.answered as f64 / self.duration.as_secs_f64().max(1e-9), "/s");
        if let Some((before, after)) = cpu {
            after.figures(&before, found.answered, &mut report);
        }
        report.target(found.answered > 0, || "nothing was answered".to_owned());
        run.conclude(&report)
    }
}
