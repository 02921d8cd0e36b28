"""Put one client through one fault, then ask whether every promise held.

A case is a fault on a database: a run in which the fault happens, a second run against a healthy
server, and a third one, which should find nothing left to do. The vendor's journal says what was
asked and charged; the frames and reports say what the client made of it.
"""

from __future__ import annotations

import os
import threading
import time
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tests.databases import PostgreSQL

from . import workers
from .places import CANARIES, Heard, VendorProcess, holds_key, listening, names_below
from .server.people import KEY, Pair, name_of
from .table import LEADS, Fault

SETTLED = ("matched", "not_found", "in_doubt", "unreadable", "invalid", "suppressed")
MOST_MEMORY = (192 + 100) << 20
"""Bytes: the cap on a decoded reply, and what faults.md allows on top."""
SLACK = 2.0
"""Seconds that a busy machine may add to what is promised within one."""


@dataclass
class Phase:
    """One run of the client, seen from outside."""

    frame: pd.DataFrame | None
    ended: str
    """Name and status of the error that ended it; "" for a frame."""
    report: dict[str, Any]
    seconds: float
    memory: int = 0
    """Bytes at the peak beyond those before, for a run in a process of its own."""
    events: list[dict[str, Any]] = field(default_factory=list)

    def requests(self) -> int:
        return sum(event["what"] == "arrived" for event in self.events)

    def asked(self, requests: set[int] | None = None) -> set[Pair]:
        """Whose whole request came in, of all requests or of some."""
        return {
            (kind, value)
            for event in self.events
            if event["what"] == "asked" and (requests is None or event["request"] in requests)
            for kind, value in event["values"]
        }

    def charged(self) -> Counter[Pair]:
        return Counter(
            (kind, value)
            for event in self.events
            if event["what"] == "charged"
            for kind, value in event["values"]
        )

    def faulty(self) -> set[int]:
        """The numbers of the requests at which something went wrong."""
        return {event["request"] for event in self.events if event["what"] == "fault"}

    def statuses(self) -> dict[Pair, str]:
        if self.frame is None:
            return {}
        frame = self.frame.dropna(subset=["eb_query"])
        pairs = zip(frame["eb_field_type"], frame["eb_query"], strict=True)
        return dict(zip(pairs, frame["eb_status"], strict=True))


@dataclass
class Figures:
    """What a campaign counts, over one case or many."""

    cases: int = 0
    variants: set[str] = field(default_factory=set)
    charged: int = 0
    charged_twice: int = 0
    outside: int = 0
    """Charged twice by a vendor that does what docs/assumptions.md assumes it does not."""
    lost: int = 0
    forgotten: int = 0
    wrong_rows: int = 0
    leaks: int = 0
    in_doubt: int = 0
    in_doubt_free: int = 0
    largest_doubt: float = 0.0
    """As a share of its bound."""
    saved: int = 0
    rerun_requests: int = 0
    overshoot: float = 0.0
    memory: int = 0
    broken: int = 0

    def add(self, other: Figures) -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if name in ("overshoot", "largest_doubt", "memory"):
                setattr(self, name, max(mine, value))
            elif isinstance(value, set):
                mine |= value
            else:
                setattr(self, name, mine + value)


@dataclass
class Verdict:
    """What was wrong, in words, and the figures of the case."""

    name: str
    complaints: list[str]
    figures: Figures


@dataclass
class Place:
    """Where cases are run: one vendor, one kind of ledger."""

    vendor: VendorProcess
    postgresql: PostgreSQL | None
    folder: Path
    certificates: dict[str, Path]

    @property
    def database(self) -> str:
        return "PostgreSQL" if self.postgresql else "SQLite"

    def new_case(self, label: str) -> tuple[str, Path, str]:
        """A name, a folder and a ledger that nobody has used."""
        name = f"{self.database.lower()}{label}{uuid.uuid4().hex[:12]}"
        folder = self.folder / name
        folder.mkdir(parents=True, mode=0o700)
        ledger = self.postgresql.database(name) if self.postgresql else str(folder / "ledger.db")
        return name, folder, ledger


