//! Messages with a ciphertext for each device: whom they must be for, who gets what, what is stored of those that are wrong.

use crate::groups::{create, group_of, to};
use crate::world::{Got, World, cmid, text, wire};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::details::Details;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::record::Body;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};

fn slice(user: &str, device: &str) -> v1::Slice {
    let bytes = format!("for {user} on {device}").into_bytes().into();
    v1::Slice { user: user.into(), device: device.into(), registration_id: 0, bytes }
}

pub fn sliced(to: &str, n: u32, slices: &[(&str, &str)]) -> v1::Send {
    let slices = slices.iter().map(|(user, device)| slice(user, device)).collect();
    v1::Send { body: None, slices, kind: Kind::Data as i32, ..text(to, cmid(n), "") }
}

fn mismatch(error: v1::Error) -> v1::DeviceMismatch {
    assert_eq!((error.code(), error.field.as_str(), error.retryable), (Code::DeviceMismatch, "slices", false));
    match error.details.and_then(|it| it.details) {
        Some(Details::DeviceMismatch(mismatch)) => mismatch,
        other => panic!("{other:?}"),
    }
}

fn named(names: &[v1::DeviceName]) -> Vec<(&str, &str)> {
    names.iter().map(|it| (it.user.as_str(), it.device.as_str())).collect()
}

