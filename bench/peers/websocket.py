"""A WebSocket client (RFC 6455) for the smoke test: blocking, one message at a time, no TLS, no compression.

It fails loudly: a wrong answer, an unexpected close or ten seconds of silence raise an exception.
"""

import base64
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    def __init__(self, address, path="/", subprotocol=None, patience=10):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.patience = patience
        self.bytes = self.socket.makefile("rb")
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {address}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13",
            *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = self.bytes.readline()
        if b" 101 " not in status:
            raise ConnectionError(f"no upgrade at {path}: {status!r}")
        self.headers = {}
        while (line := self.bytes.readline().strip()):
            name, value = line.split(b":", 1)
            self.headers[name.decode().lower()] = value.strip().decode()
        if self.headers.get("sec-websocket-protocol") != subprotocol:
            raise ConnectionError(f"subprotocol {subprotocol} asked, {self.headers} answered")

    def send(self, payload, opcode=None):
        if isinstance(payload, str):
            payload, opcode = payload.encode(), opcode or TEXT
        mask = os.urandom(4)
        head = bytes([0x80 | (opcode or BINARY)])
        if len(payload) < 126:
            head += bytes([0x80 | len(payload)])
        elif len(payload) < 1 << 16:
            head += struct.pack("!BH", 0x80 | 126, len(payload))
        else:
            head += struct.pack("!BQ", 0x80 | 127, len(payload))
        whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
        self.socket.sendall(head + mask + masked.to_bytes(len(payload), "big"))

    def frame(self):
        first, second = self.exactly(2)
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self.exactly(2))
        elif size == 127:
            size, = struct.unpack("!Q", self.exactly(8))
        return bool(first & 0x80), first & 0x0F, self.exactly(size)

    def message(self):
        """The next message, (opcode, bytes): pings are answered, pongs and fragments are not shown."""
        opcode, parts = None, []
        while True:
            final, kind, payload = self.frame()
            if kind == PING:
                self.send(payload, PONG)
            elif kind == CLOSE:
                raise ConnectionError(f"closed by the server: {payload!r}")
            elif kind != PONG:
                opcode = opcode or kind
                parts.append(payload)
                if final:
                    return opcode, b"".join(parts)

    def exactly(self, size):
        found = self.bytes.read(size)
        if len(found) != size:
            raise ConnectionError("the server cut the connection")
        return found

    def renew(self):
        """After a time-out, which a buffered reader does not survive."""
        self.socket.settimeout(self.patience)
        self.bytes = self.socket.makefile("rb")

    def drain(self, silence=0.3):
        """All messages until nothing comes for so many seconds."""
        found = []
        self.socket.settimeout(silence)
        try:
            while True:
                found.append(self.message())
        except TimeoutError:
            self.renew()
        return found

    def close(self):
        self.bytes.close()
        self.socket.close()
