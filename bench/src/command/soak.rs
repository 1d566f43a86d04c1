//! `flood soak`: many sessions for a long time, and proof that everything that was taken comes back.

use super::aims::Aims;
use super::chat::pairs;
use super::here::Here;
use super::load::{Load, Sessions, Speak};
use super::meanwhile::meanwhile;
use super::measuring::Returning;
use super::memory;
use super::messages::{self, Moment, percent};
use super::run::{Common, Run, RunError};
use crate::drift::{self, Look};
use crate::holdings::{Books, Holdings};
use crate::kernel::Kernel;
use crate::load::Stage;
use crate::metrics::Metrics;
use crate::over_time;
use crate::report::Report;
use crate::scenario::chat::{Chat, Settings};
use crate::scenario::crowd::{self, Crowd, Found, Scene};
use crate::scenario::soak::{Soak as Lead, times};
use crate::series::Series;
use crate::who::Names;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "Examples:
  flood soak --sessions 5000 --churn 100 --rate 500 --storm-every 40s --duration 2m --admin 127.0.0.1:7601
  flood soak --sessions 100000 --churn 1000 --rate 1000 --storm-every 5m --storm-share 10% --duration 30m --admin 127.0.0.1:7601 --json soak.json
  flood soak --sessions 2000 --churn 100 --goodbyes 0% --duration 90s --quiet-within 2m --admin 127.0.0.1:7601";

/// The usual mix.
const BYTES: usize = 200;
const TO_GROUPS: f64 = 0.30;
const GROUP: u32 = 20;
/// While more than this share of the sessions is on the way back (twice what a storm drops, where that is more) nobody else leaves: a
/// gateway that cannot take them back so fast is to be seen with its sessions, and the run fails for want of churn.
const MOST_RETURNING: f64 = 0.05;
/// Within so long at first a client comes back whose connection was lost.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at the gateway: under load, and while everything comes back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const QUIET_EVERY: Duration = Duration::from_secs(2);
/// How long the gateway keeps a conversation in memory that nobody uses, and what finding that out may take.
const REST: Duration = Duration::from_secs(630);
const MIB: f64 = 1_048_576.0;
/// What a byte of the store's memory tables takes, by what resident memory loses at a checkpoint: they are many small pieces.
const TABLES: f64 = 1.2;
/// The end of a long run that has a slope of its own, in seconds.
const END: f64 = 600.0;

/// Opens all sessions and keeps them for a long time, while some are cut (half of them by a reset) or say goodbye and come back,
/// users write to each other in the usual mix, verified as by `flood chat`, and every now and then a share of all drops at once
/// and comes back at once. In the end everybody comes back, then all are cut.
///
/// Demands that what the gateway and the kernel count of connections, operations, buffers, timers, sessions, users, conversations
/// and sockets is what it was before the first session: exactly, or within what is named in the sentence; and that the gateway's
/// memory (without the memory tables and the cache of its store, and without rooms, which keep their newest records) is at most a
/// tenth and 16 MiB above that after the warm-up, and 40 % of what rooms grew by, for what the allocator does not give back between
/// them: before and after each storm and at the end; when all have gone it is at most a tenth and 16 MiB above all of it after the
/// warm-up.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Soak {
    #[command(flatten)]
    common: Common,
    /// Sessions, one user each; they write to each other in pairs, so an even number.
    #[arg(long, default_value_t = 10_000, value_parser = pairs)]
    sessions: u32,
    /// Sessions that leave each second, and as many come back.
    #[arg(long, default_value_t = 100.0)]
    churn: f64,
    /// How long each of them is away.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    away: Duration,
    /// Share of those who leave that say goodbye; the others are cut.
    #[arg(long, default_value = "50%", value_parser = percent)]
    goodbyes: f64,
    /// Messages per second in all: texts of 200 B, 30 % of them to groups of 20.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// From storm to storm; 0s: none.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    storm_every: Duration,
    /// Share of all sessions that a storm drops.
    #[arg(long, default_value = "10%", value_parser = percent)]
    storm_share: f64,
    /// How long all of that goes on.
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// After this time of load tables and caches have their size: what memory is compared with.
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// How long opening all sessions may take at first, and creating the groups, each.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    connect_within: Duration,
    #[command(flatten)]
    returning: Returning,
    /// Everything must have come back within this time of the last session. With less than 65s the kernel may still keep ports
    /// of connections that said goodbye, with less than 10m 30s the gateway conversations of this run.
    #[arg(long, default_value = "11m", value_parser = humantime::parse_duration)]
    quiet_within: Duration,
    #[command(flatten)]
    aims: Aims,
}

