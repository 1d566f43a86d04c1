//! `flood storm`: all sessions drop at once and come back.

use super::beside::Others;
use super::load::{Load, Sessions, Speak};
use super::measuring::{Measuring, Returning};
use super::messages::{self, Moment};
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::report::Report;
use crate::scenario::crowd::{self, Crowd, Found, Scene};
use crate::scenario::storm::{Settings, Storm as Lead};
use crate::who::Names;
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  flood storm --users 10000
  flood storm --users 10000 --messages 20000 --rate 5000 --admin 127.0.0.1:7601
  flood storm --users 10000 --messages 20000 --beside 500 --admin 127.0.0.1:7601 --aim-server-p99 20ms
  flood storm --users 30000 --spread 10s --away 5s --within 30s --json storm.json";

/// Opens a session for each user, cuts all of them at once without a close, has them written to while they are away, and
/// brings them back at once or spread over a time. Reports how long it took until each was welcome and synced, and verifies
/// that nothing was lost, doubled or out of order, and that no sync was called done too early.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, mut_arg("within", |arg| arg.default_value("60s")))]
pub struct Storm {
    #[command(flatten)]
    common: Common,
    /// Users who drop and come back, one session each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Messages that are sent while they are away, to groups of --group-size; 0: none. Each group has one member more, who
    /// stays and writes.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// Messages per second while they are away.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// Members of a group, its writer included.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1_024))]
    group_size: u32,
    /// They are away for so long at least, and until every message is acknowledged.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    away: Duration,
    /// They come back evenly spread over this time. A ring opens at most --at-once at a time.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    spread: Duration,
    #[command(flatten)]
    returning: Returning,
    #[command(flatten)]
    measuring: Measuring,
}

impl Storm {
    pub fn run(self) -> Result<bool, RunError> {
        self.load().run()
    }

    /// What its sessions do.
    pub fn load(&self) -> Storming<'_> {
        let shape = match self.messages {
            0 => Shape { leavers: 1, writers: 0, groups: 0, users: self.users },
            _ => {
                let leavers = self.group_size - 1;
                Shape { leavers, writers: 1, groups: 1, users: self.users + self.users.div_ceil(leavers) }
            }
        };
        Storming {
            command: "storm",
            common: &self.common,
            measuring: &self.measuring,
            shape,
            messages: self.messages,
            rate: self.rate,
            away: self.away,
            spread: self.spread,
            within: self.returning.within,
            in_order: false,
        }
    }
}

/// Units of users: those who leave, and groups of all of them and a writer each.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub leavers: u32,
    pub writers: u32,
    pub groups: u32,
    /// Of all units; the last one may have fewer leavers.
    pub users: u32,
}

/// What `storm` and `backlog` do alike.
pub struct Storming<'a> {
    pub command: &'static str,
    pub common: &'a Common,
    pub measuring: &'a Measuring,
    pub shape: Shape,
    pub messages: u64,
    pub rate: f64,
    pub away: Duration,
    pub spread: Duration,
    pub within: Duration,
    pub in_order: bool,
}

impl Storming<'_> {
    pub fn run(&self) -> Result<bool, RunError> {
        self.measuring.run(self, |run, others| self.measure(run, others))
    }

    fn measure(&self, run: &Run, others: &Others<'_>) -> Result<Report, RunError> {
        let writing = Duration::from_secs_f64((self.messages as f64 / self.rate.max(0.001)).min(1e9));
        let (mut settled, mut written, mut moments) = (true, true, Vec::new());
        let connect_within = self.measuring.connect_within;
        let accounts = run.go(self, |shared, progress| {
            settled = shared.run(Stage::Connect, connect_within, progress, "connect");
            if self.messages > 0 {
                shared.run(Stage::Groups, connect_within, progress, "groups");
            }
            let limit = self.away + 2 * writing + Duration::from_secs(30);
            written = shared.run(Stage::Away, limit, progress, "away");
            others.measure();
            moments.push(Moment::of(run));
            shared.run(Stage::Return, self.within, progress, "return");
            moments.push(Moment::of(run));
            others.measured();
            // Only what was pushed beside a sync is still on its way.
            shared.run(Stage::Settle, Duration::from_secs(10).min(self.within), progress, "settle");
        })?;
        let mut report = run.report(self.command);
        accounts.judge(&mut report, |account, own| messages::targets(account.users, &account.found, false, own));
        let found = accounts.sum(&mut report);
        messages::add(&found, &mut report);
        self.add_return(found.took, &moments, others.are_there(), &mut report);
        report.target(settled, || "not all users were told that they are synced when they first connected".to_owned());
        report.target(written, || "not every message was acknowledged before the return".to_owned());
        Ok(report)
    }

    fn add_return(&self, seconds: f64, moments: &[Moment], are_others_there: bool, report: &mut Report) {
        report.figure("all_synced", seconds, "s");
        let returned = report.latencies.get("return_to_synced").map_or(0, |times| times.count);
        report.figure("sync_rate", returned as f64 / seconds.max(1e-9), "users/s");
        let [before, after] = moments else { return };
        let span = after.since(before);
        span.server_times(report);
        let records = span.delivered as f64;
        // Others who write cost, too.
        let server_micros = span.server_micros.filter(|_| !are_others_there);
        report.figure_if_known("server_cpu_per_user", server_micros.map(|us| us / returned.max(1) as f64), "us");
        if records > 0.0 {
            report.figure("records_on_return", records, "records");
            report.figure("record_rate", records / seconds.max(1e-9), "records/s");
            report.figure_if_known("server_cpu_per_record", server_micros.map(|us| us / records), "us");
        }
    }
}

impl Load for Storming<'_> {
    type Scene<'r>
        = Scene<'r, Lead>
    where
        Self: 'r;
    type Found = Found;

    fn common(&self) -> &Common {
        self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        let Shape { leavers, writers, users, .. } = self.shape;
        Ok(Sessions { users, unit: leavers + writers, speak: Speak::Sessions })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scene<'r, Lead> {
        let settings = crowd::Settings { reconnect: None, seed: run.seed(), worker: u64::from(thread), ack_every: 1 };
        let mut crowd = Crowd::new(&run.shared, names, settings, run.texts(thread, 200), None);
        // Every unit has as many messages, the borders between the threads' shares rounded alike, so that the sum is exact.
        let units = |users: u32| users.div_ceil(self.shape.leavers + self.shape.writers);
        let of_threads = run.names().iter().take(thread as usize).map(|names| units(names.len() as u32));
        let before = units(run.share.users().start) + of_threads.sum::<u32>();
        let share = |units_so_far: u32| f64::from(units_so_far) / f64::from(units(self.shape.users));
        let border = |units_so_far: u32| (self.messages as f64 * share(units_so_far)).round() as u64;
        let own = units(names.len() as u32);
        let settings = Settings {
            leavers: self.shape.leavers,
            writers: self.shape.writers,
            groups: self.shape.groups,
            messages: border(before + own) - border(before),
            rate: self.rate * share(own),
            away: self.away,
            spread: self.spread,
            in_order: self.in_order,
        };
        let lead = Lead::new(&mut crowd, settings);
        Scene { crowd, lead }
    }

    fn found(&self, scene: Scene<'_, Lead>) -> Found {
        Found { took: scene.lead.took(), ..scene.crowd.into_found() }
    }
}
