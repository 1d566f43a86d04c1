"""Accidents of groups over real sockets: members who come and go while others write, ticks and reads that would go back."""

import asyncio
import random

from harness import BINARY, Protobuf, Session, run_cases, uuid7

RACES = 1_000


def made(answer):
    assert "group" in answer, answer
    return answer["group"]


async def create(session, members, name="climbing"):
    body = {"name": name, "members": members, "clientMessageId": uuid7()}
    return made(await session.request({"groupCreate": body}))["group"]


async def change(session, what, group, **fields):
    return await session.request({what: {"group": group, "clientMessageId": uuid7(), **fields}})


async def say(session, group, text, **fields):
    """The answer, whatever it is."""
    send = {"to": {"group": group}, "clientMessageId": uuid7(), "text": text, **fields}
    return await session.request({"send": send})


async def sent(session, group, text):
    answer = await say(session, group, text)
    assert "sent" in answer, answer
    return int(answer["sent"]["seq"])


async def seqs(session, group, last):
    """The positions pushed of a group up to `last`, acknowledged."""
    got = []
    while not got or got[-1] < last:
        n, seq, record = await session.record()
        await session.ack(n)
        if record["conversation"].get("group") == group:
            got.append(seq)
    return got


async def settled(session):
    """Whatever was pushed before this answer is here now."""
    await session.request({"ping": {}})
    return session.records_waiting()


async def receivers(session, group, seq):
    """Whom a record was for, but for its sender."""
    answer = await session.request({"recordInfo": {"conversation": {"group": group}, "seq": str(seq)}})
    return sorted(member["user"] for member in answer["recordInfo"]["members"])


async def history(session, group):
    page = (await session.request({"history": {"conversation": {"group": group}, "limit": 100}})).get("page", {})
    return [int(record["seq"]) for record in page.get("records", [])][::-1]


async def O16_who_is_added_gets_what_comes_and_who_is_removed_nothing(server):
    """a member added gets the news and what follows; a removed one nothing more: on no device, by push, fetch, history or list"""
    ann = await Session.open(server, "ann")
    group = await create(ann, ["bob"])
    devices = [await Session.open(server, "una", device) for device in ("one", "two")]
    for path in ("groupRemove", "groupLeave"):
        made(await change(ann, "groupAdd", group, users=["una"]))
        first = await sent(ann, group, "m1")
        for device in devices:
            assert (await seqs(device, group, first))[-2:] == [first - 1, first], "added, then m1, without a reconnect"
        if path == "groupRemove":
            made(await change(ann, path, group, users=["una"]))
        else:
            made(await change(devices[0], path, group))
        gone = first + 1
        later = await sent(ann, group, "m2")
        assert later == gone + 1
        assert await receivers(ann, group, first) == ["bob", "una"] and await receivers(ann, group, later) == ["bob"]
        for device in devices:
            waiting = [int(record["seq"]) for record in await settled(device)]
            assert all(seq <= gone for seq in waiting), waiting
            fetch = {"conversation": {"group": group}, "fromSeq": "1", "toSeq": str(later)}
            page = (await device.request({"fetch": fetch}))["page"]
            assert all(int(record["seq"]) <= gone for record in page.get("records", [])), page
            assert max(await history(device, group)) <= gone
            entries = (await device.request({"conversations": {}}))["conversationPage"]["entries"]
            assert [int(entry["lastSeq"]) for entry in entries] == [gone], entries
            refused = await say(device, group, "let me in")
            assert refused["error"]["code"] == "NOT_MEMBER", refused
        # A device that was never here before, and one that comes back.
        late = await Session.open(server, "una", f"late-{path}")
        assert (await seqs(late, group, gone))[-1] == gone
        assert not await settled(late)
        await late.close()


