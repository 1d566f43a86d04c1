"""Numbers in the units that a dashboard names, short enough for an axis."""

import math

BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
# What Grafana writes behind a number; all others are a number alone.
PER_SECOND = {"cps": "c/s", "mps": "msg/s", "ops": "ops/s", "reqps": "req/s", "rowsps": "rows/s"}
KNOWN = {"short", "percentunit", "s", "bytes", "Bps", *PER_SECOND}


def number(value, unit):
    """`value` as a reader wants it. An unknown unit is a ValueError."""
    if unit not in KNOWN:
        raise ValueError(f"a unit that is not known here: {unit}")
    if unit == "percentunit":
        return f"{digits(100 * value)} %"
    if unit == "s":
        return duration(value)
    if unit in ("bytes", "Bps"):
        power = 0 if value == 0 else max(0, min(int(math.log(abs(value), 1024)), len(BINARY) - 1))
        return f"{digits(value / 1024**power)} {BINARY[power]}" + ("/s" if unit == "Bps" else "")
    behind = PER_SECOND.get(unit)
    return thousands(value) + (f" {behind}" if behind else "")


def duration(value):
    if value == 0:
        return "0 s"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if abs(value) >= size:
            return f"{digits(value / size)} {name}"
    return f"{digits(value * 1e6)} µs"


def thousands(value):
    for size, name in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return digits(value / (size if name != " k" else 1e3)) + name
    return digits(value)


def digits(value):
    """Three significant digits, without zeros at the end."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(places, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(most, unit):
    """At most five round values from 0 to what is at least `most`: powers of two for bytes, of ten for all else."""
    base = 1024 if unit in ("bytes", "Bps") else 10
    if most <= 0:
        return [0, 1]
    size = base ** math.floor(math.log(most, base))
    for each in (size * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5, 10, 20, 25, 50, 100, 128, 200, 256, 512, 1024)):
        if most / each <= 4:
            return [each * n for n in range(math.ceil(most / each - 1e-9) + 1)]
    raise AssertionError(most)
