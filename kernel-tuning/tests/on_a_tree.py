"""check, apply and revert on trees that stand for a machine."""

import fcntl
import os
import pathlib
import tempfile

from machine import BACKUP, NOBODY, PLAIN, SYSCTL, TMPFILES, UNIT, WANTED, Machine, need_root


def test_check_names_what_is_low_and_changes_nothing(tool):
    """check: status 1 and one line for each knob on an untuned machine, 0 on a tuned one; nothing is written"""
    with Machine(tool) as m:
        before = m.files()
        run = m.tune("check").must(1)
        assert run.line("net.core.somaxconn").split()[:4] == ["low", "somaxconn", "net.core.somaxconn", "128"], run.out
        assert run.line("read_ahead_kb").startswith("low"), run.out
        assert run.line("LimitNICE").startswith("missing"), run.out
        assert m.files() == before
    with Machine(tool, {**WANTED, UNIT: "[Service]\nLimitNICE=-10"}) as m:
        assert "ok: as wanted for 100000 sessions" in m.tune("check").must(0).out


def test_apply_is_a_dry_run_unless_told(tool):
    """apply without --write prints old -> new and changes nothing"""
    with Machine(tool) as m:
        before = m.files()
        run = m.tune("apply").must(0)
        words = run.line("net.core.somaxconn:").split()
        assert words[1:4] == ["128", "->", "4096"] and "nothing was changed" in run.out, run.out
        assert m.files() == before


def test_apply_sets_and_persists(tool):
    """apply --write sets each key, and writes one file for sysctl.d, one for systemd, one for tmpfiles.d, that all may read"""
    with Machine(tool) as m:
        m.tune("apply", "--write", umask=0o077).must(0)
        assert [oct((m.root / path).stat().st_mode & 0o777) for path in (SYSCTL, TMPFILES, UNIT)] == ["0o644"] * 3
        assert {path: m.read(path) for path in WANTED} == WANTED
        lines = m.text(SYSCTL).splitlines()
        assert "net.core.somaxconn = 4096" in lines and "net.ipv4.tcp_mem = 100000 150000 200000" in lines, lines
        assert "-net.netfilter.nf_conntrack_max = 141384" in lines, "a key of a module must not fail the boot without it"
        assert "w /sys/block/vda/queue/read_ahead_kb - - - - 128" in m.text(TMPFILES)
        assert "LimitNICE=-10" in m.text(UNIT) and "[Service]" in m.text(UNIT)
        assert 'KERNEL=="nf_conntrack"' in m.text("etc/udev/rules.d/90-ringpost-tuning.rules")
        m.tune("check").must(0)


def test_apply_twice_changes_nothing(tool):
    """a second apply sets nothing and leaves every file, the backup among them, as it was"""
    with Machine(tool) as m:
        m.tune("apply", "--write").must(0)
        after = m.files()
        assert "nothing to set" in m.tune("apply", "--write").must(0).out
        assert m.files() == after


def test_the_backup_keeps_the_first_values(tool):
    """apply for more sessions, then for the generator: the backup still has what was there first, and revert restores that"""
    with Machine(tool) as m:
        before = m.values()
        m.tune("apply", "--write").must(0)
        m.tune("apply", "--connections", "500000", "--write").must(0)
        m.tune("apply", "--profile", "generator", "--write").must(0)
        assert m.read("proc/sys/fs/file-max") == "690536"
        assert "fs.file-max\t100000\t190536|690536" in m.text(BACKUP)
        assert "net.ipv4.ip_local_port_range = 10000 65535" in m.text(SYSCTL) and "net.core.somaxconn = 4096" in m.text(SYSCTL)
        m.tune("revert", "--write").must(0)
        assert m.values() == before


def test_revert_restores_everything(tool):
    """revert without --write changes nothing; with it values and files are as before; again there is nothing to do"""
    with Machine(tool) as m:
        before = m.values()
        m.tune("apply", "--write").must(0)
        applied = m.files()
        assert "net.core.somaxconn: 4096 -> 128" in m.tune("revert").must(0).out
        assert m.files() == applied
        m.tune("revert", "--write").must(0)
        assert m.values() == before
        assert "nothing to revert" in m.tune("revert", "--write").must(0).out


def test_revert_leaves_what_somebody_else_changed(tool):
    """a value and a file that were changed after apply stay, and are named; the rest is restored"""
    with Machine(tool) as m:
        m.tune("apply", "--write").must(0)
        m.write("proc/sys/net/core/somaxconn", "9000")
        m.write(SYSCTL, "net.core.somaxconn = 9000")
        run = m.tune("revert", "--write").must(0)
        assert "net.core.somaxconn: left at 9000" in run.out and f"/{SYSCTL}: left" in run.out, run.out
        assert m.read("proc/sys/net/core/somaxconn") == "9000" and m.has(SYSCTL)
        assert m.read("proc/sys/fs/file-max") == PLAIN["proc/sys/fs/file-max"] and not m.has(TMPFILES)


