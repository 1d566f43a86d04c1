"""Keys that somebody else sets as well: they are named, and it is told who has the last word."""

from machine import SYSCTL, UNIT, WANTED, Machine

TUNED = {**WANTED, UNIT: "[Service]\nLimitNICE=-10"}
LATER = "etc/sysctl.d/99-zzz-site.conf"


def last_word(run, file):
    """The note about a file of those that set net.core.somaxconn."""
    return [line for line in run.out.splitlines() if line.startswith("note: net.core.somaxconn") and f"by {file}," in line]


def test_a_later_file_of_sysctl_d_has_the_last_word(tool):
    """another file that sorts after ours: named, status 1 in check and apply though the value is right now"""
    with Machine(tool, {**TUNED, LATER: "net.core.somaxconn = 1024"}) as m:
        for command in ("check", "apply"):
            (line,) = last_word(m.tune(command).must(1), f"/{LATER}")
            assert "to 1024" in line and "has the last word at the next boot" in line
    with Machine(tool, {**TUNED, LATER: "net.core.somaxconn = 8192"}) as m:
        (line,) = last_word(m.tune("check").must(0), f"/{LATER}")
        assert line.endswith("and has the last word"), line


def test_an_earlier_file_is_overruled(tool):
    """another file that sorts before ours: apply writes ours even where the value is right now, and says whose word is last"""
    for text in ("net.core.somaxconn = 1024", "-net/core/somaxconn=1024  ", "# x\n  net.core.somaxconn=1024"):
        with Machine(tool, {**TUNED, "usr/lib/sysctl.d/50-vendor.conf": text}) as m:
            m.tune("check").must(1)
            m.tune("apply", "--write").must(0)
            assert "net.core.somaxconn = 4096" in m.text(SYSCTL)
            (line,) = last_word(m.tune("check").must(0), "/usr/lib/sysctl.d/50-vendor.conf")
            assert f"but /{SYSCTL} has the last word" in line
            m.tune("revert", "--write").must(0)
            assert m.read("proc/sys/net/core/somaxconn") == "4096" and not m.has(SYSCTL)


def test_etc_hides_the_same_name_below(tool):
    """a name in /etc/sysctl.d hides the same name in /usr/lib; a link to /dev/null hides it altogether"""
    low = {"usr/lib/sysctl.d/99-zzz-site.conf": "net.core.somaxconn = 1024"}
    with Machine(tool, {**TUNED, **low, LATER: "net.core.somaxconn = 5000"}) as m:
        run = m.tune("check").must(0)
        assert last_word(run, f"/{LATER}") and not last_word(run, "/usr/lib/sysctl.d/99-zzz-site.conf"), run.out
    with Machine(tool, {**TUNED, **low}) as m:
        m.tune("check").must(1)
        (m.root / LATER).parent.mkdir(parents=True, exist_ok=True)
        (m.root / LATER).symlink_to("/dev/null")
        m.tune("check").must(0)


def test_sysctl_conf_is_read_last(tool):
    """/etc/sysctl.conf has the last word over every file of sysctl.d"""
    with Machine(tool, {**TUNED, "etc/sysctl.conf": "net.core.somaxconn = 512"}) as m:
        (line,) = last_word(m.tune("apply", "--write").must(1), "/etc/sysctl.conf")
        assert 'has the last word of "sysctl --system"' in line


def test_what_a_file_says_is_not_undercut(tool):
    """a file that sets more than is wanted, and was not read yet: apply sets that, so that ours does not lower it at the next boot"""
    with Machine(tool, {**TUNED, "proc/sys/net/core/somaxconn": "128", "etc/sysctl.d/50-site.conf": "net.core.somaxconn = 65535"}) as m:
        m.tune("apply", "--write").must(0)
        assert m.read("proc/sys/net/core/somaxconn") == "65535" and "net.core.somaxconn = 65535" in m.text(SYSCTL)


def test_tuned_is_named_with_what_it_includes(tool):
    """an active tuned profile: its [sysctl], also of an included one; it overrules files in /etc only if it is told to"""
    tuned = {
        "etc/tuned/active_profile": "site",
        "etc/tuned/site/tuned.conf": "[main]\ninclude=base\n[vm]\ntransparent_hugepages=never\n",
        "usr/lib/tuned/profiles/base/tuned.conf": "[sysctl]\nnet.core.somaxconn=2048",
    }
    base = "tuned profile base (/usr/lib/tuned/profiles/base/tuned.conf)"
    with Machine(tool, {**TUNED, **tuned}) as m:
        (line,) = last_word(m.tune("check").must(1), base)
        assert "to 2048" in line
        m.tune("apply", "--write").must(0)
        (line,) = last_word(m.tune("check").must(0), base)
        assert f"but /{SYSCTL} has the last word" in line
    # It raises what is lower, and leaves what is higher.
    raises = {**tuned, "usr/lib/tuned/profiles/base/tuned.conf": "[sysctl]\nnet.core.somaxconn=>2048"}
    with Machine(tool, {**TUNED, **raises}) as m:
        (line,) = last_word(m.tune("check").must(0), base)
        assert "to 2048 where less is set, and has the last word" in line
    with Machine(tool, {**TUNED, **raises, "proc/sys/net/core/somaxconn": "128"}) as m:
        m.tune("apply", "--write").must(0)
        assert m.read("proc/sys/net/core/somaxconn") == "4096"
    disk = {"etc/tuned/active_profile": "disk", "etc/tuned/disk/tuned.conf": "[disk]\nreadahead=>4096"}
    with Machine(tool, {**TUNED, **disk}) as m:
        run = m.tune("check").must(1)
        assert "note: /sys/block/vda/queue/read_ahead_kb is also set by tuned profile disk (/etc/tuned/disk/tuned.conf), to 4096 where" in run.out
    with Machine(tool, {**TUNED, **tuned, "etc/tuned/tuned-main.conf": "reapply_sysctl = 0"}) as m:
        (line,) = last_word(m.tune("apply", "--write").must(1), base)
        assert "has the last word at the next boot" in line


def test_a_kubernetes_node_is_named(tool):
    """where a kubelet is configured, kube-proxy's part of the keys is told"""
    with Machine(tool, {**TUNED, "var/lib/kubelet/config.yaml": "kind: KubeletConfiguration"}) as m:
        assert "kube-proxy sets net.netfilter.nf_conntrack_max" in m.tune("check").must(0).out
    with Machine(tool, TUNED) as m:
        assert "kube-proxy" not in m.tune("check").must(0).out
