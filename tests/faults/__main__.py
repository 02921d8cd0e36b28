"""`python -m tests.faults`: every part of the campaign in its long form, and one table of figures.

Name parts to run only these; `--short` runs a little of each. Exits with 1 if any promise was broken.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterable

Rows = list[tuple[str, str]]

PARTS = {
    "faults": ("long_form", "fault_figures"),
    "together": ("long_form", "together_figures"),
    "pace": ("long_form", "pace_figures"),
    "crashes": ("crashes", "figures"),
    "images": ("images", "figures"),
    "storage": ("storage", "figures"),
    "index": ("index_faults", "figures"),
    "machine": ("machine", "figures"),
}
TOTALS = ("charged", "charged twice", "charged and lost", "charged and forgotten", "requests of a re-run")
"""Rows that are summed over all parts that have them."""


def run(part: str, *, long: bool) -> Rows:
    module, name = PARTS[part]
    figures: Callable[..., Rows] = getattr(importlib.import_module(f".{module}", __package__), name)
    return figures(long=long)


def totals(rows: Iterable[tuple[str, str]]) -> Rows:
    """The sums over the parts, so that nobody has to add them up."""
    sums = dict.fromkeys(TOTALS, 0)
    for name, value in rows:
        # "part: figure", and what the control did has one more word.
        if (figure := name.partition(": ")[2]) in sums:
            sums[figure] += int(value.replace(",", ""))
    return [(f"all: {name}", f"{value:,}") for name, value in sums.items()]


def main(words: list[str]) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(words)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    rows: Rows = []
    started = time.monotonic()
    for part in given.parts or PARTS:
        print(f"{part} … ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
        rows += run(part, long=not given.short)
    rows += [*totals(rows), ("all: seconds", f"{time.monotonic() - started:.0f}")]
    print("| figure | value |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |".replace("\n", " "))
    return int(any("FAULT" in name for name, _ in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
