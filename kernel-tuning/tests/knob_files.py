"""What every knob says, and what none may say."""

import os
import re

from machine import Machine

FIELDS = ("key", "rule", "profile", "what", "why", "verified", "risk", "since")


def knobs(tool):
    return {name: (tool / "knobs" / name).read_text() for name in sorted(os.listdir(tool / "knobs"))}


def test_every_knob_is_explained(tool):
    """each knob file says what, why, how verified, risk, versions and profile, and explain prints each with value and rule"""
    with Machine(tool) as m:
        for name, text in knobs(tool).items():
            said = dict(re.findall(r"^([a-z]+):[ \t]*(\S.*(?:\n[ \t].*)*)", text, re.M))
            assert all(said.get(field) for field in FIELDS), (name, [field for field in FIELDS if not said.get(field)])
            run = m.tune(f"explain {name}").must(0)
            shown = " ".join(run.out.split())
            for field in FIELDS[3:]:
                assert " ".join(said[field].split()) in shown, (name, field, run.out)
            assert re.search(r"^  now +\S", run.out, re.M) and re.search(r"^  wanted +\S", run.out, re.M), run.out
        everything = m.tune("explain").must(0).out
        assert "somaxconn: net.core.somaxconn" in everything and "port-range" not in everything


def test_no_knob_breaks_clients(tool):
    """no knob is tcp_tw_recycle, and the range of ports is of the profile generator only"""
    for name, text in knobs(tool).items():
        key = re.search(r"^key: (.*)", text, re.M)[1]
        assert "tcp_tw_recycle" not in key, name
        if "port_range" in key:
            assert re.search(r"^profile: (.*)", text, re.M)[1] == "generator", name


def test_the_readme_lists_every_knob(tool):
    """README.md has one row for each knob, and none for what is not one"""
    rows = re.findall(r"^\| `([a-z-]+)` \|", (tool / "README.md").read_text().split("\n## Knobs")[1].split("\n## ")[0], re.M)
    assert sorted(rows) == list(knobs(tool)), set(rows) ^ set(knobs(tool))


def test_what_tune_sources_is_all_there_is(tool):
    """every file of lib/ is named to shellcheck by the line that sources it"""
    named = re.findall(r"^# shellcheck source=lib/(\S+)\n\. ", (tool / "tune").read_text(), re.M)
    assert sorted(named) == sorted(os.listdir(tool / "lib"))
