"""What the external tests share: a server under test, and a client made of the `websockets` package and nothing of ours.

The client speaks JSON, or protobuf through classes generated from our .proto files; both look the same from outside:
frames are dicts in proto3 JSON form. It follows the client rules of the wire only where a test asks it to.
"""

import asyncio
import base64
import contextlib
import hmac
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import websockets

ROOT = pathlib.Path(__file__).resolve().parents[4]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = TARGET / "ci" / "ringpost"
# States of proc_net_tcp(5).
ESTABLISHED, CLOSE_WAIT = "01", "08"
PATIENCE_S = 20  # for anything that should happen at once, on a busy machine


class Server:
    """`ringpost serve --dev` in a process of its own, with a data directory that outlives a kill."""

    def __init__(self, *args, data=None):
        self._temporary = None if data else tempfile.TemporaryDirectory(prefix="ringpost-")
        self.data = data or self._temporary.name
        self.args = args
        self.listen, self.admin = "127.0.0.1:0", "127.0.0.1:0"
        self.log = open(pathlib.Path(self.data).with_suffix(".log"), "ab")
        self.start()

    def start(self):
        """Starts, or starts again on the same ports. Returns when the ready line was printed."""
        command = [BINARY, "serve", "--dev", "--listen", self.listen, "--admin", self.admin, "--data", self.data]
        command += ["--disk-floor", "1"]  # no test is about how full this disk is
        self.process = subprocess.Popen([*command, *self.args], stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        ready = re.match(r"ready listen=(\S+) admin=(\S+)", line)
        if not ready:
            self.process.kill()
            raise AssertionError(f"no ready line but {line!r}; log: {self.tail()}")
        self.listen, self.admin = ready.groups()
        return self

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.kill9()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.log.close()
        if self._temporary:
            pathlib.Path(self.log.name).unlink(missing_ok=True)
            self._temporary.cleanup()

    def tail(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-2000:]

    def rss(self):
        """Resident bytes of the server process."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def metrics(self):
        return urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10).read().decode()

    def metric(self, name, *, page=None, **labels):
        """The sum of a metric over the series that carry `labels`; of a `page` that was read before, or of now."""
        total = 0.0
        for series, value in re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)", self.metrics() if page is None else page, re.M):
            if all(f'{key}="{wanted}"' in series for key, wanted in labels.items()):
                total += float(value)
        return total

    def sockets(self, state=ESTABLISHED, *, of_peers=False):
        """Sockets of the public port that the kernel has in `state`: the server's, or those of its peers on this machine."""
        port = int(self.listen.rsplit(":", 1)[1])
        end, column = f":{port:04X}", 2 if of_peers else 1
        with open("/proc/net/tcp") as table:
            rows = (line.split(None, 4) for line in table)
            return sum(row[3] == state and row[column].endswith(end) for row in rows)

    def post(self, path, body):
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.listen}{path}", data, {"content-type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=10))

    def token(self, user, device):
        return self.post("/v1/dev/token", {"user": user, "device": device})["token"]


