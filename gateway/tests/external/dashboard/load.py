"""What the gateway goes through while Prometheus looks: the usual mix, sessions that come and go, and one fault of each kind
that a client or an operator can bring about in half a minute.

Each fault names the lines of the dashboard on which it must show.
"""

import asyncio
import contextlib
import json
import socket
import urllib.request

import websockets

from flood import Flood
from harness import Session, eventually, mint, uuid7

SECONDS = 38
# Longer than a scrape, so that one sees what is kept for a reader who has stopped.
PROGRESS_MS = 14_000
TIMES = SECONDS // 4
SETTINGS = (
    *("--shards", "2", "--progress-ms", str(PROGRESS_MS), "--heartbeat-ms", "4000"),
    # Checkpoints and merges within the half minute.
    *("--store-memory-bytes", str(1 << 20), "--segment-bytes", str(1 << 20)),
    # Limits that the load meets: loopback is not exempt here.
    *("--exempt-addresses", "192.0.2.1", "--address-connections", "100000", "--address-upgrades-per-second", "2000"),
    *("--new-conversations-per-day", "3"),
)
# An issuer that is down; nobody listens on port 1.
KEYS = """
[[keys]]
id = "other"
alg = "HS256"
secret_file = "secret"

[[jwks]]
url = "http://127.0.0.1:1/jwks.json"
issuer = "down"
"""
# (panel, name of the line) for each fault below; all must rise above 0.
SHOWN = [
    (203, "token"), (203, "origin"), (203, "bad_request"),
    (802, "failing: file"), (802, "failing: jwks"), (802, "unanswered"), (804, "file"), (804, "jwks"),
    (801, "malformed"), (801, "expired"), (801, "signature"),
    (204, "replaced"), (204, "peer"), (204, "normal"), (204, "slow_consumer"), (204, "device_revoked"),
    (204, "unauthenticated"), (204, "heartbeat_missed"),
    (205, "takeovers"), (205, "linked"), (205, "unlinked"), (205, "over the limit of five"),
    (303, "duplicates"), (303, "refused"),
    (307, "presence"), (307, "typing"),
    (702, "acknowledged nothing"), (702, "closed as slow"), (702, "missed heartbeats"),
    (805, "rate limited"), (805, "beginnings refused"),
    (808, "exports done"), (808, "erasures done"), (808, "records erased"),
]  # fmt: skip


def settings(folder):
    """Of the server; the folder gets its key file."""
    (folder / "secret").write_bytes(b"0123456789abcdef0123456789abcdef")
    (folder / "keys.toml").write_text(KEYS)
    return (*SETTINGS, "--token-keys", folder / "keys.toml")


async def run(server, folder):
    """Everything at once, for `SECONDS`. Fails where something did not go as it must."""
    mix = ("--mix", "--users", "200", "--rate", "400", "--duration", f"{SECONDS}s", "--away", "5s", "--prefix", "mix")
    with Flood(server, "chat", *mix) as chat:
        await asyncio.gather(chat.report(SECONDS + 60), churn(server), faults(server, folder))


async def faults(server, folder):
    (folder / "keys.toml").write_text("spoiled")
    await asyncio.gather(*(fault(server) for fault in (bad_upgrades, devices, messages, slow, vanished, limits)))


