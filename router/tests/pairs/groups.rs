//! Groups: who gets what and who may do what, whatever races.

use crate::world::{Got, World, cmid};
use bytes::Bytes;
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::member_state::state::Value as State;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::role::Value as Role;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};

fn id(n: u32) -> Bytes {
    Bytes::copy_from_slice(&cmid(n))
}

fn more(request: Wire) -> Request {
    Request::More(Box::new(request))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn create(n: u32, members: &[&str]) -> Request {
    let create = v1::GroupCreate { client_message_id: id(n), name: "climbing".into(), members: names(members) };
    more(Wire::GroupCreate(create))
}

fn users(n: u32, group: &Bytes, who: &[&str]) -> v1::GroupUsers {
    v1::GroupUsers { client_message_id: id(n), group: group.clone(), users: names(who) }
}

fn add(n: u32, group: &Bytes, who: &[&str]) -> Request {
    more(Wire::GroupAdd(users(n, group, who)))
}

fn remove(n: u32, group: &Bytes, who: &[&str]) -> Request {
    more(Wire::GroupRemove(users(n, group, who)))
}

fn leave(n: u32, group: &Bytes) -> Request {
    more(Wire::GroupLeave(v1::GroupLeave { client_message_id: id(n), group: group.clone() }))
}

fn role(n: u32, group: &Bytes, who: &str, role: Role) -> Request {
    let (user, role) = (who.to_owned(), role as i32);
    more(Wire::GroupRole(v1::GroupRole { client_message_id: id(n), group: group.clone(), user, role }))
}

fn get(group: &Bytes) -> Request {
    more(Wire::GroupGet(v1::GroupGet { group: group.clone() }))
}

pub fn to(group: &Bytes) -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(Peer::Group(group.clone())) })
}

fn say(n: u32, group: &Bytes, text: &str) -> v1::Send {
    let body = Some(v1::send::Body::Text(text.into()));
    v1::Send { to: to(group), client_message_id: id(n), body, ..Default::default() }
}

fn about(n: u32, group: &Bytes, kind: Kind, ref_seq: Seq, text: &str) -> v1::Send {
    v1::Send { kind: kind as i32, ref_seq, ..say(n, group, text) }
}

fn read(group: &Bytes, seq: Seq) -> Request {
    Request::Read(Box::new(v1::Read { conversation: to(group), seq }))
}

pub fn group_of(answer: Answer) -> v1::Group {
    match answer {
        Answer::Group(group) => group,
        other => panic!("no group: {other:?}"),
    }
}

fn members(group: &v1::Group) -> Vec<(&str, bool)> {
    group.members.iter().map(|member| (member.user.as_str(), member.role() == Role::Admin)).collect()
}

/// Alice, bob and carl, each with one device, in a group that alice made.
fn three(world: &mut World) -> (Bytes, [ConnRef; 3]) {
    let conns = ["alice", "bob", "carl"].map(|name| world.open(name, "phone"));
    let group = group_of(world.answer(conns[0], create(1, &["bob", "carl"]))).group;
    for conn in conns {
        world.got(conn);
    }
    (group, conns)
}

fn history(world: &mut World, conn: ConnRef, group: &Bytes) -> Vec<Seq> {
    let history = v1::History { conversation: to(group), before_seq: 0, limit: 100 };
    let re = world.ask(conn, Request::History(Box::new(history)));
    world.settle();
    let page = world.got(conn).into_iter().find_map(|got| match got {
        Got::Page(answered, page) if answered == re => Some(page),
        _ => None,
    });
    page.expect("a page").records.iter().map(|(record, _)| record.seq).collect()
}

