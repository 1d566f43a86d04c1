//! What a user sets: kept, told back whole, bounded.

use crate::world::{World, cmid, text, user, wire};
use bytes::Bytes;
use prost::Message;
use ringpost_persist::DocumentKey;
use ringpost_persist::faulty::Faults;
use ringpost_proto::limits::MUTES;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::privacy::Value as Privacy;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::v1::settings::{Mute, Profile, QuietHours};
use ringpost_router::{ConnRef, Request};

pub fn set(change: v1::Settings) -> Request {
    Request::More(Box::new(Wire::Settings(change)))
}

fn settings(world: &mut World, conn: ConnRef, change: v1::Settings) -> v1::Settings {
    match world.answer(conn, set(change)) {
        Answer::Settings(settings) => settings,
        other => panic!("{other:?}"),
    }
}

fn named(name: &str) -> v1::Settings {
    let profile = Profile { name: Some(name.into()), avatar: None };
    v1::Settings { profile: Some(profile), ..Default::default() }
}

fn mute(user: &str, until_ms: u64) -> v1::Settings {
    v1::Settings { mute: vec![Mute { conversation: wire(user), until_ms }], ..Default::default() }
}

fn muted(world: &mut World, conn: ConnRef) -> Vec<bool> {
    match world.answer(conn, Request::Conversations(Box::default())) {
        Answer::ConversationPage(page) => page.entries.iter().map(|entry| entry.muted).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_sets_what_it_names_and_the_answer_is_all_of_it() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let fresh = settings(&mut world, alice, v1::Settings::default());
    assert_eq!((fresh.last_seen(), fresh.read_receipts()), (Privacy::Everyone, Privacy::Everyone));
    settings(&mut world, alice, named("Alice"));
    let hours = Some(QuietHours { from_minute: 1_320, to_minute: 420 });
    let change = v1::Settings { last_seen: Privacy::Contacts as i32, quiet_hours: hours, ..Default::default() };
    settings(&mut world, alice, change);
    world.close(alice);
    world.advance(10_000);
    let laptop = world.open("alice", "laptop");
    let all = settings(&mut world, laptop, v1::Settings::default());
    assert_eq!((all.last_seen(), all.quiet_hours), (Privacy::Contacts, hours));
    assert_eq!(all.profile, named("Alice").profile);
    let none = Some(QuietHours { from_minute: 5, to_minute: 5 });
    let all = settings(&mut world, laptop, v1::Settings { quiet_hours: none, ..named("") });
    assert_eq!((all.last_seen(), all.profile, all.quiet_hours), (Privacy::Contacts, None, None));
}

#[test]
fn a_muted_conversation_is_listed_as_muted_until_then() {
    let mut world = World::new(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    world.sent(bob, text("alice", cmid(1), "hi")).unwrap();
    assert_eq!(muted(&mut world, alice), [false]);
    let until_ms = world.unix_ms() + 60_000;
    settings(&mut world, alice, mute("bob", until_ms));
    assert_eq!((muted(&mut world, alice), muted(&mut world, bob)), (vec![true], vec![false]));
    let tablet = world.open("alice", "tablet");
    assert_eq!(muted(&mut world, tablet), [true]);
    world.close(tablet);
    world.ack(alice, 1);
    world.advance(60_000);
    assert_eq!(muted(&mut world, alice), [false]);
    settings(&mut world, alice, mute("bob", u64::MAX));
    assert_eq!(muted(&mut world, alice), [true]);
    let rest = settings(&mut world, alice, mute("bob", 0));
    assert_eq!((rest.mute, muted(&mut world, alice)), (vec![], vec![false]));
}

#[test]
fn changes_of_two_devices_at_once_are_both_kept() {
    let mut world = World::new(1);
    let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("alice", device));
    world.hold_store = true;
    let change = v1::Settings { read_receipts: Privacy::Nobody as i32, ..Default::default() };
    world.ask(phone, set(named("Alice")));
    world.ask(laptop, set(change));
    world.hold_store = false;
    world.settle();
    let all = settings(&mut world, phone, v1::Settings::default());
    assert_eq!((all.read_receipts(), all.profile), (Privacy::Nobody, named("Alice").profile));
}

#[test]
fn what_is_out_of_bounds_changes_nothing_and_names_the_field() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    let refused = |world: &mut World, change| {
        let error = world.error(alice, set(change));
        (error.code(), error.field)
    };
    let hours = QuietHours { from_minute: 1_440, to_minute: 0 };
    let mutes = (0..=MUTES).map(|n| mute(&format!("user{n}"), u64::MAX).mute.remove(0)).collect();
    let name = || named("Alice");
    for (change, expected) in [
        (named(&"x".repeat(257)), (Code::TooLarge, "profile.name")),
        (named("a\nb"), (Code::Invalid, "profile.name")),
        (v1::Settings { last_seen: 9, ..name() }, (Code::Invalid, "lastSeen")),
        (v1::Settings { quiet_hours: Some(hours), ..name() }, (Code::Invalid, "quietHours")),
        (v1::Settings { mute: mutes, ..name() }, (Code::TooLarge, "mute")),
        (v1::Settings { mute: mute("a\nb", 9).mute, ..name() }, (Code::Invalid, "mute.conversation.user")),
    ] {
        assert_eq!(refused(&mut world, change), (expected.0, expected.1.to_owned()));
    }
    assert_eq!(settings(&mut world, alice, v1::Settings::default()).profile, None);
}

