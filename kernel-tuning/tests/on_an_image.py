"""Trees of which nothing runs: only files are written."""

import pathlib

from machine import PLAIN, SYSCTL, TMPFILES, UNIT, Machine

IMAGE = {path: None for path in PLAIN if path.startswith(("proc/", "sys/"))}


def test_an_image_gets_files(tool):
    """a tree without /proc/sys: apply writes the files for its next boot, and no number that its kernel may exceed; revert removes them"""
    with Machine(tool, {**IMAGE, "usr/lib/sysctl.d/50-vendor.conf": "net.core.somaxconn = 128"}) as m:
        before = m.files()
        run = m.tune("apply", "--write").must(0)
        assert "fs.file-max" not in m.text(SYSCTL) and "tcp_mem" not in m.text(SYSCTL), m.text(SYSCTL)
        assert "net.core.somaxconn = 4096" in m.text(SYSCTL) and "read_ahead_kb" in m.text(TMPFILES) and m.has(UNIT)
        assert "file-max: an image: its kernel chooses the number" in run.out
        m.tune("revert", "--write").must(0)
        assert m.files() == before


def test_a_chroot_is_an_image(tool):
    """a tree that shows the kernel of this machine: files are written, no key is set, and revert sets none"""
    boot = "proc/sys/kernel/random/boot_id"
    with Machine(tool, {boot: pathlib.Path("/", boot).read_text().strip(), "etc/sysctl.conf": "net.core.somaxconn = 128"}) as m:
        before = m.files()
        m.tune("apply", "--write").must(1)
        assert "net.core.somaxconn = 4096" in m.text(SYSCTL) and m.has(UNIT)
        assert {path: m.text(path) for path in PLAIN} == {path: before[path] for path in PLAIN}
        m.write("proc/sys/net/core/somaxconn", "4096")
        m.tune("revert", "--write").must(0)
        assert m.read("proc/sys/net/core/somaxconn") == "4096" and not m.has(SYSCTL)
