//! A run over time: latencies by when a message was scheduled, beside what the gateway said of its memory then.
//!
//! Owns: the slices of one worker, how those of all workers become the points of a report, and eight bytes for each SENT.
//! Guarantees: a bounded number of slices; a latency belongs to the slice of its scheduled time, so that a stall shows when it
//! began. Never does: reading a clock.

use crate::report::Latencies;
use crate::timeline::Sample;
use serde::{Deserialize, Serialize};

/// Slices of a run at most; what is later counts for the last one.
pub const MOST_SLICES: usize = 256;
/// A slice in which the host of this machine took at most so much of the processor time that was wanted was left alone.
const LEFT_ALONE_PERCENT: f64 = 2.0;
const MIB: f64 = 1_048_576.0;

/// One slice of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The end of the slice, since the load began.
    pub seconds: f64,
    /// The same since the first sample of the timeline; absent in old reports.
    pub run_seconds: Option<f64>,
    pub sent: u64,
    pub sent_p50_us: Option<u64>,
    pub sent_p99_us: Option<u64>,
    pub sent_p999_us: Option<u64>,
    pub push_p50_us: Option<u64>,
    pub push_p99_us: Option<u64>,
    pub push_p999_us: Option<u64>,
    pub push_max_us: Option<u64>,
    pub rss_mib: Option<f64>,
    pub store_mib: Option<f64>,
    /// Of the processor time wanted since the sample of the slice before, what the host of this machine gave to others.
    pub stolen_percent: Option<f64>,
}

/// Latencies of one worker, or of several that were added, by slice.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Slices {
    began: u64,
    /// Nanoseconds; 0: nothing is kept.
    width: u64,
    slices: Vec<(Latencies, Latencies)>,
    /// Stays in its process, as it grows with the run. Of each SENT when its message was scheduled, in milliseconds since the beginning, and how long it took, in microseconds.
    #[serde(skip)]
    each: Vec<(u32, u32)>,
}

impl Slices {
    /// From now on what is scheduled from `began` on is kept, in slices of `width` nanoseconds. Once.
    pub fn begin(&mut self, began: u64, width: u64) {
        if self.width == 0 {
            (self.began, self.width) = (began, width);
        }
    }

    pub fn sent(&mut self, scheduled: u64, now: u64) {
        let Some((sent, _)) = self.at(scheduled) else { return };
        sent.record(scheduled, now);
        let narrow = |long: u64| u32::try_from(long).unwrap_or(u32::MAX);
        let (at_ms, took_us) = ((scheduled - self.began) / 1_000_000, now.saturating_sub(scheduled) / 1_000);
        self.each.push((narrow(at_ms), narrow(took_us)));
    }

    /// When each message was scheduled that was acknowledged, to a millisecond, and how long that took; nanoseconds.
    pub fn each(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.each.iter().map(|&(ms, us)| (self.began + u64::from(ms) * 1_000_000, u64::from(us) * 1_000))
    }

    /// Adds those of another worker, slice by slice: both have begun when the load did.
    pub fn add(&mut self, other: Self) {
        if self.width == 0 {
            return *self = other;
        }
        for (index, (sent, push)) in other.slices.into_iter().enumerate().take(MOST_SLICES) {
            match self.slices.get_mut(index) {
                Some((all_sent, all_push)) => {
                    all_sent.add(&sent);
                    all_push.add(&push);
                }
                None => self.slices.push((sent, push)),
            }
        }
        self.each.extend(other.each);
    }

    pub fn push(&mut self, scheduled: u64, now: u64) {
        if let Some((_, push)) = self.at(scheduled) {
            push.record(scheduled, now);
        }
    }

    fn at(&mut self, scheduled: u64) -> Option<&mut (Latencies, Latencies)> {
        let index = scheduled.checked_sub(self.began)?.checked_div(self.width)?;
        let index = (index as usize).min(MOST_SLICES - 1);
        while self.slices.len() <= index {
            self.slices.push((Latencies::coarse(), Latencies::coarse()));
        }
        self.slices.get_mut(index)
    }
}

