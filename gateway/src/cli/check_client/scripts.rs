//! What the judge does with a client, one scenario after the other.

use super::judge::{Absent, Stage, WATCHED};
use super::rules;
use super::world::{Event, Output};
use prost::Message;
use ringpost_proto::v1::{self, code, push::Item, server_frame::Answer};
use ringpost_proto::wire::{Encoding, encode_server};

type Done = Result<(), Absent>;

pub async fn all(stage: Stage) {
    // What a scenario could not see stays "not shown", which is no success.
    let _ = talk(&stage).await;
    stage.with(|world| world.release());
    let _ = drains(&stage).await;
    let _ = back_off(&stage).await;
    let _ = expired(&stage).await;
    let _ = stops(&stage).await;
    stage.say("done");
}

async fn talk(stage: &Stage) -> Done {
    stage.say("waiting for a client");
    stage.session().await?;
    pushes(stage).await?;
    positions(stage).await?;
    gap(stage).await?;
    unknown(stage).await?;
    retry(stage).await?;
    let final_at = errors(stage).await?;
    renew(stage).await?;
    reset(stage).await?;
    if stage.options.durable {
        durable(stage).await?;
    }
    // Long enough for a repetition that must not come.
    stage.session().await?;
    stage.pause((final_at + 7_000).saturating_sub(stage.now_ms())).await;
    stage.unbroken(WATCHED);
    Ok(())
}

async fn pushes(stage: &Stage) -> Done {
    stage.say("pushes and pings");
    let conn = stage.session().await?;
    let acked = stage.pushed(conn, "judge-repeat", 1..=2).await;
    stage.acks(rules::ACK, acked);
    let n = stage.push(conn, "judge-repeat", 2);
    let acked = stage.acked(n).await;
    stage.acks(rules::ACK_REPEAT, acked);
    stage.with(|world| world.outputs.push_back(Output::Ping { conn, payload: b"are you there?" }));
    let pong = |event: &Event| if let Event::Pong(payload) = event { Some(payload.clone()) } else { None };
    let pong = stage.until(10_000, pong).await;
    let seen = pong.as_ref().map_or("no pong".to_owned(), |payload| format!("{payload:?}"));
    stage.judge(rules::PING, pong.is_some_and(|payload| payload[..] == *b"are you there?"), "the same payload", seen);
    Ok(())
}

/// What hello says after a session, and after one that ended before it could acknowledge.
async fn positions(stage: &Stage) -> Done {
    stage.say("positions");
    let conn = stage.session().await?;
    stage.pushed(conn, "judge-kept", 1..=3).await;
    let conn = stage.reconnect().await?;
    let have = stage.have(conn, "judge-kept");
    stage.judge(rules::HAVE, have == Some(3), "judge-kept: 3, which was acknowledged", format!("{have:?}"));
    for seq in 4..=6 {
        stage.write("judge-kept", seq);
        stage.push(conn, "judge-kept", seq);
    }
    let conn = stage.reconnect().await?;
    let have = stage.have(conn, "judge-kept").unwrap_or(3);
    // As a gateway does: what it stored since is no lie, what it did not comes again.
    let mut last = 0;
    for seq in have.min(5) + 1..=6 {
        last = stage.push(conn, "judge-kept", seq);
    }
    let acked = stage.acked(last).await;
    stage.acks(rules::AGAIN, acked);
    Ok(())
}

