//! What is told and never stored.

use crate::groups::{create, group_of, leave, to};
use crate::world::{Got, World, cmid, text, wire};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::v1::typing::state::Value as State;
use ringpost_router::{ConnRef, Request};

fn types(conversation: Option<v1::Peer>, state: State) -> Request {
    Request::More(Box::new(Wire::Typing(v1::Typing { conversation, state: state as i32 })))
}

/// (who, state) of the typing events since the last call.
fn typing(world: &mut World, conn: ConnRef) -> Vec<(String, State)> {
    world.settle();
    let event = |got| match got {
        Got::Frame(0, Answer::TypingEvent(event)) => Some((event.user.clone(), event.state())),
        _ => None,
    };
    world.got(conn).into_iter().filter_map(event).collect()
}

fn heard(who: &str, state: State) -> Vec<(String, State)> {
    vec![(who.to_owned(), state)]
}

#[test]
fn typing_is_told_once_and_is_over_by_itself() {
    let mut world = World::new(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    world.ack(bob, 1);
    world.got(bob);
    for _ in 0..3 {
        world.ask(alice, types(wire("bob"), State::Composing));
        world.advance(3_000);
    }
    assert_eq!(typing(&mut world, bob), heard("alice", State::Composing), "not again with every key");
    world.advance(2_900);
    assert_eq!(typing(&mut world, bob), [], "9 s, but renewed 5.9 s ago");
    world.advance(200);
    assert_eq!(typing(&mut world, bob), heard("alice", State::Paused));
    world.ask(alice, types(wire("bob"), State::Composing));
    world.ask(alice, types(wire("bob"), State::Paused));
    world.settle();
    assert_eq!(typing(&mut world, bob).len(), 2);
    world.ask(alice, types(wire("bob"), State::Composing));
    world.sent(alice, text("bob", cmid(2), "there")).unwrap();
    let told = typing(&mut world, bob);
    assert_eq!(told.last(), Some(&("alice".to_owned(), State::Paused)), "the message ends it");
    world.advance(60_000);
    assert_eq!(typing(&mut world, bob), []);
    assert_eq!(typing(&mut world, alice), []);
}

#[test]
fn typing_stays_among_members_who_do_not_block_each_other() {
    let mut world = World::new(2);
    let [alice, bob, carl, eve] = ["alice", "bob", "carl", "eve"].map(|name| world.open(name, "phone"));
    let group = group_of(world.answer(alice, create(1, &["bob", "carl"]))).group;
    for conn in [alice, bob, carl, eve] {
        world.got(conn);
    }
    world.ask(eve, types(to(&group), State::Composing));
    assert_eq!(typing(&mut world, bob), []);
    world.ask(carl, types(to(&group), State::Composing));
    assert_eq!(typing(&mut world, bob), heard("carl", State::Composing));
    assert_eq!(typing(&mut world, alice), heard("carl", State::Composing));
    assert_eq!([carl, eve].map(|conn| typing(&mut world, conn)), [vec![], vec![]]);
    world.sent(alice, text("bob", cmid(2), "hi")).unwrap();
    world.answer(bob, Request::More(Box::new(Wire::Block(v1::Block { user: "alice".into() }))));
    world.got(bob);
    world.ask(alice, types(wire("bob"), State::Composing));
    assert_eq!(typing(&mut world, bob), []);
    let error = world.error(alice, types(None, State::Composing));
    assert_eq!(error.field, "conversation");
}

#[test]
fn whoever_is_told_nothing_any_more_is_told_first_that_nobody_writes() {
    let mut world = World::new(2);
    let [alice, bob, carl] = ["alice", "bob", "carl"].map(|name| world.open(name, "phone"));
    let group = group_of(world.answer(alice, create(1, &["bob", "carl"]))).group;
    for conn in [alice, bob, carl] {
        world.got(conn);
    }
    world.ask(carl, types(to(&group), State::Composing));
    assert_eq!(typing(&mut world, bob), heard("carl", State::Composing));
    world.answer(bob, leave(2, &group));
    assert_eq!(typing(&mut world, bob), heard("carl", State::Paused));
    world.sent(alice, text("bob", cmid(3), "hi")).unwrap();
    world.got(alice);
    world.got(bob);
    for (conn, peer) in [(alice, "bob"), (bob, "alice")] {
        world.ask(conn, types(wire(peer), State::Composing));
    }
    assert_eq!(typing(&mut world, alice), heard("bob", State::Composing));
    assert_eq!(typing(&mut world, bob), heard("alice", State::Composing));
    world.answer(bob, Request::More(Box::new(Wire::Block(v1::Block { user: "alice".into() }))));
    assert_eq!(typing(&mut world, alice), heard("bob", State::Paused));
    assert_eq!(typing(&mut world, bob), heard("alice", State::Paused));
}

#[test]
fn a_session_whose_window_is_full_is_not_told() {
    let mut world = World::new(1);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    for n in 0..100 {
        world.sent(alice, text("bob", cmid(n), "hi")).unwrap();
    }
    world.got(bob);
    world.ask(alice, types(wire("bob"), State::Composing));
    assert_eq!(typing(&mut world, bob), []);
}
