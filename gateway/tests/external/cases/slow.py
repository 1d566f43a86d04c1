"""O15: consumers that stop reading, that read a byte a second, or read and never acknowledge, beside sessions that behave."""

import asyncio
import contextlib
import socket
import time

from flood import Flood
from harness import Session, eventually, run_cases, uuid7

# Members of one group: what is sent to one is sent to all, and stored once, so that memory is what waits for them.
STOPPED, TRICKLING, MUTE = 200, 25, 25
# Of another group: pushed nothing, they ask for what was, and read that a byte a second.
ASKING = 25
MESSAGES, TEXT_BYTES = 256, 4 << 10  # 1 MiB each, four windows, in bursts of 512 KiB
WINDOW = 256 << 10
PROGRESS_MS = 6_000
TEXT = "x" * TEXT_BYTES
# A tenth of the time that the case names; what is demanded is the same.
FLOOD_SLOW = ["--grouped", "--duration", "10s", "--closed-within", "40s"]
NOTED = ("beside send to push", "outbound peak each", "rss growth", "bursts achieved bytes")


async def O15_slow_consumers(server):
    """200 that stop reading, 50 that read a byte a second, 25 that never ack: bounded, closed 4002, nothing lost, neighbours undisturbed"""
    ann = await Session.open(server, "ann")
    following = asyncio.create_task(ann.follow())
    await to_good(server, ann, "warm")  # tables, buffers and the allocator have their size afterwards
    stored = await to_good(server, ann, "good")
    pairs = await open_pairs(server)
    probing = asyncio.create_task(probe(pairs))
    # What the allocator keeps for the next time, up to 12 MiB between the first two times, it keeps once: after five times it was
    # what it was after two, but for the store.
    await wave(server, ann, len(pairs), stored, "warm")
    _, _, first = await wave(server, ann, len(pairs), stored, "first")
    members, grown, _ = await wave(server, ann, len(pairs), stored, "again")
    # But for what the store holds of it: the records, and the rows of 300 users who were not here before.
    back = lambda: server.rss() <= first * 1.1 + 2 * stored  # noqa: E731
    await eventually(back, f"memory is what it was the time before, {first >> 20} MiB, within a tenth", 60)
    again = server.rss()
    for start in range(0, len(members), 25):
        await asyncio.gather(*(catch_up(server, name) for name in members[start : start + 25]))
    assert not probing.done() and not following.done(), (probing, following)
    following.cancel()
    probing.cancel()
    slowest = await probing
    mib = f"{grown >> 20} MiB grown, {stored >> 20} for consumers that keep up, {first >> 20} and {again >> 20} afterwards"
    return f"{mib}; slowest probe {slowest * 1000:.0f} ms"


async def O15_as_written(server):
    """`flood slow`: 200 that stop reading, 50 that read a byte a second and 10 that never ack, each sent 512 KiB every 2 s"""
    return await flood_slow(server)


async def flood_slow(server, *options, push_s=2):
    """Slow consumers as the case has them, and what was seen of them; fails where flood misses what it demands. `push_s`: p99 of
    direct messages beside them."""
    options = (*FLOOD_SLOW, "--aim-push-p99", f"{push_s}s", *options)
    with Flood(server, "slow", "--admin", server.admin, *options) as slow:
        await slow.report(600)
        told = [line.strip() for line in slow.output().splitlines() if line.lstrip().startswith(NOTED)]
    return "; ".join(" ".join(line.split()) for line in told)


async def wave(server, ann, pairs, stored, name):
    """Slow consumers come, are sent more than they may have, and are closed. Their names, how much memory grew, and what
    was in use soon afterwards."""
    askers = await open_askers(server, ann, name)
    stopped = [await open_small(server, f"{name}-stopped{n}") for n in range(STOPPED)]
    trickling = [await open_small(server, f"{name}-trickling{n}") for n in range(TRICKLING)]
    mute = [await Session.open(server, f"{name}-mute{n}") for n in range(MUTE)]
    members = [session.user for session in stopped + trickling + mute]
    group = await create(ann, name, members)
    for session in stopped + trickling + askers:
        session.ws.transport.pause_reading()
    dripping = asyncio.create_task(drip([session.sock for session in trickling + askers]))
    start, closed_before = server.rss(), server.metric("ringpost_closed_total", reason="slow_consumer")
    for session in askers:
        await session.tell({"id": "77", "history": {"conversation": {"group": session.group}, "limit": 50}})
    await send_all(ann, group)
    grown = server.rss() - start
    slow = len(members) + len(askers)
    bound = (stored + slow * WINDOW) * 1.1
    assert grown <= bound, f"{grown >> 20} MiB grown, {int(bound) >> 20} MiB allowed"

    closed = lambda: server.metric("ringpost_closed_total", reason="slow_consumer") - closed_before == slow  # noqa: E731
    await eventually(closed, "every slow consumer is closed SLOW_CONSUMER", PROGRESS_MS / 1000 + 30)
    # Also where a byte a second is still taken: only those that behave are left.
    left = lambda: server.metric("ringpost_connections") == 1 + 2 * pairs  # noqa: E731
    await eventually(left, "their sockets are gone")
    for session in mute:
        assert await session.close_code() == 4002
        got = session.records_waiting()
        size = sum(len(record.get("text", "")) for record in got)
        assert [int(record["seq"]) for record in got] == list(range(1, len(got) + 1))
        assert size <= WINDOW and len(got) <= 64, f"{len(got)} records, {size} bytes without an ack"
    dripping.cancel()
    for session in stopped + trickling + askers:
        session.abort()
    await asyncio.sleep(5)
    return members, grown, server.rss()


