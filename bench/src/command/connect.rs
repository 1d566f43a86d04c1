//! `flood connect`: open sessions and hold them.

use super::load::{Load, Sessions, Speak};
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::report::Report;
use crate::scenario::connect::{Connect as Scenario, Found};
use crate::who::Names;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Waiting for all to answer: pings, and the messages of the pairs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a text between a pair.
const TEXT_BYTES: usize = 64;

const EXAMPLES: &str = "Examples:
  flood connect --connections 1000 --hold 10s
  flood connect --connections 100000 --hold 10s --ping-all --pairs 1000 --server-pid 4711 --max-bytes-per-session 1024
  sleep 45 | flood connect --connections 1000 --hold 10m --hold-until-eof --ping-all
  flood connect --url ws://192.0.2.1:7600 --connections 50000 --source 192.0.2.10 --source 192.0.2.11 --json report.json
  flood connect --url ws://192.0.2.1:7600 --connections 1000000 --connect-within 30m --workers 192.0.2.2:7700,192.0.2.3:7700";

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
    /// Hold them no longer than until standard input ends: for scripts that do something else meanwhile.
    #[arg(long)]
    hold_until_eof: bool,
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

impl Load for Connect {
    type Scene<'r> = Scenario<'r>;
    type Found = Found;

    fn common(&self) -> &Common {
        &self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        Ok(Sessions { users: self.connections, unit: 2, speak: Speak::Sessions })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scenario<'r> {
        let (pairs, threads) = (run.share.part(self.pairs.into()) as u32, run.names().len() as u32);
        let share = pairs / threads + u32::from(thread < pairs % threads);
        let most = names.len() as u32 / 2;
        let pairs = (0..share.min(most)).map(|pair| (2 * pair, 2 * pair + 1)).collect();
        Scenario::new(&run.shared, names, pairs, run.texts(thread, TEXT_BYTES))
    }

    fn found(&self, scene: Scenario<'_>) -> Found {
        scene.into_found()
    }
}

impl super::load::Found for Found {
    fn add(&mut self, other: Self) {
        self.connecting.add(&other.connecting);
        self.to_sent.add(&other.to_sent);
        self.to_push.add(&other.to_push);
        self.totals.add(&other.totals);
        self.alive = self.alive.saturating_add(other.alive);
        self.ponged = self.ponged.saturating_add(other.ponged);
    }
}

impl Connect {
    pub fn run(self) -> Result<bool, RunError> {
        let run = Run::prepare(&self)?;
        let mut marks = Marks { rss_before: run.server_rss(), ..Marks::default() };
        let before = run.cpu();
        let mut connected = before;
        let released = self.hold_until_eof.then(eof_of_input).unwrap_or_default();
        let accounts = run.go(&self, |shared, progress| {
            let start = Instant::now();
            shared.run(Stage::Connect, self.connect_within, progress, "connect");
            marks.connecting = start.elapsed();
            connected = run.cpu();
            shared.run_until(Stage::Hold, self.hold, progress, "hold", || released.load(Ordering::Acquire));
            marks.rss_after = run.server_rss();
            if self.ping_all {
                shared.run(Stage::PingAll, ANSWERS_WITHIN, progress, "ping");
            }
            if self.pairs > 0 {
                shared.run(Stage::Load, ANSWERS_WITHIN, progress, "pairs");
            }
        })?;
        let mut report = run.report("connect");
        accounts.judge(&mut report, |account, own| {
            let (established, wanted) = (own.connections.established, account.users);
            own.target(established == u64::from(wanted), || {
                format!("only {established} of {wanted} sessions were established")
            });
            let lost = own.connections.lost;
            own.target(lost == 0, || format!("{lost} sessions were lost"));
            own.missed.extend(account.found.totals.violations());
        });
        let found = accounts.sum(&mut report);
        let seconds = marks.connecting.as_secs_f64();
        report.figure("connect_time", seconds, "s");
        report.figure("connect_rate", report.connections.established as f64 / seconds.max(1e-9), "/s");
        connected.figures(&before, report.connections.established, &mut report);
        report.latency("connect_to_welcome", &found.connecting);
        report.latency("send_to_sent", &found.to_sent);
        report.latency("send_to_push", &found.to_push);
        self.add_memory(&marks, &mut report);
        self.targets(&found, &mut report);
        run.conclude(&report)
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

    fn targets(&self, found: &Found, report: &mut Report) {
        let Found { alive, ponged, totals, .. } = found;
        if self.ping_all {
            let wanted = u64::from(self.connections);
            report.figure("answered_ping", *ponged as f64, "sessions");
            report.target(*ponged == wanted, || {
                format!("only {ponged} of {alive} open sessions answered a ping, {wanted} wanted")
            });
        }
        if self.pairs > 0 {
            report.messages = Some(*totals);
            let wanted = 2 * u64::from(self.pairs.min(self.connections / 2));
            let through = totals.acknowledged.min(totals.delivered);
            report.target(through >= wanted, || {
                format!("only {through} of {wanted} messages between pairs came through")
            });
        }
    }
}

/// True once standard input has ended. The thread that waits for it ends with the process.
fn eof_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    std::thread::spawn(move || {
        // What cannot be read any more has ended, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        seen.store(true, Ordering::Release);
    });
    ended
}
