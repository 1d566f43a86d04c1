//! What has expired before its receiver came: it is never shown as received, on no path, and everything else goes on.

use crate::groups::{more, say, three, to, unread};
use crate::world::{Got, World, read, send_all, user, wire};
use ringpost_persist::faulty::Faults;
use ringpost_persist::{Outcome, RegisterKey, StoreRequest};
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::member_state::state::Value as State;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};

fn direct() -> ConversationId {
    user("alice").direct_with(&user("bob"))
}

/// The last tick since the last call: delivered, and what is excluded.
pub fn told(world: &mut World, conn: ConnRef) -> Option<(Seq, Vec<(Seq, Seq)>)> {
    let tick = world.wire_ticks(conn).pop()?;
    Some((tick.delivered_seq, tick.excluded.iter().map(|skip| (skip.from_seq, skip.to_seq)).collect()))
}

fn info(conversation: Option<v1::Peer>, seq: Seq) -> Request {
    more(Wire::RecordInfo(v1::RecordInfo { conversation, seq }))
}

fn states(world: &mut World, conn: ConnRef, conversation: Option<v1::Peer>, seq: Seq) -> Vec<State> {
    match world.answer(conn, info(conversation, seq)) {
        Answer::RecordInfo(result) => result.members.iter().map(|member| member.state()).collect(),
        other => panic!("{other:?}"),
    }
}

pub fn undelivered(world: &World) -> u64 {
    world.routers.iter().map(|router| router.counters().expired_undelivered).sum()
}

/// Nobody holds anything in memory any more.
fn rest(world: &mut World) {
    world.advance(1_400_000);
}

#[test]
fn what_expired_before_its_receiver_came_is_not_delivered_and_its_sender_is_told() {
    for swap in [0, 1] {
        let mut world = World::new(2);
        world.swap = swap;
        let alice = world.open("alice", "phone");
        send_all(&mut world, alice, "bob", 1..4);
        world.store.expire(&direct(), 3);
        send_all(&mut world, alice, "bob", 4..6);
        let bob = world.open("bob", "phone");
        assert_eq!(world.pushed(bob), [4, 5], "everything that there is, in order");
        assert_eq!(told(&mut world, alice), None, "nothing is delivered by being gone");
        world.ack(bob, 2);
        world.advance(3_000);
        let expected = Some((5, vec![(1, 3)]));
        assert_eq!(told(&mut world, alice), expected);
        assert_eq!(undelivered(&world), 3);
        assert_eq!(world.delivered("bob", "alice", "phone"), 5);
        // What was read covers what was received, and no more.
        world.answer(bob, read("alice", 5));
        world.advance(3_000);
        for (seq, state) in [(2, State::Sent), (4, State::Read), (5, State::Read)] {
            assert_eq!(states(&mut world, alice, wire("bob"), seq), [state], "{seq}");
        }
        // Nor later, whoever has to be asked then.
        [alice, bob].into_iter().for_each(|conn| world.close(conn));
        rest(&mut world);
        let alice = world.open("alice", "phone");
        assert_eq!(told(&mut world, alice), expected);
        assert_eq!(states(&mut world, alice, wire("bob"), 4), [State::Read]);
        assert_eq!(world.error(alice, info(wire("bob"), 2)).code(), Code::NotFound);
        let bob = world.open("bob", "phone");
        assert!(world.pushed(bob).is_empty());
        send_all(&mut world, alice, "bob", 6..7);
        world.ack(bob, 1);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((6, vec![(1, 3)])));
        assert_eq!(undelivered(&world), 3, "each is counted once");
    }
}

#[test]
fn where_all_has_expired_a_receiver_who_comes_back_is_at_the_end() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..4);
    world.close(alice);
    rest(&mut world);
    world.store.expire(&direct(), 3);
    let bob = world.open("bob", "phone");
    assert!(world.pushed(bob).is_empty());
    world.advance(5_000);
    assert_eq!(world.delivered("bob", "alice", "phone"), 3);
    assert_eq!(world.store.register(&RegisterKey::Missed(direct(), user("bob"), 1)), 3);
    let alice = world.open("alice", "phone");
    assert_eq!(told(&mut world, alice), Some((3, vec![(1, 3)])));
}

