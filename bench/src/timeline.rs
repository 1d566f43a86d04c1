//! A run from before its first connection to its end: what it was doing, what that cost, what the machine said.
//!
//! Owns: the samples, a bounded number of them. Guarantees: the first sample of a stage stays, so that the borders of stages are
//! exact; of a long run the rest are evenly thinned. Never does: taking a sample; reading a clock.

use crate::limits::Processors;
use crate::report::Name;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Samples of a run at most; when there are so many, half of them go and later ones are half as frequent.
pub const MOST: usize = 400;
/// From sample to sample at first, nanoseconds.
const STEP: u64 = 1_000_000_000;
/// The least time over which processor time is told, nanoseconds: it is counted in ticks of 10 ms.
const LEAST: u64 = STEP / 2;
const MIB: f64 = 1_048_576.0;

/// What there was at one moment. Memory in bytes, processor time since the start of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Nanoseconds of the run's clock.
    pub at: u64,
    pub stage: &'static str,
    pub established: u64,
    pub server_cpu: Option<Duration>,
    pub server_rss: Option<u64>,
    /// The trees on disk, and the log that they do not hold; where it was told.
    pub store: Option<f64>,
    pub own_cpu: Duration,
    pub own_rss: u64,
    pub slab: u64,
    /// What sockets of TCP hold beside the slabs.
    pub sockets: u64,
    pub processors: Option<Processors>,
}

/// One sample as a report has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Since the first sample.
    pub seconds: f64,
    /// What the run was doing then.
    pub stage: Name,
    /// Sessions that were established then.
    pub established: u64,
    /// Processor time since the sample before, percent of one core.
    pub server_cpu_percent: Option<f64>,
    pub server_rss_mib: Option<f64>,
    pub own_cpu_percent: Option<f64>,
    pub own_rss_mib: f64,
    /// Of the whole machine.
    pub slab_mib: f64,
    pub sockets_mib: f64,
    /// Of the processor time wanted on this machine since the sample before, what its host gave to others.
    pub stolen_percent: Option<f64>,
}

/// The samples of a run.
#[derive(Clone, Debug)]
pub struct Timeline {
    samples: Vec<Sample>,
    step: u64,
    /// When the next sample is due.
    next: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { samples: Vec::new(), step: STEP, next: 0 }
    }
}

impl Timeline {
    /// Whether a sample is to be taken now: a stage has begun, or the last one is long enough ago.
    pub fn is_due(&self, now: u64, stage: &str) -> bool {
        now >= self.next || self.samples.last().is_none_or(|last| last.stage != stage)
    }

