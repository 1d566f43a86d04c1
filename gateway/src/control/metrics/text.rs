//! The Prometheus text format, version 0.0.4: families with their help and type, then samples.

use super::help;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Collects samples. Samples of one family are added one after the other.
#[derive(Default)]
pub struct Text {
    out: String,
    family: String,
}

impl Text {
    /// One sample. `label` is empty or `key="value"[,key="value"]`, already escaped: labels are ours, never a peer's.
    pub fn sample(&mut self, kind: Kind, name: &str, label: &str, value: f64) {
        self.family(kind, name);
        self.line(name, label, value);
    }

    /// A histogram from counts per bucket: (upper bound, observations up to it and above the bound before), then those
    /// above the last bound, and the sum of all observations. `label` as of a sample.
    pub fn histogram(
        &mut self,
        name: &str,
        label: &str,
        buckets: impl Iterator<Item = (f64, u64)>,
        above: u64,
        sum: f64,
    ) {
        self.family(Kind::Histogram, name);
        let comma = if label.is_empty() { "" } else { "," };
        let mut total = 0;
        for (bound, count) in buckets {
            total += count;
            self.line(&format!("{name}_bucket"), &format!("{label}{comma}le=\"{bound}\""), total as f64);
        }
        total += above;
        self.line(&format!("{name}_bucket"), &format!("{label}{comma}le=\"+Inf\""), total as f64);
        self.line(&format!("{name}_sum"), label, sum);
        self.line(&format!("{name}_count"), label, total as f64);
    }

    pub fn finish(self) -> String {
        self.out
    }

    fn family(&mut self, kind: Kind, name: &str) {
        if self.family != name {
            self.family = name.to_owned();
            // Writing into a String cannot fail.
            let _ = writeln!(self.out, "# HELP {name} {}\n# TYPE {name} {}", help::of(name), kind.name());
        }
    }

    fn line(&mut self, name: &str, label: &str, value: f64) {
        let _ = match label {
            "" => writeln!(self.out, "{name} {value}"),
            label => writeln!(self.out, "{name}{{{label}}} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_share_its_head() {
        let mut text = Text::default();
        text.sample(Kind::Counter, "ringpost_bytes_total", "direction=\"in\"", 5.0);
        text.sample(Kind::Counter, "ringpost_bytes_total", "direction=\"out\"", 18_446_744_073.0);
        let out = text.finish();
        assert_eq!(out.matches("# TYPE ringpost_bytes_total counter\n").count(), 1);
        assert!(out.ends_with(
            "ringpost_bytes_total{direction=\"in\"} 5\nringpost_bytes_total{direction=\"out\"} 18446744073\n"
        ));
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let mut text = Text::default();
        text.histogram("ringpost_commit_seconds", "", [(0.001, 2), (0.01, 3)].into_iter(), 1, 0.5);
        let out = text.finish();
        for line in [
            "ringpost_commit_seconds_bucket{le=\"0.001\"} 2",
            "ringpost_commit_seconds_bucket{le=\"0.01\"} 5",
            "ringpost_commit_seconds_bucket{le=\"+Inf\"} 6",
            "ringpost_commit_seconds_sum 0.5",
            "ringpost_commit_seconds_count 6",
        ] {
            assert!(out.lines().any(|l| l == line), "{out}");
        }
    }

    #[test]
    fn a_histogram_s_own_label_stands_before_the_bound() {
        let mut text = Text::default();
        for to in ["to=\"user\"", "to=\"group\""] {
            text.histogram("ringpost_send_seconds", to, [(0.001, 2)].into_iter(), 0, 0.5);
        }
        let out = text.finish();
        assert_eq!(out.matches("# TYPE ").count(), 1);
        assert!(out.contains("\nringpost_send_seconds_bucket{to=\"group\",le=\"0.001\"} 2\n"), "{out}");
        assert!(out.contains("\nringpost_send_seconds_count{to=\"user\"} 2\n"), "{out}");
    }
}
