"""How connections end: sockets that the server closes are gone (O20), and the metrics account for every one (O24)."""

import asyncio
import json
import re
import socket
import struct
import time
import urllib.error
import urllib.request

import websockets

from crowd import upgrade
from harness import Session, mint, eventually, refusal, run_cases

EACH = 1_000
VARIED = 10_000
OF_A_RING = ("ringpost_ring_slots_occupied", "ringpost_ring_operations_in_flight", "ringpost_ring_buffers_out")


async def raw(server, text=""):
    """A TCP connection that sent `text` and nothing more."""
    host, port = server.listen.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode())
    return reader, writer


def reset(writer):
    """Ends a connection with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def balanced(server):
    """accepted = open + closed, and nothing is open."""
    accepted, closed = server.metric("ringpost_accepted_total"), server.metric("ringpost_closed_total")
    return server.metric("ringpost_connections") == 0 and accepted == closed


def series(server):
    """The names and labels of all metrics."""
    return {line.rsplit(" ", 1)[0] for line in server.metrics().splitlines() if not line.startswith("#")}


def metrics_are_private(server):
    try:
        status = urllib.request.urlopen(f"http://{server.listen}/metrics", timeout=10).status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status == 404, "metrics are on the admin port only"


async def O20_closed_sockets_are_gone(server):
    """connections that the server gives up see EOF, also with a receive pending; every slot, operation and buffer returns"""
    (await Session.open(server, "warm")).abort()
    await eventually(lambda: balanced(server), "the first connection is gone")
    before = [server.metric(name) for name in OF_A_RING]
    token = await asyncio.to_thread(server.token, "idle", "one")
    for _ in range(3):
        texts = ["", "GET /v1/connect HTTP/1.1\r\nHost: x", upgrade(token)]
        opened = [await raw(server, texts[number % 3]) for number in range(3 * EACH)]

        async def until_eof(reader):
            data = await reader.read(-1)
            return data, time.monotonic()

        ends = await asyncio.wait_for(asyncio.gather(*(until_eof(reader) for reader, _ in opened)), 30)
        greeted = [data for data, _ in ends if b" 101 " in data]
        assert len(greeted) == EACH, f"{len(greeted)} of {EACH} were upgraded"
        assert all(data[-(len(data) - data.index(b"\r\n\r\n") - 4) :][2:4] == b"\x11\x95" for data in greeted), "not 4501"
        for _, writer in opened:
            writer.close()
    await eventually(lambda: balanced(server), "all are closed")
    same = lambda: [server.metric(name) for name in OF_A_RING] == before  # noqa: E731
    await eventually(same, f"{OF_A_RING} return to {before}")


O20_closed_sockets_are_gone.server_args = ("--authenticate-ms", "1000")


async def O24_every_end_is_counted_once(server):
    """after refused, broken, reset, replaced and clean ends: accepted = closed, nothing open, no series from user input"""

    async def refused_upgrade(text, status):
        reader, writer = await raw(server, text)
        head = await reader.readuntil(b"\r\n")
        assert f" {status} ".encode() in head, head
        writer.close()

    async def each_kind(number):
        user = f"user{number}"
        token = await asyncio.to_thread(server.token, user, "one")
        await refused_upgrade(upgrade("not.a.token", User_Agent=f"agent/{number}"), 401)
        await refused_upgrade(upgrade(token, Origin=f"http://evil{number}.example"), 403)
        await refused_upgrade(f"GET /x{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404)
        await refused_upgrade("nonsense\r\n\r\n", 400)
        reset((await raw(server, "GET / HT"))[1])
        reset((await raw(server, upgrade(token)))[1])
        first = await Session.open(server, user)
        second = await Session.open(server, user)
        assert await first.close_code() == 4500
        second.abort()
        # Another device: whether the reset is seen before the next hello is chance, and would be one more takeover.
        last = await Session.open(server, user, "two")
        await last.tell({"bye": {}})
        assert await last.close_code() == 1000
        assert await refusal(Session.open(server, user, token="x.y.z")) == 4501

    async def various(first):
        """50 paths and agents on one connection, then the address of a machine and a user that nobody had before."""
        requests = (
            f"GET /x{number} HTTP/1.1\r\nHost: host{number}\r\nUser-Agent: agent/{number}\r\n\r\n"
            for number in range(first, first + 50)
        )
        reader, writer = await raw(server, "".join(requests))
        for _ in range(50):
            assert b" 404 " in await reader.readline()
            length = int(re.search(rb"content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"), re.I)[1])
            await reader.readexactly(length)
        writer.close()
        host = f"127.{first // 250 % 250 + 1}.{first // 50 % 250}.7"
        options = {"local_addr": (host, 0), "compression": None}
        agent = {"User-Agent": f"agent/{first}"}
        async with websockets.connect(f"ws://{server.listen}/v1/connect", additional_headers=agent, **options) as ws:
            await ws.send(json.dumps({"id": "1", "hello": {"client": f"c/{first}", "token": mint(f"v{first}", "one", 60)}}))
            assert "welcome" in json.loads(await ws.recv())
            await ws.close(3000 + first // 50, f"because {first}")

    await each_kind(-1)
    await eventually(lambda: balanced(server), "the first of each kind is gone")
    before = series(server)
    for start in range(0, EACH, 20):
        await asyncio.gather(*(each_kind(number) for number in range(start, start + 20)))
    await eventually(lambda: balanced(server), "accepted = open + closed, and nothing is open")
    assert series(server) == before, series(server) ^ before
    for start in range(0, VARIED, 500):
        await asyncio.gather(*(various(number) for number in range(start, start + 500, 50)))
    await eventually(lambda: balanced(server), "they are gone as well")
    assert series(server) == before, series(server) ^ before
    assert server.metric("ringpost_refused_total") >= 3 * EACH
    assert server.metric("ringpost_takeovers_total") == EACH + 1
    metrics_are_private(server)


if __name__ == "__main__":
    run_cases([O20_closed_sockets_are_gone, O24_every_end_is_counted_once])
