//! Once a day a session looks whether its device has everything.

use crate::world::{Got, START_UNIX_US, World, cmid, send_all, text, user};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::envelope::Envelope;
use ringpost_router::{ConnRef, home_of_conversation, home_of_user};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A user with whom alice's conversation lives elsewhere than the user does: what the user is told goes from shard to shard.
fn far(world: &World) -> String {
    let shards = world.routers.len() as u16;
    let names = (0..).map(|n| format!("bob{n}"));
    let far = |name: &String| {
        let conversation = user("alice").direct_with(&user(name));
        home_of_conversation(conversation, shards) != home_of_user(&user(name), shards)
    };
    names.into_iter().find(far).unwrap()
}

fn open(world: &mut World, name: &str) -> ConnRef {
    let identity = world.identity(name, "phone", 10 * DAY_MS);
    let conn = world.hello(identity, v1::Hello::default());
    world.settle();
    conn
}

fn counted(world: &World) -> (u64, u64) {
    let counters = world.routers.iter().map(|router| router.counters());
    counters.fold((0, 0), |(all, found), it| (all + it.reconciles, found + it.reconcile_found))
}

/// Acknowledges all that was pushed, and says which records it was.
fn take(world: &mut World, conn: ConnRef) -> Vec<u64> {
    let (mut last, mut seqs) = (0, Vec::new());
    for got in world.got(conn) {
        match got {
            Got::Record { n, record, .. } => {
                last = n;
                seqs.push(record.seq);
            }
            Got::Frame(_, Answer::Push(push)) => last = push.n,
            Got::Closed(code) => panic!("closed: {code:?}"),
            _ => {}
        }
    }
    if last > 0 {
        world.ack(conn, last);
    }
    seqs
}

/// All that follows from what was sent is acknowledged; the records that it was, of each.
fn rest(world: &mut World, conns: &[ConnRef]) -> Vec<Vec<u64>> {
    let mut seqs = vec![Vec::new(); conns.len()];
    for _ in 0..4 {
        for (conn, seqs) in conns.iter().zip(&mut seqs) {
            seqs.extend(take(world, *conn));
        }
        world.advance(3_000);
    }
    seqs
}

fn a_lost_hint(swap: u64) {
    let mut world = World::new(4);
    world.swap = swap;
    let name = far(&world);
    let (alice, bob) = (open(&mut world, "alice"), open(&mut world, &name));
    send_all(&mut world, alice, &name, 0..3);
    assert_eq!(rest(&mut world, &[alice, bob]), [vec![], vec![1, 2, 3]]);
    world.loses = |envelope| matches!(envelope, Envelope::Committed { .. });
    send_all(&mut world, alice, &name, 3..5);
    world.loses = |_| false;
    assert_eq!(rest(&mut world, &[alice, bob])[1], [0; 0], "nobody has told it");
    let mut got = Vec::new();
    while got.is_empty() && counted(&world).0 < 4 {
        world.advance(10_000);
        got.extend(rest(&mut world, &[alice, bob]).remove(1));
    }
    assert_eq!(got, [4, 5]);
    assert!(world.unix_ms() * 1_000 - START_UNIX_US <= DAY_MS * 1_000, "within a day");
    assert_eq!(world.delivered(&name, "alice", "phone"), 5);
    // It lacked something in one conversation.
    assert_eq!(counted(&world).1, 1);
    // It is as it was: the next record comes at once.
    send_all(&mut world, alice, &name, 5..6);
    assert_eq!(rest(&mut world, &[alice, bob])[1], [6]);
}

#[test]
fn what_no_hint_told_comes_within_a_day() {
    a_lost_hint(0);
}

#[test]
fn a_session_that_was_written_out_and_read_back_looks_as_well() {
    a_lost_hint(3);
}

#[test]
fn who_has_everything_is_pushed_nothing_at_times_of_its_own() {
    let mut world = World::new(2);
    let names: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    let conns: Vec<_> = names.iter().map(|name| open(&mut world, name)).collect();
    for (conn, to) in conns.iter().zip(names.iter().cycle().skip(1)) {
        send_all(&mut world, *conn, to, 0..3);
    }
    assert_eq!(rest(&mut world, &conns), vec![vec![1, 2, 3]; 8]);
    let mut hours = Vec::new();
    for hour in 0..72 {
        let before = counted(&world).0;
        world.advance(HOUR_MS);
        hours.extend((counted(&world).0 > before).then_some(hour));
    }
    let (all, found) = counted(&world);
    // Between one and two a day.
    assert!((8 * 3..=8 * 6).contains(&all), "{all}");
    assert!(hours[0] >= 11 && hours.len() > 8, "spread: {hours:?}");
    assert_eq!(found, 0);
    for conn in conns {
        assert_eq!(take(&mut world, conn), [0; 0]);
    }
}

#[test]
fn what_comes_while_it_looks_is_pushed_once_and_a_store_that_fails_ends_nothing() {
    let faults = Faults { unavailable: 3_000, latency_us: (1_000, 400_000), ..Faults::none() };
    let mut world = World::with(2, faults, |_| {});
    let name = far(&world);
    let (mut alice, mut bob) = (None, None);
    // A hello may fail as well.
    while bob.is_none() {
        let conns = [open(&mut world, "alice"), open(&mut world, &name)];
        world.advance(30_000);
        let welcomed = conns.map(|conn| world.got(conn).iter().any(|got| matches!(got, Got::Established)));
        if welcomed == [true, true] {
            (alice, bob) = (Some(conns[0]), Some(conns[1]));
        } else {
            conns.into_iter().for_each(|conn| world.close(conn));
        }
    }
    let (alice, bob) = (alice.unwrap(), bob.unwrap());
    let (mut sent, mut got) = (0, Vec::new());
    for n in 0..3 * 24 * 6 {
        // Every ten minutes; those that are refused are not stored.
        sent += u64::from(world.sent(alice, text(&name, cmid(n), "hi")).is_ok());
        for _ in 0..3 {
            got.extend(rest(&mut world, &[alice, bob]).remove(1));
        }
        world.advance(560_000);
    }
    got.extend(rest(&mut world, &[alice, bob]).remove(1));
    assert!(counted(&world).0 >= 6);
    assert_eq!(got, (1..=sent).collect::<Vec<_>>(), "each once, in order");
}
