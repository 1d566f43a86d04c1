//! What is going on, while it goes on.
//!
//! Owns: the counters that the load threads raise, and the line on stderr. On a terminal the line is redrawn; elsewhere it
//! is printed every few seconds, and only when it has changed. Never does: slowing a load thread; the counters are relaxed.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a line is printed where it cannot be redrawn, in the first minute and later.
const PRINT_EVERY: Duration = Duration::from_secs(3);
const PRINT_EVERY_LATER: Duration = Duration::from_secs(15);
const MINUTE: Duration = Duration::from_secs(60);

/// Shared by all load threads of a run.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions that are established now.
    pub established: AtomicU64,
    pub failed: AtomicU64,
    pub sent: AtomicU64,
    /// What is to be sent in all; 0: not known.
    pub wanted: AtomicU64,
    pub acknowledged: AtomicU64,
    pub delivered: AtomicU64,
    pub ponged: AtomicU64,
    /// Processor time of the workers of a run that is divided, microseconds.
    pub worker_micros: AtomicU64,
    /// Resident memory of the gateway, bytes; 0: not known.
    pub server_rss: AtomicU64,
}

/// What the load threads have counted at one moment.
pub type Counts = [u64; 7];

impl Counters {
    /// What is counted by those who make the load.
    pub fn counts(&self) -> Counts {
        self.counted().map(|counter| counter.load(Relaxed))
    }

    /// Adds what others have counted since `before`.
    pub fn add(&self, now: &Counts, before: &Counts) {
        for ((counter, now), before) in self.counted().into_iter().zip(now).zip(before) {
            // Sessions that are established may have become fewer; sums that wrap come out right.
            counter.fetch_add(now.wrapping_sub(*before), Relaxed);
        }
    }

    fn counted(&self) -> [&AtomicU64; 7] {
        let Self { established, failed, sent, acknowledged, delivered, ponged, worker_micros, .. } = self;
        [established, failed, sent, acknowledged, delivered, ponged, worker_micros]
    }

    pub fn raise(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub fn lower(counter: &AtomicU64) {
        counter.fetch_sub(1, Relaxed);
    }

    fn line(&self, phase: &str) -> String {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let mut line = format!("{phase}: {} established", get(&self.established));
        for (count, what) in [
            (get(&self.failed), "failed"),
            (get(&self.ponged), "pongs"),
            (get(&self.sent), "sent"),
            (get(&self.acknowledged), "acknowledged"),
            (get(&self.delivered), "delivered"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
            if what == "sent" && get(&self.wanted) > 0 {
                line.push_str(&format!(" of {}", get(&self.wanted)));
            }
        }
        match get(&self.server_rss) >> 20 {
            0 => {}
            rss => line.push_str(&format!(", server {rss} MiB")),
        }
        line
    }
}

/// The line itself; used by the main thread only.
pub struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    printed: Instant,
    last: String,
    quiet: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, began: Instant::now(), printed: Instant::now(), last: String::new(), quiet }
    }

    /// Shows the counters; called several times a second.
    pub fn show(&mut self, phase: &str, counters: &Counters) {
        let line = counters.line(phase);
        if let Some(bar) = &self.bar {
            bar.set_message(line);
            bar.tick();
            return;
        }
        let elapsed = self.began.elapsed();
        let every = if elapsed < MINUTE { PRINT_EVERY } else { PRINT_EVERY_LATER };
        if !self.quiet && self.printed.elapsed() >= every && line != self.last {
            eprintln!("{} s, {line}", elapsed.as_secs());
            self.printed = Instant::now();
            self.last = line;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_has_happened_and_nothing_else() {
        let counters = Counters::default();
        (0..3).for_each(|_| Counters::raise(&counters.established));
        assert_eq!(counters.line("connect"), "connect: 3 established");
        Counters::raise(&counters.sent);
        assert_eq!(counters.line("chat"), "chat: 3 established, 1 sent");
        counters.server_rss.store(200 << 20, Relaxed);
        assert_eq!(counters.line("chat"), "chat: 3 established, 1 sent, server 200 MiB");
        counters.wanted.store(7, Relaxed);
        let others = [5, 0, 2, 0, 0, 0, 9];
        counters.add(&others, &Counts::default());
        counters.add(&[4, 0, 3, 0, 0, 0, 9], &others);
        assert_eq!(counters.counts(), [7, 0, 4, 0, 0, 0, 9]);
        counters.add(&Counts::default(), &[4, 0, 3, 0, 0, 0, 9]);
        assert_eq!(counters.line("chat"), "chat: 3 established, 1 sent of 7, server 200 MiB");
    }
}
