//! `flood chat`: open-loop load between users, every message accounted for at every receiver.

use super::aims::Aims;
use super::load::{Load, Sessions, Speak};
use super::memory;
use super::messages::{self, Moment};
use super::run::{Common, Run, RunError};
use super::upkeep_watch;
use crate::load::Stage;
use crate::over_time;
use crate::report::{Latencies, Report};
use crate::scenario::chat::{Chat as Lead, Settings};
use crate::scenario::crowd::{self, Crowd, Found, Scene};
use crate::sent::SentFile;
use crate::upkeep;
use crate::who::Names;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  flood chat --users 1000 --rate 5000 --duration 30s
  flood chat --users 2000 --rate 5000 --duration 60s --mix
  flood chat --mix --users 2000 --rate 2500 --duration 30m --admin 127.0.0.1:7601 --json half-hour.json --aim-push-p99 10ms
  flood chat --users 2000 --rate 5000 --admin 127.0.0.1:7601 --aim-server-p99 5ms
  flood chat --users 400 --rate 200 --duration 30s --groups 50% --group-size 100 --offline 10% --away 5s
  flood chat --users 200 --rate 500 --duration 60s --sent sent.jsonl --reconnect
  flood chat --users 2000 --bytes 32000 --rate 100000 --unanswered 256 --messages 30000 --duration 1h --prefix fill
  flood chat --users 2000 --rate 20000 --duration 30s --server-pid 4711 --admin 127.0.0.1:7601";

/// What the load itself is called.
const LOAD: &str = "chat";

/// Users write to each other on a fixed schedule that no answer and no stall moves: in random pairs and, if asked for, in
/// random groups, while some of them leave and come back. Every message is verified at every receiver, and latencies count
/// from the scheduled time, where both sides are there from then on. With --admin also tells what a message took inside the
/// gateway, whether its memory grows (the slope of the second half, by least squares), and what SENT took while the store wrote
/// checkpoints or merged tables, each half a second too long at both ends; --json has latencies and memory over time.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Chat {
    #[command(flatten)]
    pub common: Common,
    /// Users, one session each; they write to each other in pairs, so an even number.
    #[arg(long, default_value_t = 1_000, value_parser = pairs)]
    pub users: u32,
    /// Messages per second in all.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// How long to send.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Messages in all: sending ends with the last of them. A run whose --duration is over before it fails.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Messages that may be without an answer: what is due beyond them waits for answers, and its latency counts from when it is
    /// sent. With a high --rate this fills a store as fast as it keeps up; as a measure of latency it is worth little.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub unanswered: Option<u64>,
    /// The usual mix: --bytes 200 --groups 30% --group-size 20 --offline 5%.
    #[arg(long, conflicts_with_all = ["bytes", "groups", "group_size", "offline"])]
    pub mix: bool,
    /// Bytes of a text.
    #[arg(long, default_value_t = 200)]
    pub bytes: usize,
    /// Share of the messages that go to groups.
    #[arg(long, default_value = "0%", value_parser = messages::percent)]
    pub groups: f64,
    /// Members of a group, who are drawn at random; each user is in one group.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1_024))]
    pub group_size: u32,
    /// Share of the users who are offline at any time: their connections are cut, they come back after --away, and others
    /// go.
    #[arg(long, default_value = "0%", value_parser = messages::percent)]
    pub offline: f64,
    /// How long a user is offline.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub away: Duration,
    /// How long to wait for what is outstanding at the end.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// Write every SENT to this file, one JSON line each, within 100 ms.
    #[arg(long)]
    pub sent: Option<PathBuf>,
    /// Lost connections come back with back-off and repeat what has no outcome, with the same ids.
    #[arg(long)]
    pub reconnect: bool,
    /// With --reconnect: come back within this time at first, even where welcome named a longer slot.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub reconnect_within: Duration,
    /// How long opening all sessions may take.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub connect_within: Duration,
    /// Share of the messages, in percent, that must be acknowledged within --within; 0: no target.
    #[arg(long, default_value_t = 0.0)]
    pub percent: f64,
    /// See --percent.
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub within: Duration,
    /// A slope of the gateway's resident memory of more than this in the second half is a failure, MiB a minute; needs --admin
    /// or --server-pid.
    #[arg(long, value_name = "MIB")]
    pub aim_rss_slope: Option<f64>,
    #[command(flatten)]
    pub aims: Aims,
}

pub fn pairs(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(users) if users >= 2 && users % 2 == 0 => Ok(users),
        _ => Err("users write to each other in pairs: an even number, 2 or more".to_owned()),
    }
}

/// The part of a run that a search looks at.
pub struct Outcome {
    pub report: Report,
    /// Share of the messages that were acknowledged within the limit, 0 to 1.
    pub within: f64,
}

impl Chat {
    pub fn run(self) -> Result<bool, RunError> {
        let run = self.prepare()?;
        let outcome = self.measure(&run)?;
        run.conclude(&outcome.report)
    }

    /// A run that is ready to start.
    pub fn prepare(&self) -> Result<Run, RunError> {
        self.aims.check(&self.common)?;
        if self.sent.is_some() {
            self.common.undivided("--sent")?;
        }
        Run::prepare(&self.load(None))
    }

    /// What its sessions do, every SENT written to this file.
    pub fn load<'c>(&'c self, file: Option<&'c SentFile>) -> Chatting<'c> {
        Chatting { chat: self, file }
    }

    /// Shares of the messages to groups and of the users who are away.
    fn shares(&self) -> (f64, f64) {
        if self.mix { (0.30, 0.05) } else { (self.groups, self.offline) }
    }