async def create(session, name, members):
    body = {"name": name, "members": members, "clientMessageId": uuid7()}
    return (await session.request({"groupCreate": body}))["group"]["group"]


async def to_good(server, ann, prefix):
    """The same load to as many consumers that keep up. Returns the growth of memory: the store keeps records in memory."""
    good = [await Session.open(server, f"{prefix}{n}") for n in range(STOPPED + TRICKLING + MUTE)]
    group = await create(ann, prefix, [session.user for session in good])
    reading = [asyncio.create_task(session.records(MESSAGES + 1)) for session in good]
    start = server.rss()
    await send_all(ann, group)
    await asyncio.gather(*reading)
    for session in good:
        await session.close()
    return server.rss() - start


async def send_all(session, group):
    """MESSAGES texts to the group, in bursts of 512 KiB, one after the other so that they have an order."""
    for number in range(MESSAGES):
        send = {"to": {"group": group}, "clientMessageId": uuid7(), "text": f"{number} {TEXT}"[:TEXT_BYTES]}
        answer = await session.request({"send": send})
        assert "sent" in answer, answer
        if number % 128 == 127:
            await asyncio.sleep(1)


async def catch_up(server, name):
    """A session that behaves gets everything: the creation of the group, then every message, in order."""
    session = await Session.open(server, name)
    got = await session.records(MESSAGES + 1)
    assert [seq for seq, _ in got] == list(range(1, MESSAGES + 2))
    assert all(record["text"].startswith(f"{number} x") for number, (_, record) in enumerate(got[1:]))
    await session.close()


async def open_askers(server, ann, wave_name):
    """Sessions that have everything and are pushed nothing, in a group that holds more than they will read."""
    names = [f"{wave_name}-asking{n}" for n in range(ASKING)]
    group = await create(ann, "past", names)
    for number in range(50):
        await ann.request({"send": {"to": {"group": group}, "clientMessageId": uuid7(), "text": TEXT}})
    sessions = []
    for name in names:
        session = await Session.open(server, name)
        await session.records(51)
        await session.request({"ping": {}})
        await session.close()
        sessions.append(await open_small(server, name))
        sessions[-1].group = group
    return sessions


async def drip(socks):
    """Takes a byte a second from each."""
    while True:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.recv(1)
        await asyncio.sleep(1)


async def open_pairs(server):
    """Sessions that behave, spread over the shards."""
    return [(await Session.open(server, f"ping{n}"), await Session.open(server, f"pong{n}")) for n in range(4)]


async def probe(pairs):
    """Each message arrives while the others stall; until cancelled. The longest time that one took, in seconds."""
    following = [asyncio.create_task(one.follow()) for one, _ in pairs]
    seq, slowest = 0, 0.0
    try:
        while True:
            seq += 1
            for one, two in pairs:
                began = time.monotonic()
                await one.send(two.user, f"probe {seq}")
                n, got, _ = await two.record()
                slowest = max(slowest, time.monotonic() - began)
                assert got == seq
                await two.ack(n)
            await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        return slowest
    finally:
        for task in following:
            task.cancel()


async def open_small(server, user):
    """A session whose kernel buffer takes 4 KiB, as a phone with no reception."""
    host, port = server.listen.rsplit(":", 1)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    session = await Session.open(server, user, sock=sock)
    session.sock = sock
    return session


if __name__ == "__main__":
    run_cases([O15_slow_consumers, O15_as_written], "--progress-ms", str(PROGRESS_MS))
