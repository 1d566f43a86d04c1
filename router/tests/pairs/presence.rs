//! Who is there, for those who watch: at once when somebody comes, after a while when somebody goes, and only what is shown.

use crate::settings::set;
use crate::world::{Got, World, cmid, text, user};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::presence::state::Value as State;
use ringpost_proto::v1::privacy::Value as Privacy;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Input, Request, home_of_user, operator};

const GRACE_MS: u64 = 15_000;

fn watch(users: &[&str]) -> Request {
    Request::More(Box::new(Wire::Watch(v1::Watch { users: users.iter().map(|&user| user.to_owned()).collect() })))
}

fn unwatch(user: &str) -> Request {
    Request::More(Box::new(Wire::Unwatch(v1::Watch { users: vec![user.to_owned()] })))
}

fn is(state: State) -> Request {
    Request::More(Box::new(Wire::Presence(v1::Presence { state: state as i32 })))
}

fn block(user: &str) -> Request {
    Request::More(Box::new(Wire::Block(v1::Block { user: user.to_owned() })))
}

fn shows(last_seen: Privacy) -> Request {
    set(v1::Settings { last_seen: last_seen as i32, ..Default::default() })
}

/// (user, online, last seen).
type Seen = (String, bool, u64);

fn seen(state: v1::PresenceState) -> Seen {
    (state.user, state.online, state.last_seen_ms)
}

fn states(world: &mut World, conn: ConnRef, users: &[&str]) -> Vec<Seen> {
    match world.answer(conn, watch(users)) {
        Answer::PresenceStates(states) => states.states.into_iter().map(seen).collect(),
        other => panic!("{other:?}"),
    }
}

/// What came unasked since the last call.
fn news(world: &mut World, conn: ConnRef) -> Vec<Seen> {
    world.settle();
    let state = |got| match got {
        Got::Frame(0, Answer::PresenceState(state)) => Some(seen(state)),
        _ => None,
    };
    world.got(conn).into_iter().filter_map(state).collect()
}

fn bob(online: bool, last_seen_ms: u64) -> Vec<Seen> {
    vec![("bob".to_owned(), online, last_seen_ms)]
}

#[test]
fn who_comes_is_told_at_once_and_who_goes_after_the_grace_with_the_time_of_going() {
    for (shards, swap) in [(1, 0), (4, 0), (4, 1)] {
        let mut world = World::new(shards);
        world.swap = swap;
        let alice = world.open("alice", "phone");
        assert_eq!(states(&mut world, alice, &["bob", "carl", "bob"]).len(), 2, "each once");
        assert_eq!(news(&mut world, alice), [], "nobody was ever here");
        let phone = world.open("bob", "phone");
        assert_eq!(news(&mut world, alice), bob(true, 0));
        let laptop = world.open("bob", "laptop");
        world.close(phone);
        world.advance(GRACE_MS + 1_000);
        assert_eq!(news(&mut world, alice), [], "another device is there");
        let went_ms = world.unix_ms();
        world.close(laptop);
        world.advance(GRACE_MS - 1);
        assert_eq!(news(&mut world, alice), []);
        world.advance(1);
        assert_eq!(news(&mut world, alice), bob(false, went_ms));
        world.open("bob", "phone");
        world.advance(1_000);
        assert_eq!(news(&mut world, alice), bob(true, 0));
        assert_eq!(states(&mut world, alice, &["bob"]), bob(true, 0));
    }
}

#[test]
fn who_is_back_soon_was_never_away_however_often() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    states(&mut world, alice, &["bob"]);
    let mut phone = world.open("bob", "phone");
    assert_eq!(news(&mut world, alice), bob(true, 0));
    for _ in 0..20 {
        world.close(phone);
        world.advance(GRACE_MS - 1_000);
        phone = world.open("bob", "phone");
        world.advance(500);
    }
    world.open("bob", "phone");
    world.advance(GRACE_MS);
    assert_eq!(news(&mut world, alice), [], "nor by a takeover");
}

#[test]
fn away_on_every_device_is_offline() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("bob", device));
    world.ask(phone, is(State::Away));
    world.advance(GRACE_MS);
    assert_eq!(states(&mut world, alice, &["bob"]), bob(true, 0));
    let away_ms = world.unix_ms();
    world.ask(laptop, is(State::Away));
    world.advance(GRACE_MS);
    assert_eq!(news(&mut world, alice), bob(false, away_ms));
    world.ask(phone, is(State::Active));
    world.advance(1_000);
    assert_eq!(news(&mut world, alice), bob(true, 0));
    let error = world.error(phone, Request::More(Box::new(Wire::Presence(v1::Presence { state: 9 }))));
    assert_eq!((error.code(), &*error.field), (Code::Invalid, "state"));
}

