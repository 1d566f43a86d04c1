"""What the files of ringpost.service say, what systemd gives without them, and what apply adds."""

import os

from machine import UNIT, WANTED, Machine


def test_the_limit_of_the_unit_fits_below_nr_open(tool):
    """LimitNOFILE of the unit above fs.nr_open: check names fs.nr_open, apply raises it"""
    unit = {"etc/systemd/system/ringpost.service.d/limits.conf": "[Service]\nLimitNOFILE=1024:3000000"}
    with Machine(tool, unit) as m:
        assert m.tune("check").must(1).line("fs.nr_open").split()[:4] == ["low", "nr-open", "fs.nr_open", "1048576"]
        m.tune("apply", "--write").must(0)
        assert m.read("proc/sys/fs/nr_open") == "3000000"


def test_a_file_of_the_unit_that_overrules_is_named(tool):
    """a limit in override.conf, as `systemctl edit` writes it, beats a file of apply: it is named, status 1; one before it is overruled"""
    folder = "etc/systemd/system/ringpost.service.d"
    with Machine(tool, {**WANTED, f"{folder}/override.conf": "[Service]\nLimitNOFILE=65536\nLimitNICE=-12"}) as m:
        for command in ("check", "apply", "apply --write"):
            run = m.tune(command).must(1)
            assert f"/{folder}/override.conf has the last word over a file of apply, and says 65536" in run.out, run.out
        assert not m.has(UNIT)
    with Machine(tool, {**WANTED, f"{folder}/10-site.conf": "[Service]\nLimitNOFILE=65536\nLimitNICE=-12"}) as m:
        m.tune("apply", "--write").must(0)
        assert m.read(UNIT).endswith("[Service] LimitNOFILE=524288")
        m.tune("check").must(0)


def test_the_defaults_of_systemd_are_read(tool):
    """a unit without limits has those of system.conf: too small ones are missing, and the drop-in says them"""
    manager = {"etc/systemd/system.conf": "[Manager]\n#DefaultLimitNOFILE=1024:524288\nDefaultLimitNOFILE=1024:65536"}
    with Machine(tool, {**WANTED, **manager}) as m:
        assert m.tune("check").must(1).line("LimitNOFILE").split()[:5] == ["missing", "nofile", "ringpost.service", "LimitNOFILE", "65536"]
        m.tune("apply", "--write").must(0)
        assert "LimitNOFILE=524288" in m.text(UNIT)
        m.tune("check").must(0)
    # The gateway does not raise the others to the hard limit.
    with Machine(tool, {**WANTED, "etc/systemd/system/ringpost.service": "[Service]\nLimitMEMLOCK=64K:8M\nLimitNICE=-10"}) as m:
        assert m.tune("check").must(1).line("LimitMEMLOCK").split()[4] == "64K"


def test_a_higher_limit_is_written_where_many_sessions_need_it(tool):
    """30 million sessions need more descriptors than systemd gives: the drop-in says so, and fs.nr_open holds them"""
    with Machine(tool, {"proc/meminfo": "MemTotal: 999999999 kB"}) as m:
        cores = os.cpu_count()
        m.tune("apply", "--connections", "30000000", "--write").must(0)
        wanted = max(30_000_000 * 5 // 4 // cores + 4096, 524_288)
        if wanted > 524_288:
            assert f"LimitNOFILE={wanted}" in m.text(UNIT)
        assert int(m.read("proc/sys/fs/nr_open")) == max(wanted, 1_048_576)