#[test]
fn what_has_expired_behind_the_last_that_there_is_is_passed_with_the_ack_of_that() {
    let mut world = World::with(2, Faults::none(), |settings| settings.window_pushes = 4);
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..9);
    let bob = world.open("bob", "phone");
    assert_eq!(world.pushed(bob), [1, 2, 3, 4]);
    world.store.expire(&direct(), 8);
    // There is room, and nothing behind it any more, while two are still on their way.
    world.ack(bob, 2);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((2, vec![])));
    world.ack(bob, 4);
    world.advance(3_000);
    assert!(world.pushed(bob).is_empty());
    assert_eq!(world.delivered("bob", "alice", "phone"), 8);
    assert_eq!(told(&mut world, alice), Some((8, vec![(5, 8)])));
    assert_eq!(undelivered(&world), 4);
}

#[test]
fn an_ack_that_comes_after_its_session_was_ended_claims_nothing_that_has_expired() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..4);
    world.store.expire(&direct(), 3);
    send_all(&mut world, alice, "bob", 4..6);
    let bob = world.open("bob", "phone");
    assert_eq!(world.pushed(bob), [4, 5]);
    // Its ack is on the way when another connection takes its place.
    let again = world.open("bob", "phone");
    world.ack(bob, 2);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((5, vec![(1, 3)])));
    assert_eq!(states(&mut world, alice, wire("bob"), 4), [State::Delivered]);
    [alice, bob, again].into_iter().for_each(|conn| world.close(conn));
    rest(&mut world);
    let alice = world.open("alice", "phone");
    assert_eq!(told(&mut world, alice), Some((5, vec![(1, 3)])));
}

#[test]
fn a_device_that_is_linked_before_that_is_written_claims_nothing_either() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..4);
    world.store.expire(&direct(), 3);
    world.open("bob", "phone");
    assert_eq!(world.delivered("bob", "alice", "phone"), 0, "registers are written a little later");
    world.open("bob", "laptop");
    assert_eq!(world.delivered("bob", "alice", "laptop"), 3);
    assert_eq!(world.store.register(&RegisterKey::Missed(direct(), user("bob"), 1)), 3);
}

#[test]
fn a_client_that_was_told_to_skip_claims_nothing_by_having_done_so() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..7);
    world.ack(bob, 2);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((2, vec![])));
    world.close(bob);
    world.store.expire(&direct(), 4);
    // It knows of 5 and has asked for what is before it; then it says what it has, and its ack never came.
    let have = vec![v1::Position { conversation: wire("alice"), seq: 5 }];
    let bob = world.hello(world.identity("bob", "phone", 3_600_000), v1::Hello { have, ..Default::default() });
    world.settle();
    assert_eq!(world.pushed(bob), [6]);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((5, vec![(3, 4)])));
    world.ack(bob, 1);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((6, vec![(3, 4)])));
    assert_eq!(states(&mut world, alice, wire("bob"), 4), [State::Sent]);
    assert_eq!(states(&mut world, alice, wire("bob"), 5), [State::Delivered]);
}

#[test]
fn what_another_device_of_the_user_received_was_delivered() {
    let mut world = World::new(2);
    world.link("bob", &["phone", "laptop"]);
    let (alice, phone) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..6);
    world.ack(phone, 3);
    world.advance(3_000);
    world.close(phone);
    world.store.expire(&direct(), 4);
    let laptop = world.open("bob", "laptop");
    assert_eq!(world.pushed(laptop), [5]);
    world.ack(laptop, 1);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((5, vec![(4, 4)])), "the phone has 1 to 3");
    assert_eq!(states(&mut world, alice, wire("bob"), 3), [State::Delivered]);
    assert_eq!(undelivered(&world), 1);
}

#[test]
fn pages_skip_what_has_expired_and_come_to_an_end() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..6);
    assert_eq!(unread(&mut world, bob), [(5, 5)]);
    world.store.expire(&direct(), 3);
    assert_eq!(unread(&mut world, bob), [(2, 5)], "what is gone is nothing to read");
    world.got(bob);
    let fetch = v1::Fetch { conversation: wire("alice"), from_seq: 2, to_seq: 5 };
    let history = v1::History { conversation: wire("alice"), ..Default::default() };
    for request in [Request::Fetch(Box::new(fetch)), Request::History(Box::new(history))] {
        world.ask(bob, request);
    }
    world.settle();
    let pages =
        world.got(bob).into_iter().filter_map(|got| if let Got::Page(_, page) = got { Some(page) } else { None });
    let pages: Vec<_> = pages
        .map(|page| {
            let skips: Vec<_> = page.skips.iter().map(|skip| (skip.from_seq, skip.to_seq)).collect();
            (page.records.iter().map(|(record, _)| record.seq).collect::<Vec<_>>(), skips, page.next_before_seq)
        })
        .collect();
    assert_eq!(pages, [(vec![4, 5], vec![(2, 3)], 0), (vec![5, 4], vec![], 0)]);
    // What was read is what there was.
    world.ack(bob, 5);
    world.answer(bob, read("alice", 4));
    world.advance(3_000);
    assert_eq!(unread(&mut world, bob), [(1, 5)]);
}