#[test]
fn devices_that_disagree_for_a_minute_are_one_state_and_nobody_can_say_more_than_once_a_second() {
    let mut world = World::new(2);
    let watchers: Vec<ConnRef> = (0..500).map(|n| world.open(&format!("user{n}"), "phone")).collect();
    let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("bob", device));
    for watcher in &watchers {
        assert_eq!(states(&mut world, *watcher, &["bob"]), bob(true, 0));
    }
    for _ in 0..60 {
        world.ask(phone, is(State::Active));
        world.ask(laptop, is(State::Away));
        world.advance(1_000);
    }
    for watcher in &watchers {
        assert_eq!(news(&mut world, *watcher), []);
    }
    // All that a user can do to be seen changing, for another minute.
    world.ask(laptop, is(State::Away));
    for n in 0..600 {
        world.answer(phone, shows(if n % 2 == 0 { Privacy::Nobody } else { Privacy::Everyone }));
        world.ask(phone, is(if n % 160 < 155 { State::Away } else { State::Active }));
        world.advance(100);
    }
    for watcher in &watchers {
        let told = news(&mut world, *watcher);
        assert!((1..=61).contains(&told.len()), "{} events", told.len());
    }
}

#[test]
fn who_was_blocked_for_a_while_is_no_contact_for_that() {
    let mut world = World::new(2);
    let [carl, phone] = ["carl", "bob"].map(|name| world.open(name, "phone"));
    world.answer(phone, shows(Privacy::Contacts));
    world.answer(phone, block("carl"));
    world.answer(phone, Request::More(Box::new(Wire::Unblock(v1::Block { user: "carl".into() }))));
    assert_eq!(states(&mut world, carl, &["bob"]), bob(false, 0));
    world.sent(phone, text("carl", cmid(1), "hi")).unwrap();
    assert_eq!(news(&mut world, carl), bob(true, 0));
}

#[test]
fn only_whom_a_user_shows_it_sees_it() {
    let mut world = World::new(3);
    let [alice, carl, phone] = ["alice", "carl", "bob"].map(|name| world.open(name, "phone"));
    world.sent(phone, text("alice", cmid(1), "hi")).unwrap();
    world.got(alice);
    for conn in [alice, carl] {
        assert_eq!(states(&mut world, conn, &["bob"]), bob(true, 0));
    }
    world.answer(phone, shows(Privacy::Contacts));
    assert_eq!((news(&mut world, alice), news(&mut world, carl)), (vec![], bob(false, 0)));
    world.sent(phone, text("carl", cmid(2), "hi")).unwrap();
    assert_eq!(news(&mut world, carl), bob(true, 0), "a contact now");
    world.answer(phone, shows(Privacy::Nobody));
    world.advance(1_000);
    assert_eq!((news(&mut world, alice), news(&mut world, carl)), (bob(false, 0), bob(false, 0)));
    world.close(phone);
    world.advance(2 * GRACE_MS);
    assert_eq!(news(&mut world, alice), [], "not even that something changed");
    let dora = world.open("dora", "phone");
    assert_eq!(states(&mut world, dora, &["bob"]), bob(false, 0));
    let phone = world.open("bob", "phone");
    assert_eq!(states(&mut world, phone, &["bob"]), bob(true, 0), "oneself");
}

#[test]
fn a_block_hides_both_sides_and_nothing_is_told_of_it() {
    let mut world = World::new(2);
    let [alice, phone] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    states(&mut world, alice, &["bob"]);
    states(&mut world, phone, &["alice"]);
    world.answer(
        phone,
        set(v1::Settings {
            profile: Some(v1::settings::Profile { name: Some("Bob".into()), avatar: None }),
            ..Default::default()
        }),
    );
    world.settle();
    let profile = |got: Got| match got {
        Got::Frame(0, Answer::PresenceState(state)) => Some(state.profile.and_then(|profile| profile.name)),
        _ => None,
    };
    let told: Vec<_> = world.got(alice).into_iter().filter_map(profile).collect();
    assert_eq!(told, [Some("Bob".to_owned())]);
    world.advance(1_000);
    world.answer(phone, block("alice"));
    world.settle();
    let told: Vec<_> = world.got(alice).into_iter().filter_map(profile).collect();
    assert_eq!(told, [Some("Bob".to_owned())], "no more than when bob shows it to nobody");
    assert_eq!(news(&mut world, phone), [("alice".to_owned(), false, 0)]);
    world.close(phone);
    world.advance(2 * GRACE_MS);
    assert_eq!(news(&mut world, alice), []);
    let eve = world.open("alice", "laptop");
    assert_eq!(states(&mut world, eve, &["bob"]), bob(false, 0));
    let phone = world.open("bob", "phone");
    world.answer(phone, Request::More(Box::new(Wire::Unblock(v1::Block { user: "alice".into() }))));
    assert_eq!(news(&mut world, alice), bob(true, 0));
}

