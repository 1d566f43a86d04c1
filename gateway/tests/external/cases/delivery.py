"""Accidents of delivery over real sockets: a receiver that vanishes, acks that never come, reconnects under load, retries."""

import asyncio
import random
import time

from harness import Relay, Session, eventually, refusal, run_cases, uuid7

FIGHT_S = 20  # of the minute in which three takeovers are allowed; a whole one is router/tests/pairs/sessions.rs


async def O09_receiver_vanishes_until_declared_gone(server):
    """what is sent to a vanished receiver is delivered when it returns, and not called delivered before"""
    await vanish(server, wait_until_gone=True)


O09_receiver_vanishes_until_declared_gone.server_args = ("--heartbeat-ms", "300")


async def O09_receiver_returns_before_it_is_missed(server):
    """the same, back on a second connection while the server still believes in the first"""
    await vanish(server, wait_until_gone=False)


async def vanish(server, wait_until_gone):
    relay = await Relay.open(server)
    alice = await Session.open(server, "alice")
    bob = await Session.open(server, "bob", address=relay.address)
    relay.stop_forwarding()
    sent = [await alice.send("bob", f"text {seq}") for seq in range(1, 11)]
    assert [one["seq"] for one in sent] == list(range(1, 11))
    if wait_until_gone:
        gone = lambda: server.metric("ringpost_closed_total", reason="heartbeat_missed") >= 1  # noqa: E731
        await eventually(gone, "the vanished session is closed")
    back = await Session.open(server, "bob")
    got = [await back.record() for _ in range(10)]
    assert [seq for _, seq, _ in got] == list(range(1, 11))
    assert [record["id"] for _, _, record in got] == [one["id"] for one in sent]
    await alice.request({"ping": {}})  # whatever was pushed before this answer is here now
    assert alice.pushes.empty(), "delivered before the receiver acknowledged"
    await back.ack(got[-1][0])
    ticks = await alice.tick(delivered=10)
    assert all(earlier < later for earlier, later in zip(ticks, ticks[1:])), f"a tick came twice: {ticks}"
    bob.abort()
    relay.close()


async def O10_unacked_comes_again(server):
    """sent but not acknowledged comes again, also older ones; no ack moves past a gap"""
    carol = await Session.open(server, "carol")
    for seq in range(1, 11):
        await carol.send("dan", f"text {seq}")

    async def dan_gets(expected, device="one"):
        session = await Session.open(server, "dan", device)
        pushed = [await session.record() for _ in expected]
        assert [seq for _, seq, _ in pushed] == list(expected), pushed
        return session, {seq: n for n, seq, _ in pushed}

    dan, _ = await dan_gets(range(1, 11))
    dan.abort()
    for seq in range(11, 16):
        await carol.send("dan", f"text {seq}")
    dan, numbers = await dan_gets(range(1, 16))
    await dan.ack(numbers[5])
    await carol.tick(delivered=5)  # the ack has arrived; what it moved is written within 2 s
    dan.abort()
    dan, numbers = await dan_gets(range(6, 16))
    answer = await dan.request({"ack": {"ranges": [{"from": str(numbers[8]), "to": str(numbers[9])}]}})
    assert answer["error"]["code"] == "INVALID", answer
    answer = await dan.request({"ack": {"push": "99"}})
    assert answer["error"]["code"] == "INVALID", answer
    dan.abort()

    # Another device of the same user acknowledges everything: its cursor is its own.
    tablet = await Session.open(server, "dan", "tablet")
    await carol.send("dan", "text 16")
    await tablet.records(16)
    await carol.tick(delivered=16)

    dan, numbers = await dan_gets(range(6, 17))
    for _ in range(2):
        await dan.ack(numbers[10])
    await dan.request({"ping": {}})
    dan.abort()
    # An older number after a newer one, and none at all: nothing moves back, nothing forward.
    dan, numbers = await dan_gets(range(11, 17))
    for number in (numbers[13], numbers[12], 0):
        await dan.ack(number)
    await dan.request({"ping": {}})
    dan.abort()
    # The same after a restart: the last ack of a device that is gone was written within 2 s.
    await asyncio.sleep(2.5)
    await asyncio.to_thread(server.kill9)
    await asyncio.to_thread(server.start)
    carol = await Session.open(server, "carol")
    dan, numbers = await dan_gets(range(14, 17))
    await dan.ack(numbers[16])
    await dan.request({"ping": {}})
    dan.abort()
    dan = await Session.open(server, "dan")
    await carol.send("dan", "text 17")
    assert (await dan.record())[1] == 17, "everything before was acknowledged"


