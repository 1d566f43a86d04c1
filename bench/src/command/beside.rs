//! Direct messages beside what a command does: how others fare meanwhile.
//!
//! Owns: a run of its own, on one thread, with users of its own. Guarantees: from the first moment to the last its users
//! write on a fixed schedule; every message is verified as by `flood chat`; latencies count for what was scheduled while the
//! command measures. Never does: deciding when that is; the command says so.

use super::chat::pairs;
use super::load::{Accounts, Load, Sessions, Speak};
use super::messages;
use super::run::{Common, Run, RunError};
use crate::load::Stage;
use crate::report::Report;
use crate::scenario::chat::{Chat, Settings};
use crate::scenario::crowd::{self, Crowd, Found, Scene};
use crate::who::Names;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long opening its sessions may take, and what is outstanding at the end.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is written beside.
#[derive(Clone, Debug, clap::Args)]
pub struct Beside {
    /// Direct messages per second that others write to each other meanwhile, verified as by `flood chat`.
    #[arg(long, value_name = "RATE")]
    pub beside: Option<f64>,
    /// Users who do, in pairs.
    #[arg(long, default_value_t = 100, value_parser = pairs, value_name = "USERS")]
    pub beside_users: u32,
}

/// The command's hold on those who write beside.
pub struct Others<'a> {
    run: Option<&'a Run>,
    loading: AtomicBool,
    over: AtomicBool,
}

impl Others<'_> {
    pub fn are_there(&self) -> bool {
        self.run.is_some()
    }

    /// What is scheduled from now on is measured. Waits until they are writing.
    pub fn measure(&self) {
        let Some(run) = self.run else { return };
        let began = Instant::now();
        while !self.loading.load(Ordering::Acquire) && began.elapsed() < PATIENCE {
            std::thread::sleep(LOOK_EVERY);
        }
        run.shared.measure_from(run.shared.clock.now());
    }

    /// What is scheduled from now on is not measured any more.
    pub fn measured(&self) {
        if let Some(run) = self.run {
            run.shared.measure_until(run.shared.clock.now());
        }
    }
}

impl Beside {
    /// Runs `command` while others write, and enters into its report what became of them.
    pub fn run(
        &self,
        common: &Common,
        command: impl FnOnce(&Others<'_>) -> Result<Report, RunError>,
    ) -> Result<Report, RunError> {
        let Some(rate) = self.beside else {
            return command(&Others { run: None, loading: AtomicBool::new(false), over: AtomicBool::new(false) });
        };
        let prefix = format!("{}beside-", common.prefix);
        let common = Common { prefix, rings: 1, quiet: true, json: None, ..common.clone() };
        let load = Writing { common: &common, users: self.beside_users, rate };
        let run = Run::prepare(&load)?;
        run.shared.measure_from(u64::MAX);
        let others = Others { run: Some(&run), loading: AtomicBool::new(false), over: AtomicBool::new(false) };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| write(&run, &load, &others));
            let report = command(&others);
            others.over.store(true, Ordering::Release);
            let accounts = thread.join().map_err(|_| RunError::Thread)??;
            let mut report = report?;
            add(accounts, &mut report);
            Ok(report)
        })
    }
}

fn add(accounts: Accounts<Found>, report: &mut Report) {
    let mut own = Report::default();
    accounts.judge(&mut own, |account, own| messages::targets(account.users, &account.found, false, own));
    let found = accounts.sum(&mut own);
    messages::add(&found, &mut own);
    own.target(found.totals.sent > 0, || "nothing was written".to_owned());
    for (name, told) in [("send_to_sent", "beside_send_to_sent"), ("send_to_push", "beside_send_to_push")] {
        report.latencies.extend(own.latencies.get(name).map(|percentiles| (told.into(), *percentiles)));
    }
    report.beside = own.messages;
    report.missed.extend(own.missed.iter().map(|sentence| format!("beside: {sentence}")));
}

fn write(run: &Run, load: &Writing<'_>, others: &Others<'_>) -> Result<Accounts<Found>, RunError> {
    run.go_unwatched(load, |shared, progress| {
        shared.run(Stage::Connect, PATIENCE, progress, "connect");
        others.loading.store(true, Ordering::Release);
        shared.run_until(Stage::Load, Duration::MAX, progress, "beside", || others.over.load(Ordering::Acquire));
        shared.run(Stage::Settle, PATIENCE, progress, "settle");
    })
}

/// The sessions of those who write beside.
struct Writing<'a> {
    common: &'a Common,
    users: u32,
    rate: f64,
}

impl Load for Writing<'_> {
    type Scene<'r>
        = Scene<'r, Chat>
    where
        Self: 'r;
    type Found = Found;

    fn common(&self) -> &Common {
        self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        Ok(Sessions { users: self.users, unit: 2, speak: Speak::Sessions })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scene<'r, Chat> {
        let number = u64::from(thread);
        let settings = crowd::Settings { reconnect: None, seed: run.seed(), worker: number, ack_every: 1 };
        let mut crowd = Crowd::new(&run.shared, names, settings, run.texts(thread, 200), None);
        let settings = Settings {
            rate: self.rate,
            duration: Duration::MAX,
            messages: u64::MAX,
            unanswered: None,
            group_share: 0.0,
            group_size: 2,
            offline: 0.0,
            away: Duration::ZERO,
            goodbyes: 0.0,
            crowding: 1.0,
            seed: run.seed(),
            worker: number,
            slice: Duration::ZERO,
        };
        let lead = Chat::new(&mut crowd, settings);
        Scene { crowd, lead }
    }

    fn found(&self, scene: Scene<'_, Chat>) -> Found {
        scene.crowd.into_found()
    }
}