fn unread(world: &mut World, conn: ConnRef) -> Vec<(u32, Seq)> {
    match world.answer(conn, Request::Conversations(Box::default())) {
        Answer::ConversationPage(page) => page.entries.iter().map(|entry| (entry.unread, entry.last_seq)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_is_created_once_however_often_it_is_asked_for() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
        world.got(bob);
        let group = group_of(world.answer(alice, create(1, &["bob", "carl", "alice", "bob"])));
        assert_eq!((group.name.as_str(), group.epoch), ("climbing", 1));
        assert_eq!(members(&group), [("alice", true), ("bob", false), ("carl", false)]);
        assert_eq!(
            group.group,
            ConversationId::group("default", "alice", "phone", &ringpost_proto::id::ClientMessageId(cmid(1)))
                .0
                .to_vec()
        );
        assert_eq!(world.pushed(bob), [1], "with the record that says so");
        assert_eq!(group_of(world.answer(alice, create(1, &["bob", "carl"]))), group);
        assert!(world.pushed(bob).is_empty());
        assert_eq!(world.error(alice, create(1, &["bob"])).code(), Code::Conflict);
        assert_eq!(group_of(world.answer(bob, get(&group.group))), group);
        let other = group_of(world.answer(bob, create(1, &["alice"])));
        assert_ne!(other.group, group.group, "another creator");
    }
}

#[test]
fn one_record_reaches_every_member_and_no_one_else() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    let laptop = world.open("alice", "laptop");
    let eve = world.open("eve", "phone");
    for conn in [laptop, eve] {
        world.got(conn);
    }
    assert_eq!(world.sent(alice, say(2, &group, "hi")).unwrap().seq, 2);
    assert_eq!([bob, carl, laptop].map(|conn| world.pushed(conn)), [[2]; 3]);
    assert!(world.pushed(alice).is_empty() && world.pushed(eve).is_empty());
    for request in [get(&group), read(&group, 1), leave(9, &group), add(9, &group, &["eve"])] {
        assert_eq!(world.error(eve, request).code(), Code::NotMember);
    }
    assert_eq!(world.sent(eve, say(9, &group, "let me in")).unwrap_err().code(), Code::NotMember);
    let history = v1::History { conversation: to(&group), ..Default::default() };
    assert_eq!(world.error(eve, Request::History(Box::new(history))).code(), Code::NotMember);
    let nothing = Bytes::from_static(&[7; 16]);
    for request in [get(&nothing), leave(9, &nothing)] {
        assert_eq!(world.error(eve, request).code(), Code::NotFound);
    }
    assert_eq!(world.error(eve, get(&Bytes::from_static(b"x"))).field, "group");
}

#[test]
fn who_is_removed_hears_of_it_and_of_nothing_after() {
    let mut world = World::new(3);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "before")).unwrap();
    let after = group_of(world.answer(alice, remove(3, &group, &["bob"])));
    assert_eq!((members(&after), after.epoch), (vec![("alice", true), ("carl", false)], 2));
    world.sent(alice, say(4, &group, "after")).unwrap();
    assert_eq!(world.pushed(bob), [2, 3], "up to his removal");
    assert_eq!(world.pushed(carl), [2, 3, 4]);
    assert_eq!(world.sent(bob, say(5, &group, "hello?")).unwrap_err().code(), Code::NotMember);
    assert_eq!(history(&mut world, bob, &group), [3, 2, 1]);
    assert_eq!(world.error(bob, get(&group)).code(), Code::NotMember);
    // Away and back: nothing more either.
    world.close(bob);
    world.advance(10_000);
    let bob = world.open("bob", "tablet");
    assert_eq!(world.pushed(bob), [1, 2, 3]);
    // Back in the group: not what was said meanwhile.
    world.answer(alice, add(6, &group, &["bob"]));
    world.sent(alice, say(7, &group, "welcome back")).unwrap();
    assert_eq!(world.pushed(bob), [5, 6]);
    assert_eq!(history(&mut world, bob, &group), [6, 5, 3, 2, 1]);
}

