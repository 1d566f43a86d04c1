"""Tokens that expire while their session is open, renewals, and tokens that were never good."""

import asyncio

from harness import Session, mint, refusal, run_cases

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


async def O18_renewal(server):
    """a renewal keeps the session and its pushes going beyond the first expiry"""
    alice = await Session.open(server, "alice")
    bob = await Session.open(server, "bob", token=mint("bob", "one", 3))
    soon = await asyncio.wait_for(bob.unasked.get(), 5)
    while "renewSoon" not in soon:
        soon = await asyncio.wait_for(bob.unasked.get(), 5)
    assert "ok" in await bob.request({"renew": {"token": mint("bob", "one", 600)}})
    for number in range(1, 6):  # 10 s: past the first expiry and its leeway
        await asyncio.sleep(2)
        await alice.send("bob", f"text {number}")
        n, seq, _ = await bob.record()
        assert seq == number
        await bob.ack(n)
    assert not bob.closed.done()


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
    run_cases([O18_expiry_while_idle, O18_renewal, O18_renewal_with_a_wrong_token, O18_refused_tokens])
