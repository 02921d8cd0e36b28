"""Ask whether every promise held, one after the other."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .cases import Figures, Phase, Verdict, slack
from .places import CANARIES, Heard, holds_key, names_below
from .server.people import Pair, name_of
from .table import Fault

SETTLED = ("matched", "not_found", "in_doubt", "unreadable", "invalid", "suppressed")
KEPT = ("matched", "in_doubt", "unreadable")
"""Statuses of which one is expected of an identifier that was charged."""
MAX_MEMORY = (192 + 100) << 20
"""In bytes: the cap on a decoded reply, and 100 MiB on top."""


@dataclass
class Case:
    """A fault on a database: its runs, and what was found wrong with them."""

    fault: Fault
    frame: pd.DataFrame
    """The input."""
    phases: list[Phase]
    settings: dict[str, Any]
    figures: Figures = field(default_factory=Figures)
    complaints: list[str] = field(default_factory=list[str])

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    @property
    def first(self) -> Phase:
        """The run in which the fault happened."""
        return self.phases[0]

    def statuses(self) -> dict[Pair, str]:
        """How each identifier stands in the end, by the second run (or the only one)."""
        return self.phases[min(1, len(self.phases) - 1)].statuses()


def judge(case: Case, *, heard: Heard, folder: Path, stray: int) -> Verdict:
    """Check every promise. `stray` is how many connections came to another host."""
    figures = case.figures
    figures.cases = 1
    figures.variants = {case.fault.name}
    for check in (_charges, _answers, _doubt, _rerun, _rows, _expectation, _end, _requests):
        check(case)
    leaks = heard.leaks()
    if CANARIES.search(names_below(folder)):
        leaks.append("in a file name")
    if holds_key(folder):
        leaks.append("the key in a file")
    figures.leaks = len(leaks)
    if leaks:
        case.complain(f"the key or a person was said: {leaks[:3]}")
    if stray:
        case.complain(f"another host saw {stray} connections")
    figures.broken = bool(case.complaints)
    return Verdict(case.fault.name, case.complaints, figures)


def _charges(case: Case) -> None:
    """Nobody was charged twice."""
    total = Counter[Pair]()
    for phase in case.phases:
        for (kind, value), count in phase.charged().items():
            # In any spelling it is the same person for whoever pays.
            total[kind, unicodedata.normalize("NFC", value).strip().lower()] += count
    case.figures.charged = total.total()
    twice = sum(count - 1 for count in total.values())
    expected = case.fault.outside
    if expected:
        case.figures.outside = twice
        if not 0 < twice <= expected:
            case.complain(f"{twice} charged twice, 1 to {expected} were foreseen")
        return
    case.figures.charged_twice = twice
    if twice:
        case.complain(f"{twice} identifiers were charged twice")


def _answers(case: Case) -> None:
    """Whoever was charged has an answer or stands in doubt, is not asked again, and is in the report."""
    if case.fault.outside or len(case.phases) == 1 or case.phases[1].frame is None:
        return
    figures = case.figures
    statuses = case.statuses()
    charged = case.first.charged()
    figures.lost = sum(statuses.get(pair) not in KEPT for pair in charged)
    figures.forgotten = len(set(charged) & case.phases[1].asked())
    if figures.lost:
        case.complain(f"{figures.lost} charged identifiers have no answer and no doubt")
    if figures.forgotten:
        case.complain(f"{figures.forgotten} charged identifiers were asked again")
    held = {pair for pair, status in statuses.items() if status in ("in_doubt", "unreadable")}
    expected = sum(count for pair, count in charged.items() if pair not in held)
    told = case.first.report.get("credits_charged", 0)
    if told != expected:
        case.complain(f"the report says {told} credits, the vendor {expected} beside the doubt")


def _doubt(case: Case) -> None:
    """No more is in doubt than was allowed."""
    figures = case.figures
    charged = case.first.charged()
    doubtful = {pair for pair, status in case.statuses().items() if status == "in_doubt"}
    figures.in_doubt = len(doubtful)
    figures.in_doubt_free = len(doubtful - set(charged))
    bound = min(case.fault.doubt, case.settings["max_credits_at_risk"])
    told = case.first.report.get("credits_in_doubt", 0)
    held = max(len(doubtful), told)
    if bound:
        figures.largest_doubt = held / bound
    if held > bound:
        case.complain(f"{len(doubtful)} in doubt (the report: {told}), {bound} at most were expected")


def _rerun(case: Case) -> None:
    """A second run settles the rest, and a third one has nothing left to ask."""
    if len(case.phases) < 3:
        return
    first, second, third = case.phases
    if second.ended:
        case.complain(f"the clean run ended with {second.ended}")
        return
    ended = {pair for pair, status in first.statuses().items() if status in SETTLED}
    if again := ended & second.asked():
        case.complain(f"{len(again)} that were settled were asked again")
    case.figures.rerun_requests = third.requests()
    if third.requests():
        case.complain(f"a third run sent {third.requests()} requests")
    unsettled = [status for status in second.statuses().values() if status not in SETTLED]
    if unsettled:
        case.complain(f"after a clean run {len(unsettled)} are {sorted(set(unsettled))}")


def _rows(case: Case) -> None:
    """The rows are the input's, and each holds its own person."""
    for phase in case.phases:
        if phase.frame is None:
            continue
        if not phase.frame[list(case.frame.columns)].equals(case.frame):
            case.complain("the rows are not the input's rows")
            continue
        wrong = _count_wrong_rows(phase.frame) if case.fault.own else 0
        case.figures.wrong_rows += wrong
        if wrong:
            case.complain(f"{wrong} rows hold another person")