/// The stage of the load, as the timeline has it.
const LOAD: &str = "soak";

/// What was found of those who left and came back, and of the messages.
#[derive(Default, Serialize, Deserialize)]
pub struct Moved {
    crowd: Found,
    left: u64,
    goodbyes: u64,
    unheard: u64,
    dropped: u64,
    /// Nanoseconds.
    slowest: u64,
}

impl super::load::Found for Moved {
    fn add(&mut self, other: Self) {
        self.crowd.add(other.crowd);
        self.left += other.left;
        self.goodbyes += other.goodbyes;
        self.unheard += other.unheard;
        self.dropped += other.dropped;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// What was seen of the gateway and the kernel.
#[derive(Default)]
struct Story {
    start: Holdings,
    full: Holdings,
    end: Holdings,
    looks: Vec<Look>,
    /// After the last session, and how long it took until everything was back.
    last: Look,
    quiet_after: Duration,
}

impl Soak {
    pub fn run(self) -> Result<bool, RunError> {
        self.aims.check(&self.common)?;
        self.common.undivided("flood soak")?;
        if self.common.admin.is_none() {
            return Err(RunError::Usage("what has come back is told by --admin".to_owned()));
        }
        if self.share_away() > 0.5 {
            return Err(RunError::Usage("--churn for --away is more than half of the --sessions".to_owned()));
        }
        if self.warm_up >= self.duration {
            return Err(RunError::Usage("--warm-up ends before --duration".to_owned()));
        }
        let run = Run::prepare(&self)?;
        let report = self.measure(&run)?;
        run.conclude(&report)
    }

    fn share_away(&self) -> f64 {
        self.churn * self.away.as_secs_f64() / f64::from(self.sessions)
    }

    fn measure(&self, run: &Run) -> Result<Report, RunError> {
        let port = run.here().map_or(0, Here::port);
        let mut story = Story { start: Holdings::of(run.metrics()?.as_ref(), &Kernel::read(port)), ..Story::default() };
        let (mut settled, mut back, mut load) = (true, true, Vec::new());
        let accounts = run.go(self, |shared, progress| {
            settled = shared.run(Stage::Connect, self.connect_within, progress, "connect");
            shared.run(Stage::Groups, self.connect_within, progress, "groups");
            load.push(Moment::of(run));
            let began = Instant::now();
            meanwhile(
                LOOK_EVERY,
                || self.look(run, port, began, &mut story),
                || {
                    shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, LOAD);
                },
            );
            load.push(Moment::of(run));
            back = shared.run(Stage::Return, self.returning.within, progress, "return");
            back &= shared.run(Stage::Settle, self.returning.within, progress, "settle");
        })?;
        // The rings are gone, and every socket with them.
        self.await_quiet(run, port, &mut story);
        let mut report = run.report("soak");
        accounts.judge(&mut report, |account, own| messages::targets(account.users, &account.found.crowd, false, own));
        let found = accounts.sum(&mut report);
        messages::add(&found.crowd, &mut report);
        if let [before, after] = load.as_slice() {
            after.figures(before, &mut report);
        }
        let timeline = run.timeline();
        report.over_time = over_time::points(std::iter::once(&found.crowd.slices), timeline.of(LOAD), timeline.began());
        self.add_moves(&found, &mut report);
        self.judge(&story, &mut report);
        report.target(settled, || "not all users were told that they are synced when they first connected".to_owned());
        report.target(back, || "not everybody had everything in time in the end".to_owned());
        let sent = report.messages.map_or(0, |totals| totals.sent);
        report.target(sent > 0 || self.rate <= 0.0, || "nothing was sent".to_owned());
        self.aims.judge(&mut report);
        Ok(report)
    }

    fn look(&self, run: &Run, port: u16, began: Instant, story: &mut Story) {
        // A gateway that did not answer once may answer the next time.
        let Some(page) = run.metrics().ok().flatten() else { return };
        let look = look_of(&page, began);
        // The tables of connections are long, and one reading is enough.
        let warm_up = self.warm_up.as_secs_f64();
        if (warm_up - 2.5..=warm_up).contains(&look.seconds) {
            story.full = Holdings::of(Some(&page), &Kernel::read(port));
        }
        story.looks.push(look);
    }

    fn moments(&self, story: &Story) -> Vec<drift::Moment> {
        let storms: Vec<f64> = times(self.storm_every, self.duration).map(|at| at.as_secs_f64()).collect();
        drift::moments(&story.looks, self.warm_up.as_secs_f64(), &storms, self.duration.as_secs_f64())
    }

    /// Looks at the gateway and the kernel until everything is back or the time is up.
    fn await_quiet(&self, run: &Run, port: u16, story: &mut Story) {
        let began = Instant::now();
        if !run.common.quiet {
            eprintln!("all sessions are cut; waiting for {} at most", humantime::format_duration(self.quiet_within));
        }
        let allowed = |look: &Look, moments: &[drift::Moment]| {
            moments.first().is_none_or(|first| look.memory() <= drift::allowed_at_rest(&first.look))
        };
        let moments = self.moments(story);
        loop {
            if let Some(page) = run.metrics().ok().flatten() {
                story.last = look_of(&page, began);
                story.end = Holdings::of(Some(&page), &Kernel::read(port));
            }
            story.quiet_after = began.elapsed();
            let is_back = self.books(story).missing().is_empty() && allowed(&story.last, &moments);
            if is_back || began.elapsed() >= self.quiet_within {
                return;
            }
            std::thread::sleep(QUIET_EVERY);
        }
    }

    fn books<'s>(&self, story: &'s Story) -> Books<'s> {
        let rooms = self.sessions / 2 + self.sessions / GROUP;
        let resting = if self.quiet_within < REST { f64::from(rooms) } else { 0.0 };
        Books { start: &story.start, full: &story.full, end: &story.end, resting }
    }

    /// Who left, how, and how storms went.
    fn add_moves(&self, moved: &Moved, report: &mut Report) {
        let dropped = moved.dropped as f64;
        let left = moved.left as f64 - dropped;
        let rate = left / self.duration.as_secs_f64();
        report.figure("left_and_came_back", left, "sessions");
        report.figure("churn", rate, "sessions/s");
        report.figure("goodbyes", moved.goodbyes as f64, "of them");
        report.figure("goodbyes_without_an_end", moved.unheard as f64, "at the return");
        let storms = times(self.storm_every, self.duration).count();
        report.figure("storms", storms as f64, "storms");
        report.figure("dropped_by_storms", dropped, "sessions");
        report.figure("slowest_storm", moved.slowest as f64 / 1e9, "s until all whom it dropped had synced");
        report.target(rate >= 0.95 * self.churn, || {
            format!("only {rate:.1} sessions left each second, {} wanted", self.churn)
        });
        let is_stormy = storms > 0 && self.storm_share > 0.0;
        report.target(!is_stormy || dropped > 0.0, || "no session was dropped by a storm".to_owned());
    }

    fn judge(&self, story: &Story, report: &mut Report) {
        let moments = self.moments(story);
        for moment in &moments {
            let name = format!("memory_{}", moment.when.replace([' ', '-'], "_"));
            let look = &moment.look;
            let unit = format!(
                "MiB at {:.0} s, {} sessions, {} conversations",
                look.seconds, look.sessions, look.conversations
            );
            report.figures.push(crate::report::Figure {
                name: name.into(),
                value: look.memory() / MIB,
                unit: unit.into(),
            });
        }
        let last = &story.last;
        report.figure("memory_after_the_last_session", last.memory() / MIB, "MiB");
        let points: Vec<_> = story.looks.iter().map(|look| (look.seconds, look.memory() / MIB)).collect();
        let slope = |from: f64| {
            let late: Vec<_> = points.iter().copied().filter(|(seconds, _)| *seconds >= from).collect();
            memory::slope(&late).map(|slope| slope * 60.0)
        };
        let end = self.duration.as_secs_f64();
        report.figure_if_known("memory_slope", slope(end / 2.0), "MiB/min in the second half");
        report.figure_if_known("memory_slope_last_10_minutes", slope(end - END).filter(|_| end > END), "MiB/min");
        report.figure("quiet_after", story.quiet_after.as_secs_f64(), "s");
        self.books(story).figures(report);
        report.missed.extend(drift::growth(&moments));
        let is_told = moments.first().is_some_and(|first| first.when == "after the warm-up");
        report.target(is_told, || "the gateway's memory after the warm-up is not known".to_owned());
        if let Some(first) = moments.first() {
            let allowed = drift::allowed_at_rest(&first.look);
            report.target(last.memory() <= allowed, || {
                format!(
                    "memory is {:.1} MiB after the last session, {:.1} with rooms after the warm-up, {:.1} allowed",
                    last.memory() / MIB,
                    (first.look.memory() + first.look.rooms) / MIB,
                    allowed / MIB
                )
            });
        }
        report.missed.extend(self.books(story).missing());
    }
}

