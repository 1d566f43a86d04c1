//! Where the ticks of an axis are, and what stands at them.
//!
//! Guarantees: at most eight ticks, at round values; everything that is drawn lies between the first and the last end.

use crate::number::number;

/// One axis: its ends, and its ticks between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub is_log: bool,
    pub ticks: Vec<(f64, String)>,
}

/// Steps of time that people count in, seconds.
const TIMES: [f64; 19] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
    14_400.0, 43_200.0,
];
/// Intervals of an axis at most.
const MOST: f64 = 6.0;

impl Axis {
    /// From 0, or from below where there is something, in steps of 1, 2 or 5 times a power of ten.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let range = if high > low { high - low } else { 1.0 };
        let power = 10f64.powf((range / MOST).log10().floor());
        let nice = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        // Rounding may leave no step that is wide enough.
        let step = nice.into_iter().find(|step| range / step <= MOST).unwrap_or(20.0 * power);
        let (first, last) = ((low / step).floor(), (low + range).max(high) / step);
        let last = (last - 1e-9).ceil().max(first + 1.0);
        let count = (last - first) as u32;
        let ticks = (0..=count).map(|n| (first + f64::from(n)) * step).map(|value| (value, label(value)));
        Self { low: first * step, high: last * step, is_log: false, ticks: ticks.collect() }
    }

    /// Powers of ten around positive values, with 2 and 5 between them where they are few.
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let (low, high) = positive.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high <= 0.0 {
            return Self { low: 1.0, high: 10.0, is_log: true, ticks: vec![(1.0, "1".into()), (10.0, "10".into())] };
        }
        let first = (low.log10() + 1e-9).floor() as i32;
        let last = ((high.log10() - 1e-9).ceil() as i32).max(first + 1);
        let every = (last - first).div_euclid(7) + 1;
        let between: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (first..=last).filter(|power| (power - first) % every == 0);
        let values = powers.flat_map(|power| between.iter().map(move |step| step * 10f64.powi(power)));
        let end = 10f64.powi(last);
        let ticks = values.filter(|value| *value <= end * 1.001).map(|value| (value, label(value)));
        Self { low: 10f64.powi(first), high: end, is_log: true, ticks: ticks.collect() }
    }

    /// From 0 to `until` seconds, whole steps that people count in. The axis ends where the run does.
    pub fn time(until: f64) -> Self {
        let until = until.max(0.1);
        let step = TIMES.into_iter().find(|step| until / step <= MOST).unwrap_or_else(|| {
            let days = (until / MOST / 86_400.0).ceil();
            days * 86_400.0
        });
        let count = (until / step + 1e-9).floor() as u32;
        let ticks = (0..=count).map(|n| f64::from(n) * step).map(|seconds| (seconds, duration(seconds, step)));
        Self { low: 0.0, high: until, is_log: false, ticks: ticks.collect() }
    }

    /// Where on the axis a value is, 0 to 1; what lies outside is at its end.
    pub fn at(&self, value: f64) -> f64 {
        let place = match self.is_log {
            true => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
            false => (value - self.low) / (self.high - self.low),
        };
        place.clamp(0.0, 1.0)
    }
}

/// What stands at a tick: without what binary fractions add, and no zeros at the end of a fraction.
fn label(value: f64) -> String {
    let tidy = format!("{value:.9e}").parse().unwrap_or(value);
    let text = number(tidy);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Seconds in the unit of their step.
fn duration(seconds: f64, step: f64) -> String {
    let (unit, of) = match step {
        _ if step < 60.0 => (1.0, "s"),
        _ if step < 3_600.0 => (60.0, "min"),
        _ => (3_600.0, "h"),
    };
    format!("{} {of}", label(seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_hold_everything() {
        assert_eq!(labels(&Axis::linear([3.0, 97.0].into_iter())), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&Axis::linear([0.31].into_iter())), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(&Axis::linear([-7.0, 12.0].into_iter())), ["-10", "-5", "0", "5", "10", "15"]);
        assert_eq!(labels(&Axis::linear(std::iter::empty())).first(), Some(&"0"));
        for exponent in -3..12 {
            for digit in 1..100 {
                let most = f64::from(digit) * 10f64.powi(exponent);
                let axis = Axis::linear([most].into_iter());
                assert!(axis.high >= most * 0.999_999 && axis.high <= most * 2.0, "{most}: {axis:?}");
                assert!((3..=8).contains(&axis.ticks.len()), "{most}: {axis:?}");
            }
        }
    }

    #[test]
    fn logarithmic_ticks_are_powers_and_few() {
        assert_eq!(labels(&Axis::log([0.2, 40.0].into_iter())), ["0.1", "1", "10", "100"]);
        assert_eq!(labels(&Axis::log([2.0, 8.0].into_iter())), ["1", "2", "5", "10"]);
        assert_eq!(labels(&Axis::log([0.0].into_iter())), ["1", "10"]);
        let wide = Axis::log([1e-6, 1e12].into_iter());
        assert!(wide.ticks.len() <= 8 && wide.high >= 1e12);
        let axis = Axis::log([1.0, 100.0].into_iter());
        assert_eq!([0.5, 1.0, 10.0, 100.0, 1e9].map(|value| axis.at(value)), [0.0, 0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn time_is_in_steps_that_people_count_in() {
        assert_eq!(labels(&Axis::time(9.4)), ["0 s", "2 s", "4 s", "6 s", "8 s"]);
        assert_eq!(labels(&Axis::time(75.0)), ["0 s", "15 s", "30 s", "45 s", "60 s", "75 s"]);
        assert_eq!(labels(&Axis::time(1_900.0)), ["0 min", "10 min", "20 min", "30 min"]);
        assert_eq!(Axis::time(1_900.0).high, 1_900.0);
        assert_eq!(labels(&Axis::time(40_000.0)), ["0 h", "2 h", "4 h", "6 h", "8 h", "10 h"]);
        for until in [0.0, 1e7, 1e9] {
            assert!(Axis::time(until).ticks.len() <= 8, "{until}");
        }
    }
}
