//! New conversations of who was never answered, and rates that a new connection does not start afresh.

use crate::world::{World, cmid, text};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Rate, Request};

const DAY_MS: u64 = 24 * 3_600_000;

fn limited(most: u32) -> World {
    World::with(3, Faults::none(), |settings| settings.new_conversations = most)
}

fn hi(world: &mut World, from: ConnRef, to: &str, n: u32) -> Result<v1::Sent, v1::Error> {
    world.sent(from, text(to, cmid(n), "hi"))
}

#[test]
fn who_was_never_answered_begins_so_many_conversations_a_day_however_often_it_connects() {
    let mut world = limited(3);
    world.swap = 5;
    let mallory = world.open("mallory", "phone");
    for n in 0..3 {
        assert_eq!(hi(&mut world, mallory, &format!("user{n}"), n).unwrap().seq, 1);
    }
    world.close(mallory);
    world.advance(60_000);
    let mallory = world.open("mallory", "tablet");
    let error = hi(&mut world, mallory, "user3", 3).unwrap_err();
    assert_eq!((error.code(), error.retryable), (Code::RateLimited, true));
    assert!(error.retry_after_ms > DAY_MS - 120_000 && error.retry_after_ms < DAY_MS, "{}", error.retry_after_ms);
    // What was begun goes on, to oneself one may always write, and a retry is known.
    assert_eq!(hi(&mut world, mallory, "user0", 10).unwrap().seq, 2);
    assert_eq!(hi(&mut world, mallory, "mallory", 11).unwrap().seq, 1);
    world.close(mallory);
    world.advance(error.retry_after_ms);
    let mallory = world.open("mallory", "phone");
    assert_eq!(hi(&mut world, mallory, "user3", 3).unwrap().seq, 1);
}

#[test]
fn a_block_that_is_taken_back_begins_no_conversation() {
    let mut world = limited(1);
    let mallory = world.open("mallory", "phone");
    hi(&mut world, mallory, "bob", 1).unwrap();
    let user = || "carl".to_owned();
    for what in [Wire::Block(v1::Block { user: user() }), Wire::Unblock(v1::Block { user: user() })] {
        assert!(matches!(world.answer(mallory, Request::More(Box::new(what))), Answer::Ok(_)));
    }
    assert_eq!(hi(&mut world, mallory, "carl", 2).unwrap_err().code(), Code::RateLimited);
}

#[test]
fn many_at_once_are_counted_as_they_come() {
    let mut world = limited(3);
    let mallory = world.open("mallory", "phone");
    let asked: Vec<_> = (0..10).map(|n| world.send(mallory, text(&format!("user{n}"), cmid(n), "hi"))).collect();
    world.settle();
    let sent = asked.into_iter().filter(|id| world.outcome(mallory, *id).unwrap().is_ok()).count();
    assert_eq!(sent, 3);
    assert_eq!(world.routers.iter().map(|router| router.counters().beginnings_refused).sum::<u64>(), 7);
}

#[test]
fn one_answer_ends_the_limit_for_good() {
    let mut world = limited(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    hi(&mut world, alice, "bob", 1).unwrap();
    hi(&mut world, alice, "user1", 2).unwrap();
    assert_eq!(hi(&mut world, alice, "user2", 3).unwrap_err().code(), Code::RateLimited);
    // Bob begins nothing by answering.
    for n in 0..2 {
        hi(&mut world, bob, &format!("peer{n}"), 20 + n).unwrap();
    }
    assert_eq!(hi(&mut world, bob, "alice", 30).unwrap().seq, 2);
    for n in 3..10 {
        hi(&mut world, alice, &format!("user{n}"), n).unwrap();
    }
    assert_eq!(hi(&mut world, bob, "peer9", 31).unwrap_err().code(), Code::RateLimited, "he was not answered");
    // It is kept with the devices: a restart does not forget it.
    let mut again = limited(2);
    again.put_devices("alice", &world.devices("alice"));
    let alice = again.open("alice", "phone");
    for n in 0..10 {
        hi(&mut again, alice, &format!("user{n}"), n).unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_refused_for_a_moment_and_not_for_a_day() {
    let mut world = limited(1);
    let alice = world.open("alice", "phone");
    hi(&mut world, alice, "bob", 1).unwrap();
    let id = world.send(alice, text("carl", cmid(2), "hi"));
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    world.settle();
    let error = world.outcome(alice, id).unwrap().unwrap_err();
    assert!(error.retryable && error.retry_after_ms <= 1_000, "{error:?}");
}

#[test]
fn a_beginning_that_is_refused_again_and_again_costs_what_one_does() {
    let mut world = limited(3);
    let mallory = world.open("mallory", "phone");
    let grown = |world: &mut World, tries: std::ops::Range<u32>| {
        for n in tries {
            assert_eq!(hi(world, mallory, "bob", n).unwrap_err().code(), Code::StorageFull);
        }
        world.advance(60_000);
        world.routers.iter().map(|router| router.beginning_count()).sum::<usize>()
    };
    world.store.set_faults(Faults { full: 10_000, ..Faults::none() });
    assert_eq!((grown(&mut world, 0..1), grown(&mut world, 1..100)), (1, 1));
}

#[test]
fn a_device_that_connects_again_has_used_what_it_used() {
    let rate = Rate { per_second: 1, burst: 3 };
    let mut world = World::with(2, Faults::none(), |settings| settings.device_sends = rate);
    let mut alice = world.open("alice", "phone");
    for n in 0..3 {
        hi(&mut world, alice, "bob", n).unwrap();
    }
    for round in 0..3 {
        // Taken over, and closed before it comes again.
        let again = world.open("alice", "phone");
        world.close(alice);
        let error = hi(&mut world, again, "bob", 10 + round).unwrap_err();
        assert_eq!(error.code(), Code::RateLimited);
        world.close(again);
        alice = world.open("alice", "phone");
        assert_eq!(hi(&mut world, alice, "bob", 10 + round).unwrap_err().code(), Code::RateLimited);
    }
    world.close(alice);
    world.advance(10_000);
    let alice = world.open("alice", "phone");
    let sent = (20..30).filter(|n| hi(&mut world, alice, "bob", *n).is_ok()).count();
    assert_eq!(sent, 3, "after a while the whole burst is there again");
}
