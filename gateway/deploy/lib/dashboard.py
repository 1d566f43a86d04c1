"""A dashboard file and the Prometheus that answers its queries, as Grafana would ask them. Standard library only."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request

# Grafana's own: four scrapes, or the step and one scrape where that is more.
RATE_SCRAPES = 4


class Dashboard:
    """Panels in the order of the file, and the variables with which their queries are asked."""

    def __init__(self, path, job="ringpost", instance=".*"):
        """A ValueError where the file is no dashboard."""
        with open(path, encoding="utf-8") as file:
            self.json = json.load(file)
        if not isinstance(self.json, dict) or not {"title", "panels"} <= self.json.keys():
            raise ValueError("no dashboard of Grafana: it has no title and panels")
        self.title = self.json["title"]
        rows_and_panels = [*self.json["panels"]]
        for row in self.json["panels"]:
            rows_and_panels += row.get("panels", [])  # of a row that is folded
        self.rows = [row for row in rows_and_panels if row["type"] == "row"]
        self.panels = [panel for panel in rows_and_panels if panel["type"] != "row"]
        self.values = {"job": job, "instance": instance}

    def expression(self, target, step, scrape):
        """The query of a target with every variable replaced; `step` and `scrape`: seconds."""
        interval = max(step + scrape, RATE_SCRAPES * scrape)
        values = {**self.values, "__rate_interval": f"{interval:g}s", "__interval": f"{step:g}s"}
        replaced = re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], found[0]), target["expr"])
        if "$" in replaced:
            raise ValueError(f"an unknown variable in {replaced}")
        return replaced


def legend(target, labels):
    """What a series is called: the legend of its query with labels in place of {{label}}."""
    form = target.get("legendFormat") or "{{__name__}}"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form)


class Refused(Exception):
    """Prometheus is not there, or cannot evaluate a query. One line."""


class Prometheus:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def get(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            body = error.read().decode(errors="replace")
            raise Refused(f"{parameters.get('query', path)}: {body.strip()}") from None
        except (OSError, ValueError) as error:
            raise Refused(f"no Prometheus answers at {self.url}: {error}") from None

    def scrape_interval(self, job):
        """Seconds, as the configuration of the job has it, from its first target."""
        for target in self.get("targets", state="active")["activeTargets"]:
            if target["scrapePool"] == job and "scrapeInterval" in target:
                return seconds(target["scrapeInterval"])
        raise Refused(f"{self.url} scrapes no job named {job}, or does not tell its interval")

    def at(self, query, time):
        """[(labels, [(time, value)])] at one moment."""
        found = self.get("query", query=query, time=f"{time:.3f}")
        if found["resultType"] == "scalar":
            return [({}, [numbers(found["result"])])]
        return [(series["metric"], [numbers(series["value"])]) for series in found["result"]]

    def over(self, query, start, end, step):
        """[(labels, [(time, value), ...])] over a time; where there is no sample there is no point."""
        found = self.get("query_range", query=query, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:g}")
        return [(series["metric"], [numbers(pair) for pair in series["values"]]) for series in found["result"]]


def numbers(pair):
    return float(pair[0]), float(pair[1])


def is_number(value):
    return not (math.isnan(value) or math.isinf(value))


def seconds(text):
    """Of a duration as Prometheus and `--last` write it: 10s, 1m30s, 2h."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"not a duration like 90s, 5m or 1h: {text}")
    return sum(float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in parts)
