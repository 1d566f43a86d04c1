//! SENT beside the upkeep of the gateway's store: while it wrote a checkpoint, while it merged tables, and otherwise.
//!
//! Owns: what the gateway has said of that work at many moments, and which messages fall into it. Guarantees: a piece of work
//! reaches from its duration before the last moment at which it was not counted to the first at which it was, so at each end
//! it is too long by no more than the time between two moments. Never does: knowing of work that had not ended at the last one.

use crate::report::{Latencies, Report};

/// What the gateway had counted at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Nanoseconds of the run's clock.
    pub at: u64,
    pub checkpoints: Work,
    pub merges: Work,
}

/// Pieces of work that have ended, and the seconds that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub count: f64,
    pub seconds: f64,
}

impl Work {
    fn since(self, before: Work) -> Work {
        Work { count: self.count - before.count, seconds: self.seconds - before.seconds }
    }
}

/// Times at which work was under way: in order, without overlaps.
#[derive(Debug, PartialEq)]
struct Spans(Vec<(u64, u64)>);

impl Spans {
    fn of(looks: &[Look], work: impl Fn(&Look) -> Work) -> Self {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for pair in looks.windows(2) {
            let [before, after] = pair else { continue };
            let done = work(after).since(work(before));
            if done.count > 0.0 {
                let start = before.at.saturating_sub((done.seconds.max(0.0) * 1e9) as u64);
                spans.push((start, after.at));
            }
        }
        // Long work that was counted late may have begun before shorter work that was counted earlier.
        spans.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut().filter(|(_, last)| *last >= start) {
                Some((_, last)) => *last = end.max(*last),
                None => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    fn holds(&self, at: u64) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= at);
        after.checked_sub(1).and_then(|last| self.0.get(last)).is_some_and(|&(_, end)| at <= end)
    }
}

/// Enters how much of that work there was, and SENT while there was and while there was none. `each`: when a message was
/// scheduled and how long its SENT took, in nanoseconds. What falls into both kinds counts for both.
pub fn figures(each: impl Iterator<Item = (u64, u64)>, looks: &[Look], report: &mut Report) {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return };
    let (checkpoints, merges) = (last.checkpoints.since(first.checkpoints), last.merges.since(first.merges));
    report.figure("checkpoints", checkpoints.count, "written");
    report.figure("checkpoints_took", checkpoints.seconds, "s");
    report.figure("merges", merges.count, "of tables");
    report.figure("merges_took", merges.seconds, "s");
    let (checkpoints, merges) = (Spans::of(looks, |look| look.checkpoints), Spans::of(looks, |look| look.merges));
    let (mut beside_checkpoints, mut beside_merges, mut beside_neither) =
        (Latencies::default(), Latencies::default(), Latencies::default());
    for (at, took) in each {
        let (is_written, is_merged) = (checkpoints.holds(at), merges.holds(at));
        if is_written {
            beside_checkpoints.record(0, took);
        }
        if is_merged {
            beside_merges.record(0, took);
        }
        if !is_written && !is_merged {
            beside_neither.record(0, took);
        }
    }
    report.latency("send_to_sent_in_checkpoints", &beside_checkpoints);
    report.latency("send_to_sent_in_merges", &beside_merges);
    report.latency("send_to_sent_in_neither", &beside_neither);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn look(at: u64, checkpoints: (f64, f64), merges: (f64, f64)) -> Look {
        let work = |(count, seconds)| Work { count, seconds };
        Look { at: at * SECOND, checkpoints: work(checkpoints), merges: work(merges) }
    }

    #[test]
    fn work_reaches_back_by_its_duration_and_is_joined_where_it_overlaps() {
        let looks = [
            look(10, (3.0, 1.0), (0.0, 0.0)),
            look(11, (4.0, 3.0), (0.0, 0.0)),
            look(12, (4.0, 3.0), (0.0, 0.0)),
            look(13, (5.0, 3.5), (0.0, 0.0)),
            look(20, (7.0, 5.0), (0.0, 0.0)),
        ];
        let spans = Spans::of(&looks, |look| look.checkpoints);
        assert_eq!(spans, Spans(vec![(8 * SECOND, 11 * SECOND), (11 * SECOND + SECOND / 2, 20 * SECOND)]));
        let held = [7, 8, 11, 12, 20, 21].map(|at| spans.holds(at * SECOND));
        assert_eq!(held, [false, true, true, true, true, false]);
        assert!(!spans.holds(11 * SECOND + 1));
        assert!(!Spans::of(&looks, |look| look.merges).holds(12 * SECOND), "there was none");
    }

    #[test]
    fn a_message_counts_for_every_kind_of_work_that_it_fell_into() {
        let looks =
            [look(0, (1.0, 9.0), (1.0, 9.0)), look(10, (2.0, 10.0), (1.0, 9.0)), look(20, (2.0, 10.0), (3.0, 24.0))];
        let mut report = Report::default();
        // Checkpoint: up to 10 s; merges: from 10 s - 15 s on.
        let ms = |ms: u64| ms * 1_000_000;
        let each = [(5 * SECOND, ms(1)), (9 * SECOND, ms(2)), (15 * SECOND, ms(4)), (21 * SECOND, ms(8))];
        figures(each.into_iter(), &looks, &mut report);
        let of = |name| report.latencies.get(name).map(|p| (p.count, p.max_us / 1_000));
        assert_eq!(of("send_to_sent_in_checkpoints"), Some((2, 2)));
        assert_eq!(of("send_to_sent_in_merges"), Some((3, 4)));
        assert_eq!(of("send_to_sent_in_neither"), Some((1, 8)));
        let told: Vec<_> = report.figures.iter().map(|figure| (&*figure.name, figure.value)).collect();
        let wanted = [("checkpoints", 1.0), ("checkpoints_took", 1.0), ("merges", 2.0), ("merges_took", 15.0)];
        assert_eq!(told, wanted);
    }

    #[test]
    fn nothing_is_told_where_the_gateway_told_nothing() {
        let mut report = Report::default();
        figures(std::iter::once((1, 1)), &[], &mut report);
        assert!(report.latencies.is_empty() && report.figures.is_empty());
    }
}
