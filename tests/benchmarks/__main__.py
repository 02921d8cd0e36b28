"""Measure every goal and print one table: `python -m tests.benchmarks [--long] [--only NAME …]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import csv_out, flatten, jobs, ledgers, pacing, runs, scale, year
from tests.benchmarks.goals import table

Step = Callable[..., dict[str, float]]

# What each form measures, in how many rounds, and on how much data.
STEPS: Final[dict[str, list[tuple[Step, dict[str, Any]]]]] = {
    "tiny": [
        (flatten.measure, {"rounds": 1, "replies": 1}),
        (jobs.measure_duplicates, {"rounds": 1, "rows": 1_000, "folder": None}),
        (scale.measure, {"sizes": (2_000, 20_000), "many": 1_000, "rounds": 2, "folder": None}),
    ],
    "short": [
        (flatten.measure, {"rounds": 7, "replies": 4}),
        (jobs.measure, {"rounds": 3, "rows": 100_000, "folder": None}),
        (jobs.measure_duplicates, {"rounds": 3, "rows": 100_000, "folder": None}),
        (jobs.measure_vendor, {"rounds": 3, "rows": 50_000, "folder": None}),
        (jobs.measure_start_up, {"rounds": 5, "folder": None}),
        (runs.measure_floors, {"rounds": 3, "rows": 100_000, "folder": None}),
        (csv_out.measure, {"rounds": 5, "rows": 50_000, "folder": None}),
        (pacing.measure_fast, {"requests": 250, "folder": None}),
        (ledgers.measure, {"requests": 300, "folder": None}),
        (year.measure, {"rows": year.SHORT_ROWS, "folder": None}),
    ],
    "long": [
        (flatten.measure, {"rounds": 15, "replies": 8}),
        (jobs.measure, {"rounds": 5, "rows": 250_000, "folder": None}),
        (jobs.measure_duplicates, {"rounds": 5, "rows": 250_000, "folder": None}),
        (jobs.measure_vendor, {"rounds": 3, "rows": 250_000, "folder": None}),
        (jobs.measure_start_up, {"rounds": 9, "folder": None}),
        (jobs.measure_plan, {"rows": 1_000_000, "folder": None}),
        (runs.measure_floors, {"rounds": 5, "rows": 250_000, "folder": None}),
        (csv_out.measure, {"rounds": 7, "rows": 250_000, "folder": None}),
        (pacing.measure_fast, {"requests": 1_000, "folder": None}),
        (ledgers.measure, {"requests": 300, "folder": None}),
        (scale.measure_new_process, {"known": 10_000_000, "rounds": 7, "folder": None}),
        (scale.measure, {"sizes": (1_000_000, 50_000_000), "many": 1_000_000, "rounds": 21, "folder": None}),
        (year.measure, {"rows": year.LONG_ROWS, "folder": None}),
        (pacing.measure, {"requests": 300, "folder": None}),
        (jobs.measure_memory, {"sizes": (1_000_000, 10_000_000), "folder": None}),
        (jobs.measure_asset, {"sizes": (250_000, 1_000_000), "folder": None}),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--long", dest="form", action="store_const", const="long", default="short")
    parser.add_argument("--tiny", dest="form", action="store_const", const="tiny", help="only to see it run")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="such as flatten or jobs.measure_memory")
    parser.add_argument("--folder", type=Path, help="where ledgers and tables are written; a temporary one")
    chosen = parser.parse_args()
    figures: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            for step, settings in STEPS[chosen.form]:
                name = f"{step.__module__.rpartition('.')[2]}.{step.__name__}"
                if chosen.only and not any(
                    wanted in (name, name.partition(".")[0]) for wanted in chosen.only
                ):
                    continue
                started = time.perf_counter()
                given = {**settings, "folder": Path(folder)} if "folder" in settings else settings
                figures |= step(**given)
                print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    finally:
        # After Ctrl-C, what was measured before is shown too.
        print(table(figures, form=chosen.form))


if __name__ == "__main__":
    main()
