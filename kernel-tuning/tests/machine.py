"""A tree that stands for a machine, and the tool run on it.

Guarantees: the tool is a copy that every user may read, so that a test can be somebody else; a tree is gone after its test.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
NOBODY = 65534
SYSCTL = "etc/sysctl.d/99-zz-ringpost.conf"
TMPFILES = "etc/tmpfiles.d/ringpost-tuning.conf"
UNIT = "etc/systemd/system/ringpost.service.d/90-tuning.conf"
BACKUP = "var/lib/ringpost-tuning/backup"

# What a small machine has on which nobody has tuned anything, with values of old kernels where those were low.
PLAIN = {
    "proc/sys/kernel/osrelease": "6.18.0-test",
    "proc/sys/kernel/io_uring_disabled": "0",
    "proc/sys/kernel/io_uring_group": "-1",
    "proc/sys/fs/file-max": "100000",
    "proc/sys/fs/nr_open": "1048576",
    "proc/sys/net/core/somaxconn": "128",
    "proc/sys/net/ipv4/tcp_mem": "10000\t20000\t30000",
    "proc/sys/net/ipv4/tcp_tw_reuse": "2",
    "proc/sys/net/ipv4/tcp_tw_recycle": "0",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536",
    "proc/sys/net/netfilter/nf_conntrack_buckets": "16384",
    "proc/meminfo": "MemTotal:       16777216 kB",
    "sys/block/vda/queue/read_ahead_kb": "8192",
    "etc/systemd/system.conf": "[Manager]",
    "var/lib/other": "somebody's",
}
WANTED = {
    "proc/sys/fs/file-max": "190536",
    "proc/sys/net/core/somaxconn": "4096",
    "proc/sys/net/ipv4/tcp_mem": "100000 150000 200000",
    "proc/sys/net/netfilter/nf_conntrack_max": "141384",
    "proc/sys/net/netfilter/nf_conntrack_buckets": "70692",
    "sys/block/vda/queue/read_ahead_kb": "128",
}


class Needs(Exception):
    """This test cannot run as this user."""


def need_root(what):
    if os.geteuid() != 0:
        raise Needs(f"needs root, for {what}: run it with sudo")


@contextlib.contextmanager
def copy_of_the_tool():
    with tempfile.TemporaryDirectory(prefix="ringpost-tune-") as folder:
        tool = pathlib.Path(folder) / "kernel-tuning"
        shutil.copytree(HERE, tool, ignore=shutil.ignore_patterns("__pycache__"))
        os.chmod(folder, 0o755)
        yield tool


class Run:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.all = self.out + self.err

    def line(self, word):
        """The lines that hold a word."""
        return "\n".join(line for line in self.all.splitlines() if word in line)

    def must(self, status):
        assert self.status == status, f"status {self.status}, not {status}:\n{self.all}"
        return self


class Machine:
    """`with Machine(tool) as m:` a tree with PLAIN in it, changed as told; None takes a file away."""

    def __init__(self, tool, changed=None, *, user=None):
        self.tool, self.user = tool, user
        self._folder = tempfile.TemporaryDirectory(prefix="ringpost-tree-")
        self.root = pathlib.Path(self._folder.name)
        for path, text in {**PLAIN, **(changed or {})}.items():
            if text is not None:
                self.write(path, text)

    def __enter__(self):
        if self.user:
            subprocess.run(["chown", "-R", str(self.user), self.root], check=True)
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def write(self, path, text):
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def read(self, path):
        """With one space between its words, as a value is shown."""
        return " ".join((self.root / path).read_text().split())

    def text(self, path):
        return (self.root / path).read_text()

    def has(self, path):
        return (self.root / path).exists()

    def tune(self, command, *options, path=None, disk="vda", session=False, umask=-1):
        words = [self.tool / "tune", *command.split(), "--root", self.root, *(("--disk", disk) if disk else ()), *options]
        if self.user and os.geteuid() == 0:
            words = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *words]
        environment = dict(os.environ, PATH=path or os.environ["PATH"], LC_ALL="C")
        return Run(
            subprocess.run(
                [str(word) for word in words], capture_output=True, text=True, env=environment, start_new_session=session, umask=umask
            )
        )

    def files(self):
        """Every file with its text: what must be the same again after a revert."""
        return {str(p.relative_to(self.root)): p.read_text() for p in self.root.rglob("*") if p.is_file() and not p.is_symlink()}

    def values(self):
        return {path: " ".join(text.split()) for path, text in self.files().items()}
