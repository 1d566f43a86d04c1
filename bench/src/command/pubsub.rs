//! `flood pubsub`: other servers, by their own protocols.

use super::load::{Load, Sessions, Speak};
use super::opening::Opening;
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::protocol::{Kind, Wish};
use crate::report::Report;
use crate::scenario::pubsub::{Found, PubSub as Scenario, Settings};
use crate::who::Names;
use clap::ValueEnum;
use clap::builder::PossibleValue;
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
    /// Messages of a room that are on their way at a time: one more is written when all have the oldest. Not with --rate.
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
    /// Those who write, are members, or ask.
    fn needed(&self) -> u32 {
        if self.ping { self.active } else { self.rooms.saturating_mul(self.unit()) }
    }

    fn users(&self) -> u32 {
        if self.connections == 0 { self.needed() } else { self.connections }
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
            let kind = self.protocol.to_possible_value();
            let name = kind.as_ref().map_or_else(Default::default, PossibleValue::get_name);
            return Err(RunError::Usage(format!("--durable: a server of --protocol {name} acknowledges nothing")));
        }
        if self.users() < self.needed() {
            let (connections, needed) = (self.connections, self.needed());
            return Err(RunError::Usage(format!("--connections {connections}: {needed} are needed")));
        }
        if !self.common.workers.is_empty() {
            return Err(RunError::Usage("--workers: not with pubsub".to_owned()));
        }
        let rooms = if self.ping { 0 } else { self.rooms };
        let speak = Speak::Other { kind: self.protocol, rooms, unit: self.unit() };
        Ok(Sessions { users: self.users(), unit: self.unit(), speak })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scenario<'r> {
        let places: Vec<u32> = run.names().iter().map(|names| names.len() as u32 / self.unit()).collect();
        let shares = shares(if self.ping { self.active } else { self.rooms }, &places);
        let (before, rest) = shares.split_at_checked(thread as usize).unwrap_or_default();
        let share = rest.first().copied().unwrap_or(0);
        let busy = |shares: &[u32]| shares.iter().filter(|&&share| share > 0).count() as u64;
        let settings = Settings {
            kind: self.protocol,
            wish: Wish { durable: self.durable, asks: self.ping, bytes: self.bytes },
            rooms: if self.ping { 0 } else { share },
            members: self.members,
            in_flight: self.in_flight,
            active: if self.ping { share } else { 0 },
            rate: self.rate,
            duration: self.duration,
            thread,
            turn: (busy(before), busy(&shares)),
        };
        Scenario::new(&run.shared, names.len() as u32, settings)
    }

    fn found(&self, scene: Scenario<'_>) -> Found {
        scene.into_found()
    }
}

/// Divides so many things among threads that have these places: none gets more than it has, and if they suffice all are given.
fn shares(things: u32, places: &[u32]) -> Vec<u32> {
    let all: u64 = places.iter().map(|&places| u64::from(places)).sum();
    let (mut seen, mut given) = (0, 0);
    let share = |&places: &u32| {
        seen += u64::from(places);
        let upto = (u64::from(things) * seen).checked_div(all).unwrap_or(0);
        (upto - std::mem::replace(&mut given, upto)) as u32
    };
    places.iter().map(share).collect()
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
        let (mut cpu, mut subscribed) = (None, false);
        let accounts = run.go(&self, |shared, progress| {
            shared.run(Stage::Connect, self.connect_within, progress, "connect");
            opening.connected(&run);
            shared.run(Stage::Hold, self.hold, progress, "hold");
            opening.held(&run);
            subscribed = shared.run(Stage::Groups, self.connect_within, progress, "subscribe");
            let before = run.cpu();
            shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, "load");
            shared.run(Stage::Settle, Duration::from_secs(10), progress, "settle");
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

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn all_are_divided_and_nobody_gets_more_than_there_are_places() {
        assert_eq!(shares(4, &[2, 2, 0]), [2, 2, 0]);
        assert_eq!(shares(1, &[1_000, 1_000]), [0, 1]);
        for things in 0..=12 {
            let (places, shares) = ([5, 0, 6, 1], shares(things, &[5, 0, 6, 1]));
            assert_eq!(shares.iter().sum::<u32>(), things);
            assert!(shares.iter().zip(places).all(|(&share, places)| share <= places), "{shares:?}");
        }
        assert!(shares(3, &[]).is_empty());
        assert_eq!(shares(3, &[0]), [0]);
    }
}
