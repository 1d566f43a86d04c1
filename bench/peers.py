"""The servers with which the gateway is compared: what each guarantees, how it is built, how it is started.

`PEERS` is the table. Nothing is installed on the machine: npm, the Go module proxy and Debian's packages are asked through
their own clients, and all that comes lies below TARGET/peers/NAME. Every server listens on 127.0.0.1 alone, keeps its state in
the folder that the caller gives, and logs little, to FOLDER/log. Nothing here measures.
"""

import dataclasses
import hashlib
import os
import pathlib
import platform
import shutil
import signal
import socket
import string
import subprocess
import sys
import time

from servers import TARGET, free_port

HERE = pathlib.Path(__file__).resolve().parent / "peers"
BUILT = TARGET / "peers"


@dataclasses.dataclass(frozen=True)
class Peer:
    """`version` is the one that was tried; what Debian delivers depends on its release: `built_version()`.
    `guarantee` is about an acknowledged message, with its source. `sync`: what is on disk when it is acknowledged, None where
    nothing is stored. `package`: the folder below TARGET/peers, shared by configurations of one program."""

    name: str
    package: str
    version: str
    licence: str
    protocol: str
    guarantee: str
    sync: str | None
    builder: object
    starter: object

    @property
    def folder(self):
        return BUILT / self.package

    def build(self):
        """Downloads or compiles it, once for each version. The version."""
        self.folder.mkdir(parents=True, exist_ok=True)
        say(f"{self.name}: building below {self.folder}")
        version = self.builder(self)
        (self.folder / "VERSION").write_text(f"{version}\n")
        return version

    def built_version(self):
        return (self.folder / "VERSION").read_text().strip()

    def start(self, folder, prefix=()):
        """`prefix`: words before the command, such as taskset -c 0."""
        folder = pathlib.Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return self.starter(self, folder, list(prefix))


class Started:
    """A running peer. `address` speaks WebSocket; `tcp` the same protocol without it, where the peer has that, else None."""

    def __init__(self, peer, command, folder, environment=None, port=None, tcp=None, patience=60):
        self.peer, self.folder, self.tcp = peer, folder, tcp
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=folder, env=dict(os.environ, **(environment or {})),
                stdin=subprocess.DEVNULL, stdout=log if port else subprocess.PIPE, stderr=log,
            )
        if port:
            self.address = f"127.0.0.1:{port}"
            self.wait_for(port, patience)
        else:
            line = self.process.stdout.readline().decode()
            if not line.startswith("ready listen="):
                self.fail(f"it said {line!r}")
            self.address = line.split("=", 1)[1].split()[0]

    def wait_for(self, port, patience):
        until = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    self.fail(f"it ended with status {self.process.returncode}")
                if time.monotonic() > until:
                    self.fail(f"port {port} does not answer after {patience} s")
                time.sleep(0.05)

    def fail(self, why):
        self.process.kill()
        self.process.wait()
        last = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.peer.name} did not start: {why}; the end of its log:\n{last}")

    @property
    def pid(self):
        return self.process.pid

    def pids(self):
        """Every process of the peer that lives now, the main one first."""
        children = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue  # it ended meanwhile
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def stop(self, patience=30):
        """Whether it ended by itself, as it should, within so many seconds."""
        others = self.pids()[1:]
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
            ended = True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            ended = False
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.stdout:
            self.process.stdout.close()
        return ended


def say(sentence):
    print(sentence, file=sys.stderr, flush=True)


def run(*command, **options):
    if not shutil.which(command[0]):
        sys.exit(f"{command[0]} is needed here and not installed (bench/peers/README.md)")
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr, **options)


def write(template, target, **values):
    """A configuration, with $PORT and its like replaced."""
    target.write_text(string.Template(template.read_text()).substitute(values))
    return target


# Node


def build_node(peer):
    source = HERE / peer.package
    lock = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    stamp = peer.folder / "installed"
    for name in ("package.json", "package-lock.json", "server.mjs"):
        shutil.copy(source / name, peer.folder / name)
    if not stamp.exists() or stamp.read_text() != lock:
        run("npm", "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", cwd=peer.folder)
        stamp.write_text(lock)
    return peer.version


def start_node(peer, folder, prefix):
    return Started(peer, [*prefix, "node", peer.folder / "server.mjs", 0], folder)


# Go


def build_go(peer):
    run("go", "build", "-o", peer.folder / peer.package, ".", cwd=HERE / peer.package)
    return peer.version


def start_go(peer, folder, prefix):
    return Started(peer, [*prefix, peer.folder / peer.package, 0], folder)


def install_go(module):
    def build(peer):
        """Go checks what it downloads against its checksum database."""
        stamp = peer.folder / "installed"
        wanted = f"{module}@{peer.version}"
        if not stamp.exists() or stamp.read_text() != wanted:
            run("go", "install", "-v", wanted, env=dict(os.environ, GOBIN=str(peer.folder)))
            stamp.write_text(wanted)
        return peer.version

    return build


