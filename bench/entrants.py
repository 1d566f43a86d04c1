"""Who takes part in bench/compare, and how each is asked.

An entrant is started afresh for each round, pinned to one processor, and answers what it can: `idle` (many connections, some of
which ask), `paced` (the same at a fixed rate), `fan_out` (one writes to a thousand), `durable` (pairs write, acknowledged both
ways). All of them are asked by `flood`, pinned to another processor. Nothing here decides what is a good figure.
"""

import dataclasses
import subprocess
import time
import urllib.request

from servers import Server, attempt, build_baseline, figures, gateway

import peers

ROOMS = "at most once, and nothing is stored"
RINGPOST = "at least once, in order, no duplicate shown: SENT follows the fdatasync of the log, a record is pushed until the device acknowledges it"


@dataclasses.dataclass
class Setting:
    """What is the same for all."""

    programs: dict
    connections: int
    active: int
    rate: float
    members: int
    rooms: int
    in_flight: int
    durable_rate: float
    duration: str
    server_cpu: str
    load_cpu: str
    folder: str

    @property
    def prefix(self):
        return ["taskset", "-c", self.server_cpu]

    def flood(self, *words):
        """Figures and latencies by name; what it said if it missed something."""
        report, said = attempt(self.programs, *words, "--rings", 1, prefix=["taskset", "-c", self.load_cpu], patience=240)
        if report is None:
            return None, said
        return {**figures(report), **{f"{name} {of}": value for name, each in report["latencies"].items()
                                      for of, value in each.items()}}, said


def taken(found, said, **names):
    """Of what was found, what is asked for, by the comparison's own names; `missed` is what was missed, or else what was said last."""
    missed = sentences(said)
    if found is None:
        return {"missed": missed}
    values = {name: found[of] for name, of in names.items() if of in found}
    if "stolen_cpu" in found:
        values["stolen"] = found["stolen_cpu"]
    if missed:
        values["missed"] = missed
    return values


def sentences(said):
    """Of what flood said, what was missed, or else the last line."""
    lines = said.strip().splitlines()
    return "; ".join(line.removeprefix("MISSED: ") for line in lines if line.startswith("MISSED: ")) or "".join(lines[-1:])


IDLE = {
    "base": "server_rss_before", "rss": "server_rss_per_connection", "kernel": "kernel_per_connection", "connects": "connect_rate",
    "connect_us": "server_cpu_per_connect", "trips": "round_trips", "trip_us": "server_cpu_each",
}
PACED = {"p50": "round_trip p50_us", "p99": "round_trip p99_us", "trip_us": "server_cpu_each"}


# What is answered in a round trip.
QUESTIONS = {
    "rooms": "a message comes back", "mqtt": "PINGREQ", "nats": "PING", "xmpp": "urn:xmpp:ping",
    "centrifugo": "a publication to nobody is answered",
}


class Other:
    """A server of somebody else's: a baseline of ours on another library, or a peer."""

    def __init__(self, name, protocol, guarantee, sync, build, start, durable=False):
        self.name, self.protocol, self.guarantee, self.sync = name, protocol, guarantee, sync
        self.build, self.starting, self.question = build, start, QUESTIONS[protocol]
        self.can = ("durable", "durable_paced") if durable else ("idle", "paced", "fan_out", "fan_out_16")

    def start(self, setting, folder):
        self.server = self.starting(setting, folder)

    def stop(self):
        self.server.stop()

    def ask(self, setting, what):
        pid = self.server.process.pid
        common = ["pubsub", "--protocol", self.protocol, "--url", f"ws://{self.server.address}", "--server-pid", pid,
                  "--connections", setting.connections, "--duration", setting.duration]
        asks = ["--ping", "--active", setting.active]
        writes = ["--members", setting.members]
        pairs = ["--durable", "--rooms", setting.rooms]
        delivered = {"rate": "delivered", "each_us": "server_cpu_each", "p50": "publish_to_delivery p50_us", "p99": "publish_to_delivery p99_us"}
        words, names = {
            "idle": ([*asks, "--hold", "2s"], IDLE),
            "paced": ([*asks, "--hold", "2s", "--rate", setting.rate], PACED),
            "fan_out": ([*writes, "--hold", "0s"], delivered),
            "fan_out_16": ([*writes, "--hold", "0s", "--in-flight", 16], delivered),
            "durable": ([*pairs, "--hold", "0s", "--in-flight", setting.in_flight], delivered),
            "durable_paced": ([*pairs, "--hold", "0s", "--rate", setting.durable_rate], delivered),
        }[what]
        return taken(*setting.flood(*common, *words), **names)


