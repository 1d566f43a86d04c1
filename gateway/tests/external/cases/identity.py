"""Tokens that expire while their session is open, renewals, and tokens that were never good."""

import asyncio
import contextlib
import time

import websockets

from harness import BINARY, Session, mint, refusal, run_cases

LEEWAY_S = 5


async def O18_expiry_while_idle(server):
    """an idle session ends with 4502 within the leeway; what was not acknowledged comes with the next token"""
    alice = await Session.open(server, "alice")
    bob = await Session.open(server, "bob", token=mint("bob", "one", 2))
    await alice.send("bob", "unacknowledged")
    assert (await bob.record())[1] == 1
    assert await bob.close_code(2 + LEEWAY_S + 5) == 4502
    await alice.send("bob", "after the expiry")
    assert not bob.records_waiting(), "delivered after the expiry"
    assert await refusal(Session.open(server, "bob", token=mint("bob", "one", -60))) == 4502
    bob = await Session.open(server, "bob")
    assert [record["text"] for _, record in await bob.records(2)] == ["unacknowledged", "after the expiry"]


async def O18_expiry_while_messages_flow(server):
    """a session that receives ten messages a second and sends is closed all the same, and the next token gets the rest"""
    alice = await Session.open(server, "alice")
    started = time.monotonic()
    bob = await Session.open(server, "bob", token=mint("bob", "one", 3))
    got, sent_by_bob = [], 0

    async def receive():
        while True:
            n, seq, record = await bob.record()
            got.append((seq, record["text"]))
            await bob.ack(n)

    receiving = asyncio.create_task(receive())
    numbers = iter(range(1, 1_000))
    while not bob.closed.done():
        assert time.monotonic() - started < 3 + LEEWAY_S + 5, "still open"
        await alice.send("bob", f"text {next(numbers)}")
        try:
            await bob.send("carol", f"from bob {sent_by_bob + 1}")
            sent_by_bob += 1
        except ConnectionError:
            break
        await asyncio.sleep(0.1)
    assert await bob.close_code() == 4502
    with contextlib.suppress(ConnectionError, websockets.ConnectionClosed):
        await receiving
    for _ in range(3):
        last = next(numbers)
        await alice.send("bob", f"text {last}")
    bob = await Session.open(server, "bob")
    rest = [(seq, record["text"]) for seq, record in await bob.records(last)]
    assert rest[-3:] == [(seq, f"text {seq}") for seq in range(last - 2, last + 1)], "what came after the expiry"
    # Acks of the last moments may not be written: those come again, nothing is missing.
    known = dict(got)
    assert all(known.get(seq, text) == text for seq, text in rest)
    assert dict(got) | dict(rest) == {seq: f"text {seq}" for seq in range(1, last + 1)}
    carol = await Session.open(server, "carol")
    from_bob = await carol.records(sent_by_bob)
    assert [record["text"] for _, record in from_bob[:sent_by_bob]] == [f"from bob {n}" for n in range(1, sent_by_bob + 1)]


async def O18_a_device_that_was_unlinked(server):
    """closed 4503 within 5 s, its token counts no more, another device is not disturbed"""
    token = mint("bob", "lost", 600)
    phone = await Session.open(server, "bob", "phone")
    lost = await Session.open(server, "bob", "lost", token=token)
    await asyncio.sleep(1.1)  # a token says when it was issued in seconds
    answer = await phone.request({"deviceUnlink": {"device": "lost"}})
    assert "deviceList" in answer, answer
    assert await lost.close_code(5) == 4503
    assert await refusal(Session.open(server, "bob", "lost", token=token)) in (4501, 4503)
    alice = await Session.open(server, "alice")
    await alice.send("bob", "to those that are left")
    assert (await phone.record())[2]["text"] == "to those that are left"
    assert not lost.records_waiting()


async def O18_devices_that_are_revoked(server):
    """`ringpost revoke` closes an idle and a busy session with 4503 within 5 s; nothing follows, and their tokens are over"""
    alice = await Session.open(server, "alice")
    sender = await Session.open(server, "sender")
    phone = await Session.open(server, "bob", "phone")
    tokens = {device: mint("bob", device, 600) for device in ("idle", "busy")}
    lost = {device: await Session.open(server, "bob", device, token=token) for device, token in tokens.items()}
    busy, sent = lost["busy"], 0

    async def sends():
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                await busy.send("carol", f"number {sent + 1}")
                sent += 1

    async def receives():
        with contextlib.suppress(ConnectionError, websockets.ConnectionClosed):
            while True:
                await busy.ack((await busy.record())[0])

    async def is_sent():
        for number in range(1, 1_000):
            await alice.send("bob", f"text {number}")
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(task) for task in (sends(), receives(), is_sent())]
    await asyncio.sleep(1.1)  # a token says when it was issued in seconds
    for device, session in lost.items():
        revoke = await asyncio.create_subprocess_exec(BINARY, "revoke", "bob", device, "--admin", server.admin)
        assert await revoke.wait() == 0
        assert await session.close_code(5) == 4503
    for task in tasks[:2]:
        await asyncio.wait_for(task, 5)
    tasks[2].cancel()
    for device, token in tokens.items():
        assert await refusal(Session.open(server, "bob", device, token=token)) in (4501, 4503)
    # What was accepted of it is there, and nothing more; the device that is left missed nothing.
    await sender.send("bob", "afterwards")
    while True:
        n, _, record = await phone.record()
        await phone.ack(n)
        if record["from"] == "sender":
            break
    carol = await Session.open(server, "carol")
    texts = [record["text"] for _, record in await carol.records(sent)]
    assert texts == [f"number {n}" for n in range(1, sent + 1)]
    await carol.request({"ping": {}})
    more = [record["text"] for record in carol.records_waiting()]
    assert more in ([], [f"number {sent + 1}"]), "at most the one whose answer was lost"
    return f"({sent} sent by the busy one)"