def start_centrifugo(peer, folder, prefix):
    port = free_port()
    configuration = write(HERE / "centrifugo" / "config.json", folder / "config.json", PORT=port)
    return Started(peer, [*prefix, peer.folder / "centrifugo", "-c", configuration], folder, port=port)


def start_nats(configuration, sync=None):
    def start(peer, folder, prefix):
        port, second = free_port(), free_port()
        made = write(HERE / "nats" / configuration, folder / "nats.conf", PORT=port, SECOND=second, FOLDER=folder, SYNC=sync)
        return Started(peer, [*prefix, peer.folder / "nats-server", "-c", made], folder, port=port, tcp=f"127.0.0.1:{second}")

    return start


# Debian


def build_debian(wanted, *more):
    """Unpacks the package, `more` ones and what they need that the machine lacks. `wanted`: how the names begin of those that
    must lie here even where the machine has them."""

    def build(peer):
        root, archives = peer.folder / "root", peer.folder / "archives"
        if root.exists():
            return peer.built_version()
        shutil.rmtree(archives, ignore_errors=True)
        (archives / "partial").mkdir(parents=True)
        names = debian_closure([peer.package, *more], wanted)
        run(
            "apt-get", "install", "--yes", "--quiet", "--download-only", "--reinstall", "--no-install-recommends",
            "-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root", *names,
        )
        unpacked = peer.folder / "unpacking"
        shutil.rmtree(unpacked, ignore_errors=True)
        for archive in sorted(archives.glob("*.deb")):
            run("dpkg-deb", "-x", archive, unpacked)
        archive = next(archives.glob(f"{peer.package}_*.deb"))
        show = subprocess.run(["dpkg-deb", "-f", str(archive), "Version"], check=True, capture_output=True, text=True)
        (peer.folder / "VERSION").write_text(show.stdout)
        unpacked.rename(root)
        shutil.rmtree(archives)
        return show.stdout.strip()

    return build


def debian_closure(packages, wanted):
    without = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    if not shutil.which("apt-cache"):
        sys.exit("this needs a Debian: mosquitto and ejabberd come from its packages")
    found = subprocess.run(["apt-cache", "depends", "--recurse", *without, *packages], capture_output=True, text=True)
    lines = found.stdout.splitlines()
    if missing := [package for package in packages if package not in lines]:
        sys.exit(f"apt knows no package {' and '.join(missing)}: `apt-get update` first, on a Debian")
    return sorted({line for line in lines if line in packages or line.startswith(wanted)})


def libraries(peer):
    return peer.folder / "root" / "usr" / "lib" / f"{platform.machine()}-linux-gnu"


def start_mosquitto(configuration):
    def start(peer, folder, prefix):
        port, second = free_port(), free_port()
        made = write(HERE / "mosquitto" / configuration, folder / "mosquitto.conf", PORT=port, SECOND=second, FOLDER=folder)
        command = [*prefix, peer.folder / "root" / "usr" / "sbin" / "mosquitto", "-c", made]
        environment = {"LD_LIBRARY_PATH": str(libraries(peer))}
        return Started(peer, command, folder, environment, port, tcp=f"127.0.0.1:{second}")

    return start


build_ejabberd = build_debian("erlang-", "erlang-p1-sqlite3")


def start_ejabberd(configuration, store=None):
    """Without distribution, so there is neither a node name nor epmd; without schedulers that spin while they have nothing to do,
    which would count as work."""

    def start(peer, folder, prefix):
        port = free_port()
        made = write(HERE / "ejabberd" / configuration, folder / "ejabberd.yml", PORT=port, FOLDER=folder, STORE=store)
        erlang = peer.folder / "root" / "usr" / "lib" / "erlang"
        binaries = next(erlang.glob("erts-*")) / "bin"
        environment = {
            "ROOTDIR": str(erlang), "BINDIR": str(binaries), "EMU": "beam", "PROGNAME": "erl", "HOME": str(folder),
            "ERL_LIBS": str(libraries(peer)), "LD_LIBRARY_PATH": str(libraries(peer)), "ERL_MAX_PORTS": "65536",
            "ERL_CRASH_DUMP": str(folder / "crash"), "EJABBERD_CONFIG_PATH": str(made),
            "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
        }
        quiet = [word for kind in ("+sbwt", "+sbwtdcpu", "+sbwtdio") for word in (kind, "none")]
        command = [
            *prefix, binaries / "erlexec", "-noinput", "+K", "true", "+P", "250000", *quiet, "-boot", "start_clean",
            "-mnesia", "dir", f'"{folder / "spool"}"', "-s", "ejabberd",
        ]
        return Started(peer, command, folder, environment, port)

    return start


# The table

ROOMS = "at most once: nothing is acknowledged or stored; what waits for a member that does not read is bounded, then it is cut"
STREAM = (
    "file store, one replica; PubAck after the message is in the stream; pushed until acked while the process lives (at least once), "
    "but what a receiver has is in memory, mem_storage: a restart keeps the messages and forgets the consumers (ConsumerStore in "
    "server/filestore.go of 2.15.2)"
)


