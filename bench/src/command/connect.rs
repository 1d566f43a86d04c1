//! `flood connect`: open sessions and hold them.

use super::load::{Load, Sessions, Speak};
use super::opening::Opening;
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::report::Report;
use crate::scenario::connect::{Chatting, Connect as Scenario, Found};
use crate::who::Names;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Waiting for all to answer: pings, and the messages of the pairs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a text between a pair.
const TEXT_BYTES: usize = 64;

const EXAMPLES: &str = "Examples:
  flood connect --connections 1000 --hold 10s
  flood connect --connections 100000 --hold 10s --ping-all --pairs 1000 --server-pid 4711 --max-bytes-per-session 1024
  sleep 45 | flood connect --connections 1000 --hold 10m --hold-until-eof --ping-all
  flood connect --connections 1000000 --hold 10m --chatting 5000 --rate 1000 --ping-all --admin 127.0.0.1:7601
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
    /// While holding, this many sessions write to each other in pairs.
    #[arg(long, default_value_t = 0)]
    chatting: u32,
    /// Messages per second of those, in all.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// More growth of the gateway's resident memory per session than this is a failure; needs --server-pid or
    /// --admin.
    #[arg(long)]
    max_bytes_per_session: Option<u64>,
    /// How long opening all of them may take.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    connect_within: Duration,
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
        let (threads, most) = (run.names().len() as u32, names.len() as u32 / 2);
        let share = |of: u32| {
            let own = run.share.part(of.into()) as u32;
            (own / threads + u32::from(thread < own % threads)).min(most)
        };
        let chatting = Chatting {
            pairs: share(self.chatting / 2),
            rate: run.share.rate(self.rate),
            workers: run.share.part(u64::from(self.chatting / 2)).min(threads.into()),
            nanos: u64::try_from(self.hold.as_nanos()).unwrap_or(u64::MAX),
            seed: run.seed() ^ u64::from(thread),
            worker: u64::from(thread),
        };
        Scenario::new(&run.shared, names, share(self.pairs), chatting, run.texts(thread, TEXT_BYTES))
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
        let mut opening = Opening::begin(&run);
        let released = self.hold_until_eof.then(eof_of_input).unwrap_or_default();
        let accounts = run.go(&self, |shared, progress| {
            shared.run(Stage::Connect, self.connect_within, progress, "connect");
            opening.connected(&run);
            shared.run_until(Stage::Hold, self.hold, progress, "hold", || released.load(Ordering::Acquire));
            opening.held(&run);
            if self.chatting > 0 {
                shared.run(Stage::Settle, ANSWERS_WITHIN, progress, "settle");
            }
            if self.ping_all {
                shared.run(Stage::PingAll, self.pings_within(), progress, "ping");
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
        opening.figures(&mut report);
        opening.processors(&mut report);
        report.latency("connect_to_welcome", &found.connecting);
        report.latency("send_to_sent", &found.to_sent);
        report.latency("send_to_push", &found.to_push);
        self.judge_memory(&opening, &mut report);
        self.targets(&found, &mut report);
        run.conclude(&report)
    }

    /// A thousandth of a second for sixteen of them: what two slow cores do, both ends included.
    fn pings_within(&self) -> Duration {
        ANSWERS_WITHIN + Duration::from_millis(u64::from(self.connections / 16))
    }

    fn judge_memory(&self, opening: &Opening, report: &mut Report) {
        let Some(most) = self.max_bytes_per_session else { return };
        let each = opening.rss_each(report.connections.established);
        report.target(each.is_some_and(|each| each <= most as f64), || match each {
            Some(each) => format!("{each:.0} B of server memory per session, at most {most} wanted"),
            None => "the gateway's memory could not be read".to_owned(),
        });
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
        if self.pairs > 0 || self.chatting > 1 {
            report.messages = Some(*totals);
            let wanted = 2 * u64::from(self.pairs.min(self.connections / 2));
            let through = totals.acknowledged.min(totals.delivered);
            let scheduled = if self.chatting < 2 { 0.0 } else { self.rate * self.hold.as_secs_f64() };
            let is_whole = self.hold_until_eof || totals.sent as f64 >= 0.99 * scheduled;
            report.target(is_whole, || format!("only {} of {scheduled:.0} messages were sent", totals.sent));
            let wanted = wanted.max(totals.sent);
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
