"""The protocols of the peers, each spoken once by two clients. What is expected is asserted, so this also documents the bytes."""

import base64
import json
import re
import struct

from websocket import BINARY, TEXT, WebSocket


def expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"expected {wanted!r}, found {found!r}")


def matched(pattern, found):
    match = re.fullmatch(pattern, found, re.DOTALL)
    if not match:
        raise AssertionError(f"expected {pattern!r}, found {found!r}")
    return match


def rooms(started):
    echo = WebSocket(started.address, "/echo")
    for opcode, payload in ((BINARY, b"\0\1\2"), (TEXT, b"text"), (BINARY, b"x" * 4096)):
        echo.send(payload, opcode)
        expect(echo.message(), (opcode, payload))
    one, two, three = (WebSocket(started.address, "/room/a") for _ in range(3))
    other = WebSocket(started.address, "/room/b")
    meet((one, two, three))
    one.send(b"first")
    one.send("second")
    for member in (two, three):
        expect(member.message(), (BINARY, b"first"))
        expect(member.message(), (TEXT, b"second"))
    two.send(b"third")
    for member in (one, three):
        expect(member.message(), (BINARY, b"third"))
    quiet((two, other))
    deaf(started)


def deaf(started):
    """More than sockets and bound hold is sent to two, of whom one does not read: that one is cut, the other has all of it."""
    sender, reader, sleeper = (WebSocket(started.address, "/room/deaf") for _ in range(3))
    meet((sender, reader, sleeper))
    sent = 500
    for number in range(sent):
        sender.send(bytes([number & 0xFF]) * 65536)
        expect(reader.message(), (BINARY, bytes([number & 0xFF]) * 65536))
    found = 0
    try:
        while found < sent:
            sleeper.message()
            found += 1
    except (ConnectionError, OSError):
        pass
    if found == sent:
        raise AssertionError(f"{sent} messages of 64 KiB waited for a member that did not read")


def meet(members):
    """The upgrade's answer may come before the server has entered a member: words until all others have heard one settle it."""
    for member in members:
        deaf = [other for other in members if other is not member]
        for _ in range(20):
            member.send(b"are you there?")
            deaf = [other for other in deaf if not other.drain(0.05)]
            if not deaf:
                break
        expect(deaf, [])
    for member in members:
        member.drain()


def quiet(members):
    for member in members:
        if left := member.drain():
            raise AssertionError(f"nobody should have got {left!r}")


# NATS: https://docs.nats.io/reference/reference-protocols/nats-protocol


class Nats:
    def __init__(self, started):
        self.socket = WebSocket(started.address, "/")
        self.unread = b""
        self.inbox = 0
        options = {"verbose": False, "pedantic": False, "lang": "smoke", "version": "1", "protocol": 0, "echo": False,
                   "headers": True, "no_responders": True}
        self.socket.send(f"CONNECT {json.dumps(options)}\r\nPING\r\n".encode())
        matched(rb"INFO \{.*\} ", self.line())
        expect(self.line(), b"PONG")

    def take(self, size):
        while len(self.unread) < size:
            self.more()
        taken, self.unread = self.unread[:size], self.unread[size:]
        return taken

    def more(self):
        opcode, payload = self.socket.message()
        expect(opcode, BINARY)
        self.unread += payload

    def line(self):
        while b"\r\n" not in self.unread:
            self.more()
        found, self.unread = self.unread.split(b"\r\n", 1)
        return found

    def send(self, *lines):
        self.socket.send("".join(f"{line}\r\n" for line in lines).encode())

    def published(self):
        """The next MSG: (subject, sid, reply or None, payload)."""
        words = self.line().decode().split(" ")
        expect(words[0], "MSG")
        payload = self.take(int(words[-1]))
        expect(self.line(), b"")
        return words[1], words[2], words[3] if len(words) == 5 else None, payload

    def subscribe(self, subject, sid):
        self.send(f"SUB {subject} {sid}", "PING")
        expect(self.line(), b"PONG")

    def request(self, subject, text):
        """An answer to `subject`, by an inbox that must have been subscribed as sid 9."""
        self.inbox += 1
        self.send(f"PUB {subject} _INBOX.smoke.{self.inbox} {len(text)}", text)
        found, sid, _, payload = self.published()
        expect((found, sid), (f"_INBOX.smoke.{self.inbox}", "9"))
        answer = json.loads(payload) if payload else {}
        expect(answer.get("error"), None)
        return answer


