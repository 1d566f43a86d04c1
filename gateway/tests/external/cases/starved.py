"""O21: rings whose completion queue and buffers are far too small for their load."""

import asyncio
import os
import subprocess
import time

import websockets

from harness import TARGET, eventually, run_cases

CONNECTIONS, LOAD_S = 3_000, 60
HOG_BYTES, HOGGED = 1 << 20, 8


async def O21_completions_and_buffers_run_out(server):
    """3,000 echo as fast as they can beside one that sends megabytes: all are answered, nothing is lost, nothing spins"""
    flood = [TARGET / "ci" / "flood", "ping", "--echo", "--quiet", "--url", f"ws://{server.listen}", "--rings", 1]
    flood += ["--connections", CONNECTIONS, "--active", CONNECTIONS, "--duration", f"{LOAD_S}s"]
    load = await asyncio.create_subprocess_exec(*map(str, flood), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    hogging = asyncio.create_task(hog(server))
    output, _ = await load.communicate()
    # Established, every question answered, every byte as it was sent; else flood says what was missed.
    assert load.returncode == 0, output.decode()
    hogging.cancel()
    (hogged,) = await asyncio.gather(hogging)
    assert hogged > 10, f"{hogged} MiB came back"
    starved = {name: server.metric(f"ringpost_ring_{name}_total") for name in ("overflow", "enobufs", "rearm")}
    assert all(starved.values()), starved

    gone = lambda: server.metric("ringpost_connections") == 0  # noqa: E731
    await eventually(gone, "every connection is gone")
    assert server.metric("ringpost_ring_buffers_out") == 0
    before, began = server.metric("process_cpu_seconds_total"), time.monotonic()
    await asyncio.sleep(3)
    idle = (server.metric("process_cpu_seconds_total") - before) / (time.monotonic() - began)
    assert idle < 0.05, f"{100 * idle:.0f} % of a core with nothing to do"
    counted = ", ".join(f"{count:.0f} {name}" for name, count in starved.items())
    return f"{counted}; {hogged} MiB of the hog came back; idle at {100 * idle:.1f} %"


O21_completions_and_buffers_run_out.server_args = (
    *("--sq-entries", "64", "--cq-entries", "64", "--buffers", "16", "--buffer-bytes", "2048"),
    *("--max-sessions", "8000", "--shards", "1"),
)


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
