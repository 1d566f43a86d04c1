//! What is left of a crowd when the run is over: sums, which those of other crowds are added to.

use super::{Crowd, Times};
use crate::over_time::Slices;
use crate::report::Latencies;
use crate::verify::Totals;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// See the fields of the same name of [`Crowd`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub totals: Totals,
    pub errors: BTreeMap<String, u64>,
    pub direct: Times,
    pub group: Times,
    pub slices: Slices,
    pub to_last: Latencies,
    pub lag: Latencies,
    pub to_welcome: Latencies,
    pub to_synced: Latencies,
    pub setbacks: u64,
    pub shed: u64,
    pub unmeasured: u64,
    /// Users who are away or on their way back.
    pub absent: u64,
    /// Groups that were not created, and members who have not heard of theirs.
    pub uncreated: u64,
    pub untold: u64,
    /// The longest time that what a command measures took any crowd, seconds.
    pub took: f64,
}

impl Crowd<'_> {
    pub fn into_found(self) -> Found {
        let (uncreated, untold) = self.groups.missing();
        Found {
            totals: self.ledger.totals(),
            absent: self.absent(),
            uncreated,
            untold,
            errors: self.errors,
            direct: self.direct,
            group: self.group,
            slices: self.slices,
            to_last: self.to_last,
            lag: self.lag,
            to_welcome: self.to_welcome,
            to_synced: self.to_synced,
            setbacks: self.setbacks,
            shed: self.shed,
            unmeasured: self.unmeasured,
            took: 0.0,
        }
    }
}

impl Found {
    pub fn add(&mut self, other: Self) {
        self.totals.add(&other.totals);
        for (why, count) in other.errors {
            *self.errors.entry(why).or_default() += count;
        }
        for (sum, more) in [(&mut self.direct, &other.direct), (&mut self.group, &other.group)] {
            sum.to_sent.add(&more.to_sent);
            sum.to_push.add(&more.to_push);
        }
        self.slices.add(other.slices);
        self.to_last.add(&other.to_last);
        self.lag.add(&other.lag);
        self.to_welcome.add(&other.to_welcome);
        self.to_synced.add(&other.to_synced);
        for (sum, more) in [
            (&mut self.setbacks, other.setbacks),
            (&mut self.shed, other.shed),
            (&mut self.unmeasured, other.unmeasured),
            (&mut self.absent, other.absent),
            (&mut self.uncreated, other.uncreated),
            (&mut self.untold, other.untold),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.took = self.took.max(other.took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(micros: u64, took: f64) -> Found {
        let mut found = Found { shed: 2, absent: 1, took, ..Found::default() };
        found.totals.sent = 7;
        found.errors.insert("Forbidden".to_owned(), 3);
        found.direct.to_push.record(0, micros * 1_000);
        found.slices.begin(0, 1_000_000_000);
        found.slices.sent(5, micros * 1_000);
        found
    }

    #[test]
    fn what_crowds_of_two_processes_found_is_what_one_crowd_would_have() {
        let text = serde_json::to_string(&found(900, 3.0)).unwrap();
        let mut sum = Found::default();
        sum.add(found(100, 1.0));
        sum.add(serde_json::from_str(&text).unwrap());
        assert_eq!((sum.totals.sent, sum.shed, sum.absent, sum.errors["Forbidden"], sum.took), (14, 4, 2, 6, 3.0));
        let push = sum.direct.to_push.percentiles().unwrap();
        assert_eq!((push.count, push.p50_us, push.max_us), (2, 100, 900));
        let points = crate::over_time::points(std::iter::once(&sum.slices), &[], 0);
        assert_eq!(points.iter().map(|point| point.sent).collect::<Vec<_>>(), [2]);
    }
}