def nats(started):
    one, two = Nats(started), Nats(started)
    two.subscribe("room.a", 1)
    one.subscribe("room.a", 1)
    one.send("PUB room.a 5", "first", "PUB room.a 6", "second", "PING")
    expect(one.line(), b"PONG")  # `echo` is off: nothing of its own
    expect(two.published(), ("room.a", "1", None, b"first"))
    expect(two.published(), ("room.a", "1", None, b"second"))
    if not started.peer.sync:
        return
    one.subscribe("_INBOX.smoke.*", 9)
    one.request("$JS.API.STREAM.CREATE.MESSAGES", json.dumps({
        "name": "MESSAGES", "subjects": ["m.>"], "retention": "limits", "storage": "file", "num_replicas": 1,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "discard": "old",
    }))
    consumer = one.request("$JS.API.CONSUMER.CREATE.MESSAGES.u2.m.u2", json.dumps({"stream_name": "MESSAGES", "config": {
        "name": "u2", "durable_name": "u2", "filter_subject": "m.u2", "deliver_subject": "d.u2", "deliver_policy": "all",
        "ack_policy": "explicit", "ack_wait": 30_000_000_000, "max_deliver": -1, "max_ack_pending": 1000,
        "replay_policy": "instant",
    }}))
    expect(consumer["name"], "u2")
    expect(one.request("m.u2", "kept"), {"stream": "MESSAGES", "seq": 1})
    two.subscribe("_INBOX.smoke.*", 9)
    two.send("SUB d.u2 2")
    subject, sid, reply, payload = two.published()
    expect((subject, sid, payload), ("m.u2", "2", b"kept"))
    matched(r"\$JS\.ACK\.MESSAGES\.u2\.1\.1\.1\.\d+\.0", reply)
    expect(two.request(reply, "+ACK"), {})  # with a reply subject the ack itself is confirmed, by an empty message


# MQTT 3.1.1: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/


class Mqtt:
    def __init__(self, started, name, keep=False):
        self.socket = WebSocket(started.address, "/mqtt", "mqtt")
        self.send(0x10, self.text("MQTT") + bytes([4, 0 if keep else 2]) + struct.pack("!H", 0) + self.text(name))

    def text(self, words):
        return struct.pack("!H", len(words)) + words.encode()

    def send(self, first, body=b""):
        length, left = b"", len(body)
        while True:
            left, digit = left >> 7, left & 0x7F
            length += bytes([digit | (0x80 if left else 0)])
            if not left:
                break
        self.socket.send(bytes([first]) + length + body)

    def expect(self, first, body):
        opcode, packet = self.socket.message()
        expect(opcode, BINARY)
        expect(packet, bytes([first, len(body)]) + body)  # one packet a message; lengths below 128 here


def mqtt(started):
    one, two = Mqtt(started, "one"), Mqtt(started, "two", keep=True)
    for client in (one, two):
        client.expect(0x20, b"\0\0")
        client.send(0xC0)
        client.expect(0xD0, b"")
    two.send(0x82, b"\0\1" + two.text("u/two") + b"\1")
    two.expect(0x90, b"\0\1\1")
    one.send(0x30, one.text("u/two") + b"at most once")
    two.expect(0x30, two.text("u/two") + b"at most once")
    one.send(0x32, one.text("u/two") + b"\0\7" + b"at least once")
    one.expect(0x40, b"\0\7")
    two.expect(0x32, two.text("u/two") + b"\0\1" + b"at least once")
    two.send(0x40, b"\0\1")
    # What is published while a kept session is away waits for it.
    two.send(0xE0)
    one.send(0x32, one.text("u/two") + b"\0\10" + b"later")
    one.expect(0x40, b"\0\10")
    two = Mqtt(started, "two", keep=True)
    two.expect(0x20, b"\1\0")
    two.expect(0x32, two.text("u/two") + b"\0\2" + b"later")
    two.send(0x40, b"\0\2")


# Centrifugo's JSON protocol: https://centrifugal.dev/docs/transports/client_protocol


class Centrifugo:
    def __init__(self, started):
        self.socket = WebSocket(started.address, "/connection/websocket")
        self.lines = []

    def send(self, *commands):
        self.socket.send("\n".join(json.dumps(command) for command in commands))

    def next(self):
        while not self.lines:
            opcode, payload = self.socket.message()
            expect(opcode, TEXT)
            self.lines = payload.decode().strip().split("\n")
        return json.loads(self.lines.pop(0))


def centrifugo(started):
    one, two = Centrifugo(started), Centrifugo(started)
    for client in (one, two):
        client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "room:a"}})
        expect(sorted(client.next()["connect"]), ["client", "ping", "pong", "version"])
        expect(client.next(), {"id": 2, "subscribe": {}})
    one.send({"id": 3, "publish": {"channel": "room:a", "data": "first"}})
    pushed = one.next()["push"]  # its own comes before the answer
    expect((pushed["channel"], pushed["pub"]["data"]), ("room:a", "first"))
    expect(one.next(), {"id": 3, "publish": {}})
    expect(two.next()["push"], pushed)
    # From the history of the memory engine, by one who was away.
    two.send({"id": 3, "subscribe": {"channel": "kept:a"}})
    subscribed = two.next()["subscribe"]
    expect((subscribed["recoverable"], subscribed.get("offset", 0)), (True, 0))
    two.socket.close()
    one.send({"id": 4, "publish": {"channel": "kept:a", "data": "later"}})
    expect(one.next(), {"id": 4, "publish": {}})
    two = Centrifugo(started)
    recover = {"channel": "kept:a", "recover": True, "epoch": subscribed["epoch"], "offset": 0}
    two.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": recover})
    two.next()
    recovered = two.next()["subscribe"]
    expect((recovered["recovered"], [each["data"] for each in recovered["publications"]]), (True, ["later"]))


