"""A dashboard drawn as one SVG: every panel where the grid of the file has it. Standard library only.

What is drawn: stats (number, colour of its threshold or mapping), lines, stacked areas, thresholds that are lines. What is
not: annotations, repeated panels, and panel types that ringpost's dashboard does not use; those are refused by name.
"""

import time
from xml.sax.saxutils import escape

from unit import number, ticks

WIDTH, COLUMNS, UNIT, GAP, HEAD = 1440, 24, 25, 8, 46
COLOURS = [
    "#4f46e5", "#0891b2", "#d97706", "#be123c", "#4d7c0f", "#7c3aed", "#0f766e", "#b45309", "#db2777", "#1d4ed8",
    "#65a30d", "#c2410c", "#6b7280", "#a21caf", "#047857", "#ca8a04", "#e11d48", "#0369a1", "#57534e", "#9333ea",
]  # fmt: skip
NAMED = {"green": "#2f855a", "orange": "#c05621", "red": "#c53030", "text": "#111827"}
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
# A letter of the small font, about.
LETTER = 5.6


def page(dashboard, drawn, start, end):
    """`drawn`: {panel id: [(name, [(time, value), ...]), ...]}."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard.panels)
    height = HEAD + rows * UNIT + GAP
    span = f"{clock(start, True)} to {clock(end)} UTC"
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='system-ui,sans-serif' "
        f"font-size='11' fill='{INK}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='#f3f4f6'/>",
        text(GAP, 29, dashboard.title, size=20, weight=600),
        text(WIDTH - GAP, 29, span, "end", FAINT, size=13),
    ]
    for row in dashboard.rows:
        _, top, _, high = box(row["gridPos"])
        out.append(text(GAP, top + high - 5, row["title"], size=14, weight=600))
    for panel in dashboard.panels:
        left, top, wide, high = box(panel["gridPos"])
        series = drawn[panel["id"]]
        out.append(f"<g id='panel-{panel['id']}' transform='translate({left:g} {top:g})'>")
        out.append(f"<title>{escape(panel.get('description', ''))}</title>")
        out.append(f"<rect width='{wide:g}' height='{high:g}' rx='3' fill='#fff' stroke='{GRID}'/>")
        if not series:
            out.append(text(wide / 2, high / 2 + 6, "No data", "middle", FAINT, size=14))
        elif panel["type"] == "stat":
            out += stat(panel, series, wide, high)
        elif panel["type"] == "timeseries":
            out += plot(panel, series, wide, high, start, end)
        else:
            raise ValueError(f"panel {panel['id']} is a {panel['type']}, which is not drawn here")
        out.append(text(8, 15, fitted(panel["title"], wide - 16, 6.4), size=12, weight=600))
        out.append("</g>")
    return "\n".join([*out, "</svg>"]) + "\n"


def box(grid):
    column = (WIDTH - GAP) / COLUMNS
    return GAP + grid["x"] * column, HEAD + grid["y"] * UNIT, grid["w"] * column - GAP, grid["h"] * UNIT - GAP


def stat(panel, series, wide, high):
    defaults = panel["fieldConfig"]["defaults"]
    out, each = [], wide / len(series)
    for place, (name, points) in enumerate(series):
        value = points[-1][1]
        words, colour = number(value, defaults["unit"]), threshold(defaults["thresholds"]["steps"], value)
        for mapping in defaults.get("mappings", []):
            if mapped := mapping["options"].get(f"{value:g}"):
                words, colour = mapped["text"], mapped["color"]
        middle = place * each + each / 2
        size = min(28, each / max(len(words), 1) * 1.5)
        shown = text(middle, high / 2 + 16, words, "middle", NAMED[colour], size=size, weight=600)
        out.append(f"<g class='data'>{shown}</g>")
        if len(series) > 1:
            out.append(text(middle, high - 8, fitted(name, each - 8), "middle", FAINT))
    return out


def threshold(steps, value):
    return [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]


def plot(panel, series, wide, high, start, end):
    defaults = panel["fieldConfig"]["defaults"]
    unit, custom = defaults["unit"], defaults["custom"]
    alone = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
    stacked = custom["stacking"]["mode"] == "normal"
    pile = [(name, points) for name, points in series if stacked and name not in alone]
    tops = heights(pile)
    most = max([value for _, points in series for _, value in points] + [value for _, _, top in tops for _, value in top])
    marks = ticks(min(most, defaults.get("max", most)) or defaults.get("max", 0), unit)
    named, rows = names(series, wide - 16)
    left, right, upper, lower = 74, wide - 10, 26, high - 24 - 14 * rows
    across = lambda at: left + (right - left) * (at - start) / max(end - start, 1)  # noqa: E731
    up = lambda value: lower - (lower - upper) * value / marks[-1]  # noqa: E731
    out = []
    for mark in marks:
        out.append(f"<path d='M{left} {up(mark):.1f}H{right:.1f}' stroke='{GRID}'/>")
        out.append(text(left - 5, up(mark) + 4, number(mark, unit), "end", FAINT, size=10))
    times = max(2, int((right - left) / 110))
    for n in range(times + 1):
        anchor = "start" if n == 0 else "end" if n == times else "middle"
        at = start + (end - start) * n / times
        out.append(text(across(at), lower + 14, clock(at), anchor, FAINT, size=10))
    if custom["thresholdsStyle"]["mode"] == "line":
        limit = defaults["thresholds"]["steps"][-1]["value"]
        if limit <= marks[-1]:
            out.append(f"<path d='M{left} {up(limit):.1f}H{right:.1f}' stroke='{NAMED['red']}' stroke-dasharray='5 4'/>")
    # Those that are named come first, so that their colours differ most.
    order = sorted(series, key=lambda each: not moves(each))
    colours = {name: COLOURS[n % len(COLOURS)] for n, (name, _) in enumerate(order)} | dict.fromkeys(alone, NAMED["text"])
    for name, floor, top in reversed(tops):
        edge = trace(top, across, up) + "L" + trace(floor[::-1], across, up)[1:] + "Z"
        paint = f"fill='{colours[name]}' fill-opacity='.55' stroke='{colours[name]}' stroke-width='.5'"
        out.append(f"<path class='data' d='{edge}' {paint}/>")
    for name, points in series:
        if (name, points) not in pile:
            width = 2 if name in alone else 1.3
            path = trace(points, across, up, custom["lineInterpolation"] == "stepAfter")
            out.append(f"<path class='data' d='{path}' fill='none' stroke='{colours[name]}' stroke-width='{width}'/>")
    for x, row, name in named:
        at = high - 8 - 14 * (rows - 1 - row)
        if name in colours:
            out.append(f"<rect x='{8 + x:.0f}' y='{at - 7:.0f}' width='9' height='3' fill='{colours[name]}'/>")
        out.append(text(20 + x, at, name, colour=INK if name in colours else FAINT, size=10))
    return out


def heights(pile):
    """Of series that stand on each other: (name, lower edge, upper edge)."""
    below, out = {}, []
    for name, points in pile:
        top = [(at, below.get(at, 0) + value) for at, value in points]
        out.append((name, [(at, below.get(at, 0)) for at, _ in points], top))
        below.update(top)
    return out


def trace(points, across, up, steps=False):
    """A path; a gap of the scrapes is bridged, for the grid of points is the step of the query."""
    out = []
    for at, value in points:
        x, y = f"{across(at):.1f}", f"{up(value):.1f}"
        out.append((f"H{x}V{y}" if steps else f"L{x} {y}") if out else f"M{x} {y}")
    # One sample is a dot.
    return "".join(out) + ("h1" if len(points) == 1 else "")


def names(series, wide):
    """Where the names stand: [(x, row, name)], and how many rows; those that are 0 throughout come last, as a number."""
    moving = [each[0] for each in series if moves(each)]
    still = [name for name, _ in series if name not in moving]
    shown = moving + (still if len(series) <= 5 else [f"{len(still)} more at 0"] if still else [])
    x, row, out = 0, 0, []
    for name in shown:
        each = 24 + LETTER * len(name)
        if x and x + each > wide:
            x, row = 0, row + 1
        out.append((x, row, name))
        x += each
    return out, row + 1


def moves(series):
    return any(value for _, value in series[1])


def text(x, y, words, anchor="start", colour=INK, size=11, weight=400):
    style = f" font-size='{size:.3g}'" if size != 11 else ""
    style += f" font-weight='{weight}'" if weight != 400 else ""
    style += f" text-anchor='{anchor}'" if anchor != "start" else ""
    style += f" fill='{colour}'" if colour != INK else ""
    return f"<text x='{x:.0f}' y='{y:.0f}'{style}>{escape(words)}</text>"


def fitted(words, wide, letter=LETTER):
    most = int(wide / letter)
    return words if len(words) <= most else words[: most - 1] + "…"


def clock(at, date=False):
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", time.gmtime(at))