def mint(user, device, ttl_s, **changed):
    """A development token made by hand (RFC 7519, HS256): any lifetime, also one that is over."""
    secret = b"ringpost development key, never use in production"
    now = int(time.time())
    claims = {"sub": user, "dev": device, "iat": now, "exp": now + ttl_s, "iss": "ringpost-dev", "aud": "ringpost"}

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT", "kid": "dev"}) + b"." + part(claims | changed)
    signature = hmac.digest(secret, signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class Json:
    subprotocol = "ringpost.v1.json"

    @staticmethod
    def encode(frame):
        return json.dumps(frame)

    @staticmethod
    def decode(message):
        assert isinstance(message, str), "a binary message on a JSON session"
        return json.loads(message)


class Protobuf:
    """Needs the generated classes on the path; `run` makes them."""

    subprotocol = "ringpost.v1"

    @staticmethod
    def encode(frame):
        from google.protobuf.json_format import ParseDict
        from ringpost.v1 import frames_pb2

        return ParseDict(frame, frames_pb2.ClientFrame()).SerializeToString()

    @staticmethod
    def decode(message):
        from google.protobuf.json_format import MessageToDict
        from ringpost.v1 import frames_pb2

        assert isinstance(message, bytes), "a text message on a protobuf session"
        return MessageToDict(frames_pb2.ServerFrame.FromString(message))


def uuid7(ms=None):
    """RFC 9562, section 5.7, in base64 as JSON carries bytes."""
    raw = bytearray((ms or time.time_ns() // 1_000_000).to_bytes(6, "big") + secrets.token_bytes(10))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return base64.b64encode(raw).decode()


class Session:
    """One connection that said hello. Pushes are queued as they come; nothing is acknowledged by itself."""

    @classmethod
    async def open(cls, server, user, device="one", *, codec=Json, token=None, address=None, sock=None, **hello):
        self = cls()
        self.user, self.device, self.codec = user, device, codec
        token = token or await asyncio.to_thread(server.token, user, device)
        self.ws = await websockets.connect(
            f"ws://{address or server.listen}/v1/connect",
            subprotocols=[codec.subprotocol, f"bearer.{token}"],
            max_size=1 << 20,
            ping_interval=None,
            compression=None,
            sock=sock,
        )
        self.pushes = asyncio.Queue()
        self.unasked = asyncio.Queue()
        self.closed = asyncio.get_running_loop().create_future()
        self._answers, self._next = {}, 1
        self._reader = asyncio.create_task(self._read())
        answer = await self.request({"hello": {"client": "external/1", **hello}})
        self.welcome = answer.get("welcome")
        assert self.welcome, f"no welcome but {answer}"
        return self

    async def _read(self):
        try:
            async for message in self.ws:
                frame = self.codec.decode(message)
                if "push" in frame:
                    self.pushes.put_nowait({**frame["push"], "n": int(frame["push"]["n"])})
                elif int(frame.get("re", 0)):
                    waiting = self._answers.pop(int(frame["re"]), None)
                    if waiting and not waiting.done():
                        waiting.set_result(frame)
                else:
                    self.unasked.put_nowait(frame)
        except websockets.ConnectionClosed:
            pass
        code = (self.ws.close_code or 1006, self.ws.close_reason or "")
        self.closed.set_result(code)

    async def tell(self, body):
        """A frame that wants no answer."""
        await self.ws.send(self.codec.encode(body))

    async def request(self, body, timeout=PATIENCE_S):
        number, self._next = self._next, self._next + 1
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.ws.send(self.codec.encode({"id": str(number), **body}))
        await asyncio.wait({waiting, self.closed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        self._answers.pop(number, None)
        if self.closed.done():
            raise ConnectionError(f"closed {self.closed.result()}")
        raise TimeoutError(f"{self.user}/{self.device}: no answer to {body} in {timeout} s")

    async def send(self, peer, text, cmid=None):
        """The `sent` answer. What the gateway calls retryable is retried with the same id and bytes."""
        cmid = cmid or uuid7()
        while True:
            answer = await self.request({"send": {"to": {"user": peer}, "clientMessageId": cmid, "text": text}})
            error = answer.get("error", {})
            if not error.get("retryable"):
                break
            await asyncio.sleep(int(error.get("retryAfterMs", 200)) / 1000)
        assert "sent" in answer, answer
        sent = answer["sent"]
        return {"duplicate": False, **sent, "seq": int(sent["seq"])}

    async def ack(self, n):
        await self.tell({"ack": {"push": str(n)}})

    async def push(self, timeout=PATIENCE_S):
        """The next push. Fails at once when the connection ends first."""
        getting = asyncio.ensure_future(self.pushes.get())
        await asyncio.wait({getting, self.closed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        getting.cancel()
        if self.closed.done():
            raise ConnectionError(f"closed {self.closed.result()}")
        raise TimeoutError(f"{self.user}/{self.device}: nothing was pushed for {timeout} s")

    async def record(self, timeout=PATIENCE_S):
        """The next pushed record as (n, seq, record); ticks before it are skipped."""
        while True:
            push = await self.push(timeout)
            if "record" in push:
                return push["n"], int(push["record"]["seq"]), push["record"]

    def records_waiting(self):
        """Records that were pushed and not taken yet; ticks are dropped."""
        pushed = [self.pushes.get_nowait() for _ in range(self.pushes.qsize())]
        return [push["record"] for push in pushed if "record" in push]

    async def records(self, last_seq, ack=True, timeout=PATIENCE_S):
        """Records until `last_seq`, acknowledged as they come."""
        got = []
        while not got or got[-1][0] < last_seq:
            n, seq, record = await self.record(timeout)
            got.append((seq, record))
            if ack:
                await self.ack(n)
        return got

    async def tick(self, delivered=0, read=0, timeout=PATIENCE_S):
        """Waits until the ticks have reached at least these marks; acknowledges what comes. Returns all ticks seen."""
        seen = []
        while True:
            push = await self.push(timeout)
            await self.ack(push["n"])
            if "tick" not in push:
                continue
            tick = push["tick"]
            seen.append((int(tick.get("deliveredSeq", 0)), int(tick.get("readSeq", 0))))
            if seen[-1][0] >= delivered and seen[-1][1] >= read:
                return seen

    async def follow(self):
        """Acknowledges whatever is pushed, until cancelled: for sessions that only send."""
        while True:
            await self.ack((await self.pushes.get())["n"])

    async def history(self, peer):
        """All records of the conversation, oldest first, page by page."""
        rows, before = [], 0
        while True:
            ask = {"conversation": {"user": peer}, "beforeSeq": str(before), "limit": 100}
            page = (await self.request({"history": ask}))["page"]
            rows += page.get("records", [])
            before = int(page.get("nextBeforeSeq", 0))
            if not before:
                return rows[::-1]

    async def close_code(self, timeout=PATIENCE_S):
        """Waits for the other side to close; its code."""
        return (await asyncio.wait_for(asyncio.shield(self.closed), timeout))[0]

    def abort(self):
        """Cuts the TCP connection: no close frame, no goodbye."""
        self.ws.transport.abort()

    async def close(self):
        await self.ws.close()


class Relay:
    """A TCP relay between a client and the server that can stop forwarding, both ways, without closing anything."""

    @classmethod
    async def open(cls, server):
        self = cls()
        self.host, port = server.listen.rsplit(":", 1)
        self.port = int(port)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.answering = True
        self._tasks = set()
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % self._listener.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        for answers, *pair in ((False, reader, far_writer), (True, far_reader, writer)):
            task = asyncio.create_task(self._pump(*pair, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader, writer, answers):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self.flowing.wait()
                if self.answering or not answers:
                    writer.write(data)
                    await writer.drain()
        await self.flowing.wait()
        if self.answering or not answers:
            writer.close()

    def stop_forwarding(self):
        self.flowing.clear()

    def drop_answers(self):
        """From now on nothing of what the server says arrives, not even its close."""
        self.answering = False

    def close(self):
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()


async def refusal(opening):
    """The close code with which `Session.open(...)` ends instead of a welcome."""
    try:
        session = await opening
    except ConnectionError as error:
        return int(str(error).split("(")[1].split(",")[0])
    raise AssertionError(f"{session.user}/{session.device} was welcomed")


def eventually(check, what, patience=PATIENCE_S):
    """Waits for a fact outside the protocol (a metric, a process) to become true."""

    async def wait():
        deadline = time.monotonic() + patience
        while not await asyncio.to_thread(check):
            assert time.monotonic() < deadline, f"not within {patience} s: {what}"
            await asyncio.sleep(0.1)

    return wait()


def run_cases(cases, *server_args):
    """Runs async functions of a server one after the other, each against a new server; exits 1 when one failed."""
    chosen = [case for case in cases if not sys.argv[1:] or any(word in case.__name__ for word in sys.argv[1:])]
    failed = 0
    for case in chosen:
        started = time.monotonic()
        with Server(*getattr(case, "server_args", server_args)) as server:
            try:
                note = asyncio.run(case(server)) or ""
                print(f"  ok    {case.__name__}: {case.__doc__.strip()} ({time.monotonic() - started:.1f} s) {note}", flush=True)
            except Exception:  # noqa: BLE001: whatever it is, the case failed
                failed += 1
                print(f"  FAIL  {case.__name__}: {case.__doc__.strip()}\n{traceback.format_exc()}\nserver log: {server.tail()}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not chosen else 0)