def enrich(frame: pd.DataFrame, settings: dict[str, Any], heard: Heard) -> Phase:
    """One run of ours."""
    from eb_dagster import Enricher

    started = time.monotonic()
    report: dict[str, Any] = {}
    enriched, ended = None, ""
    try:
        with Enricher(**settings) as enricher:
            try:
                enriched = enricher.enrich_dataframe(frame)
            finally:
                report = enricher.report.to_dict()
    # Whatever it is: the judge knows which names may end a run.
    except Exception as error:
        ended = f"{type(error).__name__} {getattr(error, 'status', '')}".strip()
        heard.hear_error(error)
    return Phase(enriched, ended, report, time.monotonic() - started)


def run_cases(
    cases: list[tuple[Fault, Place]], *, at_once: int, client: Callable[..., Phase] = enrich
) -> list[Future[Verdict]]:
    """Run cases in several processes; those whose memory is watched have one each."""
    many = ProcessPoolExecutor(at_once, mp_context=workers.CONTEXT)
    alone = ThreadPoolExecutor(1)
    futures = [
        alone.submit(workers.call, run_case, *case, client)
        if case[0].heavy
        else many.submit(run_case, *case, client)
        for case in cases
    ]
    many.shutdown(wait=False)
    alone.shutdown(wait=False)
    return futures


def run_case(fault: Fault, place: Place, client: Callable[..., Phase] = enrich) -> Verdict:
    """Run one fault on one database and judge it."""
    case, folder, ledger = place.new_case(str(fault.number))
    vendor = place.vendor
    with ExitStack() as stack:
        url, mend = stack.enter_context(_address(fault, place, case))
        settings: dict[str, Any] = {
            "api_key": KEY, "base_url": url, "ledger": ledger, "partition_size": 40,
            "max_credits_at_risk": 80, "requests_per_minute": 12_000, "timeout": 5.0,
            "progress": False, **fault.settings,
        }  # fmt: skip
        frame = LEADS[fault.leads]()
        heard = stack.enter_context(listening())
        phases: list[Phase] = []
        elsewhere = len(vendor.events("elsewhere"))
        for number in range(3):
            mark = vendor.mark(case)
            if number == 0:
                vendor.script(case, latency=(0.0, 0.02), **fault.script(vendor.elsewhere))
            else:
                vendor.script(case)
                settings = {**settings, **fault.later}
            with _environment(fault.environment if number == 0 else {}, vendor):
                before = workers.memory_peak()
                phase = client(frame, settings, heard)
                phase.memory = workers.memory_peak() - before if fault.heavy else 0
            if number == 0:
                time.sleep(fault.pause)
                if fault.door.get("healed") == "later":
                    mend()
            phase.events = vendor.events(case, since=mark)
            phases.append(phase)
            if fault.alone:
                break
        stray = len(vendor.events("elsewhere")) - elsewhere
    return judge(fault, frame, phases, settings=settings, heard=heard, folder=folder, stray=stray)


