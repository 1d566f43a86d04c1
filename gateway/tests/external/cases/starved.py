"""O21: rings whose completion queue and buffers are far too small for their load."""

import asyncio
import os
import time

import websockets

from flood import Flood
from harness import eventually, run_cases

CONNECTIONS, LOAD_S = 3_000, 60
HOG_BYTES, HOGGED = 1 << 20, 8


async def O21_completions_and_buffers_run_out(server):
    """3,000 echo as fast as they can beside one that sends megabytes: all are answered, nothing is lost, nothing spins"""
    counted = await overload(server, LOAD_S)
    gone = lambda: server.metric("ringpost_connections") == 0  # noqa: E731
    await eventually(gone, "every connection is gone")
    return f"{counted}; {await idle(server)}"


STARVED = ("--sq-entries", "64", "--cq-entries", "64", "--buffers", "16", "--buffer-bytes", "2048")
O21_completions_and_buffers_run_out.server_args = (*STARVED, "--max-sessions", "8000", "--shards", "1")


async def overload(server, seconds):
    """The load of the case. What the rings ran out of, and what came back of the megabytes."""
    busy = ("--connections", CONNECTIONS, "--active", CONNECTIONS)
    with Flood(server, "ping", "--echo", "--rings", 1, *busy, "--duration", f"{seconds}s") as load:
        hogging = asyncio.create_task(hog(server))
        # Established, every question answered, every byte as it was sent; else flood says what was missed.
        await load.report(seconds + 300)
    hogging.cancel()
    (hogged,) = await asyncio.gather(hogging)
    assert hogged > 10, f"{hogged} MiB came back"
    starved = {name: server.metric(f"ringpost_ring_{name}_total") for name in ("overflow", "enobufs", "rearm")}
    assert all(starved.values()), starved
    return ", ".join(f"{count:.0f} {name}" for name, count in starved.items()) + f", {hogged} MiB of the hog came back"


async def idle(server, seconds=3):
    """With nothing to do the server does nothing."""
    assert server.metric("ringpost_ring_buffers_out") == 0
    before, began = server.metric("process_cpu_seconds_total"), time.monotonic()
    await asyncio.sleep(seconds)
    share = (server.metric("process_cpu_seconds_total") - before) / (time.monotonic() - began)
    assert share < 0.05, f"{100 * share:.0f} % of a core with nothing to do"
    return f"idle at {100 * share:.1f} %"


async def hog(server):
    """Large messages, each checked when it is back, until cancelled. MiB that came back."""
    message, back = os.urandom(HOG_BYTES), 0
    options = {"max_size": 2 * HOG_BYTES, "ping_interval": None, "compression": None}
    async with websockets.connect(f"ws://{server.listen}/v1/echo", **options) as ws:
        try:
            while True:
                for _ in range(HOGGED):
                    await ws.send(message)
                for _ in range(HOGGED):
                    assert await ws.recv() == message, "other bytes came back"
                    back += HOG_BYTES >> 20
        except asyncio.CancelledError:
            return back


if __name__ == "__main__":
    run_cases([O21_completions_and_buffers_run_out])