    /// `sample` is later than all before.
    pub fn enter(&mut self, sample: Sample) {
        let begins = self.samples.last().is_none_or(|last| last.stage != sample.stage);
        // After the beginning of a stage in the middle between two steps, so that each of its slices of a step has one.
        self.next = match begins {
            true => sample.at + self.step + self.step / 2,
            false => (self.next + self.step).max(sample.at + self.step / 2),
        };
        self.samples.push(sample);
        if self.samples.len() >= MOST {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let (mut stage, mut nth) = ("", 0);
        self.samples.retain(|sample| {
            nth = if sample.stage == stage { nth + 1 } else { 0 };
            stage = sample.stage;
            nth % 2 == 0
        });
        self.step *= 2;
    }

    /// The samples of a stage, the first after it among them: that is its end.
    pub fn of(&self, stage: &str) -> &[Sample] {
        let Some(first) = self.samples.iter().position(|sample| sample.stage == stage) else { return &[] };
        let own = self.samples.get(first..).unwrap_or_default();
        let end = own.iter().position(|sample| sample.stage != stage).map_or(own.len(), |end| end + 1);
        own.get(..end).unwrap_or_default()
    }

    /// When the first sample was taken; nanoseconds of the run's clock.
    pub fn began(&self) -> u64 {
        self.samples.first().map_or(0, |first| first.at)
    }

    /// As a report has it.
    pub fn entries(&self) -> Vec<Entry> {
        self.samples.iter().enumerate().map(|(index, sample)| self.entry(index, sample)).collect()
    }

    fn entry(&self, index: usize, now: &Sample) -> Entry {
        let earlier = self.samples.get(..index).unwrap_or_default();
        let then = earlier.iter().rfind(|then| now.at.saturating_sub(then.at) >= LEAST);
        let percent = |now_used: Duration, then_used: Duration, then: &Sample| {
            100.0 * now_used.saturating_sub(then_used).as_secs_f64() / ((now.at - then.at) as f64 / 1e9)
        };
        let mib = |bytes: u64| bytes as f64 / MIB;
        Entry {
            seconds: now.at.saturating_sub(self.began()) as f64 / 1e9,
            stage: now.stage.into(),
            established: now.established,
            server_cpu_percent: then.and_then(|then| Some(percent(now.server_cpu?, then.server_cpu?, then))),
            server_rss_mib: now.server_rss.map(mib),
            own_cpu_percent: then.map(|then| percent(now.own_cpu, then.own_cpu, then)),
            own_rss_mib: mib(now.own_rss),
            slab_mib: mib(now.slab),
            sockets_mib: mib(now.sockets),
            stolen_percent: then.and_then(|then| now.processors?.stolen_since(&then.processors?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A run of stages (name, seconds), looked at every 20 ms.
    fn run(stages: &[(&'static str, u64)]) -> Timeline {
        let (mut timeline, mut now) = (Timeline::default(), 0);
        for &(stage, seconds) in stages {
            let end = now + seconds * STEP;
            while now < end {
                if timeline.is_due(now, stage) {
                    let own_cpu = Duration::from_nanos(now / 4);
                    timeline.enter(Sample { at: now, stage, own_cpu, ..Sample::default() });
                }
                now += 20 * MS;
            }
        }
        timeline
    }

    #[test]
    fn samples_are_bounded_even_and_at_most_one_a_second() {
        for hours in [1, 5, 30] {
            let entries = run(&[("connect", 10), ("chat", hours * 3_600), ("settle", 5)]).entries();
            assert!((MOST / 2 - 8..MOST).contains(&entries.len()), "{hours} h: {}", entries.len());
            let chat: Vec<f64> = entries.iter().filter(|e| e.stage == "chat").map(|e| e.seconds).collect();
            let gaps = chat.windows(2).map(|pair| pair[1] - pair[0]);
            let (least, most) = gaps.fold((f64::MAX, 0.0_f64), |(l, m), gap| (l.min(gap), m.max(gap)));
            assert!(least >= 1.0 && most <= 2.6 * least, "{hours} h: {least} to {most} s");
            assert_eq!(chat[0], 10.0, "a stage begins where it began");
        }
    }

    #[test]
    fn each_second_of_a_stage_of_a_short_run_has_a_sample() {
        let timeline = run(&[("connect", 1), ("chat", 20), ("settle", 2)]);
        let seconds: Vec<u64> = timeline.of("chat").iter().map(|sample| (sample.at - STEP) / STEP).collect();
        assert_eq!(seconds, (0..=20).collect::<Vec<_>>(), "and the end is the first of what comes after");
        assert_eq!(timeline.of("chat").last().map(|sample| sample.stage), Some("settle"));
        assert!(timeline.of("fanout").is_empty());
    }

    #[test]
    fn processor_time_is_since_the_sample_before_and_never_of_a_few_ticks() {
        let mut timeline = run(&[("start", 1)]);
        timeline.enter(Sample {
            at: STEP + 10 * MS,
            stage: "a",
            own_cpu: Duration::from_millis(252),
            ..Sample::default()
        });
        timeline.enter(Sample {
            at: STEP + 20 * MS,
            stage: "b",
            own_cpu: Duration::from_millis(255),
            ..Sample::default()
        });
        let told: Vec<_> = timeline.entries().iter().map(|entry| entry.own_cpu_percent.map(f64::round)).collect();
        assert_eq!(told, [None, Some(25.0), Some(25.0)]);
        assert_eq!(timeline.entries()[2].server_cpu_percent, None, "nobody told");
    }

    #[test]
    fn entries_are_read_back() {
        let mut timeline = run(&[("connect", 3)]);
        let processors = Some(Processors { used: 10, stolen: 0 });
        timeline.enter(Sample {
            at: 9 * STEP,
            stage: "chat",
            server_rss: Some(3 << 20),
            processors,
            ..Sample::default()
        });
        let entries = timeline.entries();
        let text = serde_json::to_string(&entries).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Entry>>(&text).unwrap(), entries);
        assert_eq!(entries.last().and_then(|entry| entry.server_rss_mib), Some(3.0));
    }
}
