"""The load tool beside a test: many sessions in a process of their own, and what it reports of them."""

import asyncio
import json
import pathlib
import signal
import subprocess
import tempfile

from harness import TARGET


class Flood:
    """One run of `flood COMMAND`. Ends with the block, whatever happens in it."""

    def __init__(self, server, command, *options):
        self._folder = tempfile.TemporaryDirectory(prefix="ringpost-flood-")
        self._json = pathlib.Path(self._folder.name) / "report.json"
        self._output = open(pathlib.Path(self._folder.name) / "output", "w+")
        line = [TARGET / "ci" / "flood", command, "--quiet", "--url", f"ws://{server.listen}", "--json", self._json, *options]
        self.process = subprocess.Popen(
            [str(word) for word in line], stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.STDOUT
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self._output.close()
        self._folder.cleanup()

    def freeze(self):
        """From now on its sockets are there and nobody answers; what is sent to them is taken by the kernel."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def is_running(self):
        return self.process.poll() is None

    def output(self):
        self._output.seek(0)
        return self._output.read()

    async def report(self, within, *, reached=True):
        """Ends its standard input (of `connect --hold-until-eof` that ends the hold) and waits for its report. `reached`: every
        target must have been."""
        self.process.stdin.close()
        await asyncio.to_thread(self.process.wait, within)
        assert not reached or self.process.returncode == 0, self.output()
        assert self._json.exists(), self.output()
        return json.loads(self._json.read_text())


def held(server, count, prefix, *options):
    """`count` sessions that are held, answering the gateway's pings, until the report is asked for."""
    hold = ("--hold", "1h", "--hold-until-eof")
    return Flood(server, "connect", "--connections", count, "--prefix", prefix, *hold, *options)


def figure(report, name):
    return next(figure["value"] for figure in report["figures"] if figure["name"] == name)