def test_better_values_stay(tool):
    """what an administrator set higher is never lowered, number by number; nor is a lower read-ahead raised"""
    mine = {
        "proc/sys/net/core/somaxconn": "65535",
        "proc/sys/fs/file-max": "9223372036854775807",
        "proc/sys/fs/nr_open": "2147483584",
        "proc/sys/net/ipv4/tcp_mem": "10 900000 20",
        "proc/sys/net/ipv4/ip_local_port_range": "1024 60999",
        "sys/block/vda/queue/read_ahead_kb": "256",
        "etc/systemd/system/ringpost.service": "[Service]\nLimitNICE=-15\nLimitNOFILE=infinity\nLimitMEMLOCK=1G",
    }
    with Machine(tool, mine) as m:
        m.tune("apply", "--write").must(0)
        m.tune("apply", "--profile", "generator", "--write").must(0)
        values = m.values()
        assert values["proc/sys/net/ipv4/tcp_mem"] == "100000 900000 200000"
        assert values["proc/sys/net/ipv4/ip_local_port_range"] == "1024 65535"
        for path in ("proc/sys/net/core/somaxconn", "proc/sys/fs/file-max", "proc/sys/fs/nr_open", "sys/block/vda/queue/read_ahead_kb"):
            assert values[path] == mine[path], path
        assert not m.has(UNIT)


def test_garbage_is_left_alone(tool):
    """a key that holds no number, or nothing, is named and not written; the others are set; status 1"""
    with Machine(tool, {"proc/sys/net/core/somaxconn": "lots", "proc/sys/fs/file-max": ""}) as m:
        assert "holds 'lots', which is no number" in m.tune("check").must(1).out
        run = m.tune("apply", "--write").must(1)
        assert "not as wanted: fs.file-max net.core.somaxconn" in run.out, run.out
        assert m.read("proc/sys/net/core/somaxconn") == "lots" and "somaxconn" not in m.text(SYSCTL)
        assert m.read("sys/block/vda/queue/read_ahead_kb") == "128"


def test_without_rights_keys_cannot_be_set(tool):
    """a user who may not write a key: check says who can, apply names it with status 1 and sets the others"""
    need_root("a user without rights")
    with Machine(tool, user=NOBODY) as m:
        key = m.root / "proc/sys/net/core/somaxconn"
        os.chown(key, 0, 0)
        key.chmod(0o644)
        run = m.tune("check").must(1)
        assert run.line("net.core.somaxconn").startswith("cannot") and "somaxconn: cannot be changed from here: root can" in run.out
        run = m.tune("apply", "--write").must(1)
        assert "not as wanted: net.core.somaxconn" in run.out, run.out
        assert m.read("proc/sys/fs/file-max") == "190536" and "somaxconn" not in m.text(SYSCTL)


def test_a_file_of_somebody_else_is_not_overwritten(tool):
    """a file with the name of one of ours that apply has not written, or that was changed since, stays, is named, and nothing is set"""
    with Machine(tool, {SYSCTL: "net.core.somaxconn = 9000"}) as m:
        before = m.files()
        for command in ("apply", "apply --write"):
            assert f"nothing is changed: /{SYSCTL} is there, and not as apply wrote it" in m.tune(command).must(1).err
        assert m.files() == before
    with Machine(tool) as m:
        m.tune("apply", "--write").must(0)
        m.write(TMPFILES, m.text(TMPFILES) + "# mine")
        after = m.files()
        assert f"/{TMPFILES} is there" in m.tune("apply", "--connections", "500000", "--write").must(1).err
        assert m.files() == after
    with Machine(tool) as m:
        (m.root / SYSCTL).parent.mkdir(parents=True)
        (m.root / SYSCTL).symlink_to("/dev/null")
        m.tune("apply", "--write").must(1)
        assert (m.root / SYSCTL).is_symlink() and m.read("proc/sys/net/core/somaxconn") == "128"


def test_one_run_writes_at_a_time(tool):
    """while another run writes, apply and revert say so and change nothing; check works"""
    with Machine(tool) as m:
        before = m.files()
        other = os.open(m.root / "var/lib", os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX)
        for command in ("apply", "revert"):
            assert "another one is at work here" in m.tune(command, "--write").must(1).err
        m.tune("check").must(1)
        assert m.files() == before
        os.close(other)
        m.tune("apply", "--write").must(0)