#[test]
fn a_group_is_told_what_any_of_its_members_missed() {
    for swap in [0, 1] {
        let mut world = World::new(3);
        world.swap = swap;
        let (group, [alice, bob, carl]) = three(&mut world);
        let id = ConversationId(group[..].try_into().unwrap());
        [bob, carl].into_iter().for_each(|conn| world.ack(conn, 1));
        world.advance(3_000);
        world.got(alice);
        world.close(carl);
        for n in 2..=4 {
            world.sent(alice, say(n, &group, "hi")).unwrap();
        }
        world.ack(bob, 4);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), None);
        world.store.expire(&id, 3);
        let carl = world.open("carl", "phone");
        assert_eq!(world.pushed(carl), [4]);
        world.ack(carl, 1);
        world.advance(5_000);
        let expected = Some((4, vec![(2, 3)]));
        assert_eq!(told(&mut world, alice), expected);
        assert_eq!(states(&mut world, alice, to(&group), 3), [State::Delivered, State::Sent]);
        assert_eq!(states(&mut world, alice, to(&group), 4), [State::Delivered, State::Delivered]);
        // The same for who hears it at the next sync.
        [alice, bob, carl].into_iter().for_each(|conn| world.close(conn));
        rest(&mut world);
        let alice = world.open("alice", "phone");
        assert_eq!(told(&mut world, alice), expected);
        // What carl missed of others says nothing of what carl sends.
        let (bob, carl) = (world.open("bob", "phone"), world.open("carl", "phone"));
        world.sent(carl, say(5, &group, "what was it?")).unwrap();
        // Alice was told how far the others are before that.
        [(alice, 2), (bob, 1)].into_iter().for_each(|(conn, push)| world.ack(conn, push));
        world.advance(5_000);
        assert_eq!(told(&mut world, carl), Some((5, vec![])));
    }
}

/// Of what a member was to get of a direct conversation, by what is stored alone: delivered, pending, expired, excluded.
fn sums(world: &World, name: &str) -> [usize; 4] {
    let load = StoreRequest::LoadConversation { tag: 0, conversation: direct() };
    let Some(Outcome::Conversation(Some(state))) = world.store.read(&load) else { panic!("no conversation") };
    let member = state.roster.member(&user(name)).unwrap();
    let (delivered, gone) = (world.delivered(name, "alice", "phone"), world.store.gone(&direct()));
    let missed = |seq| world.store.register(&RegisterKey::Missed(direct(), user(name), seq)) >= seq;
    let mut sums = [0; 4];
    for seq in member.join..=state.head {
        let class = match () {
            () if member.hidden_at(seq).is_some() => 3,
            () if missed(seq) || seq > delivered && seq <= gone => 2,
            () if seq <= delivered => 0,
            () => 1,
        };
        sums[class] += 1;
    }
    sums
}

#[test]
fn every_position_is_delivered_pending_expired_or_excluded() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..4);
    world.ack(bob, 1);
    let named = || v1::Block { user: "alice".into() };
    world.answer(bob, more(Wire::Block(named())));
    send_all(&mut world, alice, "bob", 4..6);
    world.answer(bob, more(Wire::Unblock(named())));
    send_all(&mut world, alice, "bob", 6..8);
    world.advance(3_000);
    world.close(bob);
    assert_eq!(sums(&world, "bob"), [1, 6, 0, 2]);
    world.store.expire(&direct(), 3);
    assert_eq!(sums(&world, "bob"), [1, 4, 2, 2]);
    world.got(alice);
    let bob = world.open("bob", "phone");
    assert_eq!(world.pushed(bob), [8, 9]);
    assert_eq!(sums(&world, "bob"), [1, 4, 2, 2], "nothing moves before it is acknowledged");
    world.ack(bob, 2);
    world.advance(3_000);
    assert_eq!(sums(&world, "bob"), [5, 0, 2, 2]);
    assert_eq!(told(&mut world, alice), Some((9, vec![(2, 3), (5, 6)])));
}