#[test]
fn a_joiner_gets_the_group_from_its_joining_on() {
    let mut world = World::new(2);
    let (group, [alice, ..]) = three(&mut world);
    world.sent(alice, say(2, &group, "before")).unwrap();
    let dave = world.open("dave", "phone");
    world.got(dave);
    world.answer(alice, add(3, &group, &["dave"]));
    world.sent(alice, say(4, &group, "after")).unwrap();
    assert_eq!(world.pushed(dave), [3, 4]);
    let late = world.open("dave", "tablet");
    assert_eq!(world.pushed(late), [3, 4], "another device from the store");
    assert_eq!(history(&mut world, dave, &group), [4, 3]);
    assert_eq!(world.sent(dave, about(5, &group, Kind::Reaction, 2, "+")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn sends_that_race_with_a_removal_are_before_it_or_refused() {
    for n in 0..40 {
        let mut world = World::new(1 + n % 3);
        let (group, [alice, bob, carl]) = three(&mut world);
        // Nothing is answered in between: all are under way together.
        let mut asked = Vec::new();
        for k in 0..6 {
            asked.push(world.send(bob, say(10 + k, &group, "me")));
            if k == u32::from(n) % 6 {
                world.ask(alice, remove(3, &group, &["bob"]));
            }
        }
        world.settle();
        let outcomes: Vec<_> = asked.into_iter().map(|id| world.outcome(bob, id)).collect();
        let removal =
            world.log(&group).iter().find(|record| record.kind == Kind::Change && record.seq > 1).map(|it| it.seq);
        for outcome in outcomes.into_iter().flatten() {
            match outcome {
                Ok(sent) => assert!(Some(sent.seq) < removal),
                Err(error) => assert_eq!(error.code(), Code::NotMember),
            }
        }
        let head = world.log(&group).len() as Seq;
        let from_others: Vec<Seq> = (2..=head).collect();
        assert_eq!(world.pushed(carl), from_others, "one order, nothing missing");
        world.sent(alice, say(30, &group, "gone")).unwrap();
        assert!(world.pushed(bob).iter().all(|seq| Some(*seq) <= removal));
    }
}

#[test]
fn an_older_epoch_is_refused_and_names_who_came_and_went() {
    let mut world = World::new(2);
    let (group, [alice, bob, _]) = three(&mut world);
    let stale = |n, epoch| v1::Send { group_epoch: epoch, ..say(n, &group, "for whom?") };
    assert!(world.sent(bob, stale(2, 1)).is_ok());
    world.answer(alice, remove(3, &group, &["carl"]));
    world.answer(alice, add(4, &group, &["dave"]));
    let error = world.sent(bob, stale(5, 1)).unwrap_err();
    assert_eq!((error.code(), error.field.as_str()), (Code::StaleGroup, "groupEpoch"));
    let Some(v1::details::Details::StaleGroup(details)) = error.details.and_then(|it| it.details) else { panic!() };
    assert_eq!(details.epoch, 2);
    assert_eq!((details.added, details.removed), (names(&["dave"]), names(&["carl"])));
    assert!(world.sent(bob, stale(5, 2)).is_ok());
}

#[test]
fn only_admins_change_a_group_and_the_last_one_who_leaves_has_an_heir() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    for request in [add(2, &group, &["dave"]), remove(2, &group, &["carl"]), role(2, &group, "bob", Role::Admin)] {
        assert_eq!(world.error(bob, request).code(), Code::Forbidden);
    }
    assert_eq!(world.error(alice, role(2, &group, "alice", Role::Member)).code(), Code::Forbidden, "the last admin");
    assert_eq!(world.error(alice, role(2, &group, "eve", Role::Admin)).code(), Code::NotFound);
    let after = group_of(world.answer(alice, role(3, &group, "carl", Role::Admin)));
    assert_eq!(members(&after), [("alice", true), ("bob", false), ("carl", true)]);
    world.answer(alice, leave(4, &group));
    world.got(bob);
    world.answer(carl, leave(5, &group));
    let Some(Got::Record { record, .. }) = world.got(bob).pop() else { panic!("bob hears of it") };
    assert_eq!(record.to_wire().change.map(|change| change.promoted).as_deref(), Some("bob"));
    let after = group_of(world.answer(bob, get(&group)));
    assert_eq!(members(&after), [("bob", true)]);
    let update = v1::GroupUpdate {
        client_message_id: id(6),
        group: group.clone(),
        description: Some("x".into()),
        ..Default::default()
    };
    let after = group_of(world.answer(bob, more(Wire::GroupUpdate(update))));
    assert_eq!((after.name.as_str(), after.description.as_str()), ("climbing", "x"));
}

#[test]
fn a_group_has_at_most_1024_members() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let all: Vec<String> = (0..1_030).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(world.error(alice, create(1, &all[..1_024])).code(), Code::GroupFull);
    let group = group_of(world.answer(alice, create(2, &all[..1_023]))).group;
    assert_eq!(world.error(alice, add(3, &group, &["bob"])).code(), Code::GroupFull);
    world.answer(alice, remove(4, &group, &["user7"]));
    assert_eq!(group_of(world.answer(alice, add(5, &group, &["bob"]))).members.len(), 1_024);
}

#[test]
fn a_large_group_is_pushed_in_turns_and_in_order() {
    let mut world = World::new(1);
    let all: Vec<String> = (0..600).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let alice = world.open("alice", "phone");
    let group = group_of(world.answer(alice, create(1, &all))).group;
    let conns: Vec<_> = all.iter().map(|name| world.open(name, "phone")).collect();
    for conn in &conns {
        assert_eq!(world.pushed(*conn), [1]);
    }
    for n in 2..5 {
        world.send(alice, say(n, &group, "all"));
    }
    world.advance(10);
    for conn in &conns {
        assert_eq!(world.pushed(*conn), [2, 3, 4]);
    }
}

#[test]
fn the_tick_of_a_group_is_that_of_its_last_member() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    // Everybody has the record of the creation.
    for conn in [bob, carl] {
        world.ack(conn, 1);
    }
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.sent(alice, say(3, &group, "two")).unwrap();
    world.advance(2_000);
    assert!(world.ticks(alice).iter().all(|(delivered, _)| *delivered < 2));
    world.ack(bob, 3);
    world.advance(2_000);
    assert!(world.ticks(alice).is_empty(), "carl has neither");
    world.ack(carl, 2);
    world.advance(2_000);
    assert_eq!(world.ticks(alice), [(2, 0)]);
    world.answer(bob, read(&group, 3));
    world.ack(carl, 3);
    world.advance(2_000);
    assert_eq!(world.ticks(alice), [(3, 0)]);
    // Who leaves keeps nobody back.
    world.answer(alice, remove(4, &group, &["carl"]));
    world.advance(2_000);
    assert_eq!(world.ticks(alice).last(), Some(&(3, 3)));
}

