"""Two users chat through the Python `websockets` client, in JSON and in protobuf: send, receive, ack, be cut, resume."""

import asyncio
import random

from harness import Json, Protobuf, Session, run_cases, uuid7


async def conversation(server, codec):
    alice = await Session.open(server, "alice", codec=codec)
    bob = await Session.open(server, "bob", codec=codec)

    for seq in (1, 2, 3):
        assert (await alice.send("bob", f"text {seq}"))["seq"] == seq
    pushed = [await bob.record() for _ in range(3)]
    assert [record["text"] for _, _, record in pushed] == ["text 1", "text 2", "text 3"]
    assert all(record["from"] == "alice" and record["conversation"] == {"user": "alice"} for _, _, record in pushed)
    assert all("clientMessageId" not in record for _, _, record in pushed), "another user's client message id was shown"
    await bob.ack(pushed[1][0])
    assert (await alice.tick(delivered=2))[-1] == (2, 0), "record 3 was not acknowledged"

    token = bob.welcome["resumeToken"]
    bob.abort()
    for seq in range(4, 21):
        await alice.send("bob", f"text {seq}")
    have = [{"conversation": {"user": "alice"}, "seq": "2"}]
    bob = await Session.open(server, "bob", codec=codec, resumeToken=token, have=have)
    resumed = await bob.records(20)
    assert [seq for seq, _ in resumed] == list(range(3, 21)), resumed
    assert [record["text"] for _, record in resumed] == [f"text {seq}" for seq in range(3, 21)]
    await alice.tick(delivered=20)
    assert "ok" in await bob.request({"read": {"conversation": {"user": "alice"}, "seq": "20"}})
    await alice.tick(delivered=20, read=20)

    cmid = uuid7()
    first = await bob.send("alice", "an answer", cmid)
    again = await bob.send("alice", "an answer", cmid)
    assert not first["duplicate"] and again["duplicate"]
    assert (first["seq"], first["id"]) == (again["seq"], again["id"]) and first["seq"] == 21

    mine, theirs = await alice.history("bob"), await bob.history("alice")
    assert [int(row["seq"]) for row in mine] == list(range(1, 22))
    assert [row["text"] for row in mine] == [row["text"] for row in theirs]
    assert mine[0]["clientMessageId"] and "clientMessageId" not in theirs[0]
    await alice.close()
    await bob.close()


async def cut_again_and_again(server, codec):
    """The receiver is cut at random moments while the sender goes on; afterwards nothing is missing or out of order."""
    total, dice = 150, random.Random(7)
    alice = await Session.open(server, "ann", codec=codec)

    async def sender():
        for seq in range(1, total + 1):
            assert (await alice.send("ben", f"number {seq}"))["seq"] == seq

    sending = asyncio.create_task(sender())
    have, cuts = 0, 0
    while have < total:
        position = [{"conversation": {"user": "ann"}, "seq": str(have)}] if have else []
        ben = await Session.open(server, "ben", codec=codec, have=position)
        for _ in range(dice.randint(5, 30)):
            n, seq, record = await ben.record()
            assert seq <= have + 1, f"a gap: {seq} after {have}"
            if seq == have + 1:
                assert record["text"] == f"number {seq}"
                have = seq
            if dice.random() < 0.7:
                await ben.ack(n)
            if have == total:
                break
        ben.abort()
        cuts += 1
    await sending
    return cuts


async def json_two_users(server):
    """two users over JSON: send, receive, ack, cut, resume"""
    await conversation(server, Json)
    return f"{await cut_again_and_again(server, Json)} cuts"


async def protobuf_two_users(server):
    """two users over protobuf: send, receive, ack, cut, resume"""
    await conversation(server, Protobuf)
    return f"{await cut_again_and_again(server, Protobuf)} cuts"


async def one_of_each(server):
    """a JSON and a protobuf user talk to each other"""
    json_user = await Session.open(server, "jo", codec=Json)
    proto_user = await Session.open(server, "pat", codec=Protobuf)
    text = "grüß dich 👋 \u0000 \"quoted\""
    await json_user.send("pat", text)
    assert (await proto_user.record())[2]["text"] == text
    await proto_user.send("jo", text)
    assert (await json_user.record())[2]["text"] == text


if __name__ == "__main__":
    run_cases([json_two_users, protobuf_two_users, one_of_each])
