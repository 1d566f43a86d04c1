"""Faults to put into a copy of the dashboard or its configuration: each must bring a complaint with its words, or check.py has
no teeth.
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


def edits(which, old, new):
    """Of the two files of configuration."""

    def plant(texts):
        texts[which] = texts[which].replace(old, new)

    return plant


HOST = 'job="$job",instance=~"$instance"'
FAULTS = [
    Fault("a field that Grafana does not know", "file", "no field threshold", sets(302, "options", "threshold", 1)),
    Fault("a text where a number belongs", "file", "is no int", sets(302, "id", "302")),
    Fault("a legend that there is not", "file", "is no LegendDisplayMode", sets(302, "options", "legend", "displayMode", "lists")),
    Fault("a variable of no type", "file", "is no VariableType", lambda source: source["templating"]["list"][0].update(type="source")),
    Fault("two panels with one id", "file", "stands 2 times", sets(302, "id", 301)),
    Fault("a panel on another one", "file", "lies on panel", lambda source: panel(source, 302)["gridPos"].update(panel(source, 301)["gridPos"])),
    Fault("a panel beyond the grid", "file", "not within 24 columns", sets(303, "gridPos", "w", 9)),
    Fault("a data source of one installation", "file", "of one installation", sets(302, "targets", 0, "datasource", "uid", "PBFA97")),
    Fault("another uid", "file", "uid 'other'", lambda source: source.update(uid="other")),
    Fault("an id of one database", "file", "one Grafana's database", lambda source: source.update(id=7)),
    Fault("two titles that are the same", "file", "another one is called", sets(302, "title", "Sends")),
    Fault("a panel that does not say what bad is", "file", "a description of", sets(302, "description", "SENT latency.")),
    Fault("a setting that does not exist", "file", "says nothing of max_session_count", sets(302, "description", "Bad is much; the setting max_session_count helps with all that.")),
    Fault("a page that does not exist", "file", "no page Latency", sets(302, "description", "Bad is much; look for it in the book. Manual: Latency.")),
    Fault("a metric that does not exist", "file", "no metric ringpost_sent_total", asks(301, f"sum(rate(ringpost_sent_total{{{HOST}}}[$__rate_interval]))")),
    Fault("a family that is on no panel", "file", "ringpost_appends_total is on no panel", lambda source: panel(source, 301)["targets"].pop(1)),
    Fault("a query about all boxes", "file", "not chosen by job", asks(301, "sum(rate(ringpost_sends_total{}[$__rate_interval]))")),
    Fault("a query about nothing", "file", "no metric in", asks(301, "vector(1)")),
    Fault("a counter as it stands", "file", "without a rate", asks(301, f"sum(ringpost_sends_total{{{HOST}}})")),
    Fault("the rate of a gauge", "file", "as a rate", asks(701, f"rate(ringpost_outbound_bytes{{{HOST}}}[$__rate_interval])")),
    Fault("seconds as a number", "file", "seconds in the unit short", has(302, "short")),
    Fault("bytes as seconds", "file", "bytes in the unit s", has(601, "s")),
    Fault("a rate of bytes as bytes", "file", "bytes/s in the unit bytes", has(306, "bytes")),
    Fault("a rate as a number", "file", "count/s in the unit short", has(301, "short")),
    Fault("a configuration that Prometheus refuses", "configuration", "promtool", edits(0, "scrape_timeout: 5s", "scrape_timeout: 50s")),
    Fault("a data source with another interval", "configuration", "the data source says", edits(1, "timeInterval: 10s", "timeInterval: 15s")),
    Fault("a query that cannot be parsed", "data", "cannot be asked", asks(301, f"sum(rate(ringpost_sends_total{{{HOST}}}[$__rate_interval])")),
    Fault("a label value that there is not", "data", "panel 302 A (SENT latency): no sample", asks(302, f'histogram_quantile(0.5, sum by (le) (rate(ringpost_send_seconds_bucket{{{HOST},to="users"}}[$__rate_interval])))')),
    Fault("a division by what is 0", "data", "no number", asks(402, f"sum(rate(ringpost_store_full_total{{{HOST}}}[$__rate_interval])) / sum(rate(ringpost_store_full_total{{{HOST}}}[$__rate_interval]))")),
    Fault("what does not move under load", "data", "nothing but 0", asks(301, f"0 * sum(rate(ringpost_sends_total{{{HOST}}}[$__rate_interval]))")),
    Fault("a fault that shows nowhere", "data", "no rise of 'malformed'", asks(801, f'sum by (reason) (rate(ringpost_tokens_refused_total{{{HOST},reason!="malformed"}}[$__rate_interval]))')),
    Fault("a panel without a sample", "picture", "panel 302 (SENT latency) is drawn without data", lambda source: panel(source, 302).update(targets=[dict(panel(source, 302)["targets"][0], expr="absent(vector(1))")])),
    Fault("a unit that preview does not know", "picture", "preview ended with", has(302, "furlongs")),
]  # fmt: skip
