//! `flood slow`: readers that stop reading, that read a byte a second, or that never acknowledge, beside those who behave.

use super::beside::Others;
use super::load::{Load, Sessions, Speak};
use super::measuring::{Measuring, Returning};
use super::messages::{self, Moment};
use super::run::{Common, Run, RunError};
use super::slow_watch::{Reading, Seen, watch};
use crate::load::Stage;
use crate::load::slow::{Got, Pace, Slow as Session};
use crate::report::Report;
use crate::scenario::crowd::{self, Crowd, Found, Scene};
use crate::scenario::slow::{Settings, Slow as Lead};
use crate::who::Names;
use ringpost_proto::close::CloseCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "Examples:
  flood slow --admin 127.0.0.1:7601
  flood slow --readers 200 --trickle 50 --duration 60s --admin 127.0.0.1:7601 --json slow.json
  flood slow --grouped --bytes 1024 --admin 127.0.0.1:7601 --aim-server-p99 10ms
  flood slow --readers 20 --trickle 5 --mute 5 --duration 6s --closed-within 30s --admin 127.0.0.1:7601";

/// What is outstanding when something is over.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const MIB: f64 = 1_048_576.0;
/// Above what is documented, as a share.
const SLACK: f64 = 1.1;

/// Writes to readers in bursts, first while all of them read (that is the control: what the same messages cost the gateway's
/// store in memory), then while none does: their sessions have small receive buffers, and stop after the handshake, read a byte
/// a second, or read and never acknowledge. Then all return as they should be.
///
/// Demands: what the gateway keeps for their sockets, and its resident memory above that of the control (without the store's
/// memory tables, which its disk decides on), is at most the window that welcome named for each (and 10 %); each is closed 4002;
/// its memory is back within 10 % in time; every message reaches every reader after its return, in order; what it got before is
/// in order, too; and those who write --beside notice nothing (--aim-server-p99, --aim-push-p99). A gateway that is slower than
/// the bursts stretches them: the rate is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, mut_arg("beside", |arg| arg.default_value("40")),
    mut_arg("beside_users", |arg| arg.default_value("16")))]
pub struct Slow {
    #[command(flatten)]
    common: Common,
    /// Readers that stop reading after the handshake.
    #[arg(long, default_value_t = 200)]
    readers: u32,
    /// Readers that read a byte a second.
    #[arg(long, default_value_t = 50)]
    trickle: u32,
    /// Readers that read everything and acknowledge nothing.
    #[arg(long, default_value_t = 10)]
    mute: u32,
    /// What a reader is sent in a burst, KiB.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    burst: u64,
    /// From burst to burst.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// For how long bursts are sent, each time.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Bytes of a text.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(64..=16_384))]
    bytes: u64,
    /// Readers of one writer.
    #[arg(long, default_value_t = 26, value_parser = clap::value_parser!(u32).range(1..=1_023))]
    together: u32,
    /// The readers of a writer are a group: what is sent to one is sent to all, and stored once. Otherwise each is written to
    /// by itself.
    #[arg(long)]
    grouped: bool,
    /// All must be closed within this time of the first burst: the gateway's progress_ms, and what the first burst takes.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    closed_within: Duration,
    /// The gateway's memory must be back within this time of the last close.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    recover_within: Duration,
    #[command(flatten)]
    returning: Returning,
    #[command(flatten)]
    measuring: Measuring,
}

/// What was seen of the gateway, and of the sessions that did not read.
#[derive(Debug, Default)]
struct Story {
    is_settled: bool,
    is_said: bool,
    control: Seen,
    slow: Seen,
    /// Resident memory after the gateway had time to give it back, and how long that took.
    after: (f64, Duration),
    got: Vec<(Pace, Got)>,
    /// Bytes of a window: what may be kept for one session.
    window: u64,
}

impl Slow {
    pub fn run(self) -> Result<bool, RunError> {
        if self.common.admin.is_none() {
            return Err(RunError::Usage("what is demanded is told by --admin".to_owned()));
        }
        self.common.undivided("flood slow")?;
        self.measuring.run(&self, |run, others| self.measure(run, others))
    }

    fn slow(&self) -> u32 {
        self.readers + self.trickle + self.mute
    }

    fn settings(&self) -> Settings {
        Settings {
            readers: self.together,
            grouped: self.grouped,
            burst: (self.burst << 10).div_ceil(self.bytes).max(1),
            every: self.every,
            duration: self.duration,
        }
    }