def minimal(name, version, licence, builder, starter):
    return Peer(name, name, version, licence, "rooms", f"{ROOMS} (bench/peers/{name})", None, builder, starter)


TABLE = [
    minimal("uws", "20.30.0-unofficial.0", "Apache-2.0", build_node, start_node),
    minimal("ws", "8.23.0", "MIT", build_node, start_node),
    minimal("gorilla", "1.5.3", "BSD-2-Clause", build_go, start_go),
    minimal("nbio", "1.6.8", "MIT", build_go, start_go),
    Peer(
        "centrifugo", "centrifugo", "v6.9.1", "Apache-2.0", "centrifugo",
        "room: at most once, the answer to a publish says that the node has handed it to its subscribers. kept: the last 1,000 for "
        "600 s in the memory of the node, from which one who comes back recovers; lost when the process ends (centrifugal.dev, "
        "History and recovery; Engines: the memory engine keeps nothing over a restart)",
        None, install_go("github.com/centrifugal/centrifugo/v6"), start_centrifugo,
    ),
    Peer(
        "mosquitto", "mosquitto", "2.0.11-1.2+deb12u2", "EPL-2.0 OR BSD-3-Clause", "mqtt",
        "QoS 0 at most once; QoS 1 at least once while the process lives: PUBACK when the message is queued in memory "
        "(mosquitto.conf(5), persistence)",
        None, build_debian("libmosquitto"), start_mosquitto("memory.conf"),
    ),
    Peer(
        "mosquitto-autosave", "mosquitto", "2.0.11-1.2+deb12u2", "EPL-2.0 OR BSD-3-Clause", "mqtt",
        "QoS 1 at least once, but PUBACK does not wait for the disk: a kill loses up to a second or two of acknowledged messages "
        "(mosquitto.conf(5), autosave_interval; persist__backup() in src/persist_write.c of 2.0.11)",
        "nothing of this message; once a second the whole state is written to a new file, fsync, rename",
        build_debian("libmosquitto"), start_mosquitto("autosave.conf"),
    ),
    Peer(
        "ejabberd", "ejabberd", "23.01-1", "GPL-2.0-or-later", "xmpp",
        "at most once: messages to a full JID and to a room are handed on; with XEP-0198 the server acknowledges that it has "
        "handled a stanza, which is not stored (docs.ejabberd.im, mod_stream_mgmt)",
        None, build_ejabberd, start_ejabberd("memory.yml"),
    ),
    Peer(
        "ejabberd-mnesia", "ejabberd", "23.01-1", "GPL-2.0-or-later", "xmpp",
        "at least once while the process lives: the answer to <r/> (XEP-0198) follows the dirty write of the sender's archive "
        "and of the offline store; the receiver's archive comes with the delivery (mod_mam, mod_offline; mod_mam_mnesia.erl "
        "and mod_offline_mnesia.erl of 23.01)",
        "nothing: Mnesia's dirty write to a disc_only_copies table reaches the file a moment later, and is not synced",
        build_ejabberd, start_ejabberd("durable.yml", "mnesia"),
    ),
    Peer(
        "ejabberd-sqlite", "ejabberd", "23.01-1", "GPL-2.0-or-later", "xmpp",
        "at least once: the answer to <r/> (XEP-0198) follows the commit of the sender's archive and, where the receiver is "
        "away, of the offline store; the receiver's archive comes before the delivery (mod_mam, mod_offline with sql_type sqlite)",
        "a transaction of SQLite, synchronous=FULL with a rollback journal: four fdatasync for each copy of a message",
        build_ejabberd, start_ejabberd("durable.yml", "sql"),
    ),
    Peer(
        "nats", "nats", "v2.15.2", "Apache-2.0", "nats",
        "at most once: core subjects; a subscriber that is too slow is cut (docs.nats.io, Core NATS)",
        None, install_go("github.com/nats-io/nats-server/v2"), start_nats("memory.conf"),
    ),
    Peer(
        "nats-interval", "nats", "v2.15.2", "Apache-2.0", "nats",
        f"JetStream: {STREAM}; a power cut loses up to two minutes of acknowledged messages (docs.nats.io, sync_interval)",
        "written to the page cache, synced every 2 minutes (the default)",
        install_go("github.com/nats-io/nats-server/v2"), start_nats("durable.conf", "2m"),
    ),
    Peer(
        "nats-durable", "nats", "v2.15.2", "Apache-2.0", "nats",
        f"JetStream: {STREAM}; nothing acknowledged is lost by a power cut (docs.nats.io, sync_interval: always)",
        "fsync of the stream's block before each PubAck",
        install_go("github.com/nats-io/nats-server/v2"), start_nats("durable.conf", "always"),
    ),
]
PEERS = {peer.name: peer for peer in TABLE}
