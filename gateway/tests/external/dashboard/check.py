"""The dashboard against a Prometheus that scrapes a gateway under load: `run dashboard/check.py`.

Every query is asked as Grafana asks it; the file is read by Grafana's own types; preview draws every panel. Then each fault
of planted.py is put into a copy of the dashboard, and must be found.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from xml.etree import ElementTree

from harness import ROOT, Server

DEPLOY = ROOT / "gateway" / "deploy"
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(DEPLOY / "lib")]

import form  # noqa: E402
import load  # noqa: E402
import planted  # noqa: E402
from dashboard import Dashboard, Prometheus, Refused, is_number, legend  # noqa: E402

FILE = DEPLOY / "grafana" / "ringpost.json"
CONFIGURATION = (DEPLOY / "prometheus.yml", DEPLOY / "grafana" / "provisioning" / "datasources" / "ringpost.yml")
MANUAL = ROOT / "gateway" / "docs" / "operations.md"
ADMIN = "127.0.0.1:7601"
SCRAPED_WITHIN_S = 40  # it looks for targets every 5 s, and asks them every 10
EXAMPLES = """Examples:
  gateway/tests/external/run dashboard/check.py
  gateway/tests/external/run dashboard/check.py --picture page.svg    keeps what preview drew"""

# What this load does not move: a query of which every line stays at 0 must be about one of these.
STILL = {
    "ringpost_draining": "nobody stops the server",
    "ringpost_store_full": "needs a full disk, which the tests of the store simulate",
    "ringpost_store_full_total": "as above",
    "ringpost_store_stalled_total": "needs a disk that stands still, as above",
    "ringpost_store_busy_total": "as above",
    "ringpost_store_tree_errors_total": "needs a damaged file, as above",
    "ringpost_store_compaction_errors_total": "as above",
    "ringpost_documents_unreadable_total": "needs a store that a newer version wrote",
    "ringpost_store_expired_months_total": "needs a month",
    "ringpost_expired_undelivered_total": "as above",
    "ringpost_reconciles_total": "needs half a day",
    "ringpost_reconcile_found_total": "as above",
    "ringpost_recovery_records": "needs a crash before: durability/kill9.py",
    "ringpost_recovery_segments": "as above",
    "ringpost_recovery_cut_bytes": "as above",
    "ringpost_append_conflicts_total": "needs several nodes on one store",
    "ringpost_append_unknown_total": "as above",
    "ringpost_device_mismatches_total": "needs ciphertexts for devices: the tests of the router",
    "ringpost_token_keys_unused": "needs an issuer with keys that cannot be used: the tests of its keys",
    "ringpost_move_failed_total": "needs a full table: the tests of the shards",
    "ringpost_mesh_spilled_total": "needs a shard that stands still, as above",
    "ringpost_ring_overflow_total": "needs rings that are too small: cases/starved.py",
    "ringpost_ring_enobufs_total": "as above",
    "ringpost_ring_rearm_total": "as above",
    "ringpost_ring_stale_total": "a race, as above",
    "ringpost_store_waiting": "of a moment: 0 at most scrapes",
    "ringpost_mesh_spill": "as above",
    "ringpost_ring_buffers_out": "as above",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", metavar="FILE", help="where to keep what preview drew")
    options = parser.parse_args()
    for program in ("prometheus", "promtool"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing: install the Debian package prometheus, or run `.ci/test tools`")
    with tempfile.TemporaryDirectory(prefix="ringpost-dashboard-") as name:
        folder = pathlib.Path(name)
        with Server(*load.settings(folder)) as server, prometheus(configuration(server, folder), folder) as url:
            complaints = checked(server, Prometheus(url), folder, options.picture)
    for complaint in complaints:
        print(f"  FAIL  {complaint}")
    print(f"0 passed, {len(complaints)} failed" if complaints else "1 passed, 0 failed")
    sys.exit(1 if complaints else 0)


def checked(server, asked, folder, picture):
    """All complaints: about the file, and after the load about what it shows; then what planted faults fail to bring."""
    source, texts = json.loads(FILE.read_text()), [path.read_text() for path in CONFIGURATION]
    kinds = form.families(server.metrics())
    checks = {"file": lambda source: form.of_file(source, MANUAL.read_text(), kinds), "configuration": of_configuration}
    complaints = [*checks["file"](source), *of_configuration(texts)]
    print(f"file: {len(kinds)} families of metrics, {len(complaints)} complaints", flush=True)
    # Of what happened before the first scrape no rate is known, and what happens after the last is not seen.
    start = scraped_after(asked, time.time())
    asyncio.run(load.run(server, folder))
    print(f"load: {time.time() - start:.0f} s", flush=True)
    span = (start, scraped_after(asked, time.time()), asked.scrape_interval("ringpost"))

    def data(source):
        return list(of_data(as_dashboard(source, folder), asked, span))

    def drawn(source):
        return list(of_picture(as_dashboard(source, folder), draw(asked, folder, span)))

    checks |= {"data": data, "picture": drawn}
    for name in ("data", "picture"):
        found = checks[name](source)
        print(f"{name}: {len(found)} complaints", flush=True)
        complaints += found
    if picture:
        shutil.copyfile(folder / "page.svg", picture)
    for fault in planted.FAULTS:
        changed = fault.planted_in(texts if fault.check == "configuration" else source)
        found = list(checks[fault.check](changed))
        if not any(fault.words in complaint for complaint in found):
            complaints.append(f"planted and not found: {fault.name}; complaints were {found}")
    print(f"planted: {len(planted.FAULTS)} faults, each looked for", flush=True)
    return complaints


def scraped_after(asked, moment):
    """Waits until Prometheus has seen the gateway after this moment; the time of it."""
    deadline = time.monotonic() + SCRAPED_WITHIN_S
    while True:
        found = asked.at('timestamp(up{job="ringpost"} == 1)', time.time())
        if found and found[0][1][0][1] > moment:
            return time.time()
        assert time.monotonic() < deadline, f"Prometheus has not scraped the gateway for {SCRAPED_WITHIN_S} s"
        time.sleep(0.2)


def of_configuration(texts):
    """promtool takes the file; the data source of Grafana knows its interval."""
    prometheus_yml, datasource_yml = texts
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(prometheus_yml)
        file.flush()
        tool = subprocess.run(["promtool", "check", "config", file.name], capture_output=True, text=True)
    if tool.returncode:
        yield f"promtool: {tool.stdout}{tool.stderr}"
    interval = re.search(r"^  scrape_interval: (\S+)$", prometheus_yml, re.M)
    told = re.search(r"^      timeInterval: (\S+)$", datasource_yml, re.M)
    if not interval or not told or interval[1] != told[1]:
        yield f"the data source says {told and told[1]}, prometheus.yml scrapes every {interval and interval[1]}"


def of_data(dashboard, asked, span):
    """Each query can be evaluated and has numbers; what happened is above 0; each provoked fault shows on its line."""
    start, end, step = span
    risen = set()
    for panel in dashboard.panels:
        for target in panel["targets"]:
            where = f"panel {panel['id']} {target['refId']} ({panel['title']})"
            query = dashboard.expression(target, step, step)
            try:
                series = asked.at(query, end) if target["instant"] else asked.over(query, start, end, step)
            except Refused as error:
                yield f"{where}: cannot be asked: {error}"
                continue
            values = [value for _, points in series for _, value in points]
            moved = [labels for labels, points in series if any(value > 0 for _, value in points)]
            risen |= {(panel["id"], legend(target, labels)) for labels in moved}
            if not values:
                yield f"{where}: no sample"
            elif not any(map(is_number, values)):
                yield f"{where}: no number"
            elif not any(values):
                names = {name for name, _ in form.SELECTOR.findall(target["expr"])}
                if not names & STILL.keys():
                    yield f"{where}: nothing but 0"
    for panel, line in load.SHOWN:
        if (panel, line) not in risen:
            yield f"panel {panel}: no rise of {line!r}, which was provoked"


def of_picture(dashboard, outcome):
    """preview ends well and every panel holds something that was drawn from data."""
    status, printed, svg = outcome
    if status:
        yield f"preview ended with {status}: {printed}"
    if not svg:
        return
    groups = {group.get("id"): group for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")}
    for panel in dashboard.panels:
        group = groups.get(f"panel-{panel['id']}")
        if group is None or not any(each.get("class") == "data" for each in group.iter()):
            yield f"panel {panel['id']} ({panel['title']}) is drawn without data"


def draw(asked, folder, span):
    """(status, what it printed, the picture) of preview, for the dashboard that was written last."""
    start, end, _ = span
    out = folder / "page.svg"
    out.unlink(missing_ok=True)
    line = [DEPLOY / "preview", "--prometheus", asked.url, "--dashboard", folder / "dashboard.json", "--out", out]
    run = subprocess.run([str(word) for word in (*line, "--from", start, "--to", end)], capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr, out.read_text() if out.exists() else ""


def as_dashboard(source, folder):
    path = folder / "dashboard.json"
    path.write_text(json.dumps(source))
    return Dashboard(path)


def configuration(server, folder):
    """prometheus.yml as it is, but for the address of this server."""
    text = (DEPLOY / "prometheus.yml").read_text()
    target = f"targets: ['{ADMIN}']"
    assert text.count(target) == 1, f"prometheus.yml has no {target}"
    path = folder / "prometheus.yml"
    path.write_text(text.replace(target, f"targets: ['{server.admin}']"))
    return path


@contextlib.contextmanager
def prometheus(config, folder):
    """A Prometheus of our own; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % probe.getsockname()[1]
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command.append(f"--web.listen-address={address}")
    with open(folder / "prometheus.log", "w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 20
            while not is_ready(f"http://{address}/-/ready"):
                assert process.poll() is None and time.monotonic() < deadline, pathlib.Path(log.name).read_text()[-2000:]
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


def is_ready(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except urllib.error.URLError:
        return False


if __name__ == "__main__":
    main()