#[test]
fn whoever_creates_a_group_hears_that_all_have_it() {
    let mut world = World::new(2);
    let (_, [alice, bob, carl]) = three(&mut world);
    for conn in [bob, carl] {
        world.ack(conn, 1);
    }
    world.advance(2_000);
    assert_eq!(world.ticks(alice), [(1, 0)]);
}

#[test]
fn who_has_left_is_told_of_no_reader_that_there_is_not() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(carl, say(2, &group, "read me")).unwrap();
    for conn in [alice, bob] {
        world.ack(conn, 2);
    }
    world.answer(carl, leave(3, &group));
    world.answer(alice, read(&group, 2));
    world.advance(10_000);
    world.close(carl);
    let carl = world.open("carl", "phone");
    assert!(world.ticks(carl).iter().all(|(_, read)| *read == 0), "bob has not read it");
}

#[test]
fn a_sender_who_was_away_hears_at_its_next_sync_how_far_the_group_is() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.close(alice);
    for conn in [bob, carl] {
        world.ack(conn, 2);
    }
    world.answer(bob, read(&group, 2));
    world.advance(10_000);
    let alice = world.open("alice", "phone");
    assert_eq!(world.ticks(alice), [(2, 0)]);
}

#[test]
fn a_record_tells_its_sender_how_far_each_member_is() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.ack(bob, 2);
    world.answer(bob, read(&group, 2));
    let dave = world.open("dave", "phone");
    world.got(dave);
    world.answer(alice, add(3, &group, &["dave"]));
    let info = |seq| more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq }));
    let Answer::RecordInfo(result) = world.answer(alice, info(2)) else { panic!() };
    let states: Vec<_> = result.members.iter().map(|it| (it.user.as_str(), it.state(), it.at_ms > 0)).collect();
    assert_eq!(states, [("bob", State::Read, true), ("carl", State::Sent, false)], "dave was not there yet");
    world.ack(carl, 2);
    let Answer::RecordInfo(result) = world.answer(bob, info(2)) else { panic!() };
    assert_eq!(result.members[1].state(), State::Delivered);
    assert_eq!(world.error(dave, info(2)).code(), Code::NotFound);
    assert_eq!(world.error(alice, info(99)).code(), Code::NotFound);
}

