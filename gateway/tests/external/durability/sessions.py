"""Many sessions in one process: `sessions.py --connections N` runs `flood connect` against a server sized for it.

flood counts a session when its welcome has arrived, holds all of them, has every one answer a ping and random pairs
exchange a message, and tells the growth of the server's resident memory per session. This script adds the server and
what the server says of itself.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from harness import TARGET, Server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--hold", default="10s")
    options = parser.parse_args()
    room = options.connections + options.connections // 10 + 100
    with tempfile.TemporaryDirectory(prefix="ringpost-sessions-") as folder:
        with Server("--max-sessions", str(room), data=f"{folder}/data") as server:
            report = pathlib.Path(folder, "report.json")
            command = [TARGET / "ci" / "flood", "connect", "--url", f"ws://{server.listen}"]
            command += ["--connections", options.connections, "--hold", options.hold]
            command += ["--ping-all", "--pairs", 1_000]
            command += ["--server-pid", server.process.pid, "--max-bytes-per-session", 1_024, "--json", report]
            status = subprocess.run([str(word) for word in command]).returncode
            left = server.metric("ringpost_connections")
            print(f"the server counts {left:.0f} connections after the run, {server.rss() >> 20} MiB resident")
            if status:
                print(server.tail())
            else:
                json.loads(report.read_text())
    print("0 passed, 1 failed" if status else "1 passed, 0 failed")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
