"""What can be said of the dashboard's file alone: its types, its grid, its words, what its queries name and in which units.

Each function returns complaints, one line each. Types come from Grafana's own description of a dashboard, the package
grafana-foundation-sdk: what it does not know is lost when it writes what it has read, and what it knows has a type.
"""

import collections
import enum
import inspect
import json
import re
import sys
import typing

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard as Model

register_default_plugins()
SELECTOR = re.compile(r"\b([a-z_]+)\{([^}]*)\}")
HOST = 'job="$job",instance=~"$instance"'
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
LEAST_WORDS = 8  # of a description: what bad looks like, and what helps
PER_SECOND = {"cps", "mps", "ops", "reqps", "rowsps"}
UNITS = {
    **{"seconds": {"s"}, "bytes": {"bytes"}, "bytes/s": {"Bps"}},
    **{"count": {"short"}, "count/s": PER_SECOND, "ratio": {"percentunit", "short"}},
}


def of_file(source, manual, kinds):
    return [*of_types(source), *of_grid(source), *of_words(source, manual), *of_queries(source, kinds)]


def of_types(source):
    """Unknown fields, values of another type, names that an enumeration does not have."""
    try:
        model = Model.from_json(source)
        written = json.loads(json.dumps(model, cls=JSONEncoder))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        return [f"not a dashboard: {type(error).__name__}: {error}"]
    return [*lost(source, written, "dashboard"), *typed(model, "dashboard")]


def lost(before, after, where):
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{where}.{key}")
            elif value is not None:
                yield f"{where}: Grafana knows no field {key}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for n, (old, new) in enumerate(zip(before, after)):
            yield from lost(old, new, f"{where}[{n}]")
    elif before != after:
        yield f"{where}: {before!r} is read as {after!r}"


def typed(thing, where):
    """Of an object of the package: whether each field is of the type that it is declared with."""
    names = vars(sys.modules[type(thing).__module__])
    for field, kind in typing.get_type_hints(type(thing), names).items():
        yield from fits(getattr(thing, field), kind, f"{where}.{field}")


def fits(value, kind, where):
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    value = value.value if isinstance(value, enum.Enum) else value
    if origin is typing.Union:
        found = [list(fits(value, each, where)) for each in inner]
        if all(found):
            # The one that went deepest is what was meant.
            yield max((complaints[0] for complaints in found), key=lambda complaint: complaint.split(":")[0].count("."))
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{where}: {value!r} is none of {inner}"
    elif origin is list or origin is dict:
        if not isinstance(value, origin):
            yield f"{where}: {value!r} is no {origin.__name__}"
            return
        items = enumerate(value) if origin is list else value.items()
        for key, each in items:
            yield from fits(each, inner[-1], f"{where}[{key}]")
    elif inspect.isclass(kind) and issubclass(kind, enum.Enum):
        if value not in [each.value for each in kind]:
            yield f"{where}: {value!r} is no {kind.__name__}"
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{where}: {value!r} is no number"
    elif kind in (int, str, bool):
        if type(value) is not kind:
            yield f"{where}: {value!r} is no {kind.__name__}"
    elif type(value).__module__.startswith("grafana_foundation_sdk"):
        yield from typed(value, where)
    elif kind not in (object, typing.Any) and inspect.isclass(kind) and not isinstance(value, kind):
        # What a panel type or a data source brings is declared by a base of them all, or not at all.
        yield f"{where}: {value!r} is no {kind.__name__}"


def of_grid(source):
    """Ids, the grid, and that nothing is tied to one installation."""
    panels = source["panels"]
    if source["uid"] != "ringpost" or source["refresh"] != "30s":
        yield f"uid {source['uid']!r}, refresh {source['refresh']!r}"
    if source.get("id") is not None:
        yield "an id of one Grafana's database"
    for number, count in collections.Counter(panel["id"] for panel in panels).items():
        if count > 1:
            yield f"id {number} stands {count} times"
    taken = {}
    for panel in panels:
        x, y, w, h = (panel["gridPos"].get(side, 0) for side in "xywh")
        if w < 1 or h < 1 or x + w > 24:
            yield f"panel {panel['id']} is not within 24 columns"
        for cell in ((column, line) for column in range(x, x + w) for line in range(y, y + h)):
            if taken.setdefault(cell, panel["id"]) != panel["id"]:
                yield f"panel {panel['id']} lies on panel {taken[cell]}"
                break
    sources = [panel["datasource"] for panel in panels if panel["type"] != "row"]
    sources += [target["datasource"] for panel in panels for target in panel.get("targets", [])]
    sources += [variable["datasource"] for variable in source["templating"]["list"] if "datasource" in variable]
    for found in sources:
        if found != DATA_SOURCE:
            yield f"a data source of one installation: {found}"