#[test]
fn a_store_that_fails_now_and_then_loses_no_change_that_was_answered() {
    for seed in 1..40 {
        let (unavailable, unknown) = (1_500, 1_000);
        let faults = Faults { unavailable, unknown_landed: unknown, unknown_lost: unknown, ..Faults::none() };
        let mut world = World::with(2, faults, |settings| settings.seed = seed);
        let alice = world.open("alice", "phone");
        world.advance(10_000);
        let mut known = None;
        for n in 0..20 {
            let name = Some(format!("alice {n}"));
            let changed = world.answer(alice, set(named(name.as_deref().unwrap())));
            let told = (0..50).find_map(|_| match world.answer(alice, set(v1::Settings::default())) {
                Answer::Settings(settings) => Some(settings.profile.and_then(|profile| profile.name)),
                _ => None,
            });
            let told = told.expect("an answer");
            match changed {
                Answer::Settings(_) => assert_eq!(told, name, "seed {seed}"),
                _ => assert!(told == name || told == known, "seed {seed}: {told:?}"),
            }
            known = told;
        }
    }
}

#[test]
fn changes_of_one_device_are_made_in_the_order_in_which_they_were_sent() {
    for seed in 1..60 {
        let faults = Faults { slow: 3_000, slow_us: 100_000, ..Faults::none() };
        let mut world = World::with(1, faults, |settings| settings.seed = seed);
        let alice = world.open("alice", "phone");
        world.advance(5_000);
        for n in 0..10 {
            world.ask(alice, set(named(&format!("alice {n}"))));
        }
        world.advance(10_000);
        let all = settings(&mut world, alice, v1::Settings::default());
        assert_eq!(all.profile, named("alice 9").profile, "seed {seed}");
    }
}

/// Field 9 of a document, in the encoding of protobuf: a text that no version knows yet.
const UNKNOWN: &[u8] = b"\x4a\x04dark";

#[test]
fn what_a_later_version_has_set_is_there_when_it_comes_back() {
    let mut world = World::new(1);
    let key = DocumentKey::Settings(user("alice"));
    let stored: Bytes = [&named("Alice").encode_to_vec()[..], UNKNOWN].concat().into();
    world.put_document(key.clone(), stored);
    let alice = world.open("alice", "phone");
    let change = v1::Settings { read_receipts: Privacy::Nobody as i32, ..named("") };
    let told = settings(&mut world, alice, change);
    assert_eq!((told.read_receipts(), told.profile), (Privacy::Nobody, None));
    let (_, bytes) = world.document(&key).unwrap();
    assert!(bytes.windows(UNKNOWN.len()).any(|part| part == UNKNOWN), "{bytes:?}");
    assert_eq!(v1::Settings::decode(bytes).unwrap().read_receipts(), Privacy::Nobody);
}

#[test]
fn documents_that_cannot_be_read_are_counted_and_stay_as_they_are() {
    let mut world = World::new(1);
    let unreadable = |world: &World| {
        let counters = world.routers[0].counters();
        (counters.settings_unreadable, counters.devices_unreadable)
    };
    let garbage = Bytes::from_static(b"\xff\xff");
    let key = DocumentKey::Settings(user("alice"));
    world.put_document(key.clone(), garbage.clone());
    let alice = world.open("alice", "phone");
    world.advance(1_000);
    assert_eq!(unreadable(&world), (1, 0));
    assert_eq!(world.error(alice, set(named("Alice"))).code(), Code::Internal);
    assert_eq!(world.document(&key).map(|(_, bytes)| bytes), Some(garbage.clone()));
    world.put_document(DocumentKey::Devices(user("bob")), garbage);
    let bob = world.open("bob", "phone");
    world.advance(10_000);
    assert!(unreadable(&world).1 > 0, "bob cannot be told which devices he has");
    assert!(world.closed(bob).is_some());
}