async def O16_an_account_that_is_erased(server):
    """`ringpost user erase` ends a member's sessions and membership: what comes later reaches none of its devices, old or new"""
    ann = await Session.open(server, "ann")
    group = await create(ann, ["bob", "una"])
    devices = [await Session.open(server, "una", device) for device in ("one", "two")]
    for device in devices:
        await seqs(device, group, 1)
    spoken = await sent(devices[0], group, "hers")
    erase = await asyncio.create_subprocess_exec(
        *(BINARY, "user", "erase", "una", "--yes", "--admin", server.admin), stdout=asyncio.subprocess.DEVNULL
    )
    assert await erase.wait() == 0
    for device in devices:
        assert await device.close_code(5) == 4503
        assert all(int(record["seq"]) <= spoken + 2 for record in device.records_waiting())
    later = await sent(ann, group, "m2")
    assert await receivers(ann, group, later) == ["bob"]
    await asyncio.sleep(1.1)  # a token says when it was issued in seconds
    for name in ("one", "anew"):
        device = await Session.open(server, "una", name)
        assert all(int(record["seq"]) < later for record in await settled(device))
        fetch = {"conversation": {"group": group}, "fromSeq": "1", "toSeq": str(later)}
        page = (await device.request({"fetch": fetch})).get("page", {})
        assert all(int(record["seq"]) < later and not record.get("text") for record in page.get("records", [])), page
        assert (await say(device, group, "let me in"))["error"]["code"] == "NOT_MEMBER"
        await device.close()


async def O16_sends_that_race_with_removals(server):
    """a thousand sends of a member who is removed and added again meanwhile: each is before the removal, or refused"""
    ann = await Session.open(server, "ann")
    una = await Session.open(server, "una")
    bob = await Session.open(server, "bob", codec=Protobuf)
    group = await create(ann, ["una", "bob"])
    end = asyncio.get_running_loop().create_future()
    watching = asyncio.create_task(everything(bob, end))
    of_una = asyncio.create_task(everything(una, end))
    following = [asyncio.create_task(ann.follow())]
    outcomes = []

    async def writes():
        for number in range(RACES):
            outcomes.append(await say(una, group, f"number {number}"))

    async def removes():
        while len(outcomes) < RACES:
            made(await change(ann, "groupRemove", group, users=["una"]))
            await asyncio.sleep(random.random() / 200)
            made(await change(ann, "groupAdd", group, users=["una"]))
            await asyncio.sleep(random.random() / 100)

    await asyncio.gather(writes(), removes())
    last = await sent(ann, group, "the end")
    end.set_result(last)
    log = await asyncio.wait_for(watching, 60)
    got = [int(record["seq"]) for record in await asyncio.wait_for(of_una, 60)]
    for task in following:
        task.cancel()
    accepted = {int(answer["sent"]["seq"]) for answer in outcomes if "sent" in answer}
    refused = [answer["error"]["code"] for answer in outcomes if "error" in answer]
    assert len(accepted) + len(refused) == RACES and set(refused) == {"NOT_MEMBER"}, set(refused)
    assert [int(record["seq"]) for record in log] == list(range(1, last + 1)), "bob gets every record, in order, once"
    member, hers = True, []
    for record in log:
        # Who is removed is told so; what she sent herself is not pushed.
        if "removed" in record.get("change", {}):
            hers.append(int(record["seq"]))
            member = False
            continue
        member = member or "added" in record.get("change", {})
        if record["from"] == "una":
            assert member, f"{record['seq']} was accepted after the removal"
            assert int(record["seq"]) in accepted
        elif member:
            hers.append(int(record["seq"]))
    assert got == hers, "what was sent while she was a member, the removals, and nothing else"
    return f"({len(accepted)} accepted, {len(refused)} refused)"


async def everything(session, last):
    """All records of a session up to that which `last` resolves to, acknowledged as they come."""
    log = []
    while not (last.done() and log and int(log[-1]["seq"]) >= last.result()):
        try:
            n, _, record = await session.record(timeout=1)
        except TimeoutError:
            continue
        await session.ack(n)
        log.append(record)
    return log


