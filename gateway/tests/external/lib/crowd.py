"""Many connections that end in every way that a client can bring about: plain sockets, in processes and threads of their own.

Each knows what must happen to it; what did is counted. For those that the server closes with a close frame, the time from that
frame to the end of the stream is taken. The WebSocket here is as little as that needs.
"""

import collections
import contextlib
import multiprocessing
import queue
import resource
import select
import socket
import struct
import threading
import time

from harness import mint

PROCESSES, THREADS = 3, 32
# Ports of one source address that are used: each waits a minute after its connection.
PORTS = 5_000
PATIENCE_S = 60

REFUSALS = {"token": 401, "origin": 403, "bad_request": 400}
# Those that nothing more is heard of until the server gives them up.
LEFT = ("half", "no_hello")
KINDS = (*REFUSALS, *LEFT, "bye", "cut", "reset")


def upgrade(token=None, **headers):
    lines = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **({"Authorization": f"Bearer {token}"} if token else {}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return "GET /v1/connect HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"


def run(server, each):
    """`each` connections of each kind. Blocks until the last has ended. (How many of each kind ended as they must, what else
    happened, the longest time in seconds from a close frame to the end of the stream.)"""
    jobs = [(server.listen, number, share(each, number)) for number in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        done, wrong, slowest = collections.Counter(), collections.Counter(), 0.0
        for some, others, slow in pool.imap_unordered(work, jobs):
            done.update(some)
            wrong.update(others)
            slowest = max(slowest, slow)
    return done, wrong, slowest


def share(each, number):
    return each // PROCESSES + (number < each % PROCESSES)


def work(job):
    """The connections of one process."""
    listen, number, each = job
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(listen, number, each)
    threads = [threading.Thread(target=crowd.go_on) for _ in range(THREADS)]
    watching = threading.Thread(target=crowd.watch, args=(each * len(LEFT),))
    for thread in (*threads, watching):
        thread.start()
    for thread in (*threads, watching):
        thread.join()
    return crowd.done, crowd.wrong, crowd.slowest


class Crowd:
    def __init__(self, listen, number, each):
        host, port = listen.rsplit(":", 1)
        self.address, self.number = (host, int(port)), number
        self.todo = queue.SimpleQueue()
        # Those that are waited for begin first.
        for kind in sorted(KINDS, key=lambda kind: kind not in LEFT):
            for at in range(each):
                self.todo.put((kind, at))
        self.done, self.wrong = collections.Counter(), collections.Counter()
        self.slowest, self.lock = 0.0, threading.Lock()
        self.left, self.poll, self.opened = {}, select.epoll(), 0

    def go_on(self):
        with contextlib.suppress(queue.Empty):
            while True:
                kind, at = self.todo.get_nowait()
                try:
                    self.one(kind, at)
                except (OSError, AssertionError, ValueError) as error:
                    self.ended(kind, f"{type(error).__name__}: {error}")

    def ended(self, kind, wrong=None, waited=0.0):
        with self.lock:
            self.slowest = max(self.slowest, waited)
            if wrong is None:
                self.done[kind] += 1
            else:
                self.wrong[f"{kind}: {wrong}"] += 1

    def one(self, kind, at):
        sock = self.open()
        if kind in LEFT:
            return self.leave(sock, kind, f"{kind}-{self.number}-{at}")
        with sock:
            if kind in REFUSALS:
                token = mint("anybody", "one", 600)
                request = {
                    "token": upgrade("not.a.token"),
                    "origin": upgrade(token, Origin="http://evil.example"),
                    "bad_request": "nonsense\r\n\r\n",
                }[kind]
                sock.sendall(request.encode())
                head = sock.recv(4096)
                assert f" {REFUSALS[kind]} ".encode() in head, head
                return self.ended(kind)
            stream = Stream(sock)
            stream.welcome(mint(f"{kind}-{self.number}-{at}", "one", 600))
            if kind == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            waited = 0.0
            if kind == "bye":
                sock.sendall(text(b'{"bye":{}}'))
                while (frame := stream.frame())[0] != CLOSE:
                    pass
                began = time.monotonic()
                assert frame[1][:2] == struct.pack(">H", 1000), frame
                while sock.recv(4096):
                    pass
                waited = time.monotonic() - began
            self.ended(kind, waited=waited)

    def open(self):
        with self.lock:
            self.opened += 1
            source = f"127.2.{self.number}.{1 + self.opened // PORTS}"
        sock = socket.socket()
        sock.settimeout(PATIENCE_S)
        sock.bind((source, 0))
        sock.connect(self.address)
        return sock

    def leave(self, sock, kind, user):
        """Says so much and no more; the watch sees how it ends."""
        if kind == "half":
            sock.sendall(b"GET /v1/connect HTTP/1.1\r\nHost: x")
        else:
            sock.sendall(upgrade(mint(user, "one", 600)).encode())
            Stream(sock).switched()
        sock.setblocking(False)
        self.left[sock.fileno()] = (sock, kind, [])
        self.poll.register(sock, select.EPOLLIN)

    def watch(self, count):
        """Until all who were left are closed, as they must be: with 4501 where the upgrade was accepted, else without a word."""
        deadline = time.monotonic() + PATIENCE_S
        for _ in range(count):
            while not (ended := self.next_end(deadline)):
                if time.monotonic() > deadline:
                    return self.ended("left", f"{len(self.left)} are not closed")
            self.ended(*ended)

    def next_end(self, deadline):
        """(kind, what was wrong, seconds since its close frame) of one that has ended, or nothing yet."""
        for number, _ in self.poll.poll(1, maxevents=1):
            sock, kind, heard = self.left[number]
            try:
                # To the end at once, where it is there: a close frame is not older for others that wait to be read.
                while data := sock.recv(4096):
                    heard.append((data, time.monotonic()))
            except BlockingIOError:
                return None
            except ConnectionResetError:
                pass
            self.poll.unregister(sock)
            del self.left[number]
            sock.close()
            said = b"".join(data for data, _ in heard)[2:4]
            right = said == (struct.pack(">H", 4501) if kind == "no_hello" else b"")
            return kind, None if right else f"said {said}", time.monotonic() - heard[0][1] if heard else 0.0
        return None


TEXT, CLOSE = 1, 8


def text(payload):
    """A frame of a client, masked with zeros (RFC 6455, section 5.2)."""
    assert len(payload) < 126
    return bytes([0x80 | TEXT, 0x80 | len(payload)]) + bytes(4) + payload


class Stream:
    """What a server says: the head of an answer, then frames."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def take(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(4096)
            assert data, "the stream ended"
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def switched(self):
        while b"\r\n\r\n" not in self.buffer:
            data = self.sock.recv(4096)
            assert data, "the stream ended"
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head, head

    def frame(self):
        first, length = self.take(2)
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        return first & 0x0F, self.take(length)

    def welcome(self, token):
        self.sock.sendall(upgrade(token).encode())
        self.switched()
        self.sock.sendall(text(b'{"id":"1","hello":{"client":"crowd/1"}}'))
        opcode, payload = self.frame()
        assert opcode == TEXT and b'"welcome"' in payload, payload
