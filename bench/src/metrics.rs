//! What the gateway says of itself: counters of its admin listener's /metrics.
//!
//! Owns: one HTTP/1.1 request, the sum of a series' samples, and percentiles of what a histogram has counted between two
//! pages. Guarantees: a page that lacks one of the series that this tool relies on is an error, so that what is not there never
//! passes for 0; a percentile is the upper end of the bucket that it falls into, so never less than what was. Never does: more
//! than the text exposition format needs.

use crate::series::Series;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest page that is read, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// One page of metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    pub fn read(admin: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // In one piece: who answers the first one and closes would reset what comes behind it.
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.take(MOST_BYTES).read_to_string(&mut text)?;
        Self::whole(text)
    }

    /// A page with all series that are relied on.
    fn whole(text: String) -> io::Result<Self> {
        let page = Self(text);
        match Series::ALL.iter().find(|&&series| page.samples(series).next().is_none()) {
            Some(series) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("its /metrics has no {series}"))),
            None => Ok(page),
        }
    }

    /// The sum of all samples of a series.
    pub fn sum(&self, series: Series) -> f64 {
        self.samples(series).map(|(_, value)| value).sum()
    }

    /// The value of a label of the first sample of a series.
    pub fn label(&self, series: Series, label: &str) -> Option<&str> {
        let (labels, _) = self.samples(series).next()?;
        labels.split_once(&format!("{label}=\""))?.1.split_once('"').map(|(value, _)| value)
    }

    /// What a histogram has counted, whose buckets are this series.
    pub fn buckets(&self, series: Series) -> Buckets {
        let mut buckets = Buckets::default();
        for (labels, count) in self.samples(series) {
            let bound = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"'));
            match bound.map(|(bound, _)| bound) {
                Some("+Inf") => buckets.all += count,
                Some(bound) => buckets.enter(bound.parse().unwrap_or(f64::NAN), count),
                None => {}
            }
        }
        buckets
    }

    /// The samples of a series: labels as they stand, and the value.
    fn samples(&self, series: Series) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(series.name)?;
            let (labels, rest) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
            labels.contains(series.label).then_some((labels, value))
        })
    }
}

/// What a histogram has counted, or has counted since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// (upper bound in seconds, observations up to it), rising.
    bounds: Vec<(f64, f64)>,
    /// Those above the last bound, too.
    all: f64,
}

/// Percentiles of what a histogram of the gateway has counted: upper ends of its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub count: u64,
    /// Microseconds; `None`: above the largest bound.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub p999_us: Option<u64>,
}

impl Buckets {
    fn enter(&mut self, bound: f64, count: f64) {
        match self.bounds.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => self.bounds.push((bound, count)),
        }
    }

    /// What was counted after `before`.
    pub fn since(&self, before: &Buckets) -> Buckets {
        let then =
            |bound: f64| before.bounds.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        let bounds = self.bounds.iter().map(|&(bound, count)| (bound, (count - then(bound)).max(0.0)));
        Buckets { bounds: bounds.collect(), all: (self.all - before.all).max(0.0) }
    }

    /// `None` when nothing was counted.
    pub fn percentiles(&self) -> Option<Bounds> {
        let at = |share: f64| {
            let rank = (share * self.all).ceil().max(1.0);
            let bound = self.bounds.iter().find(|(_, count)| *count >= rank).map(|(bound, _)| *bound);
            bound.map(|seconds| (seconds * 1e6).round() as u64)
        };
        (self.all >= 1.0).then(|| Bounds {
            count: self.all as u64,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_are_summed_and_others_left_out() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a_total counter\na_total{x=\"} 9\"} 2\na_total{x=\"b\"} 3.5\na_total_more 7\na 1\n";
        let metrics = Metrics(text.to_owned());
        let sum = |name, label| metrics.sum(Series { name, label });
        assert_eq!(metrics.label(Series { name: "a_total", label: "" }, "x"), Some("} 9"));
        assert_eq!((sum("a_total", ""), sum("a_total", "x=\"b\""), sum("a", "")), (5.5, 3.5, 1.0));
    }

    #[test]
    fn a_page_without_one_of_the_series_that_are_relied_on_is_an_error_that_names_it() {
        let line = |series: &Series| match series.label {
            "" => format!("{} 0\n", series.name),
            label => format!("{}{{{label},le=\"1\"}} 0\n", series.name),
        };
        let without = |left_out: usize| {
            let lines = Series::ALL.iter().enumerate().filter(|(index, _)| *index != left_out);
            Metrics::whole(lines.map(|(_, series)| line(series)).collect())
        };
        assert!(without(usize::MAX).is_ok());
        for (index, series) in Series::ALL.iter().enumerate() {
            let error = without(index).map(|_| ()).unwrap_err().to_string();
            assert_eq!(error, format!("its /metrics has no {series}"));
        }
        assert!(Metrics::whole("HTTP/1.1 404 Not Found\r\n\r\n".to_owned()).is_err());
    }

    const ALL: Series = Series { name: "t_seconds_bucket", label: "" };
    const TO_USER: Series = Series { label: "to=\"user\"", ..ALL };

    fn page(counts: [(&str, u32); 4], label: &str) -> String {
        counts.iter().map(|(bound, count)| format!("t_seconds_bucket{{{label}le=\"{bound}\"}} {count}\n")).collect()
    }

    #[test]
    fn percentiles_are_the_upper_ends_of_the_buckets_of_a_difference() {
        let before =
            Metrics(page([("0.001", 1_000), ("0.005", 1_000), ("0.01", 1_000), ("+Inf", 1_000)], "to=\"user\","));
        let after = page([("0.001", 1_500), ("0.005", 1_990), ("0.01", 1_998), ("+Inf", 2_000)], "to=\"user\",");
        let other = page([("0.001", 0), ("0.005", 0), ("0.01", 0), ("+Inf", 500)], "to=\"group\",");
        let after = Metrics(after + &other);
        let user = after.buckets(TO_USER).since(&before.buckets(TO_USER));
        let expected = Bounds { count: 1_000, p50_us: Some(1_000), p99_us: Some(5_000), p999_us: None };
        assert_eq!(user.percentiles(), Some(expected));
        // Of both series.
        let all = after.buckets(ALL).since(&before.buckets(ALL));
        assert_eq!(all.percentiles().map(|p| (p.count, p.p50_us, p.p99_us)), Some((1_500, Some(5_000), None)));
    }

    #[test]
    fn a_value_on_a_bound_is_in_its_bucket_and_nothing_has_no_percentile() {
        let page = Metrics(page([("0.001", 99), ("0.005", 100), ("0.01", 100), ("+Inf", 100)], ""));
        let buckets = page.buckets(ALL);
        assert_eq!(buckets.percentiles().map(|p| (p.p99_us, p.p999_us)), Some((Some(1_000), Some(5_000))));
        assert_eq!(buckets.since(&buckets).percentiles(), None);
        assert_eq!(page.buckets(Series { name: "other_seconds_bucket", label: "" }).percentiles(), None);
    }
}