/// The slices of all workers, each with the last sample that was taken in it. Empty where none was begun. `run_began`:
/// nanoseconds.
pub fn points<'a>(workers: impl Iterator<Item = &'a Slices>, samples: &[Sample], run_began: u64) -> Vec<Point> {
    let mut sums: Vec<(Latencies, Latencies)> = Vec::new();
    let (mut began, mut width) = (0, 0);
    for worker in workers.filter(|worker| worker.width > 0) {
        (began, width) = (worker.began, worker.width);
        for (index, (sent, push)) in worker.slices.iter().enumerate() {
            if index >= sums.len() {
                sums.push((Latencies::coarse(), Latencies::coarse()));
            }
            if let Some((all_sent, all_push)) = sums.get_mut(index) {
                all_sent.add(sent);
                all_push.add(push);
            }
        }
    }
    let mut before = samples.first();
    let point = |(index, (sent, push)): (usize, &(Latencies, Latencies))| {
        let (sent, push) = (sent.percentiles(), push.percentiles());
        let start = began + index as u64 * width;
        let sample = samples.iter().rfind(|sample| (start..start + width).contains(&sample.at));
        let stolen = sample.zip(before).and_then(|(now, then)| now.processors?.stolen_since(&then.processors?));
        before = sample.or(before);
        Point {
            seconds: (start + width - began) as f64 / 1e9,
            run_seconds: Some((start + width).saturating_sub(run_began) as f64 / 1e9),
            sent: sent.map_or(0, |p| p.count),
            sent_p50_us: sent.map(|p| p.p50_us),
            sent_p99_us: sent.map(|p| p.p99_us),
            sent_p999_us: sent.map(|p| p.p999_us),
            push_p50_us: push.map(|p| p.p50_us),
            push_p99_us: push.map(|p| p.p99_us),
            push_p999_us: push.map(|p| p.p999_us),
            push_max_us: push.map(|p| p.max_us),
            rss_mib: sample.and_then(|sample| sample.server_rss).map(|bytes| bytes as f64 / MIB),
            store_mib: sample.and_then(|sample| sample.store).map(|bytes| bytes / MIB),
            stolen_percent: stolen,
        }
    };
    sums.iter().enumerate().map(point).collect()
}

/// Times to SENT and to push of what was scheduled while the host of this machine left it its processors: a virtual machine
/// that is not given them is late whatever runs on it. Which slices those are is known from their `points`.
pub fn left_alone<'a>(workers: impl Iterator<Item = &'a Slices>, points: &[Point]) -> (Latencies, Latencies) {
    let mut sums = (Latencies::coarse(), Latencies::coarse());
    for (point, (sent, push)) in workers.flat_map(|worker| points.iter().zip(&worker.slices)) {
        if point.stolen_percent.is_some_and(|stolen| stolen <= LEFT_ALONE_PERCENT) {
            sums.0.add(sent);
            sums.1.add(push);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Processors;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    #[test]
    fn a_latency_belongs_to_the_slice_in_which_it_was_scheduled() {
        let mut workers = [Slices::default(), Slices::default()];
        workers[0].sent(1, 2); // Before it has begun nothing is kept.
        for worker in &mut workers {
            worker.begin(10 * SECOND, SECOND);
            worker.begin(0, 1);
            worker.sent(10 * SECOND, 10 * SECOND + MS);
            worker.push(12 * SECOND - 1, 15 * SECOND);
        }
        let sample = |ms, mib: u64, store, used, stolen| Sample {
            at: 10 * SECOND + ms * MS,
            server_rss: Some(mib << 20),
            store,
            processors: Some(Processors { used, stolen }),
            ..Sample::default()
        };
        let samples = [
            sample(100, 1, None, 100, 20),
            sample(900, 1, None, 200, 20),
            sample(1_500, 3, Some(1_048_576.0), 275, 45),
        ];
        assert_eq!(workers[0].each().collect::<Vec<_>>(), [(10 * SECOND, MS)]);
        let points = points(workers.iter(), &samples, 2 * SECOND);
        assert_eq!(points.iter().map(|p| (p.seconds, p.sent)).collect::<Vec<_>>(), [(1.0, 2), (2.0, 0)]);
        assert_eq!(points[1].run_seconds, Some(10.0), "the load began 8 s after the run");
        assert!(points[0].sent_p99_us.unwrap().abs_diff(1_000) <= 10 && points[0].push_p99_us.is_none());
        assert!(points[1].push_p99_us.unwrap() >= 2_900_000);
        assert_eq!((points[0].stolen_percent, points[1].stolen_percent), (Some(0.0), Some(25.0)));
        let (sent, push) = left_alone(workers.iter(), &points);
        assert_eq!(
            (sent.percentiles().map(|p| p.count), push.percentiles()),
            (Some(2), None),
            "a quarter of the second was stolen"
        );
        assert_eq!((points[0].rss_mib, points[1].rss_mib, points[1].store_mib), (Some(1.0), Some(3.0), Some(1.0)));
    }

    #[test]
    fn slices_are_bounded_and_none_come_from_none() {
        let mut slices = Slices::default();
        slices.begin(0, 1);
        slices.sent(u64::MAX / 2, u64::MAX / 2);
        assert_eq!(points(std::iter::once(&slices), &[], 0).len(), MOST_SLICES);
        assert_eq!(points(std::iter::once(&Slices::default()), &[], 0), []);
    }
}
