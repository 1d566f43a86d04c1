//! What became of every single message.
//!
//! Owns: one entry per message of one worker, whose senders and receivers are all its own. Guarantees: each message is
//! counted under exactly what happened to it, whatever order its acknowledgement and its delivery come in. Never does:
//! I/O, clocks.

use serde::Serialize;

/// Index of a user of this worker. Each user has one partner, so a user is also one side of one conversation.
pub type User = u32;

#[derive(Clone, Copy, Debug)]
struct Message {
    /// Nanoseconds; the scheduled time.
    at: u64,
    to: User,
    /// Position told in SENT; 0: not acknowledged.
    sent_seq: u64,
    /// Position in the first push; 0: not delivered.
    push_seq: u64,
    /// The connection of the receiver on which the last push came.
    epoch: u32,
}

/// What one answer or push means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first of its kind; the message was scheduled at this time.
    First { scheduled: u64 },
    /// Allowed: the same again after a reconnect or a retry.
    Again,
    /// Something that must not happen; counted in [`Totals`].
    Wrong,
}

/// Sums over all messages of a run. All but the first three ought to be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    /// Sent and neither acknowledged nor refused at the end: the outcome is unknown.
    pub unanswered: u64,
    /// Answered with an error that was not to be retried.
    pub refused: u64,
    /// Acknowledged and never delivered.
    pub missing: u64,
    /// Delivered twice on one connection, or at two positions of the log.
    pub duplicated: u64,
    /// First delivered after a later one of its conversation.
    pub out_of_order: u64,
    /// SENT names another position than the push or an earlier SENT.
    pub contradicted: u64,
    /// Delivered to another user than it was sent to, or with other bytes.
    pub damaged: u64,
    /// Pushed again after a reconnect, as the contract allows.
    pub redelivered: u64,
    /// Pushed, but not of this run.
    pub foreign: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        let pairs: [(&mut u64, u64); 12] = [
            (&mut self.sent, other.sent),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.delivered, other.delivered),
            (&mut self.unanswered, other.unanswered),
            (&mut self.refused, other.refused),
            (&mut self.missing, other.missing),
            (&mut self.duplicated, other.duplicated),
            (&mut self.out_of_order, other.out_of_order),
            (&mut self.contradicted, other.contradicted),
            (&mut self.damaged, other.damaged),
            (&mut self.redelivered, other.redelivered),
            (&mut self.foreign, other.foreign),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }

    /// Sentences about what broke the delivery contract; empty when it held.
    pub fn violations(&self) -> Vec<String> {
        let broken = [
            (self.missing, "acknowledged messages missing"),
            (self.duplicated, "messages duplicated"),
            (self.out_of_order, "messages out of order"),
            (self.contradicted, "positions contradicted"),
            (self.damaged, "messages damaged"),
        ];
        broken.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// The messages of one worker.
#[derive(Debug, Default)]
pub struct Ledger {
    messages: Vec<Message>,
    /// Per user: the highest position that was pushed to it.
    heads: Vec<u64>,
    totals: Totals,
}

impl Ledger {
    pub fn new(users: usize) -> Self {
        Self { heads: vec![0; users], ..Self::default() }
    }

    /// Enters a message and gives its number: 0, 1, 2 ... `None` when the numbers are used up.
    pub fn send(&mut self, to: User, scheduled: u64) -> Option<u32> {
        let number = u32::try_from(self.messages.len()).ok()?;
        self.messages.push(Message { at: scheduled, to, sent_seq: 0, push_seq: 0, epoch: 0 });
        self.totals.sent += 1;
        Some(number)
    }

    /// SENT arrived for `number`.
    pub fn acknowledged(&mut self, number: u32, seq: u64) -> Event {
        let Some(message) = self.messages.get_mut(number as usize) else { return wrong(&mut self.totals.contradicted) };
        let earlier = if message.sent_seq > 0 { message.sent_seq } else { message.push_seq };
        let first = message.sent_seq == 0;
        if first {
            message.sent_seq = seq;
            self.totals.acknowledged += 1;
        }
        match (first, earlier) {
            (_, earlier) if seq == 0 || earlier > 0 && earlier != seq => wrong(&mut self.totals.contradicted),
            (true, _) => Event::First { scheduled: message.at },
            (false, _) => Event::Again,
        }
    }

    /// A push of message `number` reached `user` on its connection number `epoch`.
    pub fn delivered(&mut self, number: u32, user: User, epoch: u32, seq: u64) -> Event {
        let totals = &mut self.totals;
        let (Some(message), Some(head)) = (self.messages.get_mut(number as usize), self.heads.get_mut(user as usize))
        else {
            return wrong(&mut totals.damaged);
        };
        if message.to != user {
            return wrong(&mut totals.damaged);
        }
        if message.push_seq > 0 {
            if message.push_seq != seq || message.epoch == epoch {
                return wrong(&mut totals.duplicated);
            }
            message.epoch = epoch;
            totals.redelivered += 1;
            return Event::Again;
        }
        (message.push_seq, message.epoch) = (seq, epoch);
        totals.delivered += 1;
        let scheduled = message.at;
        if message.sent_seq > 0 && message.sent_seq != seq {
            return wrong(&mut totals.contradicted);
        }
        if seq <= *head {
            return wrong(&mut totals.out_of_order);
        }
        *head = seq;
        Event::First { scheduled }
    }

    /// A final error came for a message.
    pub fn refused(&mut self) {
        self.totals.refused += 1;
    }

    /// A record came after a later one of the same connection: again if message `number` was delivered before, else late.
    pub fn pushed_late(&mut self, number: u32) {
        let delivered = self.messages.get(number as usize).is_some_and(|message| message.push_seq > 0);
        *(if delivered { &mut self.totals.duplicated } else { &mut self.totals.out_of_order }) += 1;
    }

    pub fn damaged(&mut self) {
        self.totals.damaged += 1;
    }

    pub fn foreign(&mut self) {
        self.totals.foreign += 1;
    }

    /// Whether everything that was sent is answered and everything acknowledged is delivered.
    pub fn is_settled(&self) -> bool {
        let totals = &self.totals;
        totals.acknowledged + totals.refused >= totals.sent && totals.delivered >= totals.acknowledged
    }

    /// The sums so far, with what is missing and unanswered as of now.
    pub fn totals(&self) -> Totals {
        let missing = self.messages.iter().filter(|m| m.sent_seq > 0 && m.push_seq == 0).count() as u64;
        let silent = self.messages.iter().filter(|m| m.sent_seq == 0).count() as u64;
        Totals { missing, unanswered: silent.saturating_sub(self.totals.refused), ..self.totals }
    }
}

fn wrong(counter: &mut u64) -> Event {
    *counter += 1;
    Event::Wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users 0 and 1 with three messages to 1.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2);
        (0..3).for_each(|n| assert_eq!(ledger.send(1, 100 + n), Some(n as u32)));
        ledger
    }

    #[test]
    fn a_clean_run_has_no_violation_and_is_settled() {
        let mut ledger = ledger();
        for n in 0..3 {
            let seq = u64::from(n) + 1;
            assert!(!ledger.is_settled());
            assert_eq!(ledger.acknowledged(n, seq), Event::First { scheduled: 100 + u64::from(n) });
            assert_eq!(ledger.delivered(n, 1, 1, seq), Event::First { scheduled: 100 + u64::from(n) });
        }
        assert!(ledger.is_settled());
        let totals = ledger.totals();
        assert_eq!(totals, Totals { sent: 3, acknowledged: 3, delivered: 3, ..Totals::default() });
        assert!(totals.violations().is_empty());
    }

    #[test]
    fn a_push_may_come_before_its_sent() {
        let mut ledger = ledger();
        assert!(matches!(ledger.delivered(0, 1, 1, 1), Event::First { .. }));
        assert!(matches!(ledger.acknowledged(0, 1), Event::First { .. }));
        assert!(ledger.totals().violations().is_empty());
    }

    #[test]
    fn an_acknowledged_message_that_never_arrives_is_missing() {
        let mut ledger = ledger();
        ledger.acknowledged(1, 2);
        let totals = ledger.totals();
        assert_eq!((totals.missing, totals.unanswered), (1, 2));
        assert_eq!(totals.violations(), ["1 acknowledged messages missing"]);
    }

    #[test]
    fn twice_on_one_connection_is_a_duplicate_and_on_the_next_one_is_not() {
        let mut ledger = ledger();
        ledger.delivered(0, 1, 1, 1);
        assert_eq!(ledger.delivered(0, 1, 2, 1), Event::Again);
        assert_eq!(ledger.totals().redelivered, 1);
        assert_eq!(ledger.delivered(0, 1, 2, 1), Event::Wrong);
        assert_eq!(ledger.totals().duplicated, 1);
    }

    #[test]
    fn stored_at_two_positions_is_a_duplicate_even_after_a_reconnect() {
        let mut ledger = ledger();
        ledger.delivered(0, 1, 1, 1);
        assert_eq!(ledger.delivered(0, 1, 2, 9), Event::Wrong);
        assert_eq!(ledger.totals().duplicated, 1);
    }

    #[test]
    fn an_earlier_position_after_a_later_one_is_out_of_order() {
        let mut ledger = ledger();
        ledger.delivered(1, 1, 1, 2);
        assert_eq!(ledger.delivered(0, 1, 1, 1), Event::Wrong);
        assert_eq!(ledger.totals().out_of_order, 1);
        assert_eq!(ledger.totals().delivered, 2);
    }

    #[test]
    fn a_late_push_is_a_duplicate_or_out_of_order_by_what_was_delivered() {
        let mut ledger = ledger();
        ledger.delivered(1, 1, 1, 2);
        ledger.pushed_late(0);
        ledger.pushed_late(1);
        let totals = ledger.totals();
        assert_eq!((totals.out_of_order, totals.duplicated), (1, 1));
    }

    #[test]
    fn positions_that_differ_between_answers_are_contradictions() {
        let mut ledger = ledger();
        ledger.acknowledged(0, 1);
        assert_eq!(ledger.acknowledged(0, 1), Event::Again);
        assert_eq!(ledger.acknowledged(0, 2), Event::Wrong);
        assert_eq!(ledger.delivered(0, 1, 1, 3), Event::Wrong);
        assert_eq!(ledger.acknowledged(77, 1), Event::Wrong);
        assert_eq!(ledger.totals().contradicted, 3);
    }

    #[test]
    fn a_message_at_the_wrong_user_is_damage() {
        let mut ledger = ledger();
        assert_eq!(ledger.delivered(0, 0, 1, 1), Event::Wrong);
        assert_eq!(ledger.delivered(50, 1, 1, 1), Event::Wrong);
        assert_eq!(ledger.totals().damaged, 2);
    }

    #[test]
    fn a_refused_message_is_settled_and_neither_missing_nor_unanswered() {
        let mut ledger = Ledger::new(2);
        ledger.send(1, 0);
        ledger.refused();
        assert!(ledger.is_settled());
        let totals = ledger.totals();
        assert_eq!((totals.refused, totals.unanswered, totals.missing), (1, 0, 0));
    }
}