def of_words(source, manual):
    """Every panel says what bad looks like and what helps; the settings, metrics and pages that it names are in the manual."""
    titles = collections.Counter(panel["title"] for panel in source["panels"])
    for panel in source["panels"]:
        if titles[panel["title"]] > 1 or not panel["title"]:
            yield f"panel {panel['id']}: another one is called {panel['title']!r}, too"
        if panel["type"] == "row":
            continue
        words = panel.get("description", "")
        if len(words.split()) < LEAST_WORDS:
            yield f"panel {panel['id']}: a description of {len(words.split())} words"
        for name in re.findall(r"[a-z]+(?:_[a-z]+)+", words):
            if name not in manual:
                yield f"panel {panel['id']}: the manual says nothing of {name}"
        for pages in re.findall(r"Manual: ([^.;)]+)", words):
            for page in pages.split(", "):
                if not re.search(rf"^#+ {re.escape(page)}", manual, re.M) and f"`{page}`" not in manual:
                    yield f"panel {panel['id']}: the manual has no page {page}"


def of_queries(source, kinds):
    """`kinds`: {family: counter, gauge or histogram} as /metrics has them. What is asked for exists, is asked for as what it
    is, in a unit that agrees with its name, on the chosen boxes; and every family is asked for."""
    seen = set()
    for panel in source["panels"]:
        for target in panel.get("targets", []):
            where, query = f"panel {panel['id']} {target['refId']}", target["expr"]
            for name, labels in SELECTOR.findall(query):
                if not labels.startswith(HOST):
                    yield f"{where}: {name} is not chosen by job and instance"
                family = family_of(name, kinds)
                seen.add(family)
                if family is None:
                    yield f"{where}: no metric {name}"
                elif wrong := misread(query, name, kinds[family]):
                    yield f"{where}: {wrong}"
            if not SELECTOR.search(query):
                yield f"{where}: no metric in {query}"
            elif panel["fieldConfig"]["defaults"]["unit"] not in UNITS.get(dimension(query), ()):
                yield f"{where}: {dimension(query)} in the unit {panel['fieldConfig']['defaults']['unit']}"
    for family in kinds:
        if family not in seen:
            yield f"{family} is on no panel"


def families(page):
    """{family: kind} of a page of /metrics, and of what Prometheus adds to it."""
    return {**dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M)), "up": "gauge"}


def family_of(name, kinds):
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    if kinds.get(name) in ("counter", "gauge"):
        return name
    return base if kinds.get(base) == "histogram" and base != name else None


def misread(query, name, kind):
    """A counter or a histogram is read as a rate, a gauge never is."""
    calls = re.findall(rf"(\w+)\({name}\{{[^}}]*\}}\[", query)
    rated = len(calls) == len(re.findall(rf"\b{name}\{{", query)) and set(calls) <= {"rate", "increase"}
    if kind == "gauge":
        return f"the gauge {name} as a rate" if calls else None
    if kind == "counter" and not name.endswith("_total"):
        return f"{name} is a counter and not called _total"
    return None if rated else f"the {kind} {name} without a rate"


def dimension(query):
    """Of what its result is: seconds, bytes, count, of these a rate, or a ratio."""
    query = query.strip()
    over, under = split(query, "/")
    if under:
        over, under = dimension(over), dimension(re.sub(r"^(ignoring|on) *\([^)]*\)", "", under.strip()))
        if under == "count" and over != "count":
            return over
        return "ratio" if over == under else f"{over} by {under}"
    left, right = split(query, "-")
    if right:
        return dimension(right)
    if call := re.match(r"(\w+) *(?:by *\([^)]*\) *)?\((.*)\)$", query, re.S):
        function, inside = call.groups()
        if function == "count":
            return "count"
        if function == "histogram_quantile":
            return dimension(re.search(r"(\w+)_bucket\{", inside)[1] + "{}")
        if function == "rate":
            return {"seconds": "ratio"}.get(dimension(inside), f"{dimension(inside)}/s")
        return dimension(inside)
    name = re.sub(r"\{.*", "", query, flags=re.S)
    if name.endswith(("_count", "_bucket")):
        return "count"
    name = re.sub(r"_(total|sum)$", "", name)
    return "seconds" if name.endswith(("_seconds", "_time_seconds")) else "bytes" if name.endswith("_bytes") else "count"


def split(query, sign):
    """At a sign that stands in no brackets and no string."""
    depth, quoted = 0, False
    for at, letter in enumerate(query):
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "({[") - (letter in ")}]")
        if depth == 0 and not quoted and letter == sign:
            return query[:at], query[at + 1 :]
    return query, ""
