"""Builds and starts what the scripts of this folder measure."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINES = ROOT / "bench" / "baselines"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CARGO = os.environ.get("CARGO", "cargo")


def build(profile):
    """The gateway and the load tool: paths by name."""
    packages = ["-p", "ringpost-gateway", "-p", "ringpost-bench"]
    subprocess.run([CARGO, "build", "--profile", profile, *packages, "--bins"], cwd=ROOT, check=True)
    output = TARGET / {"dev": "debug"}.get(profile, profile)
    return {"ringpost": output / "ringpost", "flood": output / "flood"}


def built(folder):
    """The same programs where they have been built already."""
    programs = {name: pathlib.Path(folder).resolve() / name for name in ("ringpost", "flood")}
    missing = [str(path) for path in programs.values() if not os.access(path, os.X_OK)]
    if missing:
        sys.exit(f"no program at {' and '.join(missing)}")
    return programs


def flood(programs, *words):
    """Runs it quietly; its report. Ends this process if it missed a target."""
    report, said = attempt(programs, *words)
    if said:
        sys.exit(said)
    return report


def attempt(programs, *words, prefix=(), patience=None):
    """Runs it quietly; its report, None where there is none, and what it was and said if it missed a target, else nothing.
    `prefix`: words before the command, such as taskset -c 1. `patience`: seconds after which it is ended."""
    with tempfile.NamedTemporaryFile() as report:
        command = [str(word) for word in (*prefix, programs["flood"], *words, "--quiet", "--json", report.name)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=patience)
        except subprocess.TimeoutExpired:
            return None, f"{' '.join(command)}\nnot done after {patience} s"
        text = pathlib.Path(report.name).read_text()
        said = f"{' '.join(command)}\n{run.stdout}{run.stderr}" if run.returncode else ""
        return (json.loads(text) if text else None), said


def figures(report):
    return {figure["name"]: figure["value"] for figure in report["figures"]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def build_baseline(name):
    folder = BASELINES / name
    environment = dict(os.environ, CARGO_TARGET_DIR=str(TARGET / "baselines"))
    if name == "glommio":
        # Its build script wants liburing's source, which lies in its package; else it would run git.
        environment["GLOMMIO_LIBURING_DIR"] = str(package(folder, name) / "liburing")
    subprocess.run([CARGO, "build", "--release", "--locked"], cwd=folder, env=environment, check=True)
    return TARGET / "baselines" / "release" / f"ringpost-baseline-{name}"


def package(folder, name):
    command = [CARGO, "metadata", "--format-version", "1", "--locked"]
    metadata = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    packages = json.loads(metadata.stdout)["packages"]
    return pathlib.Path(next(p["manifest_path"] for p in packages if p["name"] == name)).parent


class Server:
    """A process that prints `ready listen=ADDRESS ...` when it serves. `log`: a file for what it says on stderr."""

    def __init__(self, command, log=subprocess.DEVNULL):
        command = [str(part) for part in command]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "listen" not in words:
            sys.exit(f"{command[0]} did not start: {line!r}")
        self.address, self.admin = words["listen"], words.get("admin")

    def stop(self, patience=10):
        """Whether it ended by itself, as it should, within so many seconds."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        return self.process.returncode == 0


def gateway(programs, data, log=subprocess.DEVNULL, prefix=(), more=()):
    """`ringpost serve --dev` on free ports, with `prefix` before the command and `more` behind it."""
    free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    return Server([*prefix, programs["ringpost"], "serve", "--dev", *free, "--data", data, *more], log)


def stand_still(pid, patience=20):
    """Waits until the resident memory of a process has not moved by more than a page or so for two seconds: a start takes memory
    that an allocator gives back later, and what grows meanwhile would not be seen."""
    last, since, until = -1, time.monotonic(), time.monotonic() + patience
    while time.monotonic() < min(until, since + 2):
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        now = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
        if abs(now - last) > 8:
            last, since = now, time.monotonic()
        time.sleep(0.2)