async def O11_backlog_and_live(server):
    """50 receivers drop out and come back under load with a window of 20: strictly in order, nothing missing"""
    total = 200
    drops = 0

    async def receive(number, dice):
        """Receives everything, cut at random moments; every connection goes on where the last one was acknowledged."""
        nonlocal drops
        seen = 0
        while seen < total:
            session = await Session.open(server, f"to{number}", window={"pushes": 20})
            before, unacked = None, 0
            for _ in range(dice.randint(20, 87)):
                n, seq, record = await session.record(60)
                in_order = seq == before + 1 if before else seq <= seen + 1
                assert in_order and record["text"] == f"text {seq}", f"{seq} after {before or seen}"
                before, seen, unacked = seq, max(seen, seq), unacked + 1
                if unacked == 15 or dice.random() < 0.8:
                    await session.ack(n)
                    unacked = 0
                if seq == total:
                    return session
            session.abort()
            drops += 1

    async def pair(number):
        sender = await Session.open(server, f"from{number}")

        async def send_all():
            for seq in range(1, total + 1):
                assert (await sender.send(f"to{number}", f"text {seq}"))["seq"] == seq

        _, receiver = await asyncio.gather(send_all(), receive(number, random.Random(number)))
        rows = await receiver.history(f"from{number}")
        assert [int(row["seq"]) for row in rows] == list(range(1, total + 1))
        assert [row["text"] for row in rows] == [f"text {seq}" for seq in range(1, total + 1)]

    await asyncio.gather(*(pair(number) for number in range(50)))
    return f"{50 * total} messages, {drops} drops"


async def O12_the_answer_is_lost_on_the_way(server):
    """a send whose answer never arrives, retried three times at once after 300 others and a restart: one record, one push, one unread"""
    relay = await Relay.open(server)
    alice = await Session.open(server, "alice", address=relay.address)
    bob = await Session.open(server, "bob")
    cmid = uuid7()
    send = {"send": {"to": {"user": "bob"}, "clientMessageId": cmid, "text": "only once"}}
    relay.drop_answers()
    asking = asyncio.create_task(alice.request(send))
    n, seq, pushed = await bob.record()
    assert seq == 1, "it was processed"
    await bob.ack(n)
    second = await Session.open(server, "alice")  # a device that connects again replaces what is left of it
    assert not asking.done() and not alice.closed.done(), "an answer came through"
    asking.cancel()

    async def retried(session):
        sents = [answer["sent"] for answer in await asyncio.gather(*(session.request(send) for _ in range(3)))]
        for sent in sents:
            assert sent["duplicate"] and (sent["seq"], sent["id"], sent["serverTimeMs"]) == (
                *(pushed[field] for field in ("seq", "id", "serverTimeMs")),
            ), (sent, pushed)

    await retried(second)
    counted = server.metric("ringpost_store_records_total")
    for number in range(300):  # more than a room keeps at hand when it is read again
        await second.send("bob", f"another {number}")
    await retried(second)
    assert server.metric("ringpost_store_records_total") == counted + 300
    alice.abort()
    relay.close()
    await bob.records(301)
    await bob.request({"ping": {}})
    assert not bob.records_waiting(), "a retry was pushed again"
    await asyncio.to_thread(server.kill9)
    await asyncio.to_thread(server.start)
    second = await Session.open(server, "alice")
    await retried(second)
    bob = await Session.open(server, "bob")
    (entry,) = (await bob.request({"conversations": {}}))["conversationPage"]["entries"]
    assert (entry["unread"], int(entry["lastSeq"])) == (301, 301), entry