impl Load for Soak {
    type Scene<'r> = Scene<'r, Lead>;
    type Found = Moved;

    fn common(&self) -> &Common {
        &self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        Ok(Sessions { users: self.sessions, unit: GROUP, speak: Speak::Sessions })
    }

    fn resets(&self) -> bool {
        true
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scene<'r, Lead> {
        let number = u64::from(thread);
        // Who is lost comes back, so that there are as many sessions as there should be; the run fails all the same.
        let settings = crowd::Settings { reconnect: Some(BACK_WITHIN), seed: run.seed(), worker: number, ack_every: 1 };
        let mut crowd = Crowd::new(&run.shared, names, settings, run.texts(thread, BYTES), None);
        let chat = Settings {
            rate: self.rate,
            duration: self.duration,
            messages: u64::MAX,
            unanswered: None,
            group_share: TO_GROUPS,
            group_size: GROUP,
            offline: self.share_away(),
            away: self.away,
            goodbyes: self.goodbyes,
            crowding: MOST_RETURNING.max(2.0 * self.storm_share),
            seed: run.seed(),
            worker: number,
            slice: memory::interval(self.duration),
        };
        let chat = Chat::new(&mut crowd, chat);
        let lead = Lead::new(chat, (self.storm_every, self.duration), self.storm_share, run.seed() ^ number);
        Scene { crowd, lead }
    }

    fn found(&self, scene: Scene<'_, Lead>) -> Moved {
        let Scene { crowd, lead } = scene;
        Moved {
            left: crowd.cuts + crowd.goodbyes,
            goodbyes: crowd.goodbyes,
            unheard: crowd.unheard,
            dropped: lead.dropped,
            slowest: lead.slowest,
            crowd: crowd.into_found(),
        }
    }
}

fn look_of(page: &Metrics, began: Instant) -> Look {
    Look {
        seconds: began.elapsed().as_secs_f64(),
        resident: page.sum(Series::RESIDENT),
        store: TABLES * page.sum(Series::TABLE_BYTES) + page.sum(Series::CACHE_BYTES),
        sessions: page.sum(Series::SESSIONS),
        rooms: page.sum(Series::ROOMS),
        conversations: page.sum(Series::CONVERSATIONS),
    }
}