async fn gap(stage: &Stage) -> Done {
    stage.say("a gap");
    let conn = stage.session().await?;
    stage.pushed(conn, "judge-gap", 1..=1).await;
    stage.write("judge-gap", 2);
    stage.with(|world| drop(world.logs.entry("judge-gap".to_owned()).or_default().insert(3, None)));
    stage.write("judge-gap", 4);
    let n = stage.push(conn, "judge-gap", 4);
    let fetch = |event: &Event| fetch_of("judge-gap", event);
    let fetched = stage.until(10_000, fetch).await;
    let right = fetched.as_ref().is_some_and(|range| range.contains(&2) && range.contains(&3));
    let seen = fetched.map_or("no fetch".to_owned(), |range| format!("fetch of {range:?}"));
    stage.judge(rules::GAP, right, "a fetch from 2 to 3 within 10 s", seen);
    let closed = right && stage.push_after(conn, n).await;
    let again = stage.until(1_500, fetch).await;
    let conn = stage.reconnect().await?;
    let have = stage.have(conn, "judge-gap");
    let seen = format!("have {have:?}, ack {closed}, fetch {again:?}");
    stage.judge(rules::SKIPS, closed && again.is_none() && have == Some(5), "have 5, no further fetch", seen);
    Ok(())
}

async fn unknown(stage: &Stage) -> Done {
    stage.say("things of the future");
    let conn = stage.session().await?;
    let Some(encoding) = stage.with(|world| world.conns.get(&conn).map(|conn| conn.encoding)) else {
        return Err(Absent);
    };
    stage.with(|world| world.raw(conn, unknown_frame(encoding)));
    stage.push_item(conn, None);
    stage.write("judge-unknown", 1);
    let n = stage.number(conn);
    let record = stage.with(|world| world.logs.get("judge-unknown")?.get(&1).cloned().flatten());
    let push = v1::Push { n, item: record.map(Item::Record) };
    stage.with(|world| world.raw(conn, with_unknown_field(encoding, Answer::Push(push))));
    let acked = stage.acked(n).await;
    stage.acks(rules::UNKNOWN, acked);
    Ok(())
}

/// A frame of a kind that nobody knows.
fn unknown_frame(encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => br#"{"re":"0","frameOfTheFuture":{"x":["1"]}}"#.to_vec(),
        Encoding::Protobuf => unknown_field(),
    }
}

fn with_unknown_field(encoding: Encoding, answer: Answer) -> Vec<u8> {
    let frame = v1::ServerFrame { re: 0, answer: Some(answer) };
    match encoding {
        Encoding::Json => {
            let mut value = serde_json::to_value(&frame).unwrap_or_default();
            value["fieldOfTheFuture"] = serde_json::json!({"x": [1, null]});
            value["push"]["fieldOfTheFuture"] = "y".into();
            value.to_string().into_bytes()
        }
        Encoding::Protobuf => {
            let mut bytes = Vec::new();
            encode_server(encoding, &frame, &mut bytes);
            bytes.extend(unknown_field());
            bytes
        }
    }
}

/// Field 900 with three bytes.
fn unknown_field() -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(900, &vec![1, 2, 3], &mut bytes);
    debug_assert!(v1::ServerFrame::decode(&bytes[..]).is_ok());
    bytes
}

async fn retry(stage: &Stage) -> Done {
    stage.say("sends without an answer (the client has to send now and then)");
    let (_, send) = stage.held_send().await?;
    let began = stage.now_ms();
    let again = stage.again(15_000, &send).await;
    let after = stage.now_ms() - began;
    let seen = if again.is_some() { format!("after {after} ms") } else { "no further attempt in 15 s".to_owned() };
    stage.judge(rules::RETRY, again.is_some() && (3_000..=12_000).contains(&after), "the same after 5 s", seen);
    stage.reconnect().await?;
    let again = stage.again(10_000, &send).await;
    stage.judge(rules::RECONNECT, again.is_some(), "the same within 10 s of the reconnect", "no further attempt");
    let conn = stage.session().await?;
    if let Some(id) = again {
        stage.with(|world| world.sent(conn, id, &send, true));
    }
    stage.with(|world| world.release());
    Ok(())
}