class Ringpost:
    """The gateway, by what its clients do: sessions with a signed token, pings through the router, groups, pairs."""

    name, guarantee, question = "ringpost", RINGPOST, "`ping` of a session"
    sync = "fdatasync of the log before SENT, shared by all that waits"
    can = ("idle", "paced", "fan_out", "fan_out_16", "durable", "durable_paced")

    def build(self):
        pass

    def start(self, setting, folder):
        self.server = gateway(setting.programs, f"{folder}/data", prefix=setting.prefix, more=["--max-sessions", setting.connections + 1_900])

    def stop(self):
        self.server.stop()

    def ask(self, setting, what):
        if what in ("idle", "paced"):
            return self.pings(setting, what)
        users = setting.members + 1 if what.startswith("fan_out") else 2 * setting.rooms
        with Idle(setting, self.server, setting.connections - users) as idle:
            found = self.written(setting, what, ["--url", f"ws://{self.server.address}", "--admin", self.server.admin], users)
        return {**found, "missed": f"the idle connections: {idle.missed}"} if idle.missed and not found.get("missed") else found

    def pings(self, setting, what, *more):
        words = ["ping", *more, "--url", f"ws://{self.server.address}", "--server-pid", self.server.process.pid,
                 "--connections", setting.connections, "--active", setting.active, "--hold", "2s", "--duration", setting.duration]
        names, pace = {"idle": (IDLE, []), "paced": (PACED, ["--rate", setting.rate])}[what]
        return taken(*setting.flood(*words, *pace), **names)

    def written(self, setting, what, url, users):
        if what.startswith("fan_out"):
            words = ["fanout", *url, "--members", users, "--online", users, "--duration", setting.duration, "--bytes", 128]
            words += ["--in-flight", 16 if what == "fan_out_16" else 1, "--prefix", what.replace("_", "-")]
            names = {"rate": "push_rate", "each_us": "server_cpu_per_recipient", "p50": "send_to_push p50_us", "p99": "send_to_push p99_us"}
            return taken(*setting.flood(*words), **names)
        words = ["chat", *url, "--users", users, "--bytes", 128, "--prefix", what.replace("_", "-"), "--duration", setting.duration]
        if what == "durable":
            words += ["--rate", 1_000_000, "--unanswered", setting.rooms * setting.in_flight]
        else:
            words += ["--rate", setting.durable_rate]
        names = {"rate": "acknowledged_rate", "each_us": "server_cpu_each", "p50": "send_to_push p50_us", "p99": "send_to_push p99_us"}
        return taken(*setting.flood(*words), **names)


class Known(Ringpost):
    """The gateway with users that it knows, after a restart: nothing is written for them when they connect."""

    name = "ringpost, known users"
    can = ("idle",)

    def start(self, setting, folder):
        super().start(setting, folder)
        words = ["connect", "--url", f"ws://{self.server.address}", "--connections", setting.connections, "--hold", "0s"]
        _, said = setting.flood(*words)
        self.server.stop()
        if said:
            raise RuntimeError(said)
        super().start(setting, folder)


class Idle:
    """Holds the other connections meanwhile. `missed`: what was missed of them, in the end."""

    def __init__(self, setting, server, count):
        words = ["connect", "--url", f"ws://{server.address}", "--connections", count, "--prefix", "idle",
                 "--hold", "10m", "--hold-until-eof", "--quiet", "--rings", 1]
        self.command = [str(word) for word in ["taskset", "-c", setting.load_cpu, setting.programs["flood"], *words]]
        self.admin, self.count, self.missed = server.admin, count, None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            until = time.monotonic() + 60
            while sessions(self.admin) < self.count and self.process.poll() is None and time.monotonic() < until:
                time.sleep(0.3)
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_):
        try:
            said, _ = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            said, _ = self.process.communicate()
        self.missed = sentences(said) if self.process.returncode else None


def sessions(admin):
    """What a gateway holds now."""
    page = urllib.request.urlopen(f"http://{admin}/metrics", timeout=30).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(("ringpost_sessions ", "ringpost_sessions{")))


class EchoOnly(Ringpost):
    """`/v1/echo`: the gateway's ring and WebSocket without a session."""

    name, guarantee, sync, question = "ringpost /v1/echo", "none: bytes come back", None, "a message comes back"
    can = ("idle", "paced")

    def ask(self, setting, what):
        return self.pings(setting, what, "--echo")


def baseline(name, library, *words):
    def start(setting, _folder):
        return Server([*setting.prefix, build_baseline(name), 0, *words])

    return Other(f"{library}, baseline", "rooms", f"{ROOMS}; a member that does not read is cut at 4 MiB", None,
                 lambda: build_baseline(name), start)


def peer(of):
    def start(setting, folder):
        return of.start(folder, setting.prefix)

    return Other(f"{of.name} {of.version.removeprefix('v')}", of.protocol, of.guarantee, of.sync, of.build, start, of.sync is not None)


ENTRANTS = [
    Ringpost(),
    Known(),
    EchoOnly(),
    baseline("fastwebsockets", "fastwebsockets 0.10"),
    baseline("tungstenite", "tokio-tungstenite 0.30"),
    baseline("glommio", "glommio 0.9", "--websocket"),
    *(peer(of) for of in peers.TABLE),
]
