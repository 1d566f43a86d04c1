//! Direct messages beside what a command does: how others fare meanwhile.
//!
//! Owns: a run of its own, on one thread, with users of its own. Guarantees: from the first moment to the last its users
//! write on a fixed schedule; every message is verified as by `flood chat`; latencies count for what was scheduled while the
//! command measures. Never does: deciding when that is; the command says so.

use super::chat::pairs;
use super::messages;
use super::run::{Common, Run, RunError, Speak};
use crate::load::Stage;
use crate::report::{Connections, Report};
use crate::scenario::chat::{Chat, Settings};
use crate::scenario::crowd::{self, Crowd, Scene};
use crate::text::Texts;
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
        let run = Run::prepare(&common, self.beside_users, 2, &Speak::Sessions)?;
        run.shared.measure_from(u64::MAX);
        let others = Others { run: Some(&run), loading: AtomicBool::new(false), over: AtomicBool::new(false) };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| write(&run, rate, &others));
            let report = command(&others);
            others.over.store(true, Ordering::Release);
            let (scenes, connections) = thread.join().map_err(|_| RunError::Thread)??;
            let mut report = report?;
            self.add(scenes.iter().map(|scene| &scene.crowd), connections, &mut report);
            Ok(report)
        })
    }

    fn add<'c>(
        &self,
        crowds: impl Iterator<Item = &'c Crowd<'c>> + Clone,
        connections: Connections,
        report: &mut Report,
    ) {
        let mut own = Report { connections, ..Report::default() };
        messages::add(crowds.clone(), &mut own);
        messages::targets(crowds, self.beside_users, false, &mut own);
        let sent = own.messages.map_or(0, |totals| totals.sent);
        own.target(sent > 0, || "nothing was written".to_owned());
        for (name, told) in [("send_to_sent", "beside_send_to_sent"), ("send_to_push", "beside_send_to_push")] {
            report.latencies.extend(own.latencies.get(name).map(|percentiles| (told.into(), *percentiles)));
        }
        report.beside = own.messages;
        report.missed.extend(own.missed.iter().map(|sentence| format!("beside: {sentence}")));
    }
}

fn write<'r>(run: &'r Run, rate: f64, others: &Others<'_>) -> Result<(Vec<Scene<'r, Chat>>, Connections), RunError> {
    let make = |worker: u32, names: &'r Names| {
        let number = u64::from(worker);
        let settings = crowd::Settings { reconnect: None, seed: run.seed, worker: number };
        let mut crowd = Crowd::new(&run.shared, names, settings, Texts::new(run.seed, worker, 200), None);
        let settings = Settings {
            rate,
            duration: Duration::MAX,
            messages: u64::MAX,
            unanswered: None,
            group_share: 0.0,
            group_size: 2,
            offline: 0.0,
            away: Duration::ZERO,
            seed: run.seed,
            worker: number,
            slice: Duration::ZERO,
        };
        let lead = Chat::new(&mut crowd, settings);
        Scene { crowd, lead }
    };
    run.go(make, |shared, progress| {
        shared.run(Stage::Connect, PATIENCE, progress, "connect");
        others.loading.store(true, Ordering::Release);
        shared.run_until(Stage::Load, Duration::MAX, progress, "beside", || others.over.load(Ordering::Acquire));
        shared.run(Stage::Settle, PATIENCE, progress, "settle");
    })
}
