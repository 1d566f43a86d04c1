"""The tool on the real /, with real sysctls of a network namespace of its own.

/etc is a copy and the folders that it writes to are empty, in a mount namespace, and keys that the whole machine shares are covered by
files that are as wanted: nothing outside of the namespaces changes. Values are read by the test itself, not by the tool.
"""

import subprocess
import sys
import textwrap

from machine import need_root

# Before every script. $TOOL is the tool's folder; `key NAME` prints a value with one space between its words.
BEFORE = """
set -eu
mount --make-rprivate /
for folder in /var/lib /run/sysctl.d /run/systemd /usr/local/lib/sysctl.d /usr/lib/sysctl.d; do
    [ ! -d $folder ] || mount -t tmpfs none $folder
done
shared=/var/lib/shared
mkdir $shared
cp -a /etc $shared/etc
mount --bind $shared/etc /etc
rm -rf /etc/sysctl.d /etc/sysctl.conf /etc/tmpfiles.d /etc/systemd /etc/udev
mkdir -p /etc/systemd/system /etc/sysctl.d
for cover in fs/nr_open=2000000000 fs/file-max=2000000000 kernel/io_uring_disabled=0 kernel/osrelease=6.18.0; do
    echo ${cover#*=} > $shared/file
    cp $shared/file $shared/$(echo ${cover%%=*} | tr / -)
    mount --bind $shared/$(echo ${cover%%=*} | tr / -) /proc/sys/${cover%%=*}
done
ip link set lo up
key() { tr -s ' \\t' ' ' < /proc/sys/$(echo $1 | tr . /); }
tune() { "$TOOL/tune" "$@" --connections 1000 --disk none; }
is() { [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; exit 1; }; }
"""


def inside(tool, script):
    need_root("a network and a mount namespace")
    text = BEFORE + textwrap.dedent(script)
    command = ["unshare", "--net", "--mount", "sh", "-c", text]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TOOL": str(tool), "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_real_sysctls_are_set_and_restored(tool):
    """server, in a network namespace: check, apply, check, revert, check; the kernel's own value is read each time"""
    out = inside(
        tool,
        """
        echo 128 > /proc/sys/net/core/somaxconn
        ! tune check
        is somaxconn "$(key net.core.somaxconn)" 128
        tune apply
        is somaxconn "$(key net.core.somaxconn)" 128
        tune apply --write
        is somaxconn "$(key net.core.somaxconn)" 4096
        grep -x 'net.core.somaxconn = 4096' /etc/sysctl.d/99-zz-ringpost.conf
        tune check
        tune apply --write
        echo 64 > /proc/sys/net/core/somaxconn
        sysctl --system > /dev/null 2>&1 || sysctl -p /etc/sysctl.d/99-zz-ringpost.conf
        is 'somaxconn after a boot' "$(key net.core.somaxconn)" 4096
        tune revert --write
        is somaxconn "$(key net.core.somaxconn)" 128
        ! tune check
        [ -z "$(ls /etc/sysctl.d /var/lib /etc/tmpfiles.d 2> /dev/null | grep -i ringpost)" ]
        """,
    )
    assert "net.core.somaxconn:  128" in out and "->  4096" in out, out


def test_the_real_port_range_is_the_generators(tool):
    """generator, in a network namespace: the range and tcp_tw_reuse are set and restored, and a socket gets a port of the range"""
    inside(
        tool,
        """
        is range "$(key net.ipv4.ip_local_port_range)" "32768 60999"
        tune apply --profile server --write
        is 'range of a server' "$(key net.ipv4.ip_local_port_range)" "32768 60999"
        tune apply --profile generator --write
        is range "$(key net.ipv4.ip_local_port_range)" "10000 65535"
        is reuse "$(key net.ipv4.tcp_tw_reuse)" 1
        tune check --profile generator
        cat > $shared/ports.py <<'PORTS'
        import socket
        # The kernel begins to look at another port for each destination: half of them are outside of the usual range.
        listener = socket.create_server(("0.0.0.0", 9000), backlog=4096)
        sockets = [socket.create_connection((f"127.0.1.{last}", 9000)) for last in range(1, 101)]
        ports = [each.getsockname()[1] for each in sockets]
        assert min(ports) >= 10000 and min(ports) < 32768, f"ports from {min(ports)} to {max(ports)}"
        PORTS
        sed -i 's/^        //' $shared/ports.py
        "$PYTHON" $shared/ports.py
        tune revert --write
        is range "$(key net.ipv4.ip_local_port_range)" "32768 60999"
        is reuse "$(key net.ipv4.tcp_tw_reuse)" 2
        """,
    )


