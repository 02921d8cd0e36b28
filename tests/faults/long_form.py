"""The long form of the campaign over sockets and processes, as rows of one table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.databases import PostgreSQL

from . import naive, pace
from .campaign import Figures, Place, Verdict, run_cases
from .certificates import make_certificates
from .places import Vendor
from .table import FAULTS, Fault
from .together import ON_BOTH, ON_POSTGRESQL, ON_SQLITE

Rows = list[tuple[str, str]]


@contextmanager
def both_places() -> Iterator[tuple[Place, Place]]:
    """The same vendor, with SQLite and with PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="faults") as name:
        folder = Path(name)
        vendor = Vendor(folder / "vendor")
        postgresql = PostgreSQL(folder / "pg")
        certificates = make_certificates(folder / "certificates")
        try:
            yield (
                Place(vendor, None, folder / "SQLite", certificates),
                Place(vendor, postgresql, folder / "PostgreSQL", certificates),
            )
        finally:
            vendor.stop()
            postgresql.stop()


def can_be_naive(fault: Fault) -> bool:
    """Whether the control can be put through it: it follows no rule of ours about addresses and sizes."""
    return not (
        fault.heavy
        or fault.alone
        or fault.absurd
        or fault.outside
        or fault.door
        or fault.leads in ("long", "wide")
    )


def fault_figures(sqlite: Place, postgresql: Place) -> Rows:
    """Every fault of the table on both databases, and the naive client beside it."""
    started = time.monotonic()
    cases = [
        (fault, place)
        for fault in FAULTS
        for place in (sqlite, postgresql)
        if not fault.absurd or place is sqlite
    ]
    ours, names, faults = Figures(), set[str](), list[str]()
    for (fault, place), future in zip(cases, run_cases(cases, at_once=3), strict=True):
        verdict = future.result()
        ours.add(verdict.figures)
        names.add(fault.name)
        faults += [f"{fault.name}, {place.database}: {one}" for one in verdict.complaints]
    theirs, count = Figures(), 0
    control = [(fault, sqlite) for fault in FAULTS if can_be_naive(fault)]
    for future in run_cases(control, at_once=3, client=naive.enrich):
        theirs.add(future.result().figures)
        count += 1
    return [
        ("faults: variants × databases", f"{len(names)} × 2"),
        *_rows("faults", ours),
        (
            "faults: charged twice because a 403 charged in secret, which we assume it does not",
            f"{ours.outside:,}",
        ),
        ("faults: the naive client", f"{theirs.broken} of {count} variants broke a promise"),
        ("faults: the naive client, charged twice", f"{theirs.charged_twice:,} of {theirs.charged:,}"),
        ("faults: the naive client, lost", f"{theirs.lost:,}"),
        ("faults: the naive client, wrong rows", f"{theirs.wrong_rows:,}"),
        ("faults: the naive client, key or person said", f"{theirs.leaks:,} times"),
        ("faults: seconds", f"{time.monotonic() - started:.0f}"),
        *[("faults: FAULT", one) for one in faults],
    ]


def together_figures(sqlite: Place, postgresql: Place) -> Rows:
    """Several processes, signals, failing databases and clocks."""
    started = time.monotonic()
    plays = [(play, sqlite) for play in {**ON_BOTH, **ON_SQLITE}.values()]
    plays += [(play, postgresql) for play in {**ON_BOTH, **ON_POSTGRESQL}.values()]
    verdicts: list[Verdict] = [play(place) for play, place in plays]
    ours = Figures()
    for verdict in verdicts:
        ours.add(verdict.figures)
    return [
        ("together: scenes", f"{len(verdicts)}"),
        *_rows("together", ours),
        ("together: seconds", f"{time.monotonic() - started:.0f}"),
        *[
            ("together: FAULT", f"{verdict.name}: {one}")
            for verdict in verdicts
            for one in verdict.complaints
        ],
    ]


def pace_figures(sqlite: Place, postgresql: Place) -> Rows:
    """Six minutes at 198 a minute from four processes, against each window."""
    return pace.figures(sqlite) + pace.figures(postgresql, windows=("moving",))


def _rows(part: str, figures: Figures) -> Rows:
    free = figures.in_doubt_free / figures.in_doubt if figures.in_doubt else 0.0
    rows = [
        ("runs of three", f"{figures.cases:,}"),
        ("credits charged by the vendor", f"{figures.charged:,}"),
        ("charged twice", f"{figures.charged_twice:,}"),
        ("charged and lost", f"{figures.lost:,}"),
        ("charged and forgotten", f"{figures.forgotten:,}"),
        ("rows with another person", f"{figures.wrong_rows:,}"),
        ("key or person said", f"{figures.leaks:,} times"),
        ("largest doubt against its bound", f"{figures.largest_doubt:.0%}"),
        ("share of doubt that was not charged", f"{free:.0%} of {figures.in_doubt:,}"),
        ("requests of a re-run", f"{figures.rerun_requests:,}"),
    ]
    if figures.saved:
        rows.append(("rows saved from broken replies", f"{figures.saved:,}"))
    if figures.memory:
        rows.append(("most memory for one reply", f"{figures.memory >> 20} MiB"))
    if figures.overshoot:
        rows.append(
            ("deadlines overshot by at most", f"{figures.overshoot:.1f} s, the rest of the run included")
        )
    return [(f"{part}: {name}", value) for name, value in rows]


def figures(long: bool = True) -> Rows:
    """All rows of this part of the table."""
    with both_places() as places:
        rows = fault_figures(*places) + together_figures(*places)
        return rows + pace_figures(*places) if long else rows
