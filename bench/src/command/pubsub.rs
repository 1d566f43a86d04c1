//! `flood pubsub`: other servers, by their own protocols.

use super::load::{Load, Sessions, Speak};
use super::opening::Opening;
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::protocol::{Kind, Wish};
use crate::report::Report;
use crate::scenario::pubsub::{Found, PubSub as Scenario, Settings};
use crate::who::Names;
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  flood pubsub --protocol rooms --url ws://127.0.0.1:8000 --members 1000 --in-flight 16 --server-pid 4711
  flood pubsub --protocol mqtt --url ws://127.0.0.1:8083 --rooms 64 --durable --in-flight 16 --server-pid 4711
  flood pubsub --protocol nats --url ws://127.0.0.1:8080 --connections 15000 --rooms 1000 --rate 5000 --server-pid 4711
  flood pubsub --protocol centrifugo --url ws://127.0.0.1:8000 --connections 15000 --ping --active 1000 --server-pid 4711";

/// Loads a server that is not ringpost, to compare with it: rooms of one writer and its members, in which every message is
/// verified at every member, or with --ping questions that the server answers itself. A member that is passed over, is told
/// something twice or in another order, is a failure.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PubSub {
    #[command(flatten)]
    common: Common,
    /// What the server speaks.
    #[arg(long, value_enum)]
    protocol: Kind,
    /// Connections to open; those beyond the rooms are idle. 0: as many as the rooms or those who ask.
    #[arg(long, default_value_t = 0)]
    connections: u32,
    /// Rooms that are written to.
    #[arg(long, default_value_t = 1)]
    rooms: u32,
    /// Members of each, its writer not counted; 1 is a relay.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    members: u32,
    /// Messages of a room that may be on their way at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// The server acknowledges each message, and members acknowledge what they get.
    #[arg(long)]
    durable: bool,
    /// Ask instead of writing.
    #[arg(long, conflicts_with = "durable")]
    ping: bool,
    /// Connections that ask.
    #[arg(long, default_value_t = 64)]
    active: u32,
    /// Messages or questions per second in all, on a fixed schedule; without it a closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// How long.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Hold the connections for so long before, and read the memory then.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// Bytes of a message, or of a question that is one; 8 at least.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// How long opening and subscribing may take, each.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    connect_within: Duration,
}

impl PubSub {
    fn users(&self) -> u32 {
        let needed = if self.ping { self.active } else { self.rooms.saturating_mul(self.members + 1) };
        if self.connections == 0 { needed } else { self.connections }
    }

    /// Neighbours that belong together.
    fn unit(&self) -> u32 {
        if self.ping { 1 } else { self.members + 1 }
    }
}

impl Load for PubSub {
    type Scene<'r> = Scenario<'r>;
    type Found = Found;

    fn common(&self) -> &Common {
        &self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        if self.durable && !self.protocol.acknowledges() {
            return Err(RunError::Usage(format!(
                "--durable: a server of --protocol {:?} acknowledges nothing",
                self.protocol
            )));
        }
        let needed = if self.ping { self.active } else { self.rooms.saturating_mul(self.unit()) };
        if self.users() < needed {
            return Err(RunError::Usage(format!("--connections {}: {needed} are needed", self.connections)));
        }
        if !self.common.workers.is_empty() {
            return Err(RunError::Usage("--workers: not with pubsub".to_owned()));
        }
        let rooms = if self.ping { 0 } else { self.rooms };
        let speak = Speak::Other { kind: self.protocol, rooms, unit: self.unit() };
        Ok(Sessions { users: self.users(), unit: self.unit(), speak })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scenario<'r> {
        let (users, threads) = (names.len() as u32, run.names().len() as u32);
        let share = |of: u32| of / threads + u32::from(thread < of % threads);
        let settings = Settings {
            kind: self.protocol,
            wish: Wish { durable: self.durable, asks: self.ping, bytes: self.bytes },
            rooms: if self.ping { 0 } else { share(self.rooms) },
            members: self.members,
            in_flight: self.in_flight,
            active: share(self.active).min(users),
            rate: self.rate,
            duration: self.duration,
            thread,
        };
        Scenario::new(&run.shared, users, settings)
    }

