"""O25: what the load tool says of its own machine's limits, and of a server that fails, in a network namespace with ranges of ports
that are set here. Needs root, for the namespace."""

import asyncio
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

from flood import figure
from harness import TARGET, eventually, run_cases

USUAL_RANGE = "32768 60999"
# Of the 28,232 ports of the usual range one in 16 stays free for others.
OF_ONE_ADDRESS = 26_468
FOUR = [word for last in (9, 10, 11, 12) for word in ("--source", f"127.0.0.{last}")]


def set_key(name, value):
    pathlib.Path("/proc/sys/net/ipv4", name).write_text(value)


class Run:
    """`flood connect` against the server, at most so many descriptors: what it said, its status, its report if it made one."""

    def __init__(self, url, *options, descriptors=None):
        self.descriptors = descriptors
        self._folder = tempfile.TemporaryDirectory(prefix="ringpost-load-")
        self._json = pathlib.Path(self._folder.name) / "report.json"
        line = [TARGET / "ci" / "flood", "connect", "--quiet", "--url", url, "--json", self._json, *options]
        self.process = subprocess.Popen(
            [str(word) for word in line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=self._limit
        )

    def _limit(self):
        if self.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))

    async def ended(self, within=120):
        self.out, self.err = await asyncio.to_thread(self.process.communicate, timeout=within)
        self.status = self.process.returncode
        # A run that was refused leaves an empty file.
        text = self._json.read_text() if self._json.exists() else ""
        self.report = json.loads(text) if text else None
        self._folder.cleanup()
        return self

    @property
    def connections(self):
        return self.report["connections"]


async def ran(server, *options, **limits):
    return await Run(f"ws://{server.listen}", *options, **limits).ended()


async def O25_one_address_is_refused_before_the_first_connect(server):
    """100,000 from one address, ports 32768-60999: refused with the key and how many it allows, and the server sees nobody"""
    set_key("ip_local_port_range", USUAL_RANGE)
    run = await ran(server, "--connections", 100_000, "--source", "127.0.0.9")
    assert run.status == 1 and run.report is None, run.out
    assert "net.ipv4.ip_local_port_range (32768-60999)" in run.err and f"allows {OF_ONE_ADDRESS} connections" in run.err, run.err
    assert "--source" in run.err, run.err
    assert server.metric("ringpost_accepted_total") == 0
    # A wider range, as `kernel-tuning/tune apply --profile generator` sets it, is enough for twice as many from that address.
    set_key("ip_local_port_range", "10000 65535")
    run = await ran(server, "--connections", 40_000, "--source", "127.0.0.9", "--hold", "0s")
    assert run.status == 0 and run.connections["established"] == 40_000, run.out + run.err


async def O25_four_addresses_reach_it(server):
    """the same target from four addresses: planned for 105,872, all 100,000 are established"""
    set_key("ip_local_port_range", USUAL_RANGE)
    run = await ran(server, "--connections", 100_000, *FOUR, "--hold", "0s")
    assert run.status == 0, run.out + run.err
    assert run.connections["established"] == run.connections["attempted"] == 100_000
    assert run.connections["local_errors"] == {}
    return f"{figure(run.report, 'connect_rate'):,.0f} connects a second"


async def O25_few_descriptors_are_spread_or_refused(server):
    """with `ulimit -n 4096` 20,000 connections are spread over rings; with 100 they are refused with the limit's name"""
    set_key("ip_local_port_range", USUAL_RANGE)
    run = await ran(server, "--connections", 20_000, "--hold", "0s", descriptors=4_096)
    assert run.status == 0 and run.connections["established"] == 20_000, run.out + run.err
    seen = server.metric("ringpost_accepted_total")
    run = await ran(server, "--connections", 20_000, "--hold", "0s", descriptors=100)
    assert run.status == 1 and run.report is None and "RLIMIT_NOFILE (100) allows" in run.err and "ulimit -n" in run.err, run.err
    assert server.metric("ringpost_accepted_total") == seen


