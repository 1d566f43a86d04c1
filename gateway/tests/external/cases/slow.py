"""O15: consumers that stop reading, or read and never acknowledge, beside sessions that behave."""

import asyncio
import socket

from harness import Session, eventually, run_cases

STOPPED, MUTE = 200, 50
MESSAGES, TEXT_BYTES = 40, 8 << 10  # 320 KiB each, more than three windows
WINDOW = 96 << 10
PROGRESS_MS = 6_000
TEXT = "x" * TEXT_BYTES


async def O15_slow_consumers(server):
    """200 that stop reading and 50 that never ack: bounded, closed 4002, nothing lost, neighbours undisturbed"""
    sender = [await Session.open(server, f"sender{n}") for n in range(25)]
    following = [asyncio.create_task(session.follow()) for session in sender]
    await to_good(server, sender, "warm")  # tables, buffers and the allocator have their size afterwards
    stored = await to_good(server, sender, "good")

    stopped = [await open_small(server, f"stopped{n}") for n in range(STOPPED)]
    mute = [await Session.open(server, f"mute{n}") for n in range(MUTE)]
    names = [session.user for session in stopped + mute]
    for session in stopped:
        session.ws.transport.pause_reading()
    probing = asyncio.create_task(probes(server))
    start = server.rss()
    await send_all(sender, names)
    grown = server.rss() - start
    bound = stored * 1.1 + len(names) * WINDOW * 1.1
    assert grown <= bound, f"{grown >> 20} MiB grown, {int(bound) >> 20} MiB allowed"

    closed = lambda: server.metric("ringpost_closed_total", reason="slow_consumer") >= len(names)  # noqa: E731
    await eventually(closed, "every slow consumer is closed SLOW_CONSUMER", PROGRESS_MS / 1000 + 30)
    for session in mute:
        assert await session.close_code() == 4002
        got = session.records_waiting()
        size = sum(len(record["text"]) for record in got)
        assert [int(record["seq"]) for record in got] == list(range(1, len(got) + 1))
        assert size <= WINDOW and len(got) <= 64, f"{len(got)} records, {size} bytes without an ack"
    for session in stopped:
        session.abort()

    async def catch_up(name):
        session = await Session.open(server, name)
        got = await session.records(MESSAGES)
        assert [seq for seq, _ in got] == list(range(1, MESSAGES + 1))
        assert all(record["text"] == TEXT for _, record in got)
        await session.close()

    for start in range(0, len(names), 25):
        await asyncio.gather(*(catch_up(name) for name in names[start : start + 25]))
    for task in (probing, *following):
        assert not task.done(), task
        task.cancel()
    return f"{grown >> 20} MiB grown, {stored >> 20} MiB for consumers that keep up"


async def to_good(server, senders, prefix):
    """The same load to consumers that keep up. Returns the growth of memory: the store keeps records in memory."""
    good = [await Session.open(server, f"{prefix}{n}") for n in range(STOPPED + MUTE)]
    reading = [asyncio.create_task(session.records(MESSAGES)) for session in good]
    start = server.rss()
    await send_all(senders, [session.user for session in good])
    await asyncio.gather(*reading)
    for session in good:
        await session.close()
    return server.rss() - start


async def send_all(senders, names):
    """MESSAGES texts to everyone of `names`, their order kept for each."""

    async def send_share(session, share):
        for _ in range(MESSAGES):
            for name in share:
                await session.send(name, TEXT)

    await asyncio.gather(*(send_share(session, names[n :: len(senders)]) for n, session in enumerate(senders)))


async def probes(server):
    """Sessions that behave, spread over the shards: each message is answered while the others stall."""
    pairs = [(await Session.open(server, f"ping{n}"), await Session.open(server, f"pong{n}")) for n in range(4)]
    seq = 0
    for one, _ in pairs:
        asyncio.create_task(one.follow())
    while True:
        seq += 1
        for one, two in pairs:
            await one.send(two.user, f"probe {seq}")
            n, got, _ = await two.record()
            assert got == seq
            await two.ack(n)
        await asyncio.sleep(0.2)


async def open_small(server, user):
    """A session whose kernel buffer takes 4 KiB, as a phone with no reception."""
    host, port = server.listen.rsplit(":", 1)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return await Session.open(server, user, sock=sock)


if __name__ == "__main__":
    run_cases([O15_slow_consumers], "--progress-ms", str(PROGRESS_MS), "--window-bytes", str(WINDOW))
