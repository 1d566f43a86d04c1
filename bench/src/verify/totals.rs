//! The sums of a run, and what of them is a breach.

use serde::{Deserialize, Serialize};

/// Sums over all messages of a run. All but the first four, and what says so, ought to be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub sent: u64,
    pub acknowledged: u64,
    /// Deliveries that the acknowledged messages owe: one for each receiver.
    pub owed: u64,
    /// Deliveries, each counted once: a message to a group of 20 has 19.
    pub delivered: u64,
    /// Sent and neither acknowledged nor refused at the end: the outcome is unknown.
    pub unanswered: u64,
    /// Answered with an error that was not to be retried.
    pub refused: u64,
    /// Deliveries that acknowledged messages owe and that never came.
    pub missing: u64,
    /// Delivered twice to one receiver, or at two positions of the log.
    pub duplicated: u64,
    /// First delivered after a later one of its conversation.
    pub out_of_order: u64,
    /// SENT names another position than the push or an earlier SENT, or what was refused was delivered.
    pub contradicted: u64,
    /// Delivered to a user that it was not sent to, in the name of another conversation or sender, or with other bytes.
    pub damaged: u64,
    /// syncDone was said before everything that was missed had been pushed.
    pub synced_early: u64,
    /// At a sync, pushed after records of an older conversation.
    pub older_first: u64,
    /// Pushed again after a reconnect, as the contract allows.
    pub redelivered: u64,
    /// Pushed, but not of this run; allowed where an earlier run had the same users.
    pub foreign: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        let pairs: [(&mut u64, u64); 15] = [
            (&mut self.sent, other.sent),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.owed, other.owed),
            (&mut self.delivered, other.delivered),
            (&mut self.unanswered, other.unanswered),
            (&mut self.refused, other.refused),
            (&mut self.missing, other.missing),
            (&mut self.duplicated, other.duplicated),
            (&mut self.out_of_order, other.out_of_order),
            (&mut self.contradicted, other.contradicted),
            (&mut self.damaged, other.damaged),
            (&mut self.synced_early, other.synced_early),
            (&mut self.older_first, other.older_first),
            (&mut self.redelivered, other.redelivered),
            (&mut self.foreign, other.foreign),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// Sentences about what broke the delivery contract; empty when it held.
    pub fn violations(&self) -> Vec<String> {
        let broken = [
            (self.missing, "deliveries of acknowledged messages missing"),
            (self.duplicated, "messages duplicated"),
            (self.out_of_order, "messages out of order"),
            (self.contradicted, "positions contradicted"),
            (self.damaged, "messages damaged"),
            (self.synced_early, "syncs said to be done too early"),
            (self.older_first, "records of a newer conversation pushed after those of an older one"),
        ];
        broken.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}