async def O12_contents_that_race_under_one_id(server):
    """100 times two contents under one new id at the same time: one is stored, the other is told CONFLICT with what was"""
    alice = await Session.open(server, "alice")
    bob = await Session.open(server, "bob")
    for number in range(1, 101):
        to, cmid = {"user": "bob"}, uuid7()
        sends = [{"send": {"to": to, "clientMessageId": cmid, "text": text}} for text in ("this", "that", "this")]
        answers = await asyncio.gather(*(alice.request(send) for send in sends))
        sent = [answer["sent"] for answer in answers if "sent" in answer]
        errors = [answer["error"] for answer in answers if "error" in answer]
        assert len(sent) in (1, 2) and {int(one["seq"]) for one in sent} == {number}, answers
        assert sum(not one.get("duplicate", False) for one in sent) == 1, answers
        for error in errors:
            assert error["code"] == "CONFLICT" and error["details"]["conflict"]["id"] == sent[0]["id"], error
        n, seq, record = await bob.record()
        await bob.ack(n)
        assert seq == number and (record["text"] == "this") == ("sent" in answers[0]), (record, answers)
    await bob.request({"ping": {}})
    assert not bob.records_waiting()


async def O12_same_message_again(server):
    """retries of one client message id, at once and by two connections: one record, one answer, one push"""
    alice = await Session.open(server, "alice")
    bob = await Session.open(server, "bob")
    cmid = uuid7()
    send = {"send": {"to": {"user": "bob"}, "clientMessageId": cmid, "text": "only once"}}
    await alice.tell({"id": "900", **send})  # the answer is lost: the connection is replaced before it is read
    second = await Session.open(server, "alice")
    answers = await asyncio.gather(*(second.request(send) for _ in range(3)))
    sents = [answer["sent"] for answer in answers]
    assert len({(sent["seq"], sent["id"], sent["serverTimeMs"]) for sent in sents}) == 1, sents
    assert sum(not sent.get("duplicate", False) for sent in sents) <= 1, sents
    assert await alice.close_code() == 4500
    first = sents[0]

    conflict = await second.request({"send": {**send["send"], "text": "something else"}})
    error = conflict["error"]
    assert error["code"] == "CONFLICT" and not error.get("retryable"), conflict
    assert error["details"]["conflict"]["id"] == first["id"], conflict

    elsewhere = await second.send("carol", "only once", cmid)
    assert (elsewhere["seq"], elsewhere["duplicate"]) == (1, False), "the id is scoped to its conversation"
    other_device = await Session.open(server, "alice", "tablet")
    assert (await other_device.send("bob", "only once", cmid))["seq"] == 2, "the id is scoped to its device"
    assert (await bob.send("alice", "only once", cmid))["seq"] == 3, "the id is scoped to its sender"
    pushed = [await bob.record() for _ in range(2)]
    assert [seq for _, seq, _ in pushed] == [1, 2]
    await bob.request({"ping": {}})
    assert not bob.records_waiting(), "a retry was pushed again"

    for session in (second, other_device, bob):
        await session.close()
    await asyncio.to_thread(server.kill9)
    await asyncio.to_thread(server.start)
    after = await Session.open(server, "alice")
    again = (await after.request(send))["sent"]
    assert {**again, "duplicate": True} == {**first, "duplicate": True} and again["duplicate"], (again, first)
    conflict = await after.request({"send": {**send["send"], "text": "something else"}})
    assert conflict["error"]["code"] == "CONFLICT"
    assert [row["text"] for row in await after.history("bob")] == ["only once"] * 3

    stale = uuid7(int(time.time() * 1000) - 25 * 3_600_000)
    expired = await after.request({"send": {"to": {"user": "bob"}, "clientMessageId": stale, "text": "late"}})
    assert expired["error"]["code"] == "EXPIRED", expired
    found = await after.request({"lookup": {"conversation": {"user": "bob"}, "clientMessageIds": [cmid, stale]}})
    assert [one["seq"] for one in found["lookupResult"]["found"]] == [first["seq"]], found


