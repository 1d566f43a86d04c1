use super::*;

/// Users 0 and 1 with three messages to 1.
fn pair() -> Ledger {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.room(&[0, 1]), 0);
    (0..3).for_each(|n| assert_eq!(ledger.send(0, 0, 100 + n), Some(n as u32)));
    ledger
}

/// A group of `members` with three messages of user 0.
fn group(members: u32) -> Ledger {
    let mut ledger = Ledger::default();
    let users: Vec<User> = (0..members).rev().collect();
    assert_eq!(ledger.room(&users), 0);
    (0..3).for_each(|n| assert_eq!(ledger.send(0, 0, 100), Some(n)));
    ledger
}

#[test]
fn a_clean_run_has_no_violation_and_is_settled() {
    let mut ledger = pair();
    for n in 0..3 {
        let seq = u64::from(n) + 1;
        let first = Event::First { scheduled: 100 + u64::from(n), last: false };
        assert!(!ledger.is_settled());
        assert_eq!(ledger.acknowledged(n, seq, seq), first);
        ledger.pushed(n, 1, 1, seq);
        assert_eq!(ledger.delivered(n, 1, seq), Event::First { scheduled: 100 + u64::from(n), last: true });
    }
    assert!(ledger.is_settled());
    let totals = ledger.totals();
    assert_eq!(totals, Totals { sent: 3, acknowledged: 3, owed: 3, delivered: 3, ..Totals::default() });
    assert!(totals.violations().is_empty());
}

#[test]
fn a_push_may_come_before_its_sent() {
    let mut ledger = pair();
    assert!(matches!(ledger.delivered(0, 1, 1), Event::First { .. }));
    assert!(matches!(ledger.acknowledged(0, 1, 1), Event::First { last: true, .. }));
    assert!(ledger.totals().violations().is_empty());
}

#[test]
fn a_group_message_is_whole_when_the_last_member_has_it() {
    for members in [3, 20, 32, 33, 64, 1_024] {
        let mut ledger = group(members);
        ledger.acknowledged(1, 2, 9);
        for user in 1..members {
            assert!(!ledger.is_settled() && ledger.is_behind(0, user));
            assert_eq!(ledger.delivered(1, user, 2), Event::First { scheduled: 100, last: user + 1 == members });
            assert!(!ledger.is_behind(0, user));
        }
        let totals = ledger.totals();
        let receivers = u64::from(members) - 1;
        assert_eq!((totals.owed, totals.delivered, totals.missing), (receivers, receivers, 0));
        assert_eq!((ledger.newest(0), ledger.route(1)), (9, Some((0, 0))));
    }
}

#[test]
fn one_member_without_a_message_is_one_delivery_missing() {
    for members in [20, 100] {
        let mut ledger = group(members);
        ledger.acknowledged(0, 1, 1);
        (1..members).filter(|&user| user != 7).for_each(|user| {
            ledger.delivered(0, user, 1);
        });
        assert!(!ledger.is_settled());
        assert_eq!(ledger.totals().violations(), ["1 deliveries of acknowledged messages missing"]);
    }
}

#[test]
fn members_do_not_share_their_marks_and_heads() {
    let mut ledger = group(40);
    ledger.delivered(1, 35, 2);
    assert_eq!(ledger.delivered(0, 35, 1), Event::Wrong);
    assert!(matches!(ledger.delivered(0, 3, 1), Event::First { .. }));
    assert_eq!(ledger.delivered(0, 3, 1), Event::Wrong);
    let totals = ledger.totals();
    assert_eq!((totals.out_of_order, totals.duplicated, totals.delivered), (1, 1, 3));
}

#[test]
fn an_acknowledged_message_that_never_arrives_is_missing() {
    let mut ledger = pair();
    ledger.acknowledged(1, 2, 2);
    let totals = ledger.totals();
    assert_eq!((totals.missing, totals.unanswered), (1, 2));
}

#[test]
fn a_push_again_on_one_connection_is_a_duplicate_and_on_the_next_one_is_not() {
    let mut ledger = pair();
    ledger.pushed(0, 1, 1, 1);
    ledger.delivered(0, 1, 1);
    ledger.pushed(0, 1, 2, 1);
    assert_eq!(ledger.totals().redelivered, 1);
    ledger.pushed(0, 1, 2, 1);
    assert_eq!((ledger.totals().redelivered, ledger.totals().duplicated), (1, 1));
}

#[test]
fn a_late_push_is_a_duplicate_or_out_of_order_by_what_was_delivered() {
    let mut ledger = pair();
    ledger.pushed(1, 1, 1, 2);
    ledger.delivered(1, 1, 2);
    ledger.pushed(0, 1, 1, 1);
    ledger.pushed(1, 1, 1, 2);
    let totals = ledger.totals();
    assert_eq!((totals.out_of_order, totals.duplicated), (1, 1));
}

#[test]
fn stored_at_two_positions_is_told() {
    let mut ledger = group(3);
    ledger.delivered(0, 1, 1);
    assert_eq!(ledger.delivered(0, 1, 9), Event::Wrong);
    assert_eq!(ledger.delivered(0, 2, 9), Event::Wrong, "another member has it elsewhere");
    assert_eq!(ledger.totals().duplicated, 2);
}

#[test]
fn an_earlier_position_after_a_later_one_is_out_of_order() {
    let mut ledger = pair();
    ledger.delivered(1, 1, 2);
    assert_eq!(ledger.delivered(0, 1, 1), Event::Wrong);
    assert_eq!((ledger.totals().out_of_order, ledger.totals().delivered), (1, 2));
}

#[test]
fn positions_that_differ_between_answers_are_contradictions() {
    let mut ledger = pair();
    ledger.acknowledged(0, 1, 1);
    assert_eq!(ledger.acknowledged(0, 1, 1), Event::Again);
    assert_eq!(ledger.acknowledged(0, 2, 2), Event::Wrong);
    assert_eq!(ledger.delivered(0, 1, 3), Event::Wrong);
    assert_eq!(ledger.acknowledged(77, 1, 1), Event::Wrong);
    assert_eq!(ledger.totals().contradicted, 3);
}

#[test]
fn a_message_at_a_stranger_or_at_its_sender_is_damage() {
    let mut ledger = pair();
    ledger.room(&[2, 3]);
    for (number, user) in [(0, 0), (0, 2), (50, 1)] {
        assert_eq!(ledger.delivered(number, user, 1), Event::Wrong);
    }
    assert_eq!(ledger.totals().damaged, 3);
}

#[test]
fn who_is_no_member_cannot_send() {
    assert_eq!(pair().send(0, 2, 0), None);
    assert_eq!(pair().send(1, 0, 0), None);
}

#[test]
fn a_refused_message_is_settled_and_neither_missing_nor_unanswered_but_must_not_arrive() {
    let mut ledger = Ledger::default();
    ledger.room(&[0, 1]);
    ledger.send(0, 0, 0);
    ledger.refused(0);
    assert!(ledger.is_settled());
    let totals = ledger.totals();
    assert_eq!((totals.refused, totals.unanswered, totals.missing), (1, 0, 0));
    assert_eq!(ledger.delivered(0, 1, 1), Event::Wrong);
    assert_eq!(ledger.totals().contradicted, 1);
}