    /// One run from connecting to the report.
    pub fn measure(&self, run: &Run) -> Result<Outcome, RunError> {
        let file_error = |error| RunError::File { path: self.sent.clone().unwrap_or_default(), error };
        let sent_file = self.sent.as_deref().map(SentFile::create).transpose().map_err(file_error)?;
        let (groups, offline) = self.shares();
        let (mut load, mut looks, mut settled) = (Vec::new(), Vec::new(), true);
        run.shared.counters.wanted.store(self.messages.unwrap_or(0), Ordering::Relaxed);
        let chatting = self.load(sent_file.as_ref());
        let accounts = run.go(&chatting, |shared, progress| {
            settled = shared.run(Stage::Connect, self.connect_within, progress, "connect");
            if groups > 0.0 {
                shared.run(Stage::Groups, self.connect_within, progress, "groups");
            }
            upkeep_watch::watch(run, &mut looks, || {
                load.push(Moment::of(run));
                shared.run(Stage::Load, self.duration + Duration::from_secs(5), progress, LOAD);
                load.push(Moment::of(run));
                if offline > 0.0 {
                    shared.run(Stage::Return, self.settle, progress, "return");
                }
                shared.run(Stage::Settle, self.settle, progress, "settle");
            });
        })?;
        sent_file.map_or(Ok(()), SentFile::close).map_err(file_error)?;
        let mut report = run.report("chat");
        accounts
            .judge(&mut report, |account, own| messages::targets(account.users, &account.found, self.reconnect, own));
        let found = accounts.sum(&mut report);
        let to_sent = messages::add(&found, &mut report);
        let within = self.in_time(&found, &to_sent, &mut report);
        if let [before, after] = load.as_slice() {
            after.figures(before, &mut report);
        }
        let timeline = run.timeline();
        let samples = timeline.of(LOAD);
        memory::figures(samples, &mut report);
        upkeep::figures(found.slices.each(), &looks, &mut report);
        let slices = || std::iter::once(&found.slices);
        report.over_time = over_time::points(slices(), samples, timeline.began());
        let (sent, push) = over_time::left_alone(slices(), &report.over_time);
        report.latency("send_to_sent_left_alone", &sent);
        report.latency("send_to_push_left_alone", &push);
        report.target(settled, || "not all users were told that they are synced".to_owned());
        let (sent, wanted) = (report.messages.map_or(0, |totals| totals.sent), self.messages.unwrap_or(0));
        report.target(sent > 0, || "nothing was sent".to_owned());
        report.target(sent >= wanted, || format!("only {sent} of {wanted} messages were sent in time"));
        report.target(100.0 * within >= self.percent, || {
            let limit = humantime::format_duration(self.within);
            format!("only {:.2} % acknowledged within {limit}, {} % wanted", 100.0 * within, self.percent)
        });
        self.judge(&mut report);
        Ok(Outcome { report, within })
    }

    fn judge(&self, report: &mut Report) {
        self.aims.judge(report);
        let Some(aim) = self.aim_rss_slope else { return };
        let slope = report.figures.iter().find(|figure| figure.name == "server_rss_slope").map(|figure| figure.value);
        report.target(slope.is_some_and(|slope| slope <= aim), || match slope {
            Some(slope) => format!("the gateway's memory grows by {slope:.2} MiB a minute, at most {aim} wanted"),
            None => "whether the gateway's memory grows is not known".to_owned(),
        });
    }

    /// The share of the messages that was acknowledged in time; those whose sender went away meanwhile do not count.
    fn in_time(&self, found: &Found, to_sent: &Latencies, report: &mut Report) -> f64 {
        let sent = found.totals.sent.saturating_sub(found.unmeasured);
        let within = to_sent.within(self.within) as f64 / sent.max(1) as f64;
        report.figure("acknowledged_in_time", 100.0 * within, "%");
        within
    }
}

/// The sessions of a chat.
pub struct Chatting<'c> {
    chat: &'c Chat,
    file: Option<&'c SentFile>,
}

impl Load for Chatting<'_> {
    type Scene<'r>
        = Scene<'r, Lead>
    where
        Self: 'r;
    type Found = Found;

    fn common(&self) -> &Common {
        &self.chat.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        let (groups, _) = self.chat.shares();
        let size = if groups > 0.0 { self.chat.group_size } else { 2 };
        if self.chat.users < size {
            return Err(RunError::Usage(format!("groups of {size} need so many --users at least")));
        }
        // Neither pairs nor groups are split.
        let unit = if size % 2 == 0 { size } else { 2 * size };
        Ok(Sessions { users: self.chat.users, unit, speak: Speak::Sessions })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scene<'r, Lead> {
        let chat = self.chat;
        let (group_share, offline) = chat.shares();
        let settings = crowd::Settings {
            reconnect: chat.reconnect.then_some(chat.reconnect_within),
            seed: run.seed(),
            worker: u64::from(thread),
            ack_every: 1,
        };
        let texts = run.texts(thread, chat.bytes);
        let mut crowd = Crowd::new(&run.shared, names, settings, texts, self.file.map(SentFile::log));
        let lead = Lead::new(
            &mut crowd,
            Settings {
                rate: run.share.rate(chat.rate),
                duration: chat.duration,
                messages: chat.messages.map_or(u64::MAX, |messages| run.share.part(messages)),
                unanswered: chat.unanswered.map(|unanswered| run.share.part(unanswered)),
                group_share,
                group_size: chat.group_size,
                offline,
                away: chat.away,
                seed: run.seed(),
                worker: u64::from(thread),
                goodbyes: 0.0,
                crowding: 1.0,
                slice: memory::interval(chat.duration),
            },
        );
        Scene { crowd, lead }
    }

    fn found(&self, scene: Scene<'_, Lead>) -> Found {
        scene.crowd.into_found()
    }
}