def _count_wrong_rows(enriched: pd.DataFrame) -> int:
    matched = enriched[enriched["eb_matched"].fillna(False).astype(bool)]
    columns = (matched[name] for name in ("eb_field_type", "eb_query", "eb_full_name"))
    return sum(
        not (pd.isna(name) or name == name_of(kind, value))
        for kind, value, name in zip(*columns, strict=True)
    )


def _expectation(case: Case) -> None:
    """What was asked in the faulty requests stands as the table of faults says."""
    expected = case.fault.then
    statuses = case.statuses()
    charged = case.first.charged()
    # With several identifiers a row, a miss is not shown: its row shows the one that was asked next.
    absent = "not_found" if case.fault.leads == "wide" else "nothing"
    asked = case.first.asked(case.first.faulty())
    seen = Counter(statuses.get(pair, "nothing" if pair in charged else absent) for pair in asked)
    if expected in ("saved", "settled"):
        case.figures.saved = seen["matched"] + seen["not_found"]
    if not _is_as_expected(expected, seen, set(statuses.values()), case.first.requests()):
        case.complain(f"expected {expected}, saw {dict(seen)}, of all {dict(Counter(statuses.values()))}")


def _is_as_expected(expected: str, seen: Counter[str], all_statuses: set[str], requests: int) -> bool:
    """`seen` counts the statuses of what was asked in the faulty requests."""
    kinds = set(seen)
    answered = {"matched", "not_found"}
    unanswered = {"in_doubt", "unreadable"}
    match expected:
        case "free":
            return not unanswered & all_statuses
        case "in_doubt" | "unreadable":
            return kinds == {expected}
        case "matched":
            return bool(kinds) and kinds <= answered
        case "saved":
            return bool(seen["matched"]) and kinds <= answered | unanswered
        case "kept":
            return bool(kinds) and kinds <= unanswered
        case "settled":
            return kinds <= answered | unanswered
        case "nothing sent":
            return requests == 0
        case _:
            raise ValueError(expected)


def _end(case: Case) -> None:
    """The run ended as it may, in time, within its memory, and with the right report."""
    fault, first = case.fault, case.first
    if first.ended not in fault.ends:
        case.complain(f"ended with {first.ended or 'a frame'}, expected {fault.ends}")
    case.figures.memory = first.memory
    if first.memory > MAX_MEMORY:
        case.complain(f"took {first.memory >> 20} MiB, {MAX_MEMORY >> 20} were allowed")
    for name, value in fault.report.items():
        if first.report.get(name) != value:
            case.complain(f"the report says {name}={first.report.get(name)}, expected {value}")
    if fault.within:
        case.figures.overshoot = max(0.0, first.seconds - fault.within)
        if case.figures.overshoot > 1.0 + slack():
            case.complain(f"took {first.seconds:.1f} s, {fault.within:.1f} s were allowed")


def _requests(case: Case) -> None:
    """Requests hold nothing that was not asked for, and stop where they have to."""
    for phase in case.phases:
        arrived = [event for event in phase.events if event["what"] == "arrived"]
        names = {name for event in arrived for name in event["extra"]}
        if odd := {"authorization", "cookie", "proxy-authorization"} & names:
            case.complain(f"headers were sent that were never asked for: {sorted(odd)}")
        sizes = [len(event["values"]) for event in phase.events if event["what"] == "asked"]
        if max(sizes, default=0) > 1000:
            case.complain(f"{max(sizes)} identifiers in one request")
    if case.fault.stops:
        # Two may be in flight: one beside the faulty request, and one that was just let go.
        last = min(case.first.faulty(), default=0) + 2
        arrived = [event for event in case.first.events if event["what"] == "arrived"]
        if later := sum(event["request"] > last for event in arrived):
            case.complain(f"{later} requests were sent after the one that should have been the last")