#[test]
fn at_most_200_are_watched_and_nobody_any_more_after_unwatch_or_the_end() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let names: Vec<String> = (0..201).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = world.error(alice, watch(&names));
    assert_eq!((error.code(), &*error.field), (Code::TooLarge, "users"));
    assert_eq!(states(&mut world, alice, &names[..200]).len(), 200);
    assert_eq!(world.error(alice, watch(&["bob"])).code(), Code::TooLarge);
    assert_eq!(states(&mut world, alice, &names[..200]).len(), 200, "the same ones again");
    world.answer(alice, unwatch("user7"));
    states(&mut world, alice, &["bob"]);
    world.open("user7", "phone");
    assert_eq!(news(&mut world, alice), []);
    world.open("user8", "phone");
    assert_eq!(news(&mut world, alice).len(), 1);
    world.close(alice);
    world.settle();
    world.open("user9", "phone");
    world.advance(2 * GRACE_MS);
    let eve = world.open("eve", "phone");
    let error = world.error(eve, watch(&["a\nb"]));
    assert_eq!((error.code(), &*error.field), (Code::Invalid, "users"));
}

#[test]
fn what_a_full_window_holds_back_is_told_when_there_is_room_the_last_state_only() {
    let mut world = World::new(2);
    let [alice, carl] = ["alice", "carl"].map(|name| world.open(name, "phone"));
    states(&mut world, alice, &["bob"]);
    for n in 0..100 {
        world.sent(carl, text("alice", cmid(n), "hi")).unwrap();
    }
    world.got(alice);
    let phone = world.open("bob", "phone");
    world.close(phone);
    world.advance(GRACE_MS);
    world.open("bob", "phone");
    world.advance(1_000);
    assert_eq!(news(&mut world, alice), []);
    world.ack(alice, 64);
    world.settle();
    world.ack(alice, 100);
    assert_eq!(news(&mut world, alice), bob(true, 0));
}

#[test]
fn a_store_that_fails_delays_what_is_told_and_no_more() {
    for seed in 1..60 {
        let faults = Faults { unavailable: 3_000, ..Faults::none() };
        let mut world = World::with(3, faults, |settings| settings.seed = seed);
        let open = |world: &mut World, name: &str| {
            let conn = world.open(name, "phone");
            world.advance(10_000);
            conn
        };
        let (alice, _bob) = (open(&mut world, "alice"), open(&mut world, "bob"));
        let users = ["bob", "carl"];
        let answered = match world.answer(alice, watch(&users)) {
            Answer::PresenceStates(states) => states.states,
            Answer::Error(_) => continue,
            other => panic!("{other:?}"),
        };
        assert_eq!(answered.len(), 2, "seed {seed}");
        world.store.set_faults(Faults::none());
        world.advance(10_000);
        let mut known: Vec<Seen> = answered.into_iter().map(seen).collect();
        known.extend(news(&mut world, alice));
        let last = known.iter().rfind(|(user, ..)| user == "bob");
        assert_eq!(last.map(|(_, online, _)| *online), Some(true), "seed {seed}: {known:?}");
    }
}

#[test]
fn every_request_to_watch_is_answered_however_many_are_sent_at_once() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let asked: Vec<u64> = (0..33).map(|_| world.ask(alice, watch(&["bob"]))).collect();
    world.settle();
    let mut answered = Vec::new();
    let mut reading = Vec::new();
    for got in world.got(alice) {
        match got {
            Got::Frame(re, Answer::PresenceStates(_)) => answered.push(re),
            Got::Reading(on) => reading.push(on),
            _ => {}
        }
    }
    assert_eq!((answered, reading), (asked, vec![false, true]));
}

