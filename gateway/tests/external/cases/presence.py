"""What contacts see of a user: devices that disagree (O14), and devices that vanish and come back (O13)."""

import asyncio
import time

from harness import Relay, Session, eventually, run_cases

CONTACTS, FLIPS = 500, 20  # a minute of flips and more is router/tests/pairs/presence.rs
GRACE_S = 15  # from the last sign of a user to offline
SOON_S = 3


async def watching(server, name, user):
    """A session that watches a user who is online."""
    session = await Session.open(server, name)
    answer = await session.request({"watch": {"users": [user]}})
    (state,) = answer["presenceStates"]["states"]
    assert state["online"], state
    return session


def told(session, user):
    """The events about this user that have come, as they were: online or not."""
    frames = [session.unasked.get_nowait() for _ in range(session.unasked.qsize())]
    states = [frame["presenceState"] for frame in frames if "presenceState" in frame]
    return [state.get("online", False) for state in states if state["user"] == user]


async def nothing_told(sessions, user):
    for session in sessions:
        await session.request({"ping": {}})
        events = told(session, user)
        assert not events, f"{session.user} was told {events}"


async def until_told(session, user, online, patience):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if events := told(session, user):
            assert events == [online], events
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{session.user} was not told that {user} is {'on' if online else 'off'}line")


async def O14_two_devices_disagree(server):
    """500 contacts: one device active is online, whatever the others say; one event when that is over, and none for a blip"""
    phone = await Session.open(server, "dee", "phone")
    laptop = await Session.open(server, "dee", "laptop")
    contacts = []
    for first in range(0, CONTACTS, 50):
        opening = (watching(server, f"contact{number}", "dee") for number in range(first, first + 50))
        contacts += await asyncio.gather(*opening)
    told_before = server.metric("ringpost_presence_total")
    for _ in range(FLIPS):
        await phone.tell({"presence": {"state": "ACTIVE"}})
        await laptop.tell({"presence": {"state": "AWAY"}})
        await asyncio.sleep(0.5)
    await nothing_told(contacts, "dee")
    # The only device that is there says both, faster than anybody could: within the grace that is one state.
    await laptop.close()
    for _ in range(FLIPS):
        for state in ("AWAY", "ACTIVE"):
            await phone.tell({"presence": {"state": state}})
        await asyncio.sleep(0.1)
    await phone.request({"ping": {}})
    await nothing_told(contacts, "dee")
    assert server.metric("ringpost_presence_total") == told_before
    laptop = await Session.open(server, "dee", "laptop")
    await laptop.tell({"presence": {"state": "AWAY"}})
    # The only active device is gone for a moment.
    phone.abort()
    await asyncio.sleep(SOON_S)
    phone = await Session.open(server, "dee", "phone")
    await asyncio.sleep(GRACE_S)
    await nothing_told(contacts, "dee")
    # Then for good: the other one is there and away.
    await phone.close()
    closed = time.monotonic()
    await asyncio.sleep(SOON_S)
    await nothing_told(contacts, "dee")
    await asyncio.gather(*(until_told(contact, "dee", False, GRACE_S + SOON_S) for contact in contacts))
    assert time.monotonic() - closed > GRACE_S - 1
    await laptop.close()
    await asyncio.sleep(SOON_S)
    await nothing_told(contacts, "dee")
    await Session.open(server, "dee", "phone")
    await asyncio.gather(*(until_told(contact, "dee", True, SOON_S) for contact in contacts))


async def O13_a_connection_that_vanished_takes_nobody_offline(server):
    """a device that came back on a second connection is reachable and online while the first is given up, and after"""
    relay = await Relay.open(server)
    old = await Session.open(server, "dee", address=relay.address)
    contact = await watching(server, "contact", "dee")
    relay.stop_forwarding()
    new = await Session.open(server, "dee")
    await contact.send("dee", "at once")
    n, _, record = await new.record(SOON_S)
    assert record["text"] == "at once"
    await new.ack(n)
    # Two heartbeats and five seconds: by then the old one is given up however it ended.
    end = time.monotonic() + 8
    while time.monotonic() < end:
        await asyncio.sleep(0.2)
        await asyncio.gather(new.request({"ping": {}}), contact.request({"ping": {}}))
    await eventually(lambda: server.metric("ringpost_connections") == 2, "the old connection is gone")
    await contact.send("dee", "afterwards")
    assert (await new.record(SOON_S))[2]["text"] == "afterwards"
    await nothing_told([contact], "dee")
    old.abort()
    relay.close()


O13_a_connection_that_vanished_takes_nobody_offline.server_args = ("--heartbeat-ms", "1000")


async def O13_a_server_that_was_killed_knows_its_devices_again(server):
    """after kill -9 a device is online and reachable with its next connection, and gets what was sent meanwhile"""
    first = await Session.open(server, "dee")
    alice = await Session.open(server, "alice")
    await alice.send("dee", "one")
    n, _, _ = await first.record()
    await first.ack(n)
    await alice.tick(delivered=1)
    server.kill9()
    await asyncio.to_thread(server.start)
    alice = await Session.open(server, "alice")
    await alice.send("dee", "two")
    again = await Session.open(server, "dee")
    contact = await watching(server, "contact", "dee")
    await alice.send("dee", "three")
    # The ack of the first may have been written or not: then it comes again.
    texts = [record["text"] for _, record in await again.records(3)]
    assert texts[-2:] == ["two", "three"], texts
    await asyncio.sleep(SOON_S)
    await nothing_told([contact], "dee")


if __name__ == "__main__":
    run_cases([
        O14_two_devices_disagree,
        O13_a_connection_that_vanished_takes_nobody_offline,
        O13_a_server_that_was_killed_knows_its_devices_again,
    ])