def test_a_refusal_keeps_what_was_set_before(tool):
    """a key that is refused in a second apply keeps the value and the record of the first: revert restores what was there"""
    with Machine(tool) as m:
        m.tune("apply", "--write").must(0)
        keep = 'case "$*" in */proc/sys/fs/file-max) echo 190536; exit ;; esac'
        with commands({"cat": f'#!/bin/sh\n{keep}\nexec /bin/cat "$@"\n'}) as path:
            run = m.tune("apply", "--connections", "500000", "--write", path=path).must(1)
        assert "fs.file-max could not be set to 690536: the kernel keeps 190536" in run.err, run.all
        assert "fs.file-max = 190536" in m.text(SYSCTL)
        m.write("proc/sys/fs/file-max", "190536")
        m.tune("revert", "--write").must(0)
        assert m.read("proc/sys/fs/file-max") == PLAIN["proc/sys/fs/file-max"]


def test_without_a_backup_nothing_is_changed(tool):
    """where the backup cannot be written, apply says so, and no key and no file changes"""
    need_root("a user without rights")
    with Machine(tool, user=NOBODY) as m:
        os.chown(m.root / "var/lib", 0, 0)
        before = m.files()
        assert "cannot write /var/lib/ringpost-tuning/backup: root can" in m.tune("apply", "--write").must(1).err
        assert m.files() == before


def test_a_key_that_keeps_its_value_is_named(tool):
    """the kernel takes the write and keeps another value: apply names both, status 1, and no file holds the key"""
    need_root("a key of the kernel that takes every number and keeps its own (kernel.random.write_wakeup_threshold)")
    with Machine(tool) as m:
        before = m.values()
        key = m.root / "proc/sys/net/core/somaxconn"
        key.unlink()
        key.symlink_to("/proc/sys/kernel/random/write_wakeup_threshold")
        kept = key.read_text().strip()
        run = m.tune("apply", "--write").must(1)
        assert f"net.core.somaxconn could not be set to 4096: the kernel keeps {kept}" in run.err, run.all
        assert "not as wanted: net.core.somaxconn" in run.out
        assert "somaxconn" not in m.text(SYSCTL) + m.text(BACKUP) and m.read("proc/sys/fs/file-max") == "190536"
        m.tune("revert", "--write").must(0)
        assert m.values() == {path: text for path, text in before.items() if path != "proc/sys/net/core/somaxconn"}


def test_a_rounded_value_is_as_good(tool):
    """what the kernel rounds up is accepted, told, and recognized by revert as what apply set"""
    with Machine(tool) as m:
        key = m.root / "proc/sys/net/core/somaxconn"
        m.tune("apply", "--write").must(0)
        # As if it had been lowered since, and the kernel made more of what is asked for than that.
        m.write("proc/sys/net/core/somaxconn", "100")
        more = f'case "$*" in */somaxconn) [ "$(/bin/cat "$1")" != 4096 ] || echo 8192 > {key} ;; esac'
        with commands({"cat": f'#!/bin/sh\n{more}\nexec /bin/cat "$@"\n'}) as path:
            run = m.tune("apply", "--write", path=path).must(0)
        assert "the kernel made 8192 of 4096" in run.out, run.all
        m.tune("revert", "--write").must(0)
        assert m.read("proc/sys/net/core/somaxconn") == "128"


def commands(texts):
    """A PATH on which these scripts come first."""
    folder = tempfile.TemporaryDirectory(prefix="ringpost-path-")
    for name, text in texts.items():
        place = pathlib.Path(folder.name) / name
        place.write_text(text)
        place.chmod(0o755)

    class Path:
        def __enter__(self):
            return f"{folder.name}:{os.environ['PATH']}"

        def __exit__(self, *_):
            folder.cleanup()

    return Path()


def test_an_apply_that_is_cut_off_is_undone(tool):
    """kill -9 of apply at every file that it renames and every key that it reads back: revert restores all, apply goes on"""
    # Counts its calls in a file, and kills the whole session at the nth.
    count = 'n=$(($(/bin/cat "$COUNT" 2>/dev/null || echo 0) + 1)); echo $n > "$COUNT"; '
    die = '[ "$n" != "$AT" ] || kill -9 0; '
    for command in ("mv", "cat"):
        kills = 0
        for at in range(1, 200):
            with Machine(tool) as m, tempfile.TemporaryDirectory() as place:
                before = m.values()
                numbers = f"COUNT={place}/n AT={at} "
                # A key that is read: only those after the first change are of interest, so cat is counted for keys alone.
                only = 'case "$*" in */proc/sys/*) ' + count + die + ";; esac; " if command == "cat" else count + die
                script = f'#!/bin/sh\nexport {numbers}\n{only}exec /bin/{command} "$@"\n'
                with commands({command: script}) as path:
                    cut = m.tune("apply", "--write", path=path, session=True)
                if cut.status == 0:
                    break
                assert cut.status == -9, cut.all
                kills += 1
                if at % 2:
                    m.tune("apply", "--write").must(0)
                    assert {path: m.read(path) for path in WANTED} == WANTED
                m.tune("revert", "--write").must(0)
                assert m.values() == before, f"killed at {command} {at}"
        assert kills >= 5, f"killed {kills} times only"


