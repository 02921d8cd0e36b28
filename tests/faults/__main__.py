"""`python -m tests.faults`: every part of the campaign in its long form, and one table of figures.

Name parts to run only these; exits with 1 if any promise was broken.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

Rows = list[tuple[str, str]]

PARTS = {
    "sockets": "long_form",
    "crashes": "crashes",
    "images": "images",
    "storage": "storage",
    "machine": "machine",
}


def run(part: str) -> Rows:
    figures: Callable[..., Rows] = importlib.import_module(f".{PARTS[part]}", __package__).figures
    return figures(long=True)


def main(names: list[str]) -> int:
    """Print the table; returns the exit code."""
    if unknown := set(names) - set(PARTS):
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return 2
    rows: Rows = []
    for part in names or PARTS:
        print(f"{part} …", file=sys.stderr, flush=True)
        rows += run(part)
    print("| figure | value |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |".replace("\n", " "))
    return int(any("FAULT" in name for name, _ in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
