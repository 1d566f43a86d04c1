"""kill -9 under load: `kill9.py --rounds N`. 0 acknowledged messages missing, 0 stored twice.

Each round runs `flood chat`, kills the server with -9 at a random moment, starts it again on the same data, lets flood
finish, and reads the conversations over JSON `history` to compare them with the SENT lines that flood wrote. After the last
round everything is compared once more. The comparison shares no code with the server or with flood.
"""

import argparse
import asyncio
import collections
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from harness import TARGET, Server, Session

EXAMPLES = """Examples:
  gateway/tests/external/run durability/kill9.py --rounds 100
  gateway/tests/external/run durability/kill9.py --rounds 5 --users 200 --rate 5000 --seconds 10"""


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--rate", type=int, default=1_000, help="messages a second")
    parser.add_argument("--seconds", type=int, default=4, help="length of the load of a round")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    return parser.parse_args()


def flood(server, options, sent):
    command = [TARGET / "ci" / "flood", "chat", "--url", f"ws://{server.listen}", "--users", options.users]
    command += ["--rate", options.rate, "--duration", f"{options.seconds}s", "--sent", sent, "--reconnect", "--quiet"]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def check(server, lines):
    """Compares acknowledged lines with what the server has. Returns (missing, stored twice), each with its reasons."""
    missing, twice = [], []
    by_pair, by_user = collections.defaultdict(list), collections.defaultdict(list)
    for line in lines:
        by_pair[tuple(sorted((line["from"], line["to"])))].append(line)
    for pair in by_pair:
        by_user[pair[0]].append(pair)

    async def one_user(user):
        session = await Session.open(server, user, "auditor")
        following = asyncio.create_task(session.follow())
        for pair in by_user[user]:
            compare(pair, await session.history(pair[1]))
        following.cancel()
        await session.close()

    def compare(pair, rows):
        seqs = [int(row["seq"]) for row in rows]
        if seqs != list(range(1, len(rows) + 1)):
            missing.append(f"{pair}: positions are not 1..{len(rows)}: {seqs[:20]}")
        by_seq = dict(zip(seqs, rows))
        for line in by_pair[pair]:
            row = by_seq.get(int(line["seq"]))
            digest = row and hashlib.sha256(row["text"].encode()).hexdigest()
            if not row or (row["from"], row["id"], digest) != (line["from"], str(line["id"]), line["sha256"]):
                missing.append(f"{pair} {line}: the log has {row}")
        # Every text of a run is different, so two records of one sender with one text are one message stored twice.
        counts = collections.Counter((row["from"], row["text"]) for row in rows)
        twice.extend(f"{pair}: {what} {count} times" for what, count in counts.items() if count > 1)

    users = list(by_user)
    for start in range(0, len(users), 8):
        await asyncio.gather(*(one_user(user) for user in users[start : start + 8]))
    return missing, twice


def read(path):
    """The complete lines of a SENT file."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def main():
    options = arguments()
    dice = random.Random(options.seed)
    print(f"{options.rounds} rounds, seed {options.seed}", flush=True)
    lines, failures = [], 0
    with tempfile.TemporaryDirectory(prefix="ringpost-kill9-") as folder, Server(data=f"{folder}/data") as server:
        for round_ in range(1, options.rounds + 1):
            sent = pathlib.Path(folder, f"sent-{round_}")
            load = flood(server, options, sent)
            moment = dice.uniform(0.2, options.seconds)
            time.sleep(moment)
            server.kill9()
            before = len(read(sent))
            server.start()
            try:
                load.wait(options.seconds + 60)
            except subprocess.TimeoutExpired:
                load.kill()
                load.wait()
            fresh = read(sent)
            lines += fresh
            missing, twice = asyncio.run(check(server, fresh))
            failures += bool(missing or twice)
            print(
                f"  round {round_:3}: killed after {moment:.2f} s, {before} acknowledged before and {len(fresh) - before} after;"
                f" {len(missing)} missing, {len(twice)} stored twice",
                flush=True,
            )
            for reason in (missing + twice)[:5]:
                print(f"    {reason}", flush=True)
            if not fresh:
                failures += 1
                print("    nothing was acknowledged: the load did not run", flush=True)
        missing, twice = asyncio.run(check(server, lines))
        failures += bool(missing or twice)
        print(f"in all {len(lines)} acknowledged, {len(missing)} missing, {len(twice)} stored twice")
    print(f"{options.rounds - min(failures, options.rounds)} passed, {failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
