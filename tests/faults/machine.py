"""A machine that buys at random, against a vendor that does what it likes, and a model that counts.

The ledger, the plan and the purchase are real; only the wire is scripted. Hypothesis chooses the
input, the settings and what becomes of each request, and shrinks what breaks an invariant.

Long form: `python -m tests.faults.machine --long`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import hypothesis
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import eb_dagster
from eb_dagster.api.client import NoReply, Reply
from eb_dagster.identifiers.model import FieldType, Identifier
from eb_dagster.ledger.ledger import Ledger
from tests.faults.progress import told

URL: Final = "http://127.0.0.1:9"
KINDS: Final = ("social_profile", "email", "phone")
PEOPLE: Final = 12
SHARED: Final = "desk@shared.example"

# What becomes of a request, from the best to the worst. Most of them usually go well.
PLAIN: Final = ("answered",) * 6 + ("shuffled", "upper", "extra", "gzip", "wrong count")
LOST: Final = ("502", "500", "408", "reset after", "lost", "torn", "torn gzip", "missing")
GARBLED: Final = ("page", "no echo", "empty")
SLOW: Final = ("429", "reset before")
REFUSED: Final = ("401", "403", "413", "302")
DEADLY: Final = ("dies before", "dies after")


class Death(BaseException):
    """The process ends while it waits for a reply."""


def identifier(person: int, kind: str) -> str:
    return {
        "email": f"lead-{person}@machine.example",
        "social_profile": f"linkedin.com/in/lead-{person}",
        "phone": f"+1202555{100 + person:04d}",
    }[kind]


SPELLINGS: Final[dict[str, tuple[Callable[[str], str], ...]]] = {
    "email": (str, str.upper, lambda text: f" {text} "),
    "social_profile": (
        str,
        lambda text: f"https://www.{text.upper()}/",
        lambda text: f"http://uk.{text}?x=1",
    ),
    "phone": (str, lambda text: f"{text[:2]} ({text[2:5]}) {text[5:8]}-{text[8:]}"),
}


@dataclass
class Tale:
    """What happened over all machines of a session."""

    steps: int = 0
    machines: int = 0
    requests: int = 0
    charges: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    most_doubt: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])
    breaks: list[str] = field(default_factory=list[str])

    def add(self, other: Tale) -> None:
        for name in ("steps", "machines", "requests", "charges"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most_doubt = max(self.most_doubt, other.most_doubt)
        self.ends += other.ends
        self.statuses += other.statuses
        self.breaks += other.breaks


TALE = Tale()


class Vendor:
    """Finds people, charges for each found, and forgets nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: set[int] = set(range(0, PEOPLE, 2)) | {1, 5}
        self.charges: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        # Lost to the client for all it can know, so a second purchase is its choice.
        self.doubtful: set[str] = set()
        self.allowed: Counter[str] = Counter()
        self.history: list[str] = []

    def person_of(self, value: str) -> int | None:
        """Who is found under an identifier."""
        if value == SHARED:
            return 0
        return next((one for one in range(PEOPLE) for kind in KINDS if identifier(one, kind) == value), None)

    def contact(self, person: int) -> dict[str, Any]:
        held: dict[str, Any] = {
            "full_name": f"Person {person}",
            "current_work_email": identifier(person, "email"),
            "emails": [identifier(person, "email"), *([SHARED] if person < 4 else [])],
            "social_profiles": [{"network": "linkedin", "url": identifier(person, "social_profile")}],
            "phone_numbers": [{"E164": identifier(person, "phone")}] if person % 3 else [],
        }
        if person % 4 == 0:
            del held["current_work_email"]
        return held

    def answer(self, value: str, required: Sequence[str]) -> dict[str, Any] | None:
        person = self.person_of(value)
        if person is None or person not in self.known:
            return None
        contact: dict[str, Any] = self.contact(person)
        keys = {
            "email": "emails", "work_email": "current_work_email", "phone": "phone_numbers",
            "social_profile": "social_profiles",
        }  # fmt: skip
        return contact if all(contact.get(keys[name]) for name in required) else None

    def process(self, values: Sequence[str], required: Sequence[str]) -> list[dict[str, Any]]:
        entries = [{"value": one, "enriched_contact": self.answer(one, required)} for one in values]
        for entry in entries:
            if entry["enriched_contact"] is not None:
                self.charges[entry["value"]] += 1
        return entries