/// What was pushed to a device, each with its payload.
pub fn payloads(world: &mut World, conn: ConnRef) -> Vec<(u64, String)> {
    let payload = |got| match got {
        Got::Record { record, .. } => match record.to_wire().body {
            Some(Body::Payload(bytes)) => Some((record.seq, String::from_utf8(bytes.to_vec()).unwrap())),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    world.got(conn).into_iter().filter_map(payload).collect()
}

fn page(world: &mut World, conn: ConnRef, request: Request) -> (Vec<u64>, Vec<(u64, u64)>) {
    let id = world.ask(conn, request);
    world.settle();
    let found = world.got(conn).into_iter().find_map(|got| match got {
        Got::Page(re, page) if re == id => Some(page),
        _ => None,
    });
    let page = found.expect("a page");
    let records = page.records.iter().map(|(record, _)| record.seq).collect();
    (records, page.skips.iter().map(|skip| (skip.from_seq, skip.to_seq)).collect())
}

fn fetch(peer: &str) -> Request {
    Request::Fetch(Box::new(v1::Fetch { conversation: wire(peer), from_seq: 1, to_seq: 100 }))
}

/// Alice with a phone and a laptop, bob with a phone and a tablet, all of them here.
fn four(world: &mut World) -> [ConnRef; 4] {
    world.link("alice", &["phone", "laptop"]);
    world.link("bob", &["phone", "tablet"]);
    [("alice", "phone"), ("alice", "laptop"), ("bob", "phone"), ("bob", "tablet")].map(|(n, d)| world.open(n, d))
}

const ALL: [(&str, &str); 3] = [("bob", "phone"), ("alice", "laptop"), ("bob", "tablet")];

#[test]
fn each_device_is_sent_its_own_slice_and_no_other() {
    let mut world = World::new(2);
    let [phone, laptop, bobs_phone, bobs_tablet] = four(&mut world);
    assert_eq!(world.sent(phone, sliced("bob", 1, &ALL)).unwrap().seq, 1);
    assert_eq!(payloads(&mut world, laptop), [(1, "for alice on laptop".to_owned())]);
    assert_eq!(payloads(&mut world, bobs_phone), [(1, "for bob on phone".to_owned())]);
    assert_eq!(payloads(&mut world, bobs_tablet), [(1, "for bob on tablet".to_owned())]);
    assert!(payloads(&mut world, phone).is_empty(), "who sent it knows it");
    // A device that was away gets its own at the next sync.
    world.close(bobs_tablet);
    world.sent(phone, sliced("bob", 2, &ALL)).unwrap();
    let bobs_tablet = world.open("bob", "tablet");
    assert_eq!(payloads(&mut world, bobs_tablet), [(1, "for bob on tablet".into()), (2, "for bob on tablet".into())]);
}

#[test]
fn slices_for_other_devices_than_there_are_store_nothing_and_the_refusal_names_them() {
    let mut world = World::new(2);
    let [phone, _, bobs_phone, _] = four(&mut world);
    let wrong = [("bob", "phone"), ("bob", "old"), ("carl", "phone"), ("alice", "phone")];
    let told = mismatch(world.sent(phone, sliced("bob", 1, &wrong)).unwrap_err());
    assert_eq!(named(&told.missing), [("alice", "laptop"), ("bob", "tablet")]);
    assert_eq!(named(&told.extra), [("alice", "phone"), ("bob", "old"), ("carl", "phone")]);
    let mut send = sliced("bob", 1, &ALL);
    send.slices[0].registration_id = 7;
    let told = mismatch(world.sent(phone, send).unwrap_err());
    assert_eq!((named(&told.stale), told.stale[0].registration_id), (vec![("bob", "phone")], 0));
    assert!(told.missing.is_empty() && told.extra.is_empty());
    assert!(world.pushed(bobs_phone).is_empty());
    assert_eq!(world.routers.iter().map(|it| it.counters().device_mismatches).sum::<u64>(), 2);
    // Nothing was stored, so the id is free.
    let sent = world.sent(phone, sliced("bob", 1, &ALL)).unwrap();
    assert_eq!((sent.seq, sent.duplicate), (1, false));
}

#[test]
fn a_retry_is_known_by_all_slices_in_any_order_and_other_slices_are_a_conflict() {
    let mut world = World::new(2);
    let [phone, ..] = four(&mut world);
    let first = world.sent(phone, sliced("bob", 1, &ALL)).unwrap();
    let mut other_order = ALL;
    other_order.reverse();
    let again = world.sent(phone, sliced("bob", 1, &other_order)).unwrap();
    assert_eq!((again.seq, again.id, again.duplicate), (first.seq, first.id, true));
    let mut other = sliced("bob", 1, &ALL);
    other.slices[2].bytes = "something else".into();
    assert_eq!(world.sent(phone, other).unwrap_err().code(), Code::Conflict);
    // Whoever retries is answered from the log, whatever devices there are by now.
    world.link("carl", &[]);
    let mut list = world.devices("bob");
    list.unlink(ringpost_proto::id::DeviceId::new("tablet").unwrap(), world.unix_ms());
    world.put_devices("bob", &list);
    assert!(world.sent(phone, sliced("bob", 1, &ALL)).unwrap().duplicate);
}

#[test]
fn device_lists_say_what_a_sliced_message_must_be_for() {
    let mut world = World::new(2);
    let [phone, ..] = four(&mut world);
    let users = ["alice", "bob", "nobody"].map(str::to_owned).to_vec();
    let lists = |users| Request::More(Box::new(Wire::DeviceLists(v1::UserNames { users })));
    let Answer::DeviceLists(told) = world.answer(phone, lists(users)) else { panic!("no lists") };
    let devices = |list: &v1::UserDevices| list.devices.iter().map(|it| it.device.clone()).collect::<Vec<_>>();
    let told: Vec<_> = told.lists.iter().map(|it| (it.user.as_str(), it.version, devices(it))).collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        told,
        [("alice", 2, names(&["laptop"])), ("bob", 2, names(&["phone", "tablet"])), ("nobody", 0, names(&[]))]
    );
    let many = (0..65).map(|n| format!("user{n}")).collect();
    let error = world.error(phone, lists(many));
    assert_eq!((error.code(), error.field.as_str()), (Code::TooLarge, "users"));
    assert_eq!(world.error(phone, lists(vec![String::new()])).field, "users");
    assert!(matches!(world.answer(phone, lists(Vec::new())), Answer::DeviceLists(it) if it.lists.is_empty()));
}

#[test]
fn what_has_no_slice_for_a_device_is_skipped_and_counts_as_passed() {
    let mut world = World::new(2);
    world.link("alice", &["phone"]);
    let alice = world.open("alice", "phone");
    world.link("bob", &["phone"]);
    world.sent(alice, sliced("bob", 1, &[("bob", "phone")])).unwrap();
    // Linked later, as the store says, with nothing of what it has.
    world.link("bob", &["phone", "tablet"]);
    world.sent(alice, sliced("bob", 2, &[("bob", "phone"), ("bob", "tablet")])).unwrap();
    let tablet = world.open("bob", "tablet");
    assert_eq!(payloads(&mut world, tablet), [(2, "for bob on tablet".to_owned())]);
    assert_eq!(page(&mut world, tablet, fetch("alice")), (vec![2], vec![(1, 1)]));
    world.ack(tablet, 1);
    world.advance(3_000);
    assert_eq!(world.delivered("bob", "alice", "tablet"), 2);
}

#[test]
fn who_never_connected_needs_no_slice_and_may_not_be_given_one() {
    let mut world = World::new(2);
    world.link("alice", &["phone", "laptop"]);
    let alice = world.open("alice", "phone");
    let told = mismatch(world.sent(alice, sliced("bob", 1, &[("alice", "laptop"), ("bob", "phone")])).unwrap_err());
    assert_eq!((named(&told.extra), named(&told.missing)), (vec![("bob", "phone")], vec![]));
    world.sent(alice, sliced("bob", 1, &[("alice", "laptop")])).unwrap();
    let bob = world.open("bob", "phone");
    assert!(world.pushed(bob).is_empty(), "there is nothing in it for him");
    assert_eq!(page(&mut world, bob, fetch("alice")), (vec![], vec![(1, 1)]));
}

#[test]
fn a_key_may_be_distributed_to_some_devices_and_to_nobody_else() {
    let mut world = World::new(2);
    let [alice, _, bobs_phone, bobs_tablet] = four(&mut world);
    let group = group_of(world.answer(alice, create(1, &["bob"]))).group;
    world.got(bobs_phone);
    world.got(bobs_tablet);
    let key = |n, slices: &[(&str, &str)]| v1::Send {
        to: to(&group),
        kind: Kind::KeyDistribution as i32,
        ..sliced("bob", n, slices)
    };
    assert_eq!(world.sent(alice, key(2, &[("bob", "tablet")])).unwrap().seq, 2);
    assert_eq!(payloads(&mut world, bobs_tablet), [(2, "for bob on tablet".to_owned())]);
    assert!(world.pushed(bobs_phone).is_empty());
    let told = mismatch(world.sent(alice, key(3, &[("bob", "tablet"), ("carl", "phone")])).unwrap_err());
    assert_eq!((named(&told.extra), told.missing.len()), (vec![("carl", "phone")], 0));
    let whole = v1::Send { kind: Kind::Data as i32, ..key(3, &[("bob", "tablet")]) };
    assert_eq!(
        named(&mismatch(world.sent(alice, whole).unwrap_err()).missing),
        [("alice", "laptop"), ("bob", "phone")]
    );
}

#[test]
fn slices_out_of_bounds_are_refused_by_field() {
    let mut world = World::new(1);
    let [phone, ..] = four(&mut world);
    let with = |change: &dyn Fn(&mut v1::Send)| {
        let mut send = sliced("bob", 1, &ALL);
        change(&mut send);
        send
    };
    let many: Vec<_> = (0..65).map(|n| slice("bob", &format!("d{n}"))).collect();
    let large = |device: &str, bytes: usize| v1::Slice { bytes: vec![1; bytes].into(), ..slice("bob", device) };
    let five: Vec<_> = (0..5).map(|n| large(&format!("d{n}"), 60 << 10)).collect();
    let cases = [
        (with(&|it| it.slices = many.clone()), Code::TooLarge, "slices"),
        (with(&|it| it.slices = five.clone()), Code::TooLarge, "slices"),
        (with(&|it| it.slices[0] = large("phone", (64 << 10) + 1)), Code::TooLarge, "slices.bytes"),
        (with(&|it| it.slices[0].bytes.clear()), Code::Invalid, "slices.bytes"),
        (with(&|it| it.slices[0].user.clear()), Code::Invalid, "slices.user"),
        (with(&|it| it.slices[0].device = "a b".into()), Code::Invalid, "slices.device"),
        (with(&|it| it.slices.push(slice("bob", "phone"))), Code::Invalid, "slices"),
        (with(&|it| it.body = Some(v1::send::Body::Text("hi".into()))), Code::Invalid, "slices"),
        (with(&|it| it.kind = Kind::Erase as i32), Code::Invalid, "refSeq"),
    ];
    for (send, code, field) in cases {
        let error = world.sent(phone, send).unwrap_err();
        assert_eq!((error.code(), error.field.as_str()), (code, field));
    }
    assert_eq!(world.sent(phone, sliced("bob", 1, &ALL)).unwrap().seq, 1, "the session stays");
}

#[test]
fn a_list_that_cannot_be_read_refuses_the_message_and_those_behind_it_wait_their_turn() {
    let mut world = World::new(2);
    let [phone, _, bobs_phone, _] = four(&mut world);
    world.hold_store = true;
    let first = world.send(phone, sliced("bob", 1, &ALL));
    let second = world.send(phone, text("bob", cmid(2), "plain"));
    world.swap = 1;
    world.hold_store = false;
    world.settle();
    assert_eq!(world.outcome(phone, first).unwrap().unwrap().seq, 1);
    assert_eq!(world.outcome(phone, second).unwrap().unwrap().seq, 2, "none overtakes one that waits for the lists");
    assert_eq!(world.pushed(bobs_phone), [1, 2]);
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    let error = world.sent(phone, sliced("bob", 3, &ALL)).unwrap_err();
    assert_eq!((error.code(), error.retryable), (Code::Unavailable, true));
}

#[test]
fn who_has_no_slice_in_it_keeps_no_tick_waiting() {
    let mut world = World::new(2);
    let [alice, _, bobs_phone, _] = four(&mut world);
    let group = group_of(world.answer(alice, create(1, &["bob", "carl"]))).group;
    let carl = world.open("carl", "phone");
    for conn in [bobs_phone, carl] {
        world.ack(conn, 1);
    }
    world.advance(5_000);
    world.got(alice);
    let key = v1::Send { to: to(&group), kind: Kind::KeyDistribution as i32, ..sliced("bob", 2, &[("bob", "phone")]) };
    assert_eq!(world.sent(alice, key).unwrap().seq, 2);
    world.ack(bobs_phone, 2);
    world.advance(5_000);
    assert_eq!(world.ticks(alice), [(2, 0)], "there is nothing in it for carl");
}

#[test]
fn who_sends_a_key_to_one_of_two_devices_hears_that_it_is_delivered() {
    let mut world = World::new(2);
    let [alice, _, bobs_phone, bobs_tablet] = four(&mut world);
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    for conn in [bobs_phone, bobs_tablet] {
        world.ack(conn, 1);
    }
    world.advance(5_000);
    world.got(alice);
    let key = v1::Send { kind: Kind::KeyDistribution as i32, ..sliced("bob", 2, &[("bob", "tablet")]) };
    assert_eq!(world.sent(alice, key).unwrap().seq, 2);
    world.ack(bobs_tablet, 2);
    world.advance(5_000);
    assert_eq!(world.ticks(alice), [(2, 0)], "there is nothing in it for the phone");
}

#[test]
fn a_device_that_was_unlinked_receives_nothing_for_its_user() {
    let mut world = World::new(2);
    let [alice, _, bobs_phone, bobs_tablet] = four(&mut world);
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    for conn in [bobs_phone, bobs_tablet] {
        world.ack(conn, 1);
    }
    world.close(bobs_phone);
    world.link("bob", &["phone"]);
    world.advance(5_000);
    world.got(alice);
    assert_eq!(world.sent(alice, sliced("bob", 2, &ALL[..2])).unwrap().seq, 2);
    world.advance(5_000);
    assert!(world.ticks(alice).is_empty(), "his tablet is none of his any more, and his phone is away");
    let phone = world.open("bob", "phone");
    assert_eq!(payloads(&mut world, phone), [(2, "for bob on phone".to_owned())]);
    world.ack(phone, 1);
    world.advance(5_000);
    assert_eq!(world.ticks(alice), [(2, 0)]);
}