def test_read_only_keys_are_told_in_a_sentence(tool):
    """/proc/sys mounted read-only, as in a container: check and apply say who can change it, status 1, and nothing is written"""
    inside(
        tool,
        """
        echo 128 > /proc/sys/net/core/somaxconn
        mount --bind /proc/sys /proc/sys
        mount -o remount,bind,ro /proc/sys
        for command in check apply 'apply --write'; do
            status=0
            said=$(tune $command) || status=$?
            is "status of $command" $status 1
            echo "$said" | grep 'somaxconn.* cannot be changed from here: it is mounted read-only, as in a container; the host can'
        done
        echo "$said" | grep 'not as wanted: net.core.somaxconn'
        [ ! -e /var/lib/ringpost-tuning ] && [ ! -e /etc/sysctl.d/99-zz-ringpost.conf ]
        """,
    )


def test_another_user_can_look(tool):
    """a user without rights, in a network namespace: check and explain work, and say that root can change it; apply --write fails"""
    inside(
        tool,
        """
        echo 128 > /proc/sys/net/core/somaxconn
        other() { setpriv --reuid=65534 --regid=65534 --clear-groups "$TOOL/tune" "$@" --connections 1000 --disk none; }
        status=0
        said=$(other check) || status=$?
        is status $status 1
        echo "$said" | grep 'somaxconn: cannot be changed from here: root can'
        other explain somaxconn | grep 'now *128'
        status=0
        said=$(other apply --write 2>&1) || status=$?
        is status $status 1
        is somaxconn "$(key net.core.somaxconn)" 128
        """,
    )


def test_a_port_range_that_is_refused_is_told(tool):
    """the kernel refuses a value (ports below ip_unprivileged_port_start): apply names the key, status 1, revert has nothing left"""
    inside(
        tool,
        """
        # The highest that the range of now allows.
        echo 32768 > /proc/sys/net/ipv4/ip_unprivileged_port_start
        before=$(key net.ipv4.ip_local_port_range)
        status=0
        said=$(tune apply --profile generator --write 2>&1) || status=$?
        is status $status 1
        echo "$said" | grep 'net.ipv4.ip_local_port_range could not be set'
        is range "$(key net.ipv4.ip_local_port_range)" "$before"
        ! grep port_range /etc/sysctl.d/99-zz-ringpost.conf
        tune revert --write
        is reuse "$(key net.ipv4.tcp_tw_reuse)" 2
        """,
    )


def test_a_running_listener_is_shown(tool):
    """a process named ringpost that began to listen when 128 were allowed: check tells its address and length, as ss does"""
    inside(
        tool,
        """
        echo 128 > /proc/sys/net/core/somaxconn
        cat > $shared/listen.py <<'LISTEN'
        import socket, sys, time
        open("/proc/self/comm", "w").write("ringpost")
        sockets = [socket.create_server(("127.0.0.1", port), backlog=length) for port, length in ((21999, 4096), (21998, 16))]
        print("ready", flush=True)
        time.sleep(60)
        LISTEN
        sed -i 's/^        //' $shared/listen.py
        "$PYTHON" $shared/listen.py > $shared/ready &
        listener=$!
        trap 'kill $listener' EXIT
        until grep -q ready $shared/ready; do sleep 0.05; done
        tune apply --write
        said=$(tune check)
        echo "$said"
        echo "$said" | grep 'the ringpost at 127.0.0.1:21999 listens with 128 (ss -ltn, Send-Q), not 4096: start it again'
        ! echo "$said" | grep 21998
        """,
    )
