"""Plots as SVG, for the figures of this folder: lines over a logarithmic scale, and bars. Standard library only."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 130, 44, 52
COLOURS = ["#4f46e5", "#0891b2", "#d97706", "#be123c", "#4d7c0f"]
STYLE = "font-family='system-ui,sans-serif' font-size='12' fill='#334155'"


def lines(title, x_label, y_label, series, marks=True):
    """`series`: {name: [(x, y), ...]}, with y on a logarithmic scale. `marks`: a dot for each point."""
    points = [point for each in series.values() for point in each]
    most_x = max(x for x, _ in points)
    low = math.floor(math.log10(min(y for _, y in points)))
    high = max(math.ceil(math.log10(max(y for _, y in points))), low + 1)

    def at(x, y):
        right = LEFT + (WIDTH - LEFT - RIGHT) * x / most_x
        return right, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(y) - low) / (high - low)

    out = []
    for power in range(low, high + 1):
        _, y = at(0, 10**power)
        out.append(f"<line x1='{LEFT}' y1='{y:.0f}' x2='{WIDTH - RIGHT}' y2='{y:.0f}' stroke='#e2e8f0'/>")
        out.append(text(LEFT - 8, y + 4, f"{10.0**power:g}", "end"))
    labelled = 0
    whole = {x for x, _ in points if abs(x - round(x)) < 1e-6}
    for x in sorted(whole or {x for x, _ in points}):
        right, bottom = at(x, 10**low)
        if right > labelled + 48:
            labelled = right
            out.append(text(right, bottom + 18, f"{x:,.0f}", "middle"))
    for colour, (name, each) in zip(COLOURS, series.items()):
        path = " ".join("%.1f,%.1f" % at(x, y) for x, y in each)
        out.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        out += [] if not marks else ["<circle cx='%.1f' cy='%.1f' r='3' fill='%s'/>" % (*at(x, y), colour) for x, y in each]
        right, y = at(*each[-1])
        out.append(text(right + 10, y + 4, name, "start", colour))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, "middle"))
    return page(title, y_label, out)


def bars(title, y_label, values):
    """`values`: {name: (height, note)}."""
    most = max(height for height, _ in values.values())
    step = (WIDTH - LEFT - 24) / len(values)
    out = []
    for place, (colour, (name, (value, note))) in enumerate(zip(COLOURS, values.items())):
        left, high = LEFT + place * step, (HEIGHT - TOP - BOTTOM - 20) * value / most
        top = HEIGHT - BOTTOM - high
        out.append(f"<rect x='{left:.0f}' y='{top:.0f}' width='{step * 0.7:.0f}' height='{high:.0f}' fill='{colour}'/>")
        out.append(text(left + step * 0.35, top - 7, note, "middle"))
        out.append(text(left + step * 0.35, HEIGHT - BOTTOM + 18, name, "middle"))
    return page(title, y_label, out)


def across(title, unit, values):
    """Bars from left to right, one below the other. `values`: [(name, length), ...]."""
    most, left, out = max(length for _, length in values), 300, []
    step = (HEIGHT - TOP - 12) / len(values)
    for place, (name, length) in enumerate(values):
        top, wide = TOP + place * step, (WIDTH - left - 70) * length / most
        out.append(f"<rect x='{left}' y='{top:.1f}' width='{wide:.1f}' height='{step * 0.7:.1f}' fill='{COLOURS[0]}'/>")
        out.append(text(left - 8, top + step * 0.55, name, "end"))
        out.append(text(left + wide + 6, top + step * 0.55, f"{length:.1f}", "start"))
    return page(title, unit, out)


def text(x, y, words, anchor, colour="#334155"):
    return f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}' fill='{colour}'>{escape(words)}</text>"


def page(title, y_label, elements):
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {STYLE}>"
    head += "<rect width='100%' height='100%' fill='#fff'/>"
    labels = [f"<text x='{LEFT}' y='18' font-size='14' font-weight='600'>{escape(title)}</text>", text(LEFT, 34, y_label, "start")]
    return "\n".join([head, *labels, *elements, "</svg>"]) + "\n"