def test_the_port_range_is_the_generators_alone(tool):
    """the profile server never touches net.ipv4.ip_local_port_range, generator widens it, and sets no listen queue"""
    with Machine(tool) as m:
        m.tune("apply", "--write").must(0)
        assert m.read("proc/sys/net/ipv4/ip_local_port_range") == "32768 60999" and "port_range" not in m.text(SYSCTL)
        assert m.read("proc/sys/net/ipv4/tcp_tw_reuse") == "2"
    with Machine(tool) as m:
        m.tune("apply", "--profile", "generator", "--write").must(0)
        assert m.read("proc/sys/net/ipv4/ip_local_port_range") == "10000 65535"
        assert m.read("proc/sys/net/ipv4/tcp_tw_reuse") == "1" and m.read("proc/sys/net/core/somaxconn") == "128"


def test_tcp_tw_recycle_is_never_set(tool):
    """net.ipv4.tcp_tw_recycle, where a kernel has it, stays as it is in both profiles, and no file names it"""
    with Machine(tool) as m:
        for profile in ("server", "generator"):
            m.tune("apply", "--profile", profile, "--write").must(0)
        assert m.read("proc/sys/net/ipv4/tcp_tw_recycle") == "0"
        assert not any("tw_recycle" in text for text in m.files().values())


def test_io_uring_for_one_group_is_enough(tool):
    """kernel.io_uring_disabled: 2 is set to 0; 1 with a group stays, and the group is named"""
    with Machine(tool, {"proc/sys/kernel/io_uring_disabled": "2"}) as m:
        assert "Prefer 1 and a group where other users log in" in m.tune("apply").must(0).out
        m.tune("apply", "--write").must(0)
        assert m.read("proc/sys/kernel/io_uring_disabled") == "0"
    with Machine(tool, {"proc/sys/kernel/io_uring_disabled": "1", "proc/sys/kernel/io_uring_group": "993"}) as m:
        assert "only for members of group 993" in m.tune("check").out
        m.tune("apply", "--write").must(0)
        assert m.read("proc/sys/kernel/io_uring_disabled") == "1"


def test_what_is_not_loaded_is_not_here(tool):
    """keys of a module that is not loaded, or of a namespace that hides them, are told and are no failure"""
    hidden = ("net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_buckets", "net/ipv4/tcp_mem")
    with Machine(tool, {**WANTED, UNIT: "[Service]\nLimitNICE=-10", **{f"proc/sys/{name}": None for name in hidden}}) as m:
        run = m.tune("check").must(0)
        assert "nf_conntrack is not loaded, so nothing is tracked" in run.out
        assert "tcp-mem: it is the host's and not shown in a network namespace" in run.out


def test_memory_and_kernel_are_looked_at(tool):
    """a control group with too little memory, and a kernel before 6.13, are low and nothing that apply could set"""
    tuned = {**WANTED, UNIT: "[Service]\nLimitNICE=-10"}
    with Machine(tool, {**tuned, "sys/fs/cgroup/memory.max": "268435456"}) as m:
        run = m.tune("check").must(1)
        assert run.line("256 MiB").startswith("low") and "/sys/fs/cgroup/memory.max has too little" in run.out, run.out
        m.tune("apply", "--write").must(1)
    with Machine(tool, {**tuned, "proc/meminfo": "MemTotal: 900000 kB"}) as m:
        assert "the machine has too little" in m.tune("check", "--connections", "200000").must(1).out
    for release, status in (("6.12.9", 1), ("5.15.0-100", 1), ("6.13.0-rc1", 0), ("7.0.1", 0)):
        with Machine(tool, {**tuned, "proc/sys/kernel/osrelease": release}) as m:
            m.tune("check").must(status)


def test_usage_errors_are_told_apart(tool):
    """status 2, nothing on stdout, and one line that names the option; --write=no writes nothing, an empty --root is not this machine"""
    wrong = ("", "tighten", "check --connections 1x", "check --connections 0", "check --profile both", "explain nonsense", "check --write",
             "apply --fast", "check somaxconn", "check --disk ../x", "apply --write=no", "explain ../tune", "check --root=")  # fmt: skip
    with Machine(tool) as m:
        for command in wrong:
            run = m.tune(command, disk=None)
            assert run.status == 2 and run.err and not run.out, (command, run.status, run.all)
        assert "Usage: tune" in m.tune("--help").must(0).out