/// Gives the time of the error that was final.
async fn errors(stage: &Stage) -> Result<u64, Absent> {
    stage.say("sends that are refused");
    const AFTER_MS: u64 = 2_000;
    let (id, send) = stage.held_send().await?;
    let conn = stage.session().await?;
    let error = v1::Error {
        code: code::Value::RateLimited as i32,
        retryable: true,
        retry_after_ms: AFTER_MS,
        message: "a check".to_owned(),
        ..Default::default()
    };
    stage.with(|world| world.refuse(conn, id, &send, error));
    let began = stage.now_ms();
    let again = stage.again(15_000, &send).await;
    let after = stage.now_ms() - began;
    let seen = if again.is_some() { format!("after {after} ms") } else { "no further attempt in 15 s".to_owned() };
    stage.judge(rules::RETRY_AFTER, again.is_some() && after + 50 >= AFTER_MS, "the same after 2000 ms", seen);
    stage.with(|world| world.release());
    let (id, send) = stage.held_send().await?;
    let conn = stage.session().await?;
    let error = v1::Error { code: code::Value::Invalid as i32, message: "a check".to_owned(), ..Default::default() };
    stage.with(|world| {
        world.refuse(conn, id, &send, error);
        world.release();
    });
    Ok(stage.now_ms())
}

async fn renew(stage: &Stage) -> Done {
    stage.say("a token that ends");
    let conn = stage.session().await?;
    stage.with(|world| {
        let soon = v1::RenewSoon { exp_ms: world.now.unix_ms + 120_000 };
        world.answer(conn, 0, Answer::RenewSoon(soon));
    });
    let renew = |event: &Event| if let Event::Renew(renew) = event { Some(!renew.token.is_empty()) } else { None };
    if let Some(token) = stage.until(5_000, renew).await {
        stage.judge(rules::RENEW, token, "a token", "an empty one");
    }
    Ok(())
}

/// The log has lost its end: the client said more than it holds.
async fn reset(stage: &Stage) -> Done {
    stage.say("a log that lost its end");
    stage.session().await?;
    stage.with(|world| {
        world.logs.entry("judge-kept".to_owned()).or_default().retain(|seq, _| *seq <= 2);
        world.resets.push(("judge-kept".to_owned(), 2));
    });
    let conn = stage.reconnect().await?;
    let acked = stage.pushed(conn, "judge-kept", 3..=3).await;
    // A client that kept its position has a record 5 already, and misses nothing before it.
    stage.write("judge-kept", 4);
    stage.write("judge-kept", 5);
    stage.push(conn, "judge-kept", 5);
    let from = stage.until(10_000, |event| fetch_of("judge-kept", event)).await.map(|range| range.start);
    let seen = format!("ack {acked}, fetch from {from:?}");
    stage.judge(
        rules::RESET,
        acked && from == Some(4),
        "an ack of record 3; record 5 makes a gap, fetched from 4",
        seen,
    );
    Ok(())
}

/// The positions that a fetch of this conversation asks for.
fn fetch_of(log: &str, event: &Event) -> Option<std::ops::Range<u64>> {
    match event {
        Event::Fetch(fetch) if fetch.conversation == Some(super::world::user(log)) => {
            Some(fetch.from_seq..fetch.to_seq.saturating_add(1))
        }
        _ => None,
    }
}

async fn durable(stage: &Stage) -> Done {
    stage.say("kill -9");
    let conn = stage.session().await?;
    if !stage.pushed(conn, "judge-durable", 1..=3).await {
        return Ok(());
    }
    stage.restart();
    let conn = stage.session().await?;
    let have = stage.have(conn, "judge-durable");
    stage.judge(rules::DURABLE, have == Some(3), "have 3, which was acknowledged", format!("{have:?}"));
    Ok(())
}