#[test]
fn unread_is_what_others_said_since_one_read() {
    let mut world = World::new(2);
    let (group, [alice, bob, _]) = three(&mut world);
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.sent(bob, say(3, &group, "mine")).unwrap();
    world.sent(alice, say(4, &group, "two")).unwrap();
    assert_eq!(unread(&mut world, bob), [(2, 4)]);
    world.ack(bob, 2);
    world.answer(bob, read(&group, 2));
    world.advance(3_000);
    assert_eq!(unread(&mut world, bob), [(1, 4)]);
    world.answer(alice, remove(5, &group, &["bob"]));
    world.sent(alice, say(6, &group, "three")).unwrap();
    assert_eq!(unread(&mut world, bob), [(1, 5)]);
    // Longer than what is in memory: counted in the log.
    for n in 0..400 {
        world.sent(alice, say(100 + n, &group, "more")).unwrap();
    }
    let carl = world.open("carl", "tablet");
    let mut n = 0;
    loop {
        let pushed = world.pushed(carl).len() as u64;
        if pushed == 0 {
            break;
        }
        n += pushed;
        world.ack(carl, n);
        world.settle();
    }
    world.answer(carl, read(&group, 4));
    world.advance(5_000);
    assert_eq!(unread(&mut world, carl), [(401, 406)]);
}

#[test]
fn messages_are_edited_by_their_senders_and_erased_by_them_or_an_admin() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(bob, say(2, &group, "helo")).unwrap();
    world.got(carl);
    assert!(world.sent(bob, about(3, &group, Kind::Edit, 2, "hello")).is_ok());
    assert!(world.sent(carl, about(4, &group, Kind::Reaction, 2, "\u{1f44d}")).is_ok());
    assert_eq!(world.pushed(carl), [3]);
    assert_eq!(world.sent(carl, about(5, &group, Kind::Edit, 2, "x")).unwrap_err().code(), Code::Forbidden);
    assert_eq!(world.sent(carl, about(5, &group, Kind::Erase, 2, "")).unwrap_err().code(), Code::Forbidden);
    assert!(world.sent(alice, about(6, &group, Kind::Erase, 2, "")).is_ok(), "an admin may");
    let wire = world.log(&group)[1].to_wire();
    assert!(wire.erased && wire.body.is_none());
    assert_eq!(world.sent(bob, about(7, &group, Kind::Edit, 2, "hello")).unwrap_err().code(), Code::NotFound);
    // A retry of what was erased is still known.
    assert!(world.sent(bob, say(2, &group, "helo")).unwrap().duplicate);
    world.sent(bob, say(8, &group, "old")).unwrap();
    world.advance(16 * 60_000);
    let bob = world.open("bob", "phone");
    assert_eq!(
        world.sent(bob, about(9, &group, Kind::Edit, 6, "new")).unwrap_err().code(),
        Code::Forbidden,
        "too late"
    );
    assert!(world.sent(bob, about(10, &group, Kind::Erase, 6, "")).is_ok());
}

#[test]
fn what_is_older_than_memory_can_be_erased_all_the_same() {
    let mut world = World::new(1);
    let (group, [alice, bob, _]) = three(&mut world);
    world.sent(bob, say(2, &group, "early")).unwrap();
    for n in 0..4_200 {
        world.sent(alice, say(100 + n, &group, "more")).unwrap();
    }
    assert!(world.sent(bob, about(3, &group, Kind::Erase, 2, "")).is_ok());
    assert!(world.log(&group)[1].to_wire().erased);
    assert_eq!(world.sent(bob, about(4, &group, Kind::Erase, 3, "")).unwrap_err().code(), Code::Forbidden);
}