async def O13_stale_close_does_not_remove_the_new_session(server):
    """a black-holed connection that ends late does not make its device unreachable"""
    alice = await Session.open(server, "alice")
    for round_ in range(1, 4):
        relay = await Relay.open(server)
        old = await Session.open(server, f"dee{round_}", address=relay.address)
        relay.stop_forwarding()
        new = await Session.open(server, f"dee{round_}")
        await alice.send(f"dee{round_}", "before")
        old.abort()
        relay.close()
        relay.flowing.set()
        await alice.send(f"dee{round_}", "after")
        got = await new.records(2)
        assert [record["text"] for _, record in got] == ["before", "after"]
        await new.request({"ping": {}})
        assert not new.closed.done()


async def O13_two_clients_with_one_device_id(server):
    """the older is told not to come back; one that comes anyway is refused after three takeovers a minute"""
    tablet = await Session.open(server, "alice", "tablet")
    holder = await Session.open(server, "alice")
    for _ in range(3):
        newcomer = await Session.open(server, "alice")
        assert await holder.close_code() == 4500
        holder = newcomer
    for _ in range(3):
        assert await refusal(Session.open(server, "alice")) == 4504
    bob = await Session.open(server, "bob")
    await bob.send("alice", "still there?")
    for session in (holder, tablet):
        assert (await session.record())[2]["text"] == "still there?"


async def O13_two_clients_that_never_give_up(server):
    """two clients of one device that come back at once whatever they are told: slowed, and others of the user see nothing of it"""
    contact = await Session.open(server, "contact")
    tablet = await Session.open(server, "dee", "tablet")
    watched = await contact.request({"watch": {"users": ["dee"]}})
    assert watched["presenceStates"]["states"][0]["online"], watched
    token = await asyncio.to_thread(server.token, "dee", "phone")
    ends = {}
    over = time.monotonic() + FIGHT_S

    async def fights():
        while time.monotonic() < over:
            try:
                session = await Session.open(server, "dee", "phone", token=token)
                code, _ = await asyncio.wait_for(asyncio.shield(session.closed), max(0.1, over - time.monotonic()))
            except TimeoutError:
                return session.abort()
            except ConnectionError as error:
                code = int(str(error).split("(")[1].split(",")[0])
            ends[code] = ends.get(code, 0) + 1
            await asyncio.sleep(0.05)

    fighting = [asyncio.create_task(fights()) for _ in range(2)]
    number = 0
    while time.monotonic() < over:
        number += 1
        await contact.send("dee", f"text {number}")
        n, seq, _ = await tablet.record()
        await tablet.ack(n)
        assert seq == number
        await asyncio.sleep(0.2)
    await asyncio.gather(*fighting)
    takeovers = server.metric("ringpost_takeovers_total")
    assert set(ends) == {4500, 4504}, ends
    assert takeovers == ends[4500] == 3, (takeovers, ends)
    await contact.request({"ping": {}})
    events = [contact.unasked.get_nowait() for _ in range(contact.unasked.qsize())]
    assert not [event for event in events if "presenceState" in event], events
    return f"({takeovers:.0f} takeovers, {ends[4504]} attempts turned away)"


if __name__ == "__main__":
    run_cases([
        O09_receiver_vanishes_until_declared_gone,
        O09_receiver_returns_before_it_is_missed,
        O10_unacked_comes_again,
        O11_backlog_and_live,
        O12_same_message_again,
        O12_the_answer_is_lost_on_the_way,
        O12_contents_that_race_under_one_id,
        O13_stale_close_does_not_remove_the_new_session,
        O13_two_clients_with_one_device_id,
        O13_two_clients_that_never_give_up,
    ])
