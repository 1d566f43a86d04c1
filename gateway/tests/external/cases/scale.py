"""The cases of slow consumers (O15), of closing (O20), of starved rings (O21) and of accounts (O24) with 100,000 sessions.

SESSIONS in the environment is another number of them; SLACK=10 is ten times the time for everything that has a limit, on a
machine whose processors others use. `flood connect` is most of them, and fails where one is lost.
"""

import asyncio
import contextlib
import http.client
import os
import signal
import statistics
import time

import crowd
from ends import OF_A_RING, metrics_are_private, series
from flood import figure, held
from harness import CLOSE_WAIT, Session, eventually, run_cases
from slow import flood_slow
from starved import STARVED, idle, overload

SESSIONS = int(os.environ.get("SESSIONS", 100_000))
PAIRS = min(1_000, SESSIONS // 2)
# For opening or ending all of them, on a busy machine.
PATIENCE_S = 300
# Pings come thick, and who reads has time to say so on a busy machine.
HEARTBEAT_MS, PROGRESS_MS = 10_000, 15_000
SLACK = int(os.environ.get("SLACK", 1))
SCRAPE_S, PUSH_S, ANSWER_S, END_S = 0.2 * SLACK, 2 * SLACK, 5 * SLACK, 1 * SLACK


async def O15_O20_O24_beside_and_after_many(server):
    """beside 100,000 sessions slow consumers disturb nobody; each of 400,000 ends is counted once, and leaves nothing behind"""
    before, names = await at_first(server), series(server)
    notes = []

    # Cut without a word, after they were beside slow consumers.
    with held(server, SESSIONS, "a", "--ping-all", "--pairs", PAIRS) as many:
        await established(server)
        metrics_are_private(server)
        scraping = asyncio.create_task(scrape(server))
        notes.append(await flood_slow(server, "--prefix", "slow", push_s=PUSH_S))
        scraping.cancel()
        notes.append(await scraping)
        await established(server)  # the slow ones are gone, and nobody else
        assert server.metric("ringpost_closed_total", reason="slow_consumer") > 0
        ended = reasons(server)
        notes.append(answered(await many.report(PATIENCE_S)))
    await returned(server, before)
    assert gained(server, ended, "peer", "reset") == SESSIONS, reasons(server)

    # Replaced by others of the same name, which then answer nothing.
    with held(server, SESSIONS, "b") as first:
        await established(server)
        ended = reasons(server)
        with held(server, SESSIONS, "b") as second:
            replaced = lambda: gained(server, ended, "replaced") == SESSIONS  # noqa: E731
            await eventually(replaced, "every one is replaced", PATIENCE_S)
            await established(server)
            await lost(server, first, 4500)
            second.freeze()
            ended = reasons(server)
            # Meanwhile as many come and end in every way that a client can bring about.
            notes.append(await all_kinds(server))
            silent = lambda: gained(server, ended, "heartbeat_missed") == SESSIONS  # noqa: E731
            await eventually(silent, "all who answer no ping are closed", PATIENCE_S)
            await returned(server, before)
            # A peer that reads nothing has its FIN all the same.
            assert server.sockets(CLOSE_WAIT, of_peers=True) == SESSIONS
            second.thaw()
            await lost(server, second, 4001)
    assert series(server) == names, series(server) ^ names
    return "; ".join(notes)


O15_O20_O24_beside_and_after_many.server_args = (
    *("--max-sessions", str(3 * SESSIONS // 2 + 1_000), "--heartbeat-ms", str(HEARTBEAT_MS)),
    *("--progress-ms", str(PROGRESS_MS)),
)


async def O20_O21_many_on_starved_rings(server):
    """rings far too small with 100,000 sessions, 3,000 more of them busy: all answer, nothing spins; as many are drained"""
    before = await at_first(server)
    with held(server, SESSIONS, "d", "--ping-all", "--pairs", PAIRS) as many:
        await established(server)
        notes = [await overload(server, 20)]
        await established(server)  # the busy ones are gone, and nobody else
        notes.append(await idle(server, 5))
        notes.append(answered(await many.report(PATIENCE_S)))
    await returned(server, before)

    with held(server, SESSIONS, "e") as drained:
        await established(server)
        server.process.send_signal(signal.SIGTERM)
        began, pages = time.monotonic(), 0
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                page = await asyncio.to_thread(server.metrics)
                assert is_balanced(server, page), page
                pages += 1
                await asyncio.sleep(0.1)
        status = await asyncio.to_thread(server.process.wait, PATIENCE_S)
        assert status == 0, server.tail()
        notes.append(f"drained in {time.monotonic() - began:.1f} s, accounts right in {pages} scrapes meanwhile")
        await lost(server, drained, 4000)
        assert server.sockets() == 0
    return "; ".join(notes)


# No ping is due while nothing is to be done: what is used then is the rings'.
O20_O21_many_on_starved_rings.server_args = (
    *STARVED,
    *("--max-sessions", str(SESSIONS * 11 // 10 + 4_000), "--heartbeat-ms", "600000", "--drain-ms", "60000"),
)


async def at_first(server):
    """The gauges of the rings with nobody there, once every shard has begun."""
    (await Session.open(server, "warm")).abort()
    await closed(server)
    return of_rings(server)


async def established(server):
    """All sessions are open and nothing else is, by the gauges and by the kernel."""
    welcomed = lambda: server.metric("ringpost_connections", state="open") == open_now(server) == SESSIONS  # noqa: E731
    await eventually(welcomed, f"{SESSIONS} sessions and nothing else", PATIENCE_S)
    await eventually(lambda: server.sockets() == open_now(server), "the kernel counts as many sockets as the gauge")


def open_now(server):
    return server.metric("ringpost_connections")


def answered(report):
    """Of sessions that were held: none was lost, all answered a ping (flood demands it), and pairs exchanged messages in time."""
    assert figure(report, "answered_ping") == SESSIONS, report
    slowest = report["latencies"]["send_to_push"]["max_us"] / 1e6
    assert slowest < ANSWER_S, f"a message between a pair took {slowest:.1f} s"
    return f"{SESSIONS} answered a ping, messages of {PAIRS} pairs arrived within {slowest * 1000:.0f} ms"


async def lost(server, flood, code):
    """All sessions of this one were closed with `code`, and heard it."""
    heard = lambda: server.sockets(CLOSE_WAIT, of_peers=True) == 0  # noqa: E731
    await eventually(heard, "every close was heard", PATIENCE_S)
    connections = (await flood.report(PATIENCE_S, reached=False))["connections"]
    told = sum(count for reason, count in connections["reasons"].items() if reason.startswith(f"close {code}:"))
    assert connections["established"] == connections["lost"] == told == SESSIONS, connections


async def all_kinds(server):
    """As many connections as sessions, of each kind alike: each ends as it must and is counted once, by its reason."""
    each, before, refused = SESSIONS // len(crowd.KINDS), reasons(server), refusals(server)
    done, wrong, slowest = await asyncio.to_thread(crowd.run, server, each)
    assert not wrong and done == dict.fromkeys(crowd.KINDS, each), (done, wrong)
    assert slowest < END_S, f"the stream ended {slowest:.2f} s after the close frame"
    for reason in crowd.REFUSALS:
        assert refusals(server)[reason] - refused.get(reason, 0) == each, refusals(server)
    for reason in ("head_timeout", "unauthenticated", "normal", "reset"):
        await eventually(lambda: gained(server, before, reason) == each, f"{each} end as {reason}")  # noqa: B023
    # Who was refused or cut the connection left by itself.
    await eventually(lambda: gained(server, before, "peer", "http") == 4 * each, "the others are counted, too")
    return f"{sum(done.values())} of {len(crowd.KINDS)} kinds, ends at most {slowest * 1000:.0f} ms after the close frame"


async def closed(server):
    """Nothing is open, and every connection that came is counted under one reason."""
    gone = lambda: open_now(server) == 0 and is_balanced(server, server.metrics())  # noqa: E731
    await eventually(gone, "all are gone and counted", PATIENCE_S)


async def returned(server, before):
    """Everything is as it was before the first session: gauges of the rings, and the kernel's sockets."""
    await closed(server)
    assert server.sockets() == 0
    await eventually(lambda: of_rings(server) == before, f"{OF_A_RING} return to {before}")


def of_rings(server):
    page = server.metrics()
    return [server.metric(name, page=page) for name in OF_A_RING]


def is_balanced(server, page):
    """accepted = open + closed + moving from shard to shard, of one reading."""
    of = lambda name, **labels: server.metric(f"ringpost_{name}", page=page, **labels)  # noqa: E731
    moving = of("moved_total", direction="out") - of("moved_total", direction="in")
    return of("accepted_total") == of("connections") + of("closed_total") + moving


def by_reason(server, name):
    page = server.metrics()
    lines = (line.rsplit(" ", 1) for line in page.splitlines() if line.startswith(name + "{"))
    return {labels.split('reason="')[1].split('"')[0]: float(value) for labels, value in lines}


def reasons(server):
    return by_reason(server, "ringpost_closed_total")


def refusals(server):
    return by_reason(server, "ringpost_refused_total")


def gained(server, before, *names):
    now = reasons(server)
    return sum(now[name] - before[name] for name in names)


async def scrape(server):
    """Reads /metrics again and again until cancelled; how long that took."""
    took = []
    try:
        while True:
            began = time.monotonic()
            page = await asyncio.to_thread(server.metrics)
            took.append(time.monotonic() - began)
            assert is_balanced(server, page), page
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        most = statistics.quantiles(took, n=20)[-1]
        assert most < SCRAPE_S, f"/metrics took {most * 1000:.0f} ms (p95 of {len(took)})"
        return f"{len(took)} scrapes, p95 {most * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms"


if __name__ == "__main__":
    run_cases([O15_O20_O24_beside_and_after_many, O20_O21_many_on_starved_rings])