#[test]
fn reads_for_watchers_leave_room_for_messages_however_many_watch() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    world.hold_store = true;
    for n in 0..50 {
        let names: Vec<String> = (0..200).map(|m| format!("user{n}-{m}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.ask(alice, watch(&names));
        assert!(world.routers[0].pending_count() <= 2 * 64, "{}", world.routers[0].pending_count());
        for name in names {
            world.ask(alice, unwatch(name));
        }
    }
    assert!(world.routers[0].pending_count() <= 2 * 64, "{}", world.routers[0].pending_count());
    world.hold_store = false;
    world.settle();
    assert_eq!(states(&mut world, alice, &["bob"]).len(), 1, "they end, and others have their turn");
    assert_eq!(world.routers[0].pending_count(), 0);
}

#[test]
fn who_has_just_gone_is_still_there_for_those_who_look_now() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let phone = world.open("bob", "phone");
    world.advance(1_000);
    let went_ms = world.unix_ms();
    world.close(phone);
    world.advance(5_000);
    assert_eq!(states(&mut world, alice, &["bob"]), bob(true, 0));
    world.advance(GRACE_MS);
    assert_eq!(news(&mut world, alice), bob(false, went_ms));
}

#[test]
fn an_answer_never_says_later_what_was_true_earlier() {
    for hold in [true, false] {
        let mut world = World::new(2);
        let [alice, phone] = ["alice", "bob"].map(|name| world.open(name, "phone"));
        world.ask(phone, is(State::Away));
        world.advance(GRACE_MS - 1);
        states(&mut world, alice, &["bob"]);
        world.hold_store = hold;
        world.ask(alice, watch(&["bob", "carl"]));
        world.ask(alice, watch(&["bob", "dora"]));
        world.advance(2_000);
        world.hold_store = false;
        world.settle();
        let said = |got| match got {
            Got::Frame(0, Answer::PresenceState(state)) => vec![state],
            Got::Frame(_, Answer::PresenceStates(states)) => states.states,
            _ => Vec::new(),
        };
        let said: Vec<bool> =
            world.got(alice).into_iter().flat_map(said).filter(|it| it.user == "bob").map(|it| it.online).collect();
        assert!(said.is_sorted_by(|earlier, later| earlier >= later) && said.last() == Some(&false), "{said:?}");
    }
}

#[test]
fn what_changes_often_is_told_once_a_second_as_it_is_then() {
    let mut world = World::new(2);
    let [alice, phone] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    states(&mut world, alice, &["bob"]);
    world.advance(2_000);
    for _ in 0..20 {
        for audience in [Privacy::Nobody, Privacy::Everyone] {
            world.answer(phone, shows(audience));
        }
        world.advance(10);
    }
    world.answer(phone, shows(Privacy::Nobody));
    world.advance(1_000);
    let told = news(&mut world, alice);
    assert!(told.len() <= 3, "{told:?}");
    assert_eq!(told.last(), bob(false, 0).last());
}

#[test]
fn thousands_who_watch_one_user_are_all_told_and_others_have_their_turn() {
    let mut world = World::new(2);
    world.swap = 997;
    let conns: Vec<ConnRef> = (0..2_000).map(|n| world.open(&format!("user{n}"), "phone")).collect();
    for conn in &conns {
        world.ask(*conn, watch(&["bob"]));
    }
    world.settle();
    conns.iter().for_each(|conn| drop(world.got(*conn)));
    world.open("bob", "phone");
    world.settle();
    for conn in conns {
        assert_eq!(news(&mut world, conn), bob(true, 0));
    }
}

#[test]
fn of_an_erased_user_nothing_is_seen_least_of_all_what_it_had_hidden() {
    let mut world = World::new(2);
    let [alice, phone, carl] = ["alice", "bob", "carl"].map(|name| world.open(name, "phone"));
    world.answer(phone, shows(Privacy::Nobody));
    assert_eq!(states(&mut world, alice, &["bob"]), bob(false, 0));
    assert_eq!(states(&mut world, alice, &["carl"]), [("carl".to_owned(), true, 0)]);
    for (re, name) in [(1, "bob"), (2, "carl")] {
        let home = home_of_user(&user(name), 2);
        world.input(home, Input::Envelope(Box::new(operator::forget(user(name), re))));
    }
    world.settle();
    world.close(phone);
    world.close(carl);
    world.advance(3 * GRACE_MS);
    assert_eq!(news(&mut world, alice), [("carl".to_owned(), false, 0)]);
    let dave = world.open("dave", "phone");
    for name in ["bob", "carl"] {
        assert_eq!(states(&mut world, dave, &[name]), [(name.to_owned(), false, 0)]);
    }
}
