"""Many sessions in one process: `sessions.py --connections N` runs `flood connect` against a server sized for it.

flood counts a session when its welcome has arrived, holds all of them, has every one answer a ping and random pairs
exchange a message, and tells the growth of the server's resident memory per session. This script adds the server and
what the server says of itself.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile

from harness import TARGET, Server, eventually

EXAMPLES = """Examples:
  gateway/tests/external/run durability/sessions.py --connections 100000
  gateway/tests/external/run durability/sessions.py --connections 5000 --hold 60s"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--hold", default="10s")
    options = parser.parse_args()
    room = options.connections + options.connections // 10 + 100
    with tempfile.TemporaryDirectory(prefix="ringpost-sessions-") as folder:
        # Every user is new, so a list of devices is written for each: what the store holds of them, of its log and of its
        # trees' blocks in memory has bounds of its own, which are set low here, for it is no part of what a session costs.
        # Not so low that a slow disk would have the store refuse what the pairs write all at once, for that is about 2 MiB.
        store = [f"--store-memory-bytes={4 << 20}", f"--store-cache-bytes={1 << 20}", f"--segment-bytes={1 << 20}"]
        bounds = ["--max-sessions", str(room), *store]
        with Server(*bounds, data=f"{folder}/data") as server:
            command = [TARGET / "ci" / "flood", "connect", "--url", f"ws://{server.listen}"]
            command += ["--connections", options.connections, "--hold", options.hold]
            command += ["--ping-all", "--pairs", 1_000]
            command += ["--server-pid", server.process.pid, "--max-bytes-per-session", 1_024]
            status = subprocess.run([str(word) for word in command]).returncode
            asyncio.run(eventually(lambda: server.metric("ringpost_connections") == 0, "every connection is gone"))
            refused, accepted = server.metric("ringpost_refused_total"), server.metric("ringpost_accepted_total")
            established = server.metric("ringpost_sessions_established_total")
            print(f"server: {accepted:.0f} accepted, {established:.0f} welcomed, {refused:.0f} refused, 0 left open")
            failed = status or refused or established < options.connections
            if failed:
                print(server.tail())
    print("0 passed, 1 failed" if failed else "1 passed, 0 failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