async def O18_clocks_that_differ(server):
    """an issuer whose clock is a few seconds ahead is believed, one that is far ahead is not; one that is behind gives less"""
    now = int(time.time())
    assert await Session.open(server, "bob", token=mint("bob", "one", 600, iat=now + 3))
    assert await refusal(Session.open(server, "eve", token=mint("eve", "one", 600, nbf=now + 60))) == 4501
    assert await refusal(Session.open(server, "eve", token=mint("eve", "one", 600, iat=now + 20))) == 4501
    # The server's clock is 20 s ahead: a minute of the issuer's is 40 s here, and it is this clock that ends it.
    behind = int(time.time()) - 20
    slow = await Session.open(server, "dee", token=mint("dee", "one", 0, iat=behind, exp=behind + 22))
    soon = await asyncio.wait_for(slow.unasked.get(), 5)
    assert int(soon["renewSoon"]["expMs"]) == (behind + 22) * 1000, soon
    assert await slow.close_code(2 + LEEWAY_S + 5) == 4502
    assert 0 <= time.time() - (behind + 22) <= LEEWAY_S + 2
    assert await refusal(Session.open(server, "dee", token=mint("dee", "one", 0, iat=behind, exp=behind + 10))) == 4502


async def O18_renewal(server):
    """a renewal keeps the session and its pushes going beyond the first expiry; who watches sees nothing of it"""
    alice = await Session.open(server, "alice")
    bob = await Session.open(server, "bob", token=mint("bob", "one", 3))
    soon = await asyncio.wait_for(bob.unasked.get(), 5)
    while "renewSoon" not in soon:
        soon = await asyncio.wait_for(bob.unasked.get(), 5)
    watch = (await alice.request({"watch": {"users": ["bob"]}}))["presenceStates"]["states"]
    assert [state["online"] for state in watch] == [True]
    assert "ok" in await bob.request({"renew": {"token": mint("bob", "one", 600)}})
    for number in range(1, 6):  # 10 s: past the first expiry and its leeway
        await asyncio.sleep(2)
        await alice.send("bob", f"text {number}")
        n, seq, _ = await bob.record()
        assert seq == number
        await bob.ack(n)
    assert not bob.closed.done()
    await alice.request({"ping": {}})
    events = [alice.unasked.get_nowait() for _ in range(alice.unasked.qsize())]
    assert not [event for event in events if "presenceState" in event], events
    assert server.metric("ringpost_sessions_established_total") == 2, "no reconnect"


async def O18_renewal_with_a_wrong_token(server):
    """a token of another account, another device, or one that is over: an error, then 4501; others are not disturbed"""
    alice = await Session.open(server, "alice")
    of_another = [mint("mallory", "one", 600), mint("bob", "two", 600)]
    not_good = [mint("bob", "one", -60), mint("bob", "one", 600, aud="else"), "x.y.z"]
    for number, token in enumerate(of_another + not_good):
        user = f"bob{number}" if token in not_good else "bob"
        bob = await Session.open(server, user)
        answer = await bob.request({"renew": {"token": token}})
        assert answer["error"]["code"] == "UNAUTHENTICATED", answer
        assert await bob.close_code() == 4501
        assert "pong" in await alice.request({"ping": {}})


async def O18_refused_tokens(server):
    """tokens that were never good: closed 4501, no session comes of it"""
    for token in (mint("bob", "one", 600, iss="else"), mint("bob", "one", 600, aud="else"), mint("", "one", 600), "x.y.z"):
        assert await refusal(Session.open(server, "bob", token=token)) == 4501
    bob = await Session.open(server, "bob")
    assert bob.welcome["user"] == "bob" and bob.welcome["device"] == "one"


if __name__ == "__main__":
    run_cases([
        O18_expiry_while_idle,
        O18_expiry_while_messages_flow,
        O18_a_device_that_was_unlinked,
        O18_devices_that_are_revoked,
        O18_clocks_that_differ,
        O18_renewal,
        O18_renewal_with_a_wrong_token,
        O18_refused_tokens,
    ])
