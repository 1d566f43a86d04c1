//! Whether the gateway's memory grows under load.
//!
//! Owns: samples of its resident memory, about two hundred over a run and at most one a second. Never does: judging; a slope
//! is a figure.

use super::run::Run;
use crate::report::Report;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const OFTEN: Duration = Duration::from_secs(1);
const SAMPLES: u32 = 200;
/// How soon the end is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const MIB: f64 = 1_048_576.0;

/// Runs `load`, and enters the gateway's memory before and after it and how fast it grew in its second half, when buffers,
/// caches and tables have their size. Nothing where neither --server-pid nor --admin tells it.
pub fn watch(run: &Run, duration: Duration, samples: &mut Vec<(f64, f64)>, load: impl FnOnce()) {
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let every = OFTEN.max(duration / SAMPLES);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Some(rss) = run.server_rss() {
                samples.push((start.elapsed().as_secs_f64(), rss as f64 / MIB));
                let next = Instant::now() + every;
                while Instant::now() < next {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        load();
        over.store(true, Ordering::Relaxed);
    });
}

/// Enters what was sampled.
pub fn figures(samples: &[(f64, f64)], report: &mut Report) {
    report.figure_if_known("server_rss_first", samples.first().map(|(_, rss)| *rss), "MiB");
    report.figure_if_known("server_rss_last", samples.last().map(|(_, rss)| *rss), "MiB");
    let (_, late) = samples.split_at(samples.len() / 2);
    report.figure_if_known("server_rss_slope", slope(late).map(|per_second| per_second * 3_600.0), "MiB/h");
}

/// The line through points (x, y) with the least squares; `None` where there are not three or all at one x.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
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
        let rising = (0..10).map(|n| (f64::from(n), f64::from(n)));
        let flat = (10..20).map(|n| (f64::from(n), 10.0));
        let mut report = Report::default();
        figures(&rising.chain(flat).collect::<Vec<_>>(), &mut report);
        let values: Vec<f64> = report.figures.iter().map(|figure| figure.value).collect();
        assert_eq!(values, [0.0, 10.0, 0.0]);
    }
}
