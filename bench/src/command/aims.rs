//! Aims that are given on the command line: a run that misses one fails.

use super::run::{Common, RunError};
use crate::report::{Report, millis};
use std::time::Duration;

/// What is demanded of a run.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Aims (a run that misses one ends with status 1)")]
pub struct Aims {
    /// The gateway's own p99 of direct messages (from the completion of the receive to the submission of SENT) is at most
    /// this, as the upper end of a bucket of its histogram; needs --admin.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub aim_server_p99: Option<Duration>,
    /// p99 from send to push is at most this; with --beside of what is written beside.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub aim_push_p99: Option<Duration>,
    /// p99.9 from send to SENT is at most this; with --beside of what is written beside.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub aim_sent_p999: Option<Duration>,
}

impl Aims {
    /// Refuses what could never be told.
    pub fn check(&self, common: &Common) -> Result<(), RunError> {
        match self.aim_server_p99.is_some() && common.admin.is_none() {
            true => Err(RunError::Usage("--aim-server-p99 needs --admin, which tells it".to_owned())),
            false => Ok(()),
        }
    }

    /// Enters the aims that were missed; one of which nothing is known is.
    pub fn judge(&self, report: &mut Report) {
        let server = report.server.get("server_send_direct").map(|bounds| bounds.p99_us);
        // The largest bound is no answer to what is above it.
        let server = server.map(|p99| p99.unwrap_or(u64::MAX));
        let is_beside = report.beside.is_some();
        let of = |name: &str, beside: &str| report.latencies.get(if is_beside { beside } else { name }).copied();
        let push = of("send_to_push", "beside_send_to_push").map(|p| p.p99_us);
        let sent = of("send_to_sent", "beside_send_to_sent").map(|p| p.p999_us);
        for (aim, known, what) in [
            (self.aim_server_p99, server, "the server's own p99 of direct messages"),
            (self.aim_push_p99, push, "p99 from send to push"),
            (self.aim_sent_p999, sent, "p99.9 from send to SENT"),
        ] {
            let Some(aim) = aim else { continue };
            let limit = humantime::format_duration(aim);
            match known {
                None => report.target(false, || format!("{what} is not known, at most {limit} wanted")),
                Some(us) => report.target(u128::from(us) <= aim.as_micros(), || {
                    let is = if us == u64::MAX { "above all buckets".to_owned() } else { millis(us) };
                    format!("{what} is {is}, at most {limit} wanted")
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Bounds;
    use crate::report::Latencies;

    fn missed(aims: &Aims, p99_us: Option<u64>) -> Vec<String> {
        let mut report = Report::default();
        report.server.insert("server_send_direct".into(), Bounds { count: 1, p50_us: Some(50), p99_us, p999_us: None });
        let mut latencies = Latencies::default();
        latencies.record(0, 7_000_000);
        report.latency("send_to_push", &latencies);
        aims.judge(&mut report);
        report.missed
    }

    #[test]
    fn an_aim_is_reached_at_its_very_bound_and_missed_above() {
        let aims = Aims { aim_server_p99: Some(Duration::from_millis(5)), ..Aims::default() };
        assert!(missed(&aims, Some(5_000)).is_empty());
        assert!(missed(&aims, Some(6_000))[0].contains("is 6.000 ms, at most 5ms wanted"));
        assert!(missed(&aims, None)[0].contains("above all buckets"));
    }

    #[test]
    fn what_is_written_beside_is_what_an_aim_means_where_it_is() {
        let aims = Aims { aim_push_p99: Some(Duration::from_millis(10)), ..Aims::default() };
        assert!(missed(&aims, None).is_empty());
        let (mut report, mut latencies) = (Report::default(), Latencies::default());
        latencies.record(0, 1_000_000);
        report.latency("send_to_push", &latencies);
        latencies.record(0, 90_000_000);
        report.latency("beside_send_to_push", &latencies);
        report.beside = Some(Default::default());
        aims.judge(&mut report);
        assert_eq!(report.missed.len(), 1);
        report.latencies.remove("beside_send_to_push");
        aims.judge(&mut report);
        assert!(report.missed[1].contains("not known"), "and nothing else stands for it: {:?}", report.missed);
    }

    #[test]
    fn an_aim_of_which_nothing_is_known_is_missed() {
        let aims = Aims { aim_sent_p999: Some(Duration::from_millis(5)), ..Aims::default() };
        assert!(missed(&aims, None)[0].contains("not known"));
    }
}