class Wire:
    """Takes the client's place: each request meets what the script says."""

    def __init__(
        self, vendor: Vendor, script: Iterable[str], *, is_resending: bool, buys_again: bool
    ) -> None:
        self._vendor = vendor
        self._script = iter(script)
        self._is_resending = is_resending
        self._buys_again = buys_again
        self.sent = 0
        self.values: Counter[str] = Counter()
        self.charged = 0
        self.hold: threading.Event | None = None
        self.held = threading.Event()

    def send(self, form: bytes) -> Reply | NoReply:
        fields = parse_qs(form.decode(), keep_blank_values=True)
        values = [one["value"] for one in json.loads(fields["query_list"][0])]
        required = [one["field_type"] for one in json.loads(fields["required_fields"][0])]
        with self._vendor.lock:
            fate = next(self._script, "answered")
            self.sent += 1
            reply = self._meet(fate, values, required)
        if self.hold is not None:
            self.held.set()
            self.hold.wait(30)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def abort(self) -> None:
        """Nothing is open."""

    def _meet(self, fate: str, values: list[str], required: list[str]) -> Reply | NoReply | BaseException:
        TALE.requests += 1
        TALE.ends[fate] += 1
        if fate in SLOW or fate in REFUSED:
            return (
                NoReply(False, "reset")
                if fate == "reset before"
                else _reply(int(fate), b"<html>", retry="0.1")
            )
        self._vendor.history.append(f"{fate}: {', '.join(values)} requiring {required}")
        for one in values:
            self.values[one] += 1
            self._allow(one)
        before = self._vendor.charges.total()
        is_lost = fate in ("500", "lost", "dies before")
        entries = [] if is_lost else self._vendor.process(values, required)
        self.charged += self._vendor.charges.total() - before
        TALE.charges += self._vendor.charges.total() - before
        if fate in LOST or fate in DEADLY:
            self._vendor.doubtful |= set(values)
        else:
            self._vendor.doubtful -= set(values)
        return self._tell(fate, entries)

    def _allow(self, value: str) -> None:
        if (self._is_resending and value in self._vendor.doubtful) or self._buys_again:
            self._vendor.allowed[value] += 1

    def _tell(self, fate: str, entries: list[dict[str, Any]]) -> Reply | NoReply | BaseException:
        if fate in DEADLY:
            return Death()
        if fate in ("reset after", "lost"):
            return NoReply(True, "reset")
        if fate in ("502", "500", "408"):
            return _reply(int(fate), b"<html>")
        if fate in ("page", "empty"):
            return _reply(200, b"<html>Sign in" if fate == "page" else b"")
        changed = {
            "shuffled": entries[1::2] + entries[::2],
            "upper": [{**one, "value": one["value"].upper()} for one in entries],
            "extra": [
                {"value": "never@asked.example", "enriched_contact": {"full_name": "Nobody"}},
                *entries,
            ],
            "no echo": [{"enriched_contact": one["enriched_contact"]} for one in entries],
            "missing": entries[::2],
        }.get(fate, entries)
        count = (
            len(changed) + 1
            if fate == "wrong count"
            else sum(one["enriched_contact"] is not None for one in changed)
        )
        body = json.dumps({"contacts": changed, "records_enriched": count}).encode()
        encoding = ""
        if "gzip" in fate:
            body, encoding = gzip.compress(body, 1), "gzip"
        if fate.startswith("torn"):
            return _reply(200, body[: len(body) * 2 // 3], encoding=encoding, complete=False)
        return _reply(200, body, encoding=encoding)


def _reply(
    status: int, body: bytes, *, encoding: str = "", complete: bool = True, retry: str | None = None
) -> Reply:
    return Reply(
        status=status, body=body, encoding=encoding, complete=complete, request_left=True, retry_after=retry
    )


# What Hypothesis chooses

_person = st.integers(0, PEOPLE - 1)
_cell = st.one_of(st.none(), st.tuples(_person, st.integers(0, 2)))
_row = st.fixed_dictionaries(dict.fromkeys(KINDS, _cell))
_rows = st.lists(_row, min_size=1, max_size=8)
_fates = st.one_of(
    st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.sampled_from(LOST), st.sampled_from(PLAIN + GARBLED)
)
_script = st.lists(_fates, max_size=6)
_settings = st.fixed_dictionaries(
    {
        "partition_size": st.integers(1, 7),
        "max_credits_at_risk": st.sampled_from([1, 3, 8, 30]),
        "required_fields": st.sampled_from([(), (), ("email",), ("work_email",), ("phone", "email")]),
        "aliases": st.sampled_from([("email", "social_profile"), (), ("email", "social_profile", "phone")]),
        "max_credits": st.sampled_from([None, None, 0, 1, 4, 9]),
        "retry_misses_after": st.sampled_from([None, None, timedelta(microseconds=1)]),
    }
)


def _table(rows: Sequence[dict[str, Any]], *, shared: bool) -> pa.Table:
    columns: dict[str, list[str | None]] = {
        kind: [
            None if row[kind] is None
            else SPELLINGS[kind][row[kind][1] % len(SPELLINGS[kind])](identifier(row[kind][0], kind))
            for row in rows
        ]
        for kind in KINDS
    }  # fmt: skip
    if shared:
        columns["email"][0] = SHARED
    return pa.table({kind: pa.array(values, pa.string()) for kind, values in columns.items()})


Told = list[dict[str, Any]] | BaseException
EXPECTED = (eb_dagster.Refused, eb_dagster.Busy, eb_dagster.OutcomeUnknown, Death)


class Buying(RuleBasedStateMachine):
    """Runs over one ledger; the invariants hold after each."""

    def __init__(self) -> None:
        super().__init__()
        TALE.machines += 1
        # In memory: here the order of things is tried out, elsewhere what survives a power cut.
        memory = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(prefix="eb-machine-", dir=memory if memory.is_dir() else None))
        self._ledger = self._folder / "ledger.db"
        self._vendor = Vendor()
        self._suppressed: set[str] = set()
        self._open: list[eb_dagster.Enricher] = []
        self._at_risk = 0
        self._audit = Ledger(self._ledger, endpoint=f"{URL}/v1/bulk-enrich")

    def _enricher(self, wire: Wire, **settings: Any) -> eb_dagster.Enricher:
        enricher = eb_dagster.Enricher(
            api_key="canary-key", base_url=URL, ledger=self._ledger, progress=False,
            requests_per_minute=6_000_000, **settings,
        )  # fmt: skip
        enricher._client = wire  # pyright: ignore
        return enricher

    def _wire(self, script: Iterable[str], *, in_doubt: str = "hold", buys_again: bool = False) -> Wire:
        return Wire(self._vendor, script, is_resending=in_doubt == "resend", buys_again=buys_again)

    # Steps

    @rule(rows=_rows, script=_script, settings=_settings, shared=st.booleans())
    def buy(
        self, rows: list[dict[str, Any]], script: list[str], settings: dict[str, Any], shared: bool
    ) -> None:
        self._run(_table(rows, shared=shared), self._wire(script), **settings)

    @rule(rows=_rows, fate=st.sampled_from(SLOW + REFUSED), settings=_settings)
    def meet_a_refusal(self, rows: list[dict[str, Any]], fate: str, settings: dict[str, Any]) -> None:
        self._run(_table(rows, shared=False), self._wire([fate]), **settings)

    @rule(rows=_rows, script=_script, settings=_settings)
    def buy_and_ask_again_what_is_in_doubt(
        self, rows: list[dict[str, Any]], script: list[str], settings: dict[str, Any]
    ) -> None:
        wire = self._wire(script, in_doubt="resend")
        self._run(_table(rows, shared=False), wire, in_doubt="resend", **settings)

    @rule(rows=_rows, script=_script, settings=_settings)
    def buy_again_what_is_old(
        self, rows: list[dict[str, Any]], script: list[str], settings: dict[str, Any]
    ) -> None:
        # Everything is older than nothing.
        wire = self._wire(script, buys_again=True)
        self._run(_table(rows, shared=False), wire, max_age=timedelta(microseconds=1), **settings)

    @rule(
        rows=_rows,
        before=st.integers(0, 2),
        fate=st.sampled_from(DEADLY),
        settings=_settings,
        closes=st.booleans(),
    )
    def die_in_the_middle(
        self, rows: list[dict[str, Any]], before: int, fate: str, settings: dict[str, Any], closes: bool
    ) -> None:
        wire = self._wire(["answered"] * before + [fate])
        self._run(_table(rows, shared=False), wire, closes=closes, **settings)

    @rule(mine=_rows, others=_rows, script=_script, settings=_settings)
    def come_back_late(
        self,
        mine: list[dict[str, Any]],
        others: list[dict[str, Any]],
        script: list[str],
        settings: dict[str, Any],
    ) -> None:
        """One process is taken for dead while its reply is under way; another one runs meanwhile."""
        wire = self._wire(script)
        wire.hold = threading.Event()
        settings = {**settings, "max_credits_at_risk": 30}
        enricher = self._enricher(wire, **settings)
        told: list[Told] = []
        thread = threading.Thread(
            target=lambda: told.append(self._told(enricher, _table(mine, shared=False)))
        )
        thread.start()
        while thread.is_alive() and not wire.held.wait(0.005):
            pass
        try:
            let_go(enricher)
            self._run(_table(others, shared=False), self._wire(()), max_credits_at_risk=60)
        finally:
            wire.hold.set()
            thread.join(30)
            enricher.close()
        assert not thread.is_alive()
        self._judge(told[0], wire, settings)

    @rule(mine=_rows, others=_rows, scripts=st.tuples(_script, _script), settings=_settings)
    def run_two_at_once(
        self,
        mine: list[dict[str, Any]],
        others: list[dict[str, Any]],
        scripts: tuple[list[str], list[str]],
        settings: dict[str, Any],
    ) -> None:
        settings = {**settings, "max_credits_at_risk": 30}
        wires = [self._wire(script) for script in scripts]
        enrichers = [self._enricher(wire, **settings) for wire in wires]
        told: list[Any] = [None, None]

        def one(at: int, rows: list[dict[str, Any]]) -> None:
            told[at] = self._told(enrichers[at], _table(rows, shared=False))

        threads = [threading.Thread(target=one, args=pair) for pair in enumerate((mine, others))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        for at, enricher in enumerate(enrichers):
            enricher.close()
            self._judge(told[at], wires[at], settings)

    @rule(person=_person)
    def find_someone_new(self, person: int) -> None:
        self._vendor.known.add(person)

    @rule(person=_person, kind=st.sampled_from(KINDS))
    def suppress(self, person: int, kind: Any) -> None:
        value = identifier(person, kind)
        self._audit.suppress([Identifier(kind, value)])
        self._suppressed.add(value)

    # One run

    def _run(self, table: pa.Table, wire: Wire, *, closes: bool = True, **settings: Any) -> None:
        enricher = self._enricher(wire, **settings)
        told = self._told(enricher, table)
        if closes:
            enricher.close()
        else:
            # As a killed process leaves it: nothing is said to the ledger, the lock is gone.
            let_go(enricher)
            self._open.append(enricher)
        self._judge(told, wire, settings)

    @staticmethod
    def _told(enricher: eb_dagster.Enricher, table: pa.Table) -> Told:
        try:
            enriched = enricher.enrich_batches(table).read_all()
            return enriched.select(["eb_status", "eb_query", "eb_full_name"]).to_pylist()
        except EXPECTED as error:
            return error

    def _judge(self, told: Told, wire: Wire, settings: dict[str, Any]) -> None:
        assert not set(wire.values) & self._suppressed, "asked for somebody who is suppressed"
        cap = settings.get("max_credits")
        assert cap is None or wire.charged <= cap, f"{wire.charged} charged in a run that may spend {cap}"
        at_risk = self._audit.spending().at_risk
        most = settings.get("max_credits_at_risk", 20_000)
        assert at_risk <= max(most, self._at_risk), f"{at_risk} at risk, {most} allowed"
        self._at_risk = at_risk
        TALE.most_doubt = max(TALE.most_doubt, at_risk)
        if isinstance(told, BaseException):
            TALE.statuses[type(told).__name__] += 1
            return
        TALE.statuses.update(row["eb_status"] for row in told)
        for row in told:
            if row["eb_status"] != "matched":
                continue
            person = int(row["eb_full_name"].removeprefix("Person "))
            contact = self._vendor.contact(person)
            holds = [*contact["emails"], *(identifier(person, kind) for kind in KINDS)]
            assert row["eb_query"] in holds, "another person's contact on a row"

    # What always holds

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        TALE.steps += 1
        for value, count in self._vendor.charges.items():
            assert count <= 1 + self._vendor.allowed[value], f"charged {count} times"

    @invariant()
    def nothing_that_was_charged_is_forgotten(self) -> None:
        charged = sorted(self._vendor.charges)
        if not charged:
            return
        # As the next process to open the ledger does.
        self._audit.recover()
        known, _ = self._audit.lookup([self._key(one) for one in charged], required=0)
        kept = ("matched", "in_doubt", "unreadable")
        lost = {
            one: None if (key := self._key(one)) not in known else known[key].standing
            for one in charged
            if (key := self._key(one)) not in known or known[key].standing not in kept
        }
        assert not lost, f"charged and forgotten: {lost} of {self._vendor.history}"

    def _key(self, value: str) -> bytes:
        return self._audit.key(Identifier(_kind(value), value))

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            for enricher in [*self._open, self._audit]:
                enricher.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        """At last everything is asked, and after that nothing is."""
        # Not with the shared address: whose it is changes while its owners are being bought.
        everyone: list[Any] = [dict.fromkeys(KINDS, (person, 0)) for person in range(PEOPLE)]
        self._run(_table(everyone, shared=False), self._wire(()))
        self.nothing_is_charged_twice()
        again = self._wire(())
        self._run(_table(everyone, shared=False), again)
        assert again.sent == 0, (
            f"a further run asked again for {[*again.values]}; before: {self._vendor.history}"
        )


def _kind(value: str) -> FieldType:
    return "phone" if value.startswith("+") else "email" if "@" in value else "social_profile"


def let_go(enricher: eb_dagster.Enricher) -> None:
    """Drop the lock by which others tell that a process lives, as its death would."""
    enricher._ledger._owner.leave()  # pyright: ignore


def run(*, steps: int, seed: int, machine: type[Buying] = Buying, shrinks: bool = False) -> Tale:
    """Drive machines for about that many steps. Raises what breaks; to shrink it takes minutes."""
    global TALE
    TALE = Tale()
    long = 25
    # Any: Hypothesis types the members of this enumeration as its metaclass.
    every_check: Any = list(hypothesis.HealthCheck)
    settings = hypothesis.settings(
        max_examples=max(1, steps // long),
        stateful_step_count=long,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrinks else [])],
        suppress_health_check=every_check,
        print_blob=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_state_machine_as_test(hypothesis.seed(seed)(_fresh(machine)), settings=settings)
    return TALE


def _fresh(machine: type[Buying]) -> type[Buying]:
    # A seed is written on the class that it is for.
    return type(machine.__name__, (machine,), {})


def run_in_parallel(*, steps: int, seed: int) -> Tale:
    """Share the steps among the processors; each has a seed of its own, counted from this one."""
    lanes = os.cpu_count() or 1
    shares = max(lanes, steps // 1_000)
    tale = Tale()
    with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_share, -(-steps // shares), seed + share) for share in range(shares)]
        for one in told(running, what="shares of the state machine", of=shares):
            tale.add(one.result())
    return tale


def _share(steps: int, seed: int) -> Tale:
    try:
        return run(steps=steps, seed=seed)
    except Exception as error:
        # What Hypothesis notes on an error does not travel between processes.
        text = "".join(traceback.format_exception(error))
        return replace(TALE, breaks=[f"machine.run(steps={steps}, seed={seed}): {text}"])


def figures(long: bool = False, *, seed: int | None = None) -> list[tuple[str, str]]:
    """The rows of the campaign's table."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    started = time.monotonic()
    tale = run_in_parallel(steps=24_000 if long else 1_500, seed=seed)
    fates = ", ".join(f"{name} {count:,}" for name, count in tale.ends.most_common())
    rows = [
        ("state machine: seed", str(seed)),
        ("state machine: steps in machines", f"{tale.steps:,} in {tale.machines:,}"),
        ("state machine: requests", f"{tale.requests:,}"),
        ("state machine: fates", fates),
        ("state machine: charged", f"{tale.charges:,}"),
        ("state machine: invariants broken", str(len(tale.breaks))),
        ("state machine: most in doubt", f"{tale.most_doubt}"),
        (
            "state machine: rows",
            ", ".join(f"{name} {count:,}" for name, count in tale.statuses.most_common()),
        ),
        ("state machine: seconds", f"{time.monotonic() - started:.0f}"),
    ]
    return rows + [("state machine: FAULT", broken) for broken in tale.breaks]


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--long", action="store_true")
    options.add_argument("--seed", type=int)
    given = options.parse_args()
    for name, value in figures(given.long, seed=given.seed):
        sys.stdout.write(f"{name:<45} {value}\n")