#[test]
fn who_is_blocked_is_not_told_and_is_not_heard() {
    let mut world = World::new(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    let hi = |n: u32, to: &str| crate::world::text(to, cmid(n), "hi");
    world.sent(alice, hi(1, "bob")).unwrap();
    world.ack(bob, 1);
    let block = |on| {
        let block = v1::Block { user: "alice".into() };
        more(if on { Wire::Block(block) } else { Wire::Unblock(block) })
    };
    for _ in 0..2 {
        assert!(matches!(world.answer(bob, block(true)), Answer::Ok(_)), "as often as one likes");
    }
    world.got(bob);
    world.got(alice);
    assert_eq!(world.sent(alice, hi(2, "bob")).unwrap().seq, 3);
    assert!(world.pushed(bob).is_empty() && world.pushed(alice).is_empty());
    assert_eq!(world.sent(bob, hi(3, "alice")).unwrap_err().code(), Code::Forbidden);
    let tablet = world.open("bob", "tablet");
    assert_eq!(world.pushed(tablet), [1, 2], "his other device learns of the block, and no more");
    assert!(matches!(world.answer(bob, block(false)), Answer::Ok(_)));
    world.sent(alice, hi(4, "bob")).unwrap();
    assert_eq!(world.pushed(bob), [5]);
    world.ack(bob, 2);
    world.advance(3_000);
    let ticks: Vec<v1::Tick> = world.wire_ticks(alice);
    let last = ticks.last().expect("a tick");
    assert_eq!(last.delivered_seq, 5);
    assert_eq!(last.excluded, [v1::Skip { from_seq: 3, to_seq: 3 }], "what came meanwhile was not delivered");
    assert_eq!(world.pushed(tablet), [4, 5]);
}

#[test]
fn who_has_left_learns_nothing_more_of_the_group() {
    let mut world = World::new(2);
    let (group, [alice, bob, _]) = three(&mut world);
    world.answer(bob, leave(2, &group));
    world.sent(alice, say(3, &group, "without bob")).unwrap();
    let update = v1::GroupUpdate {
        client_message_id: id(4),
        group: group.clone(),
        name: Some("secret".into()),
        ..Default::default()
    };
    world.answer(alice, more(Wire::GroupUpdate(update)));
    // The same again, as after a lost answer.
    assert_eq!(world.error(bob, leave(2, &group)).code(), Code::NotMember);
    let Answer::ConversationPage(page) = world.answer(bob, Request::Conversations(Box::default())) else { panic!() };
    assert_eq!((page.entries[0].title.as_str(), page.entries[0].last_seq), ("", 2));
    let fetch = v1::Fetch { conversation: to(&group), from_seq: 2, to_seq: 50 };
    let re = world.ask(bob, Request::Fetch(Box::new(fetch)));
    world.settle();
    let page = world.got(bob).into_iter().find_map(|got| match got {
        Got::Page(answered, page) if answered == re => Some(page),
        _ => None,
    });
    let page = page.expect("a page");
    // His own leaving is skipped; that the log goes on he does not see.
    assert_eq!((page.records.len(), &page.skips[..]), (0, &[v1::Skip { from_seq: 2, to_seq: 2 }][..]));
    let info = more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq: 3 }));
    assert_eq!(world.error(bob, info).code(), Code::NotFound);
}

#[test]
fn a_direct_conversation_is_no_group_whoever_names_it_so() {
    let mut world = World::new(2);
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|name| world.open(name, "phone"));
    let direct = Bytes::copy_from_slice(&crate::world::user("alice").direct_with(&crate::world::user("bob")).0);
    // Asked for before there is one, while the first message is on its way.
    world.ask(eve, get(&direct));
    world.ask(eve, leave(1, &direct));
    let first = world.send(alice, crate::world::text("bob", cmid(1), "hi"));
    world.settle();
    assert_eq!(world.outcome(alice, first).unwrap().unwrap().seq, 1);
    for request in [leave(2, &direct), add(3, &direct, &["eve"]), get(&direct)] {
        assert_eq!(world.error(bob, request).code(), Code::NotFound);
    }
    assert_eq!(world.sent(bob, say(4, &direct, "as a group")).unwrap_err().code(), Code::NotFound);
    world.got(bob);
    assert_eq!(world.sent(alice, crate::world::text("bob", cmid(5), "still here")).unwrap().seq, 2);
    assert_eq!(world.pushed(bob), [2]);
}

#[test]
fn a_flood_of_fan_outs_makes_sessions_fall_behind_and_loses_nothing() {
    let mut world = World::new(1);
    let all: Vec<String> = (0..200).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let alice = world.open("alice", "phone");
    let group = group_of(world.answer(alice, create(1, &all))).group;
    let conns: Vec<_> = all[..3].iter().map(|name| world.open(name, "phone")).collect();
    for conn in &conns {
        assert_eq!(world.pushed(*conn), [1]);
        world.ack(*conn, 1);
    }
    for n in 0..600 {
        world.send(alice, say(10 + n, &group, "more"));
    }
    for conn in &conns {
        let (mut got, mut acked) = (Vec::new(), 1);
        loop {
            world.advance(100);
            let fresh = world.pushed(*conn);
            if fresh.is_empty() {
                break;
            }
            acked += fresh.len() as u64;
            got.extend(fresh);
            world.ack(*conn, acked);
        }
        let head = world.log(&group).len() as Seq;
        assert!(head > 500, "{head}");
        assert_eq!(got, (2..=head).collect::<Vec<_>>());
    }
}
