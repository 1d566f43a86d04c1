"""Faults to put into a copy of the dashboard or its configuration: each must bring a complaint with its words, or check.py
has no teeth.
"""

import copy
import dataclasses
import typing


@dataclasses.dataclass
class Fault:
    name: str
    check: str
    words: str
    plant: typing.Callable

    def planted_in(self, thing):
        changed = copy.deepcopy(thing)
        self.plant(changed)
        assert changed != thing, f"{self.name}: nothing was changed"
        return changed


HOST = 'job="$job",instance=~"$instance"'


def panel(source, number):
    return next(panel for panel in source["panels"] if panel["id"] == number)


def asks(number, query, at=0):
    """Another query in the panel."""

    def plant(source):
        panel(source, number)["targets"][at]["expr"] = query

    return plant


def has(number, unit):
    def plant(source):
        panel(source, number)["fieldConfig"]["defaults"]["unit"] = unit

    return plant


def sets(number, *path):
    """Sets what the path leads to in a panel; the last of it is the value."""

    def plant(source):
        thing = panel(source, number)
        for key in path[:-2]:
            thing = thing[key]
        thing[path[-2]] = path[-1]

    return plant


def rate(metric, labels=""):
    return f'rate({metric}{{{HOST}{labels}}}[$__rate_interval])'


def lies_on(number, other):
    def plant(source):
        panel(source, number)["gridPos"].update(panel(source, other)["gridPos"])

    return plant


def asks_only(number, query):
    def plant(source):
        target = panel(source, number)["targets"][0]
        panel(source, number)["targets"] = [{**target, "expr": query}]

    return plant


def top(**fields):
    """Of the dashboard itself."""
    return lambda source: source.update(fields)


def variable(at, **fields):
    return lambda source: source["templating"]["list"][at].update(fields)


def asks_less(number):
    """Without the last query of the panel."""
    return lambda source: panel(source, number)["targets"].pop()


def edits(which, old, new):
    """Of the two files of configuration."""

    def plant(texts):
        texts[which] = texts[which].replace(old, new)

    return plant


NO_SETTING = "Bad is much; the setting max_session_count helps with all that."
USERS = ',to="users"'
NO_PAGE = "Bad is much; look for it in the book. Manual: Latency."
NO_USERS = f"histogram_quantile(0.5, sum by (le) ({rate('ringpost_send_seconds_bucket', USERS)}))"
FULL = rate("ringpost_store_full_total")
OTHERS = rate("ringpost_tokens_refused_total", ',reason!="malformed"')
FAULTS = [
    Fault(name, check, words, plant)
    for check, faults in {
        "file": [
            ("a field that Grafana does not know", "no field threshold", sets(302, "options", "threshold", 1)),
            ("a text where a number belongs", "is no int", sets(302, "id", "302")),
            ("a legend that there is not", "is no LegendDisplayMode", sets(302, "options", "legend", "displayMode", "lists")),
            ("a variable of no type", "is no VariableType", variable(0, type="source")),
            ("two panels with one id", "stands 2 times", sets(302, "id", 301)),
            ("a panel on another one", "lies on panel", lies_on(302, 301)),
            ("a panel beyond the grid", "not within 24 columns", sets(303, "gridPos", "w", 9)),
            ("a data source of one installation", "of one installation", sets(302, "targets", 0, "datasource", "uid", "PBFA97")),
            ("another uid", "uid 'other'", top(uid="other")),
            ("an id of one database", "one Grafana's database", top(id=7)),
            ("two titles that are the same", "another one is called", sets(302, "title", "Sends")),
            ("a panel that does not say what bad is", "a description of", sets(302, "description", "SENT latency.")),
            ("a setting that does not exist", "says nothing of max_session_count", sets(302, "description", NO_SETTING)),
            ("a page that does not exist", "no page Latency", sets(302, "description", NO_PAGE)),
            ("a metric that does not exist", "no metric ringpost_sent_total", asks(301, f"sum({rate('ringpost_sent_total')})")),
            ("a family that is on no panel", "ringpost_syncs_total is on no panel", asks_less(304)),
            ("a query about all boxes", "not chosen by job", asks(301, "sum(rate(ringpost_sends_total{}[$__rate_interval]))")),
            ("a query about nothing", "no metric in", asks(301, "vector(1)")),
            ("a counter as it stands", "without a rate", asks(301, f"sum(ringpost_sends_total{{{HOST}}})")),
            ("the rate of a gauge", "as a rate", asks(701, rate("ringpost_outbound_bytes"))),
            ("seconds as a number", "seconds in the unit short", has(302, "short")),
            ("bytes as seconds", "bytes in the unit s", has(601, "s")),
            ("a rate of bytes as bytes", "bytes/s in the unit bytes", has(306, "bytes")),
            ("a rate as a number", "count/s in the unit short", has(301, "short")),
        ],
        "configuration": [
            ("what Prometheus refuses", "promtool", edits(0, "scrape_timeout: 5s", "scrape_timeout: 50s")),
            ("a data source with another interval", "the data source says", edits(1, "timeInterval: 1", "timeInterval: 2")),
        ],
        "data": [
            ("a query that cannot be parsed", "cannot be asked", asks(301, f"sum({rate('ringpost_sends_total')}")),
            ("a label value that there is not", "panel 302 A (SENT latency): no sample", asks(302, NO_USERS)),
            ("a division of 0 by 0", "no number", asks(402, f"sum({FULL}) / sum({FULL})")),
            ("what does not move under load", "nothing but 0", asks(301, f"0 * sum({rate('ringpost_sends_total')})")),
            ("a fault that shows nowhere", "no rise of 'malformed'", asks(801, f"sum by (reason) ({OTHERS})")),
        ],
        "picture": [
            ("a panel without a sample", "panel 302 (SENT latency) is drawn without data", asks_only(302, "absent(vector(1))")),
            ("a unit that preview does not know", "preview ended with", has(302, "furlongs")),
        ],
    }.items()
    for name, words, plant in faults
]
