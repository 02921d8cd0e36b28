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
    bound: Literal["≥", "≤"] = "≤"
    mark: float | None = None
    aim: float | None = None
    unit: str = "×"
    form: Literal["short", "long"] = "short"

    def passes(self, figure: float) -> bool | None:
        if self.mark is None:
            return None
        return figure >= self.mark if self.bound == "≥" else figure <= self.mark


GOALS: Final = (
    Goal("first_cpu", "first purchase, against the Polars script: CPU", "≤", 0.85, 0.6),
    Goal("first_memory", "first purchase, against the Polars script: memory", "≤", 0.2, 0.15),
    Goal("first_orjson", "first purchase, against the orjson script: CPU"),
    Goal("first_row", "first purchase: CPU", unit="µs/row"),
    Goal("known_cpu", "everything known, against a Polars join: CPU", "≤", 1.7, 1.3),
    Goal("known_memory", "everything known, against the Polars join: memory", "≤", 0.25, 0.2),
    Goal("known_duckdb", "everything known, against a DuckDB join: CPU"),
    Goal("known_first_time", "everything known, for the first time, against a Polars join: CPU"),
    Goal("known_row", "everything known: CPU", unit="µs/row"),
    Goal("duplicates_cpu", "80 % duplicates, against the orjson script: CPU", "≤", 1, 0.7),
    Goal("vendor_wall", "first purchase, TLS and gzip, against the vendor's sample with pandas: wall", "≥", 8, 12),
    Goal("vendor_cpu", "first purchase, TLS and gzip, against the vendor's sample with pandas: CPU", "≥"),
    Goal("floors", "CPU of a whole run, against the sum of its floors", "≤", 2.0, 1.7),
    Goal("fast_rate", "2,000 requests a minute: share of that rate", "≥", 0.99, unit=""),
    Goal("fast_cores", "2,000 requests a minute: cores", "≤", 0.95, 0.7, ""),
    Goal("few_sqlite", "10 new leads in a new process, ledger of 10 M, SQLite: CPU", "≤", 0.6, 0.4, "s", "long"),
    Goal("few_postgresql", "10 new leads in a new process, ledger of 10 M, PostgreSQL: CPU", "≤", 0.6, 0.4, "s", "long"),
    Goal("scale_few", "10 new leads, ledger of 50 M, against 1 M: CPU without imports", "≤", 1.5, 1.1, form="long"),
    Goal("scale_many", "which of 1 M keys are known, among 50 M: CPU", "≤", 4, 3, "s", "long"),
    Goal("scale_record", "recording a reply in a ledger of 50 M, against an empty one: CPU", "≤", 1.3, 1.1, form="long"),
    Goal("plan", "plan of 1 M rows: CPU", "≤", 3, 2, "s", "long"),
    Goal("import", "`import eb_dagster`: CPU", "≤", 0.15, 0.1, "s"),
    Goal("ten_rows", "ten rows in a new process: CPU", "≤", 0.5, 0.35, "s"),
    Goal("help", "`eb-dagster --help`: CPU", unit="s"),
    Goal("memory_1m", "1 M rows, first purchase by the command: peak memory", "≤", 260, 220, "MB", "long"),
    Goal("memory_10m", "10 M rows, first purchase by the command: peak memory", "≤", 300, 250, "MB", "long"),
    Goal("memory_growth", "10 M rows, against 1 M: peak memory", "≤", 1.05, 1.02, form="long"),
    Goal("asset_memory", "1 M rows of a query, first purchase by the asset: peak memory", unit="MB", form="long"),
    Goal("asset_growth", "1 M rows of a query by the asset, against 250,000: peak memory", "≤", 1.15, 1.05, form="long"),
    *(
        goal
        for size, name in (("1m", "1 M"), ("10m", "10 M"))
        for goal in (
            Goal(f"cpu_{size}", f"{name} rows: CPU", unit="µs/row", form="long"),
            Goal(f"ledger_{size}", f"{name} rows: ledger", unit="bytes/row", form="long"),
            Goal(f"table_{size}", f"{name} rows: Parquet table", unit="bytes/row", form="long"),
        )
    ),
    Goal("csv", "writing CSV: CPU", "≤", 12, 8, "µs/row"),
    Goal("flatten_typed", "flatten, against msgspec's typed decode of the same bytes", "≤", 2.0, 1.5),
    Goal("flatten_odd", "replies with one odd record each, against clean ones: speed", "≥", 0.75, 0.9),
    *(
        goal
        for name in ("SQLite", "PostgreSQL")
        for goal in (
            Goal(f"{name.lower()}_rate", f"ledger on {name}, from intent to applied, on a disk", unit="rows/s"),
            Goal(f"{name.lower()}_p99", f"ledger on {name}: p99 of intent and reply, for 1000 records", unit="ms"),
            Goal(f"{name.lower()}_bytes", f"ledger on {name}: size, raw replies included", unit="bytes/record"),
        )
    ),
    *(
        goal
        for name, form, wrong in (("keys", "keys alone", 0.1), ("person", "with `person=`", 0.02))
        for goal in (
            Goal(f"year_{name}_wrong", f"a year, {form}: rows with another person's contact", "≤", wrong, unit="%"),
            Goal(f"year_{name}_right", f"a year, {form}: rows with the right person, against 2026-11-29", "≥", 1.01),
            Goal(f"year_{name}_credits", f"a year, {form}: credits for each person bought, against 2026-11-29", "≤", 0.985),
            Goal(f"year_{name}_aliases", f"a year, {form}: rows that an alias answered with another person", "≤", 5, unit="rows"),
        )
    ),
    *(
        Goal(f"pace_{latency}", f"198 requests a minute at {latency} s latency: share of that rate", "≥", 0.99, unit="", form="long")
        for latency in (0.5, 2, 5, 10)
    ),
    Goal("refusals", "refusals by a moving window of 200 a minute, in these", "≤", 0, unit="", form="long"),
)  # fmt: skip


def table(figures: Mapping[str, float], *, form: str) -> str:
    """The Markdown table, and below it the goals that are missed; one without a figure was not measured."""
    missed: list[str] = []
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {form} form, {machine()}",
        "",
        "| goal | pass | aim | figure | |",
        "|---|---|---|---|---|",
    ]
    for goal in GOALS:
        figure = figures.get(goal.name)
        shown = "–" if figure is None else number(figure, goal.unit)
        passes = None if figure is None else goal.passes(figure)
        verdict = {True: "✓", False: "✗", None: ""}[passes]
        limits = f"{_limit(goal, goal.mark)} | {_limit(goal, goal.aim)}"
        lines.append(f"| {goal.what} | {limits} | {shown} | {verdict} |")
        if passes is False:
            missed.append(f"- {goal.what}: {shown}, not {_limit(goal, goal.mark)}")
    return "\n".join([*lines, "", f"Missed: {len(missed) or 'none'}", *missed])


def _limit(goal: Goal, figure: float | None) -> str:
    return "" if figure is None else f"{goal.bound} {number(figure, goal.unit)}"


def number(figure: float, unit: str) -> str:
    digits = 0 if abs(figure) >= 100 else 2
    return f"{figure:,.{digits}f} {unit}".strip()


def machine() -> str:
    """Cores and memory, for the line above the table."""
    import os

    memory = Path("/proc/meminfo")
    size = f", {int(memory.read_text().split()[1]) / 2**20:.0f} GB" if memory.exists() else ""
    return f"{os.cpu_count()} cores{size}, Python {platform.python_version()}"