async def O25_local_errors_are_not_the_servers(server):
    """an address that this machine does not have, and descriptors that run out midway, are local errors by name; no server is refused"""
    set_key("ip_local_port_range", USUAL_RANGE)
    run = await ran(server, "--connections", 50, "--source", "192.0.2.1", "--hold", "0s")
    assert run.status == 1 and run.connections["local_errors"] == {"EADDRNOTAVAIL": 50}, run.out
    assert (run.connections["refused"], run.connections["timed_out"], run.connections["established"]) == (0, 0, 0)
    assert server.metric("ringpost_accepted_total") == 0
    run = Run(f"ws://{server.listen}", "--connections", 15_000, "--rings", 1, "--at-once", 1, "--hold", "2s", descriptors=20_000)
    await eventually(lambda: server.metric("ringpost_connections") > 100, "it opens connections")
    resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, (3, 20_000))
    await asyncio.sleep(1)
    # It needs one for its report.
    resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, (20_000, 20_000))
    await run.ended()
    assert run.status == 1 and run.report, run.out + run.err
    errors, established = run.connections["local_errors"], run.connections["established"]
    assert list(errors) == ["EMFILE"] and established > 100 and errors["EMFILE"] + established == 15_000, run.out
    assert run.connections["refused"] == run.connections["timed_out"] == 0


async def O25_nobody_listens(server):
    """a port where nobody listens: refused, by what the kernel said, and nothing local"""
    run = await Run("ws://127.0.0.1:9", "--connections", 50, "--hold", "0s").ended()
    assert run.status == 1 and "only 0 of 50 sessions were established" in run.out, run.out
    assert (run.connections["attempted"], run.connections["refused"], run.connections["local_errors"]) == (50, 50, {})
    assert any("Connection refused" in reason for reason in run.connections["reasons"]), run.connections


async def O25_a_server_that_stops_midway(server):
    """killed while 2,000 are held: attempted, established, and lost later, with the second in which; status 1"""
    run = Run(f"ws://{server.listen}", "--connections", 2_000, "--hold", "6s")
    await eventually(lambda: server.metric("ringpost_connections", state="open") == 2_000, "all are open")
    await asyncio.sleep(2)
    server.kill9()
    await run.ended()
    told = {name: run.connections[name] for name in ("attempted", "established", "refused", "timed_out", "lost")}
    assert told == {"attempted": 2_000, "established": 2_000, "refused": 0, "timed_out": 0, "lost": 2_000}, told
    assert run.status == 1 and run.report["missed"] == ["2000 sessions were lost"], run.report["missed"]
    held = [entry for entry in run.report["timeline"] if entry["stage"] == "hold"]
    gone = next(entry["seconds"] for entry in held if entry["established"] == 0)
    there = max(entry["seconds"] for entry in held if entry["established"] == 2_000)
    assert there < gone, f"all there at {there:.1f} s, none at {gone:.1f} s"
    return f"all there at {there:.1f} s, none at {gone:.1f} s"


async def O25_twice_in_a_row(server):
    """again within a minute: ports in TIME_WAIT are a local error by name where they may not be used again; else all are there"""
    # Those of the cases before fill the table, and beyond it nothing waits.
    set_key("tcp_max_tw_buckets", "1000000")
    set_key("ip_local_port_range", "30000 31999")
    for reuse, source in (("0", "127.0.0.9"), ("2", "127.0.0.10")):
        set_key("tcp_tw_reuse", reuse)
        options = ("--connections", 1_700, "--source", source, "--hold", "0s")
        first = await ran(server, *options)
        assert first.status == 0 and first.connections["established"] == 1_700, first.out
        await asyncio.sleep(1.2)  # The kernel takes a port again once its timestamp is a second old.
        second = await ran(server, *options)
        errors, established = second.connections["local_errors"], second.connections["established"]
        assert second.connections["refused"] == second.connections["timed_out"] == 0, second.out
        if reuse == "0":
            assert second.status == 1 and list(errors) == ["EADDRNOTAVAIL"], second.out
            assert errors["EADDRNOTAVAIL"] + established == 1_700 and established < 1_000, second.out
        else:
            assert second.status == 0 and established == 1_700 and not errors, second.out


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("load_tool.py: needs root, for a network namespace with a range of ports of its own: run it with sudo")
    if "RINGPOST_NAMESPACE" not in os.environ:
        os.environ["RINGPOST_NAMESPACE"] = "1"
        inside = 'ip link set lo up && exec "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", inside, "sh", sys.executable, *sys.argv])
    cases = [case for name, case in sorted(globals().items()) if name.startswith("O25_")]
    run_cases(cases, "--max-sessions", "110000")