    fn measure(&self, run: &Run, others: &Others<'_>) -> Result<Report, RunError> {
        let (mut story, mut failed, mut moments) = (Story::default(), None, Vec::new());
        let connect_within = self.measuring.connect_within;
        let accounts = run.go(self, |shared, progress| {
            story.is_settled = shared.run(Stage::Connect, connect_within, progress, "connect");
            if self.grouped {
                shared.run(Stage::Groups, connect_within, progress, "groups");
            }
            let limit = 10 * self.duration + PATIENCE;
            let control = watch(run, &mut [], |_| shared.run(Stage::Load, limit, progress, "all read"));
            (story.control, story.is_said) = control;
            shared.run(Stage::Away, PATIENCE, progress, "away");
            let mut sessions = match self.open(run) {
                Ok(sessions) => sessions,
                Err(error) => return failed = Some(error),
            };
            story.window = sessions.iter().map(|session| session.window().0).max().unwrap_or(0);
            others.measure();
            moments.push(Moment::of(run));
            let began = Instant::now();
            let (seen, is_said) = watch(run, &mut sessions, |closed| {
                let is_said = shared.run(Stage::Slow, limit, progress, "nobody reads");
                while began.elapsed() < self.closed_within && closed() < u64::from(self.slow()) {
                    std::thread::sleep(LOOK_EVERY);
                }
                is_said
            });
            story.slow = seen;
            story.is_said &= is_said;
            moments.push(Moment::of(run));
            others.measured();
            story.got = drain(sessions);
            story.after = self.recover(run, &story);
            shared.run(Stage::Return, self.returning.within, progress, "return");
            shared.run(Stage::Settle, PATIENCE, progress, "settle");
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut report = run.report("slow");
        accounts.judge(&mut report, |account, own| messages::targets(account.users, &account.found, false, own));
        let found = accounts.sum(&mut report);
        messages::add(&found, &mut report);
        if let [before, after] = moments.as_slice() {
            after.since(before).server_times(&mut report);
        }
        self.rate(found.took, &mut report);
        self.judge(&story, &mut report);
        Ok(report)
    }

    /// Opens the sessions that will not read, on the devices of those who are away.
    fn open(&self, run: &Run) -> Result<Vec<Session>, RunError> {
        let paces = [(self.readers, Pace::Stopped), (self.trickle, Pace::Trickle), (self.mute, Pace::Mute)];
        let mut paces = paces.into_iter().flat_map(|(count, pace)| std::iter::repeat_n(pace, count as usize));
        let (settings, mut sessions) = (self.settings(), Vec::new());
        let Some(here) = run.here() else { return Ok(sessions) };
        for (thread, names) in (0u32..).zip(&here.names) {
            for (user, pace) in Lead::readers(&settings, names.len() as u32).zip(&mut paces) {
                let name = names.name(user);
                let token = here.token(&name)?;
                let opened = Session::open(&here.target(&run.common, thread, names), &token, pace);
                sessions.push(opened.map_err(|error| RunError::Slow { name, error })?);
            }
        }
        Ok(sessions)
    }

    /// What the gateway may hold of memory when nobody is slow any more: what it had, and what the same messages had cost it
    /// when all read.
    fn allowed_after(&self, story: &Story) -> f64 {
        SLACK * (story.slow.before() + story.control.growth().max(0.0))
    }

    /// Waits until memory is back.
    fn recover(&self, run: &Run, story: &Story) -> (f64, Duration) {
        let began = Instant::now();
        loop {
            let rss = Reading::of(run, began).map_or(f64::INFINITY, |reading| reading.aside());
            if rss <= self.allowed_after(story) || began.elapsed() >= self.recover_within {
                return (rss, began.elapsed());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// How fast the bursts to those who do not read were taken, and how fast they were meant to be.
    fn rate(&self, took: f64, report: &mut Report) {
        let settings = self.settings();
        let bursts = self.duration.as_nanos().div_ceil(self.every.as_nanos().max(1)) as f64;
        let rooms = if self.grouped { self.slow().div_ceil(self.together) } else { self.slow() };
        let messages = settings.burst as f64 * bursts * f64::from(rooms);
        // The last burst is not waited for by a next one.
        let seconds = took.max(self.duration.as_secs_f64());
        let mib = |rate: f64| rate * self.bytes as f64 / MIB;
        let (wanted, achieved) = (messages / self.duration.as_secs_f64().max(1e-9), messages / seconds);
        report.figure("bursts_wanted_rate", wanted, "messages/s");
        report.figure("bursts_achieved_rate", achieved, "messages/s");
        report.figure("bursts_achieved_bytes", mib(achieved), "MiB/s");
        report.figure("bursts_stretched_to", 100.0 * wanted / achieved.max(1e-9), "% of their time");
    }

    fn judge(&self, story: &Story, report: &mut Report) {
        let (count, window) = (f64::from(self.slow()), story.window as f64);
        let bound = SLACK * count * window;
        let (outbound, grown) = (story.slow.outbound_peak(), story.slow.growth());
        let allowed = story.control.growth().max(0.0) + bound;
        let (closed, first, last) = story.slow.closed();
        let (after, took) = story.after;
        report.figure("slow_sessions", count, "sessions");
        report.figure("window", window / 1024.0, "KiB");
        report.figure("outbound_peak", outbound / MIB, "MiB kept for their sockets");
        report.figure("outbound_allowed", bound / MIB, "MiB");
        report.figure("outbound_peak_each", outbound / count.max(1.0) / 1024.0, "KiB a session");
        report.figure("rss_growth_when_all_read", story.control.growth() / MIB, "MiB");
        report.figure("rss_growth_when_nobody_reads", grown / MIB, "MiB");
        report.figure("rss_growth_allowed", allowed / MIB, "MiB");
        report.figure("rss_before", story.slow.before() / MIB, "MiB");
        report.figure("rss_after", after / MIB, "MiB");
        report.figure("rss_after_allowed", self.allowed_after(story) / MIB, "MiB");
        report.figure("rss_back_after", took.as_secs_f64(), "s");
        report.figure("closed_4002", closed, "sessions");
        report.figure_if_known("first_closed_after", first, "s");
        report.figure_if_known("last_closed_after", last, "s");
        report.target(story.is_settled, || "not all users were told that they are synced".to_owned());
        report.target(story.is_said, || "not every message was acknowledged in time".to_owned());
        let mib = |bytes: f64| format!("{:.1} MiB", bytes / MIB);
        report.target(outbound <= bound, || format!("{} kept for sockets, {} allowed", mib(outbound), mib(bound)));
        report.target(grown <= allowed, || format!("memory grew by {}, {} allowed", mib(grown), mib(allowed)));
        report.target(after <= self.allowed_after(story), || {
            format!("memory is {} afterwards, {} allowed", mib(after), mib(self.allowed_after(story)))
        });
        report.target(closed >= count, || format!("only {closed} of {count} were closed 4002"));
        let within = self.closed_within.as_secs_f64();
        let late = last.filter(|last| *last > within);
        report.target(late.is_none(), || {
            format!("the last was closed {:.1} s after it was slow", late.unwrap_or(within))
        });
        judge_got(&story.got, report);
    }
}

impl Load for Slow {
    type Scene<'r> = Scene<'r, Lead>;
    type Found = Found;

    fn common(&self) -> &Common {
        &self.common
    }

    fn sessions(&self) -> Result<Sessions, RunError> {
        let users = self.slow() + self.slow().div_ceil(self.together);
        Ok(Sessions { users, unit: self.together + 1, speak: Speak::Sessions })
    }

    fn scene<'r>(&'r self, run: &'r Run, thread: u32, names: &'r Names) -> Scene<'r, Lead> {
        let settings = crowd::Settings { reconnect: None, seed: run.seed(), worker: u64::from(thread), ack_every: 1 };
        let mut crowd = Crowd::new(&run.shared, names, settings, run.texts(thread, self.bytes as usize), None);
        let lead = Lead::new(&mut crowd, self.settings());
        Scene { crowd, lead }
    }

    fn found(&self, scene: Scene<'_, Lead>) -> Found {
        let took = scene.lead.ended.saturating_sub(scene.lead.began) as f64 / 1e9;
        Found { took, ..scene.crowd.into_found() }
    }
}

/// Reads what is left for each until its end, or until nothing comes any more.
fn drain(mut sessions: Vec<Session>) -> Vec<(Pace, Got)> {
    let mut quiet = 0;
    while quiet < 20 {
        let mut any = false;
        for session in &mut sessions {
            any |= session.all();
        }
        quiet = if any { 0 } else { quiet + 1 };
        std::thread::sleep(Duration::from_millis(50));
    }
    sessions.into_iter().map(|session| (session.pace(), session.into_got())).collect()
}

/// What the sessions got before they were closed is a prefix, and who reads to the end is told the code.
fn judge_got(got: &[(Pace, Got)], report: &mut Report) {
    let slow = CloseCode::SlowConsumer as u16;
    let records: u64 = got.iter().map(|(_, got)| got.records).sum();
    let disorder: u64 = got.iter().map(|(_, got)| got.out_of_order).sum();
    let told = got.iter().filter(|(_, got)| got.code == Some(slow)).count();
    let otherwise = got.iter().filter(|(_, got)| got.code.is_some_and(|code| code != slow)).count();
    let untold = got.iter().filter(|(pace, got)| *pace == Pace::Mute && got.code.is_none()).count();
    let open = got.iter().filter(|(_, got)| !got.ended).count();
    report.figure("records_got_while_slow", records as f64, "records");
    report.figure("close_frames_4002_seen", told as f64, "sessions");
    report.target(disorder == 0, || format!("{disorder} pushes to slow readers out of order"));
    report.target(otherwise == 0, || format!("{otherwise} slow readers were closed with another code than {slow}"));
    report.target(untold == 0, || format!("{untold} who read to the end were not told {slow}"));
    report.target(open == 0, || format!("{open} connections of slow readers have no end"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(pace: Pace, got: Got) -> Vec<String> {
        let mut report = Report::default();
        judge_got(&[(pace, got)], &mut report);
        report.missed
    }

    #[test]
    fn who_reads_to_the_end_must_be_told_4002_and_who_does_not_may_not_be_told_another_code() {
        let got = |code| Got { code, ended: true, ..Got::default() };
        assert!(missed(Pace::Mute, got(Some(4002))).is_empty() && missed(Pace::Stopped, got(None)).is_empty());
        assert_eq!(missed(Pace::Mute, got(None)).len(), 1);
        assert_eq!(missed(Pace::Stopped, got(Some(4004))).len(), 1);
        assert_eq!(missed(Pace::Trickle, Got { out_of_order: 1, ..got(None) }).len(), 1);
        assert_eq!(missed(Pace::Trickle, Got::default()), ["1 connections of slow readers have no end"]);
    }
}