async def O17_reads_and_ticks_only_grow(server):
    """1,000 random positions by two devices at once: the highest counts, for everybody and after a kill -9, and only news is told"""
    ann = await Session.open(server, "ann")
    one, two = await Session.open(server, "bob", "one"), await Session.open(server, "bob", "two")
    for number in range(50):
        await ann.send("bob", f"text {number}")
    # Read before it is delivered: it counts from then on, and nothing is told before.
    assert "ok" in await one.request({"read": {"conversation": {"user": "ann"}, "seq": "2"}})
    await ann.request({"ping": {}})
    assert not drain(ann), "read before it was delivered"
    for device in (one, two):
        await device.records(50)
    seen = await ann.tick(delivered=50)
    highest = 0

    async def reports(device, rounds):
        nonlocal highest
        for _ in range(rounds):
            seq = random.randint(3, 45)
            highest = max(highest, seq)
            answer = await device.request({"read": {"conversation": {"user": "ann"}, "seq": str(seq)}})
            assert "ok" in answer, answer

    await asyncio.gather(reports(one, 500), reports(two, 500))
    seen += await ann.tick(read=highest)
    assert seen[-1] == (50, highest)
    marks = [[int(push["readMark"]["seq"]) for push in drain(device) if "readMark" in push] for device in (one, two)]
    for of_device in marks:
        assert of_device == sorted(set(of_device)) and all(mark <= highest for mark in of_device), of_device
    # Beyond the end: clamped.
    assert "ok" in await one.request({"read": {"conversation": {"user": "ann"}, "seq": "999"}})
    seen += await ann.tick(read=50)
    # One tick for each advance, of which some are told together: none twice, none that takes something back.
    assert seen[-1] == (50, 50) and all(read <= delivered for delivered, read in seen), seen
    assert all(a <= b and c <= d and (a, c) != (b, d) for (a, c), (b, d) in zip(seen, seen[1:])), seen
    # Backwards or the same: ok, nobody hears of it, and nothing is written.
    await asyncio.sleep(2.5)  # registers are written within 2 s
    drain(one), drain(two), drain(ann)
    written = server.metric("ringpost_store_registers_total")
    for seq in (3, 50, 50, 1):
        for device in (one, two):
            assert "ok" in await device.request({"read": {"conversation": {"user": "ann"}, "seq": str(seq)}})
    await asyncio.sleep(2.5)
    for session in (ann, one, two):
        await session.request({"ping": {}})
        assert not drain(session), f"{session.user}/{session.device} is told of going back"
    assert server.metric("ringpost_store_registers_total") == written
    server.kill9()
    server.start()
    for device in ("one", "two"):
        again = await Session.open(server, "bob", device)
        entries = (await again.request({"conversations": {}}))["conversationPage"]["entries"]
        assert [(int(entry["readSeq"]), entry.get("unread", 0)) for entry in entries] == [(50, 0)], entries
    ann = await Session.open(server, "ann")
    for seq in (1, 46, 50):
        (of_bob,) = (await ann.request({"recordInfo": {"conversation": {"user": "bob"}, "seq": str(seq)}}))["recordInfo"]["members"]
        assert of_bob["state"] == "READ", of_bob
    return f"({len(seen)} ticks)"


def drain(session):
    return [session.pushes.get_nowait() for _ in range(session.pushes.qsize())]


async def O11_backlog_and_live_in_a_group(server):
    """two write into a group while a member comes and goes: every device sees one order, nothing missing, nothing twice"""
    writers = [await Session.open(server, name) for name in ("ann", "bob")]
    group = await create(writers[0], ["bob", "carl", "dora"])
    dora = await Session.open(server, "dora")
    end = asyncio.get_running_loop().create_future()
    end.set_result(401)
    watching = asyncio.create_task(everything(dora, end))
    following = [asyncio.create_task(session.follow()) for session in writers]
    total = 0

    async def writes(session, name):
        nonlocal total
        for number in range(200):
            await sent(session, group, f"{name} {number}")
            total += 1

    async def comes_and_goes():
        have = []
        while total < 400 or not have or have[-1] < 401:
            carl = await Session.open(server, "carl")
            for _ in range(random.randint(5, 60)):
                try:
                    n, seq, _ = await carl.record(timeout=0.5)
                except TimeoutError:
                    break
                assert seq <= (have[-1] if have else 0) + 1, f"{seq} after {have[-1:]}: a gap"
                if not have or seq > have[-1]:
                    have.append(seq)
                if random.random() < 0.9:
                    await carl.ack(n)
            carl.abort()
        return have

    carls, *_ = await asyncio.gather(comes_and_goes(), *(writes(it, it.user) for it in writers))
    log = await asyncio.wait_for(watching, 60)
    for task in following:
        task.cancel()
    assert carls == list(range(1, 402))
    assert [int(record["seq"]) for record in log] == carls
    for name in ("ann", "bob"):
        own = [record["text"] for record in log if record["from"] == name and "text" in record]
        assert own == [f"{name} {number}" for number in range(200)], "each writer's own order"


run_cases(
    [
        O11_backlog_and_live_in_a_group,
        O16_who_is_added_gets_what_comes_and_who_is_removed_nothing,
        O16_an_account_that_is_erased,
        O16_sends_that_race_with_removals,
        O17_reads_and_ticks_only_grow,
    ]
)
