"""The goals, as data: each row of the table, what it is measured against and when it is passed."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """One row. `mark` is None for a figure that is shown and not judged; `form` is the first that measures it."""

    name: str
    what: str
    bound: Literal["≥", "≤"] = "≥"
    mark: float | None = None
    unit: str = "×"
    form: Literal["short", "long"] = "short"

    def passes(self, figure: float) -> bool | None:
        if self.mark is None:
            return None
        return figure >= self.mark if self.bound == "≥" else figure <= self.mark


GOALS: Final = (
    Goal("flatten_pandas", "flatten, against `json.loads` + `json_normalize(…, \"contacts\")` + `concat`", "≥", 7),
    Goal("flatten_typed", "flatten, against msgspec's typed decode of the same bytes", "≤", 2.5),
    Goal("flatten_json", "flatten, against `json.loads` alone", "≤", 0.8),
    Goal("flatten_odd", "one badly shaped record in each reply, against the clean speed", "≥", 0.75),
    Goal("flatten_orjson", "flatten, against a plain script with orjson and `from_pylist`"),
    Goal("wall_gzip", "end to end with the ledger, against the vendor's sample + `json_normalize` + `to_parquet`: wall, gzip", "≥", 5),
    Goal("wall_plain", "the same: wall, plain replies", "≥", 4),
    Goal("cpu_gzip", "the same: CPU, gzip", "≥", 4),
    Goal("cpu_plain", "the same: CPU, plain replies", "≥", 3.3),
    Goal("rows_a_second", "end to end, gzip and TLS", unit="rows/s"),
    Goal("floors", "CPU of the whole pipeline, against the sum of its floors (receive, inflate, decode, Parquet, ledger)", "≤", 2.3),
    Goal("receive", "CPU of receiving a reply, against `requests`' `.content` (TLS + gzip)", "≤", 0.6),
    Goal("replay", "output rebuilt from the ledger alone, against the flatten speed", "≥", 0.5),
    Goal("fold", "canonical form and folding of e-mails, against `email_validator` behind a Python dict", "≥", 3),
    Goal("fold_dict", "the same, against `canonical` behind a Python dict"),
    Goal("start_up", "importing `eb_dagster.Enricher`, against importing dagster and pandas", "≤", 1),
    Goal("help", "`eb-dagster --help` beyond the interpreter", "≤", 0.5, "s"),
    *(
        goal
        for name, rate in (("SQLite", 10_000), ("PostgreSQL", 5_000))
        for goal in (
            Goal(f"{name.lower()}_rate", f"ledger on {name}, from intent to applied, on a disk", "≥", rate, "rows/s"),
            Goal(f"{name.lower()}_p99", "the same: p99 of intent and reply, for 1000 records", "≤", 100, "ms"),
            Goal(f"{name.lower()}_bytes", "the same: size of the ledger, raw replies included", "≤", 400, "bytes/record"),
        )
    ),
    *(
        goal
        for name, form, wrong in (("keys", "keys alone", 0.1), ("person", "with `person=`", 0.02))
        for goal in (
            Goal(f"year_{name}_wrong", f"a year, {form}: rows with another person's contact, of those that offer something of their person's own", "≤", wrong, "%"),
            Goal(f"year_{name}_right", "the same: rows with the right person, against keys alone on 2026-11-29", "≥", 1.01),
            Goal(f"year_{name}_credits", "the same: credits for each person bought, refreshes apart, against the same", "≤", 0.985),
            Goal(f"year_{name}_aliases", "the same: rows that an alias answered with another person", "≤", 5, "rows"),
        )
    ),
    Goal("record", "recording a reply at 10 M known identifiers, against an empty ledger", "≤", 1.5, form="long"),
    Goal("known_seconds", "which of 1 M identifiers are known, among 10 M", "≤", 2, "s", "long"),
    Goal("known_memory", "the same: memory on top", "≤", 150, "MB", "long"),
    Goal("small_run", "a run of 100 leads with a ledger of 10 M", "≤", 1.5, "s", "long"),
    Goal("scale_few", "which of 10 identifiers are known, among 50 M, against among 1 M: CPU", "≤", 1.5, form="long"),
    Goal("scale_many", "which of 1 M identifiers are known, among 50 M: CPU", "≤", 4, "s", "long"),
    Goal("scale_record", "recording a reply at 50 M known identifiers, against at 1 M: CPU", "≤", 1.3, form="long"),
    Goal("memory_growth", "peak memory at 1 M rows, against 250 k", "≤", 1.1, form="long"),
    Goal("memory", "peak memory at 10 M rows, default settings", "≤", 350, "MB", "long"),
    *(
        goal
        for size, name in (("1m", "1 M"), ("10m", "10 M"))
        for goal in (
            Goal(f"memory_{size}", f"{name} rows: peak memory", unit="MB", form="long"),
            Goal(f"cpu_{size}", f"{name} rows: CPU", unit="µs/row", form="long"),
            Goal(f"wall_{size}", f"{name} rows: wall, unpaced", unit="µs/row", form="long"),
            Goal(f"ledger_{size}", f"{name} rows: ledger", unit="bytes/row", form="long"),
            Goal(f"table_{size}", f"{name} rows: Parquet table", unit="bytes/row", form="long"),
        )
    ),
    *(
        Goal(f"pace_{latency}", f"198 requests a minute at {latency} s latency: share of that rate", "≥", 0.99, "", "long")
        for latency in (0.5, 2, 5, 10)
    ),
    Goal("refusals", "refusals by a moving window of 200 a minute, in these", "≤", 0, "", "long"),
    Goal("fast_rate", "2,000 requests a minute at 1 s latency: share of that rate", "≥", 0.99, "", "long"),
    Goal("fast_cores", "the same: cores", "≤", 1, "", "long"),
)  # fmt: skip


def table(figures: Mapping[str, float], *, form: str) -> str:
    """The Markdown table; a goal without a figure was not measured."""
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {form} form, {machine()}",
        "",
        "| goal | pass | figure | |",
        "|---|---|---|---|",
    ]
    for goal in GOALS:
        figure = figures.get(goal.name)
        mark = "" if goal.mark is None else f"{goal.bound} {number(goal.mark, goal.unit)}"
        shown = "–" if figure is None else number(figure, goal.unit)
        verdict = "" if figure is None else {True: "✓", False: "✗", None: ""}[goal.passes(figure)]
        lines.append(f"| {goal.what} | {mark} | {shown} | {verdict} |")
    return "\n".join(lines)


def number(figure: float, unit: str) -> str:
    digits = 0 if abs(figure) >= 100 else 2
    return f"{figure:,.{digits}f} {unit}".strip()


def machine() -> str:
    """Cores and memory, for the line above the table."""
    import os

    memory = Path("/proc/meminfo")
    size = f", {int(memory.read_text().split()[1]) / 2**20:.0f} GB" if memory.exists() else ""
    return f"{os.cpu_count()} cores{size}, Python {platform.python_version()}"