# XMPP over WebSocket, RFC 7395


OPEN = '<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="peer" version="1.0"/>'
BIND = ('<iq xmlns="jabber:client" type="set" id="b"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><resource>r</resource>'
        "</bind></iq>")


ENABLE = '<enable xmlns="urn:xmpp:sm:3"/>'


def message(to, number, body):
    return f'<message xmlns="jabber:client" to="{to}" type="chat" id="{number}"><body>{body}</body></message>'


class Xmpp:
    def __init__(self, started, user, durable=False):
        """In one round trip: the server works off what is sent ahead in its order. Durable peers want an account, made here."""
        self.socket = WebSocket(started.address, "/ws", "xmpp")
        self.taken = 0
        secret = base64.b64encode(f"\0{user}\0x".encode()).decode()
        auth = f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">{secret}</auth>'
        register = ('<iq xmlns="jabber:client" type="set" id="r"><query xmlns="jabber:iq:register">'
                    f"<username>{user}</username><password>x</password></query></iq>")
        for stanza in (OPEN, *[register] * durable, auth, OPEN, BIND, ENABLE):
            self.socket.send(stanza)
        self.expect("<open .*")
        self.expect("<stream:features .*")
        if durable:
            self.expect("<iq [^>]*(type='result' id='r'/>|type='error' id='r'>.*<conflict .*)")
        for begin in ("<success ", "<open ", "<stream:features "):
            self.expect(f"{begin}.*")
        self.expect(f"<iq [^>]*type='result' id='b'>.*<jid>{user}@peer/r</jid></bind></iq>")
        self.expect("<enabled xmlns='urn:xmpp:sm:3'/>")
        self.taken = 0  # stanzas since XEP-0198 is enabled

    def expect(self, pattern):
        """The next stanza. Requests to acknowledge (XEP-0198), which come after one or several, are answered on the way."""
        while True:
            opcode, stanza = self.socket.message()
            expect(opcode, TEXT)
            stanza = stanza.decode()
            if stanza == "<r xmlns='urn:xmpp:sm:3'/>":
                self.send(f'<a xmlns="urn:xmpp:sm:3" h="{self.taken}"/>')
                continue
            self.taken += stanza.startswith(("<message ", "<presence ", "<iq "))
            return matched(pattern, stanza)

    def send(self, stanza):
        self.socket.send(stanza)


def xmpp(started):
    durable = started.peer.sync is not None
    one, two = Xmpp(started, "one", durable), Xmpp(started, "two", durable)
    one.send('<iq xmlns="jabber:client" type="get" id="p" to="peer"><ping xmlns="urn:xmpp:ping"/></iq>')
    one.expect("<iq [^>]*type='result' id='p'/>")
    one.send(message("two@peer/r", 1, "first"))
    one.send('<r xmlns="urn:xmpp:sm:3"/>')
    one.expect("<a h='2' xmlns='urn:xmpp:sm:3'/>")
    two.expect("<message [^>]*from='one@peer/r' type='chat' id='1'>.*<body>first</body></message>")
    (kept if durable else room)(started, one, two)


def kept(started, one, two):
    two.send('<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>')
    two.expect("<close .*")
    one.send(message("two@peer", 2, "later"))
    one.send('<r xmlns="urn:xmpp:sm:3"/>')
    one.expect("<a h='3' xmlns='urn:xmpp:sm:3'/>")
    two = Xmpp(started, "two", durable=True)
    two.send('<presence xmlns="jabber:client"/>')
    two.expect("<message [^>]*from='one@peer/r' type='chat' id='2'>.*<delay .*<body>later</body></message>")


def room(started, one, two):
    for client, nick in ((one, "one"), (two, "two")):
        client.send(f'<presence xmlns="jabber:client" to="a@conference.peer/{nick}"><x xmlns="http://jabber.org/protocol/muc">'
                    '<history maxstanzas="0"/></x></presence>')
        client.expect("<presence [^>]*from='a@conference.peer' .*")
        client.expect(f"<presence [^>]*from='a@conference.peer/{nick}'>.*<status code='110'/>.*")
        client.expect("<message [^>]*type='groupchat'><subject/></message>")
    one.send('<message xmlns="jabber:client" to="a@conference.peer" type="groupchat" id="2"><body>second</body></message>')
    for client in (one, two):
        client.expect("<message [^>]*from='a@conference.peer/one' type='groupchat' id='2'>.*<body>second</body></message>")


SPEECH = {"rooms": rooms, "nats": nats, "mqtt": mqtt, "centrifugo": centrifugo, "xmpp": xmpp}
