//! `flood fanout`: large groups, every online member of which must be pushed every message.

use super::beside::Others;
use super::load::{Load, Sessions, Speak};
use super::measuring::Measuring;
use super::messages::{self, Moment, Span};
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::report::Report;
use crate::scenario::crowd::{self, Crowd, Found, Scene};
use crate::scenario::fanout::{Fanout as Lead, Settings};
use crate::series::Series;
use crate::who::Names;
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  flood fanout --admin 127.0.0.1:7601
  flood fanout --members 1024 --online 900 --rate 20 --duration 30s --admin 127.0.0.1:7601
  flood fanout --groups 4 --ack-every 16 --admin 127.0.0.1:7601
  flood fanout --in-flight 16 --admin 127.0.0.1:7601
  flood fanout --groups 64 --shared --rate 64 --duration 30s --prefix crowd
  flood fanout --groups 64 --shared --rate 16 --duration 30s --beside 1000 --admin 127.0.0.1:7601 --aim-server-p99 5ms";

/// Creates groups of which some members are online, writes to them at a fixed rate or one message after the other, and
/// verifies that every online member is pushed every message. With --admin also tells what a recipient and a message cost
/// the gateway, which counts everything that it does meanwhile. For what it does to others, have them write --beside.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Fanout {
    #[command(flatten)]
    common: Common,
    /// Members of a group, its writer included.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(2..=1_024))]
    members: u32,
    /// Of them, those who connect, the writer included.
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u32).range(2..=1_024))]
    online: u32,
    /// Groups.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    groups: u32,
    /// All groups have the same members, and each a writer of its own; otherwise each has members of its own.
    #[arg(long)]
    shared: bool,
    /// Messages per second to all groups in turn; without it a closed loop, see --in-flight.
    #[arg(long)]
    rate: Option<f64>,
    /// Messages of a group that are on their way at a time: one more is written when all have the oldest. Not with --rate.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    /// How long to send.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// A member acknowledges so many pushes at a time: the more, the nearer is what a recipient costs to what a push by itself
    /// does. So many must fit the gateway's window, and come within its progress_ms.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    ack_every: u32,
    /// Bytes of a text.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// How long to wait for what is outstanding at the end.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    settle: Duration,
    #[command(flatten)]
    measuring: Measuring,
}

impl Fanout {
    pub fn run(self) -> Result<bool, RunError> {
        self.measuring.run(&self, |run, others| self.measure(run, others))
    }

    /// Groups that have the same members.
    fn sharing(&self) -> u32 {
        if self.shared { self.groups } else { 1 }
    }

    fn measure(&self, run: &Run, others: &Others<'_>) -> Result<Report, RunError> {
        let (mut settled, mut moments, connect_within) = (true, Vec::new(), self.measuring.connect_within);
        let accounts = run.go(self, |shared, progress| {
            settled = shared.run(Stage::Connect, connect_within, progress, "connect");
            shared.run(Stage::Groups, connect_within, progress, "groups");
            others.measure();
            moments.push(Moment::of(run));
            shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, "fanout");
            shared.run(Stage::Settle, self.settle, progress, "settle");
            moments.push(Moment::of(run));
            others.measured();
        })?;
        let mut report = run.report("fanout");
        accounts.judge(&mut report, |account, own| messages::targets(account.users, &account.found, false, own));
        let found = accounts.sum(&mut report);
        messages::add(&found, &mut report);
        report.latency("send_to_last_push", &found.to_last);
        if let [before, after] = moments.as_slice() {
            let span = after.since(before);
            span.server_times(&mut report);
            add_costs(&span, others.are_there(), &mut report);
        }
        let sent = report.messages.map_or(0, |totals| totals.sent);
        report.target(sent > 0, || "nothing was sent".to_owned());
        report.target(settled, || "not all users were told that they are synced".to_owned());
        Ok(report)
    }
}

impl Load for Fanout {
    type Scene<'r> = Scene<'r, Lead>;
    type Found = Found;

    fn common(&self) -> &Common {
        &self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        if self.online > self.members {
            return Err(RunError::Usage(format!("--online {} of --members {}", self.online, self.members)));
        }
        let unit = self.online - 1 + self.sharing();
        Ok(Sessions { users: unit * (self.groups / self.sharing()), unit, speak: Speak::Sessions })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scene<'r, Lead> {
        let number = u64::from(thread);
        let settings = crowd::Settings { reconnect: None, seed: run.seed(), worker: number, ack_every: self.ack_every };
        let mut crowd = Crowd::new(&run.shared, names, settings, run.texts(thread, self.bytes), None);
        let settings = Settings {
            online: self.online - 1,
            absent: self.members - self.online,
            sharing: self.sharing(),
            in_flight: self.in_flight,
            rate: self.rate.map(|rate| run.share.rate(rate)),
            duration: self.duration,
            worker: number,
        };
        let lead = Lead::new(&mut crowd, settings);
        Scene { crowd, lead }
    }

    fn found(&self, scene: Scene<'_, Lead>) -> Found {
        scene.crowd.into_found()
    }
}

/// What a recipient and a message cost, acks and the sync of their registers included; not where others write, who cost, too.
fn add_costs(span: &Span, are_others_there: bool, report: &mut Report) {
    let (messages, pushes) = (span.acknowledged.max(1) as f64, span.delivered.max(1) as f64);
    report.figure("push_rate", span.delivered as f64 / span.seconds, "pushes/s");
    report.figure("pushes_per_message", span.delivered as f64 / messages, "pushes");
    if are_others_there {
        return;
    }
    report.figure_if_known("server_cpu_per_recipient", span.server_micros.map(|us| us / pushes), "us");
    report.figure_if_known("server_cpu_per_message", span.server_micros.map(|us| us / messages), "us");
    let log = span.grown(Series::LOG_BYTES).map(|bytes| bytes / messages);
    report.figure_if_known("log_bytes_per_message", log, "B");
    let registers = span.grown(Series::REGISTERS).map(|registers| registers / messages);
    report.figure_if_known("registers_per_message", registers, "registers");
    let socket = span.grown(Series::BYTES_OUT).map(|bytes| bytes / pushes);
    report.figure_if_known("socket_bytes_per_push", socket, "B");
}