async fn drains(stage: &Stage) -> Done {
    stage.say("drain");
    const SLOT_MS: u64 = 3_000;
    stage.drain(SLOT_MS).await?;
    let began = stage.now_ms();
    let opened = stage.until(SLOT_MS + 10_000, opened).await;
    let after = stage.now_ms() - began;
    let seen = if opened.is_some() { format!("after {after} ms") } else { "not within 13 s".to_owned() };
    let kept = opened.is_some() && after + 50 >= SLOT_MS && after <= SLOT_MS + 5_000;
    stage.judge(rules::DRAIN, kept, "back after 3000 ms", seen);
    stage.session().await?;
    Ok(())
}

fn opened(event: &Event) -> Option<()> {
    matches!(event, Event::Opened).then_some(())
}

async fn back_off(stage: &Stage) -> Done {
    stage.say("back-off: up to a minute");
    const MOST_MS: u64 = 60_000;
    const GROWN_MS: u64 = 1_100;
    let mut delays: Vec<u64> = Vec::new();
    // Every code once, and then until a delay shows that they grow beyond the first second.
    for (round, code) in [4001, 4002, 4003, 4004, 4001, 4002, 4003].into_iter().enumerate() {
        if round >= 4 && delays.iter().any(|&delay| delay > GROWN_MS) {
            break;
        }
        let conn = stage.session().await?;
        stage.with(|world| {
            world.close(conn, code, "a check");
            world.events.clear();
        });
        let began = stage.now_ms();
        if stage.until(MOST_MS + 1_000, opened).await.is_none() {
            stage.judge(rules::BACK_OFF, false, "back within 60 s", format!("still away 61 s after {code}"));
            return Ok(());
        }
        delays.push(stage.now_ms() - began);
    }
    let (least, most) = (delays.iter().min().copied(), delays.iter().max().copied());
    let spread = most.unwrap_or(0) - least.unwrap_or(0);
    // Delays that are drawn from 0 to 1, 2, 4 ... s fail any of these bounds once in ten thousand times.
    let (total, grown) = (delays.iter().sum::<u64>(), delays.iter().any(|&delay| delay > GROWN_MS));
    let expected = "delays that differ and grow: 500 ms or more in all, one above 1100 ms";
    stage.judge(rules::BACK_OFF, total >= 500 && spread > 60 && grown, expected, format!("{delays:?} ms"));
    stage.session().await?;
    Ok(())
}

async fn expired(stage: &Stage) -> Done {
    stage.say("4502: the token has expired");
    stage.restart();
    let conn = stage.session().await?;
    // Tokens of one second may be the same.
    stage.pause(1_500).await;
    let token = |world: &mut super::world::World, conn: u64| world.conns.get(&conn).and_then(|it| it.token.clone());
    let old = stage.with(|world| token(world, conn));
    stage.with(|world| world.close(conn, 4502, "the token has expired"));
    let session = |event: &Event| if let Event::Session(conn) = event { Some(*conn) } else { None };
    let back = stage.until(stage.options.quiet_ms, session).await;
    let new = back.and_then(|conn| stage.with(|world| token(world, conn)));
    stage.judge(rules::NEW_TOKEN, back.is_none() || new != old, "another token, or no connection", "the same token");
    Ok(())
}

async fn stops(stage: &Stage) -> Done {
    for code in [4500, 4501, 4503, 4504, 4505] {
        stage.say(format!("{code}: it has to stay away"));
        stage.restart();
        let conn = stage.session().await?;
        stage.with(|world| {
            world.close(conn, code, "a check");
            world.events.clear();
        });
        let back = stage.until(stage.options.quiet_ms, opened).await;
        if back.is_some() {
            stage.judge(rules::STOP, false, "no connection", format!("a new connection after {code}"));
            return Ok(());
        }
    }
    stage.unbroken(&[rules::STOP]);
    Ok(())
}

impl Stage {
    /// The push that waited for the gap is acknowledged, and so is one after it.
    async fn push_after(&self, conn: u64, n: u64) -> bool {
        if !self.acked(n).await {
            return false;
        }
        self.pushed(conn, "judge-gap", 5..=5).await
    }
}
