"""The long form of the campaign over sockets and processes, as rows of one table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.databases import PostgreSQL

from . import naive, pace, workers
from .campaign import run_cases
from .cases import Figures, Place, Verdict
from .certificates import make_certificates
from .command import Rows
from .places import VendorProcess
from .progress import told
from .scenes import ON_BOTH, ON_POSTGRESQL, ON_SQLITE, UNDER_DAGSTER
from .table import FAULTS, Fault

AT_ONCE = 3
"""How many cases run side by side. Most of them wait most of the time."""


@contextmanager
def both_places() -> Iterator[tuple[Place, Place]]:
    """The same vendor, with SQLite and with PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="faults") as name:
        folder = Path(name)
        vendor = VendorProcess(folder / "vendor")
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
    """Whether the naive client can be put through it: it follows no rule of ours about addresses and sizes."""
    return not (
        fault.heavy
        or fault.alone
        or fault.absurd
        or fault.outside
        or fault.door
        or fault.leads in ("long", "wide")
    )


def fault_figures(long: bool = True) -> Rows:
    """Every fault of the table on both databases, and the naive client beside it."""
    with both_places() as (sqlite, postgresql):
        return _fault_figures(sqlite, postgresql, [fault for fault in FAULTS if long or fault.basic])


def _fault_figures(sqlite: Place, postgresql: Place, chosen: list[Fault]) -> Rows:
    started = time.monotonic()
    cases = [
        (fault, place)
        for fault in chosen
        for place in (sqlite, postgresql)
        if not fault.absurd or place is sqlite
    ]
    ours, names, faults = Figures(), set[str](), list[str]()
    running = zip(cases, run_cases(cases, at_once=AT_ONCE), strict=True)
    for (fault, place), future in told(running, what="faults", of=len(cases)):
        verdict = future.result()
        ours.add(verdict.figures)
        names.add(fault.name)
        faults += [f"{fault.name}, {place.database}: {complaint}" for complaint in verdict.complaints]
    theirs = Figures()
    control = [(fault, sqlite) for fault in chosen if can_be_naive(fault)]
    futures = run_cases(control, at_once=AT_ONCE, client=naive.enrich)
    for future in told(futures, what="faults, the naive client", of=len(control)):
        theirs.add(future.result().figures)
    return [
        ("faults: variants × databases", f"{len(names)} × 2"),
        *_rows("faults", ours),
        (
            "faults: charged twice because a 403 charged in secret, which we assume it does not",
            f"{ours.outside:,}",
        ),
        ("faults: the naive client", f"{theirs.broken} of {len(control)} variants broke a promise"),
        ("faults: the naive client, charged twice", f"{theirs.charged_twice:,} of {theirs.charged:,}"),
        ("faults: the naive client, charged and lost", f"{theirs.lost:,}"),
        ("faults: the naive client, wrong rows", f"{theirs.wrong_rows:,}"),
        ("faults: the naive client, key or person said", f"{theirs.leaks:,} times"),
        ("faults: seconds", f"{time.monotonic() - started:.0f}"),
        *[("faults: FAULT", text) for text in faults],
    ]


def together_figures(long: bool = True) -> Rows:
    """Several processes, signals, failing databases and clocks."""
    started = time.monotonic()
    with both_places() as (sqlite, postgresql):
        both = [*ON_BOTH, *UNDER_DAGSTER]
        scenes = [(name, sqlite) for name in [*both, *ON_SQLITE]]
        scenes += [(name, postgresql) for name in [*both, *ON_POSTGRESQL]]
        if not long:
            scenes = [(name, place) for name, place in scenes if name.startswith(("98", "71"))]
        # Scenes that take a minute come first, so that nothing waits for them in the end.
        scenes.sort(key=lambda scene: not scene[0].startswith(("76", "83", "95")))
        # A scene has up to five processes of its own.
        with ProcessPoolExecutor(2, mp_context=workers.CONTEXT) as pool:
            running = [pool.submit(_play, name, place) for name, place in scenes]
            done = told(running, what="scenes", of=len(scenes))
            verdicts: list[Verdict] = [future.result() for future in done]
    ours = Figures()
    for verdict in verdicts:
        ours.add(verdict.figures)
    return [
        ("together: scenes", f"{len(verdicts)}"),
        *_rows("together", ours),
        ("together: seconds", f"{time.monotonic() - started:.0f}"),
        *[
            ("together: FAULT", f"{verdict.name}: {complaint}")
            for verdict in verdicts
            for complaint in verdict.complaints
        ],
    ]


def _play(name: str, place: Place) -> Verdict:
    return {**ON_BOTH, **ON_SQLITE, **ON_POSTGRESQL, **UNDER_DAGSTER}[name](place)


def pace_figures(long: bool = True) -> Rows:
    """Six minutes at 198 a minute from four processes, against each window and on both databases."""
    minutes = 6.0 if long else 0.2
    with both_places() as places, ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda place: pace.figures(place, minutes=minutes), places)
        return [row for rows in done for row in rows]


def _rows(part: str, figures: Figures) -> Rows:
    free = figures.in_doubt_free / figures.in_doubt if figures.in_doubt else 0.0
    rows = [
        ("runs of three", f"{figures.cases:,}"),
        ("charged", f"{figures.charged:,}"),
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