    fn found(&self, scene: Scenario<'_>) -> Found {
        scene.into_found()
    }
}

impl super::load::Found for Found {
    fn add(&mut self, other: Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.published, other.published);
        add(&mut self.accepted, other.accepted);
        add(&mut self.delivered, other.delivered);
        add(&mut self.missing, other.missing);
        add(&mut self.doubled, other.doubled);
        add(&mut self.changed, other.changed);
        add(&mut self.asked, other.asked);
        add(&mut self.answered, other.answered);
        self.last_after = self.last_after.max(other.last_after);
        self.connecting.add(&other.connecting);
        self.to_accepted.add(&other.to_accepted);
        self.to_delivery.add(&other.to_delivery);
        self.round_trip.add(&other.round_trip);
    }
}

impl PubSub {
    pub fn run(self) -> Result<bool, RunError> {
        let run = Run::prepare(&self)?;
        let mut opening = Opening::begin(&run);
        let (mut cpu, mut subscribed, mut settled) = (None, false, false);
        let accounts = run.go(&self, |shared, progress| {
            shared.run(Stage::Connect, self.connect_within, progress, "connect");
            opening.connected(&run);
            shared.run(Stage::Hold, self.hold, progress, "hold");
            opening.held(&run);
            subscribed = shared.run(Stage::Groups, self.connect_within, progress, "subscribe");
            let before = run.cpu();
            shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, "load");
            settled = shared.run(Stage::Settle, Duration::from_secs(10), progress, "settle");
            cpu = Some((before, run.cpu()));
        })?;
        let mut report = run.report("pubsub");
        let found = accounts.sum(&mut report);
        opening.figures(&mut report);
        self.rates(&found, &mut report);
        if let Some((before, after)) = cpu {
            let count = if self.ping { found.answered } else { found.delivered };
            after.figures(&before, count, &mut report);
        }
        self.judge(&found, subscribed, &mut report);
        run.conclude(&report)
    }

    fn rates(&self, found: &Found, report: &mut Report) {
        // What was on its way when the time was over is counted, so the time that it took is, too.
        let seconds = self.duration.max(Duration::from_nanos(found.last_after)).as_secs_f64().max(1e-9);
        report.latency("connect_to_welcome", &found.connecting);
        report.latency("publish_to_accepted", &found.to_accepted);
        report.latency("publish_to_delivery", &found.to_delivery);
        report.latency("round_trip", &found.round_trip);
        if self.ping {
            return report.figure("round_trips", found.answered as f64 / seconds, "/s");
        }
        report.figure("published", found.published as f64 / seconds, "/s");
        report.figure("delivered", found.delivered as f64 / seconds, "/s");
        if self.durable {
            report.figure("accepted", found.accepted as f64 / seconds, "/s");
        }
    }

    fn judge(&self, found: &Found, subscribed: bool, report: &mut Report) {
        let (established, wanted) = (report.connections.established, u64::from(self.users()));
        report.target(established == wanted, || format!("only {established} of {wanted} connections were established"));
        let lost = report.connections.lost;
        report.target(lost == 0, || format!("{lost} connections were lost"));
        report.target(subscribed, || "not all subscriptions were confirmed".to_owned());
        let Found { missing, doubled, changed, asked, answered, .. } = *found;
        report.target(missing == 0, || format!("{missing} deliveries or acknowledgements never came"));
        report.target(doubled == 0, || format!("{doubled} deliveries were doubled or out of order"));
        report.target(changed == 0, || format!("{changed} deliveries differ from what was published"));
        report.target(asked == answered, || format!("{} questions were not answered", asked.saturating_sub(answered)));
        let something = found.delivered > 0 || answered > 0;
        report.target(something, || "nothing was delivered or answered".to_owned());
        let refusals: u64 = report.connections.reasons.values().sum();
        report.target(refusals == 0, || format!("{refusals} times something was refused"));
    }
}