@contextmanager
def _address(fault: Fault, place: Place, case: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of the case, and how to mend it, behind a door of its own if the fault is in the door."""
    vendor = place.vendor
    if fault.address:
        yield fault.address.replace("{case}", case).replace("{port}", str(vendor.port)), lambda: None
        return
    if not fault.door:
        yield vendor.url(case), lambda: None
        return
    certificate = fault.door.get("certificate", "")
    facts = {**fault.door, "certificate": str(place.certificates[certificate]) if certificate else ""}
    healed, closed = facts.pop("healed", None), facts.get("manner") == "closed"
    port = vendor.open(name=f"{case}door", **facts)
    if closed:
        vendor.shut(port)

    def heal() -> None:
        if not closed:
            vendor.shut(port)
        vendor.open(port=port, name=f"{case}door")

    healer = threading.Timer(healed, heal) if isinstance(healed, float) else None
    if healer is not None:
        healer.start()
    try:
        with _environment({"SSL_CERT_FILE": str(place.certificates["authority"])}, vendor):
            yield vendor.url(case, port=port, scheme="https" if certificate else "http"), heal
    finally:
        if healer is not None:
            healer.join()
        vendor.shut(port)


@contextmanager
def _environment(variables: dict[str, str], vendor: VendorProcess) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        os.environ[name] = value.replace("{elsewhere}", str(vendor.elsewhere)).replace(
            "{folder}", str(vendor.folder)
        )
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# Judging


def judge(
    fault: Fault, frame: pd.DataFrame, phases: list[Phase], *, settings: dict[str, Any], heard: Heard,
    folder: Path, stray: int,
) -> Verdict:  # fmt: skip
    """Every promise, one after the other."""
    figures = Figures(cases=1, variants={fault.name})
    complaints: list[str] = []
    for check in (_money, _doubt, _rerun, _rows, _expectation, _end, _sent):
        check(fault, frame, phases, settings, figures, complaints)
    leaks = heard.leaks()
    if CANARIES.search(names_below(folder)):
        leaks.append("in a file name")
    if holds_key(folder):
        leaks.append("the key in a file")
    figures.leaks = len(leaks)
    if leaks:
        complaints.append(f"the key or a person was said: {leaks[:3]}")
    if stray:
        complaints.append(f"another host saw {stray} connections")
    figures.broken = bool(complaints)
    return Verdict(fault.name, complaints, figures)


def _last(phases: list[Phase]) -> dict[Pair, str]:
    """How each identifier stands in the end, by the second run (or the only one)."""
    return (phases[1] if len(phases) > 1 else phases[0]).statuses()


def _money(
    fault: Fault, _f: Any, phases: list[Phase], _s: Any, figures: Figures, complaints: list[str]
) -> None:
    total = Counter[Pair]()
    for phase in phases:
        for (kind, value), count in phase.charged().items():
            # However it is spelled, it is one person to whoever pays.
            total[kind, unicodedata.normalize("NFC", value).strip().lower()] += count
    figures.charged = total.total()
    twice = sum(count - 1 for count in total.values() if count > 1)
    if fault.outside:
        figures.outside = twice
        if not 0 < twice <= fault.outside:
            complaints.append(f"{twice} charged twice, 1 to {fault.outside} were foreseen")
        return
    figures.charged_twice = twice
    if figures.charged_twice:
        complaints.append(f"{figures.charged_twice} identifiers were charged twice")
    statuses = _last(phases)
    first = phases[0].charged()
    if len(phases) > 1 and phases[1].frame is not None:
        unanswered = [one for one in first if statuses.get(one) not in ("matched", "in_doubt", "unreadable")]
        figures.lost = len(unanswered)
        figures.forgotten = len(set(first) & phases[1].asked())
        if figures.lost:
            complaints.append(f"{figures.lost} charged identifiers have no answer and no doubt")
        if figures.forgotten:
            complaints.append(f"{figures.forgotten} charged identifiers were asked again")
        held = {one for one, status in statuses.items() if status in ("in_doubt", "unreadable")}
        expected = first.total() - sum(count for one, count in first.items() if one in held)
        told = phases[0].report.get("credits_charged", 0)
        if told != expected:
            complaints.append(f"the report says {told} credits, the vendor {expected} beside the doubt")


def _doubt(
    fault: Fault, _f: Any, phases: list[Phase], settings: Any, figures: Figures, complaints: list[str]
) -> None:
    statuses = _last(phases)
    doubtful = {one for one, status in statuses.items() if status == "in_doubt"}
    total = phases[0].charged()
    figures.in_doubt = len(doubtful)
    figures.in_doubt_free = sum(one not in total for one in doubtful)
    bound = min(fault.doubt, settings["max_credits_at_risk"])
    told = phases[0].report.get("credits_in_doubt", 0)
    held = max(len(doubtful), told)
    if bound:
        figures.largest_doubt = held / bound
    if held > bound:
        complaints.append(f"{len(doubtful)} in doubt (the report: {told}), {bound} at most were expected")


def _rerun(
    _fault: Fault, _f: Any, phases: list[Phase], _s: Any, figures: Figures, complaints: list[str]
) -> None:
    if len(phases) < 3:
        return
    first, second, third = phases
    if second.ended:
        complaints.append(f"the clean run ended with {second.ended}")
        return
    settled = {one for one, status in first.statuses().items() if status in SETTLED}
    if again := settled & second.asked():
        complaints.append(f"{len(again)} that were settled were asked again")
    figures.rerun_requests = third.requests()
    if third.requests():
        complaints.append(f"a third run sent {third.requests()} requests")
    still = [status for status in second.statuses().values() if status not in SETTLED]
    if still:
        complaints.append(f"after a clean run {len(still)} are {sorted(set(still))}")


def _rows(
    fault: Fault, frame: pd.DataFrame, phases: list[Phase], _s: Any, figures: Figures, complaints: list[str]
) -> None:
    for phase in phases:
        enriched = phase.frame
        if enriched is None:
            continue
        if not enriched[list(frame.columns)].equals(frame):
            complaints.append("the rows are not the input's rows")
            continue
        matched = enriched[enriched["eb_matched"].fillna(False).astype(bool)]
        wrong = sum(
            not (pd.isna(name) or name == name_of(kind, value))
            for kind, value, name in zip(
                matched["eb_field_type"], matched["eb_query"], matched["eb_full_name"], strict=True
            )
        )
        if not fault.own:
            continue
        figures.wrong_rows += wrong
        if wrong:
            complaints.append(f"{wrong} rows hold another person")


def _expectation(
    fault: Fault, _f: Any, phases: list[Phase], _s: Any, figures: Figures, complaints: list[str]
) -> None:
    faulty = phases[0].asked(phases[0].faulty())
    statuses = _last(phases)
    charged = phases[0].charged()
    # With several identifiers a row, a miss is not shown: its row shows the one that was asked next.
    absent = "not_found" if fault.leads == "wide" else "nothing"
    seen = Counter(statuses.get(one, "nothing" if one in charged else absent) for one in faulty)
    figures.saved = (
        sum(seen[one] for one in ("matched", "not_found")) if fault.then in ("saved", "settled") else 0
    )
    wrong: bool | str = False
    if fault.then == "free":
        wrong = bool({"in_doubt", "unreadable"} & set(statuses.values()))
    elif fault.then in ("in_doubt", "unreadable"):
        wrong = set(seen) != {fault.then}
    elif fault.then == "matched":
        wrong = not set(seen) <= {"matched", "not_found"} or not seen
    elif fault.then == "saved":
        wrong = not seen["matched"] or not set(seen) <= {"matched", "not_found", "in_doubt", "unreadable"}
    elif fault.then == "kept":
        # Nothing to use, nothing to lose.
        wrong = not set(seen) <= {"in_doubt", "unreadable"} or not seen
    elif fault.then == "settled":
        wrong = not set(seen) <= {"matched", "not_found", "in_doubt", "unreadable"}
    elif fault.then == "nothing sent":
        wrong = phases[0].requests() > 0
    if wrong:
        complaints.append(
            f"expected {fault.then}, saw {dict(seen)}, of all {dict(Counter(statuses.values()))}"
        )


def _end(
    fault: Fault, _f: Any, phases: list[Phase], _s: Any, figures: Figures, complaints: list[str]
) -> None:
    first = phases[0]
    if first.ended not in fault.ends:
        complaints.append(f"ended with {first.ended or 'a frame'}, expected {fault.ends}")
    figures.memory = first.memory
    if first.memory > MOST_MEMORY:
        complaints.append(f"took {first.memory >> 20} MiB, {MOST_MEMORY >> 20} were allowed")
    for name, value in fault.report.items():
        if first.report.get(name) != value:
            complaints.append(f"the report says {name}={first.report.get(name)}, expected {value}")
    if fault.within:
        figures.overshoot = max(0.0, first.seconds - fault.within)
        if figures.overshoot > 1.0 + SLACK:
            complaints.append(f"took {first.seconds:.1f} s, {fault.within:.1f} s were allowed")


def _sent(
    fault: Fault, _f: Any, phases: list[Phase], _s: Any, _figures: Figures, complaints: list[str]
) -> None:
    for phase in phases:
        names = {name for one in phase.events if one["what"] == "arrived" for name in one["extra"]}
        if odd := {"authorization", "cookie", "proxy-authorization"} & names:
            complaints.append(f"headers were sent that were never asked for: {sorted(odd)}")
        most = max((len(one["values"]) for one in phase.events if one["what"] == "asked"), default=0)
        if most > 1000:
            complaints.append(f"{most} identifiers in one request")
    if fault.stops:
        # Two may be in flight, so one beside the faulty request and one that was just let go.
        at = min(phases[0].faulty(), default=0)
        arrived = [one for one in phases[0].events if one["what"] == "arrived"]
        if later := sum(one["request"] > at + 2 for one in arrived):
            complaints.append(f"{later} requests were sent after the one that should have been the last")