async def churn(server, every=150):
    """Sessions that come, exchange a message in pairs, and go."""
    ends = asyncio.get_running_loop().time() + SECONDS - 6
    n = 0
    while asyncio.get_running_loop().time() < ends:
        n += 1
        options = ("--connections", every, "--hold", "1s", "--pairs", every // 2, "--prefix", f"churn{n}-")
        with Flood(server, "connect", *options) as some:
            await some.report(60)


async def bad_upgrades(server):
    """Tokens that are malformed, over or signed with another key, a foreign page, and no HTTP at all."""
    good = mint("eve", "one", 600)
    host, port = server.listen.rsplit(":", 1)
    for _ in range(TIMES):
        for token in ("not.a.token", mint("eve", "one", -60), good[:-4] + "AAAA"):
            assert await status(server, {"Authorization": f"Bearer {token}"}) == 401
        assert await status(server, {"Authorization": f"Bearer {good}", "Origin": "http://evil.example"}) == 403
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"nonsense\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        await asyncio.sleep(3)


async def status(server, headers):
    try:
        async with websockets.connect(f"ws://{server.listen}/v1/connect", additional_headers=headers, compression=None):
            return 101
    except websockets.InvalidStatus as error:
        return error.response.status_code


async def devices(server):
    """One device twice, a sixth device, one that its user unlinks."""
    first = await Session.open(server, "dora", "one")
    again = await Session.open(server, "dora", "one")
    assert await first.close_code() == 4500
    # Five are linked and gone; the sixth comes while none is there, so hello refuses it.
    for name in ("two", "three", "four", "five"):
        await (await Session.open(server, "dora", name)).close()
    sixth = await answer_to_hello(server, "dora", "six")
    assert sixth["error"]["code"] == "DEVICE_LIMIT", sixth
    lost = await Session.open(server, "dora", "two")
    assert "deviceList" in await again.request({"deviceUnlink": {"device": "two"}})
    assert await lost.close_code() == 4503


async def answer_to_hello(server, user, device):
    protocols = ["ringpost.v1.json", f"bearer.{mint(user, device, 600)}"]
    async with websockets.connect(f"ws://{server.listen}/v1/connect", subprotocols=protocols, compression=None) as ws:
        await ws.send(json.dumps({"id": "1", "hello": {"client": "external/1"}}))
        return json.loads(await ws.recv())


async def messages(server):
    """A message twice, one that is too much, presence and typing, and a user who is exported and erased."""
    ann, bob = await Session.open(server, "ann"), await Session.open(server, "bob")
    following = [asyncio.create_task(session.follow()) for session in (ann, bob)]
    for n in range(TIMES):
        cmid = uuid7()
        await ann.send("bob", f"text {n}", cmid)
        assert (await ann.send("bob", f"text {n}", cmid))["duplicate"]
        # A group of which she is no member.
        foreign = {"to": {"group": uuid7()}, "clientMessageId": uuid7(), "text": "hi"}
        assert "error" in await ann.request({"send": foreign})
        for state in ("COMPOSING", "PAUSED"):
            await bob.tell({"typing": {"conversation": {"user": "ann"}, "state": state}})
        await ann.request({"watch": {"users": [f"cy{n}"]}})
        await (await Session.open(server, f"cy{n}")).close()
        await asyncio.sleep(3)
    for task in following:
        task.cancel()
    await ann.close()
    for ask in ("export", "erase?yes=true"):
        await asyncio.to_thread(post, f"http://{server.admin}/admin/users/ann/{ask}")


def post(url):
    return urllib.request.urlopen(urllib.request.Request(url, data=b""), timeout=20).read()


async def slow(server):
    """A reader that stops, and one that never acknowledges, each sent more than its window."""
    ivy = await Session.open(server, "ivy")
    following = asyncio.create_task(ivy.follow())
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    host, port = server.listen.rsplit(":", 1)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    stopped, mute = await Session.open(server, "stopped", sock=sock), await Session.open(server, "mute")
    stopped.ws.transport.pause_reading()
    for n in range(128):
        for peer in ("stopped", "mute"):
            await ivy.send(peer, "x" * 4096)
    assert await mute.close_code(PROGRESS_MS / 1000 + 10) == 4002
    following.cancel()
    stopped.abort()
    await ivy.close()


async def vanished(server):
    """A client that answers nothing any more, not even a ping."""
    gone = await Session.open(server, "gone")
    gone.ws.transport.pause_reading()
    await eventually(lambda: server.metric("ringpost_closed_total", reason="heartbeat_missed") > 0, "a missed heartbeat", 30)
    gone.abort()


async def limits(server):
    """Somebody who writes to everybody, and a client that renews its token all the time."""
    sam = await Session.open(server, "sam")
    refused = 0
    for n in range(TIMES):
        body = {"to": {"user": f"stranger{n}"}, "clientMessageId": uuid7(), "text": "buy"}
        refused += "error" in await sam.request({"send": body})
        for _ in range(3):
            await sam.request({"renew": {"token": mint("sam", "one", 600)}})
        await asyncio.sleep(3)
    assert refused, "a user began as many conversations as he liked"
    with contextlib.suppress(ConnectionError):
        await sam.close()
