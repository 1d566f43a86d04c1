//! Whether the gateway's memory grows under load.
//!
//! Owns: what the samples of a load say of its resident memory and of its store. Never does: sampling; judging: a slope is a
//! figure, and what it may be an aim.

use crate::report::Report;
use crate::timeline::Sample;
use std::time::Duration;

const OFTEN: Duration = Duration::from_secs(1);
const SLICES: u32 = 200;
/// The end of a long run that has a slope of its own, in seconds.
const END: f64 = 600.0;

/// How wide the slices of a run of this duration are: a sample falls into each.
pub fn interval(duration: Duration) -> Duration {
    OFTEN.max(duration / SLICES)
}

/// Enters what was sampled: memory before and after, and how fast it grew in the second half, when buffers, caches and
/// tables have their size, and in the last ten minutes of a run that is longer.
pub fn figures(samples: &[Sample], report: &mut Report) {
    let began = samples.first().map_or(0, |first| first.at);
    let mib = |bytes: f64| bytes / 1_048_576.0;
    let rss = |sample: &Sample| Some(((sample.at - began) as f64 / 1e9, mib(sample.server_rss? as f64)));
    // One that was not told once may be told the next time.
    let memory: Vec<(f64, f64)> = samples.iter().filter_map(rss).collect();
    report.figure_if_known("server_rss_first", memory.first().map(|&(_, rss)| rss), "MiB");
    report.figure_if_known("server_rss_last", memory.last().map(|&(_, rss)| rss), "MiB");
    let end = memory.last().map_or(0.0, |&(seconds, _)| seconds);
    let per_minute = |from: f64| {
        let late: Vec<_> = memory.iter().copied().filter(|&(seconds, _)| seconds >= from).collect();
        slope(&late).map(|slope| slope * 60.0)
    };
    report.figure_if_known("server_rss_slope", per_minute(end / 2.0), "MiB/min");
    if end > END {
        report.figure_if_known("server_rss_slope_last_10_minutes", per_minute(end - END), "MiB/min");
    }
    report.figure_if_known("store_on_disk_first", samples.iter().find_map(|sample| sample.store).map(mib), "MiB");
    report.figure_if_known("store_on_disk_last", samples.iter().rev().find_map(|sample| sample.store).map(mib), "MiB");
}

/// The line through points (x, y) with the least squares; `None` where there are not three or all at one x.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let along: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let across: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    (points.len() >= 3 && across > 0.0).then(|| along / across)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: impl Iterator<Item = (u32, f64)>) -> Vec<(String, f64)> {
        let sample = |(seconds, rss_mib): (u32, f64)| Sample {
            at: u64::from(seconds) * 1_000_000_000,
            server_rss: Some((rss_mib * 1_048_576.0) as u64),
            ..Sample::default()
        };
        let mut report = Report::default();
        figures(&samples.map(sample).collect::<Vec<_>>(), &mut report);
        report.figures.iter().map(|figure| (figure.name.to_string(), figure.value)).collect()
    }

    #[test]
    fn a_slope_is_found_through_noise_and_none_in_too_few_points() {
        let noise = |n: u32| f64::from(n % 3) - 1.0;
        let points: Vec<_> = (0..300).map(|n| (f64::from(n), 50.0 + 0.25 * f64::from(n) + noise(n))).collect();
        assert!((slope(&points).unwrap() - 0.25).abs() < 0.001);
        assert_eq!(slope(&points[..2]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn only_the_second_half_counts_for_the_slope() {
        let told = of((0..20).map(|n| (n, f64::from(n.min(10)))));
        let wanted = [("server_rss_first", 0.0), ("server_rss_last", 10.0), ("server_rss_slope", 0.0)];
        assert_eq!(told, wanted.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn the_last_ten_minutes_of_a_long_run_have_a_slope_of_their_own() {
        // 2 MiB a minute until the 20th minute, then 1.
        let told = of((0..=1_800).step_by(10).map(|s| (s, f64::from(s.min(1_200) + s) / 60.0)));
        let slope = |name| told.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!((slope("server_rss_slope_last_10_minutes") - 1.0).abs() < 1e-6);
        assert!((1.1..1.6).contains(&slope("server_rss_slope")), "{told:?}");
    }

    #[test]
    fn a_long_run_has_two_hundred_slices_and_a_short_one_one_a_second() {
        assert_eq!(interval(Duration::from_secs(1_800)), Duration::from_secs(9));
        assert_eq!(interval(Duration::from_secs(30)), OFTEN);
    }
}
