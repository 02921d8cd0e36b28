"""A machine that buys at random, against a vendor that does what it likes, and a model that counts.

The ledger, the plan and the purchase are real; only the wire is scripted. Hypothesis chooses the
input, the settings and what becomes of each request, and shrinks what breaks an invariant.

Long form: `python -m tests.faults.machine --long`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import hypothesis
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import eb_dagster
from eb_dagster.identifiers.model import FieldType, Identifier
from eb_dagster.ledger.ledger import Ledger
from tests import compiled
from tests.faults import command
from tests.faults.machine_vendor import (
    DEADLY,
    GARBLED,
    KINDS,
    LOST,
    PEOPLE,
    PLAIN,
    REFUSED,
    SHARED,
    SLOW,
    Death,
    Tale,
    Vendor,
    Wire,
    identifier,
)
from tests.faults.progress import told

URL: Final = "http://127.0.0.1:9"
STEPS_A_MACHINE: Final = 25

SPELLINGS: Final[dict[str, tuple[Callable[[str], str], ...]]] = {
    "email": (str, str.upper, lambda text: f" {text} "),
    "social_profile": (
        str,
        lambda text: f"https://www.{text.upper()}/",
        lambda text: f"http://uk.{text}?x=1",
    ),
    "phone": (str, lambda text: f"{text[:2]} ({text[2:5]}) {text[5:8]}-{text[8:]}"),
}


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


def _spelled(kind: str, cell: tuple[int, int] | None) -> str | None:
    """The identifier of a person, in one of its spellings."""
    if cell is None:
        return None
    person, spelling = cell
    spellings = SPELLINGS[kind]
    return spellings[spelling % len(spellings)](identifier(person, kind))


def _table(rows: Sequence[dict[str, Any]], *, shared: bool) -> pa.Table:
    columns = {kind: [_spelled(kind, row[kind]) for row in rows] for kind in KINDS}
    if shared:
        columns["email"][0] = SHARED
    return pa.table({kind: pa.array(values, pa.string()) for kind, values in columns.items()})


Outcome = list[dict[str, Any]] | BaseException
"""The rows of a run, or what ended it."""
EXPECTED = (eb_dagster.Refused, eb_dagster.Busy, eb_dagster.OutcomeUnknown, Death)


class Buying(RuleBasedStateMachine):
    """Runs over one ledger; the invariants hold after each."""

    wire_type: type[Wire] = Wire
    tale = Tale()
    """Of all machines of a class; `run` makes a class for each session."""

    def __init__(self) -> None:
        super().__init__()
        self.tale.machines += 1
        # In memory, because nothing has to survive a power cut here.
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
        return self.wire_type(
            self._vendor,
            self.tale,
            script,
            is_resending=in_doubt == "resend",
            buys_again=buys_again,
        )

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
        # Everything is older than a microsecond.
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

    @rule(rows=_rows, other_rows=_rows, script=_script, settings=_settings)
    def come_back_late(
        self,
        rows: list[dict[str, Any]],
        other_rows: list[dict[str, Any]],
        script: list[str],
        settings: dict[str, Any],
    ) -> None:
        """A process is taken for dead while its reply is under way, and another one runs meanwhile."""
        wire = self._wire(script)
        wire.hold = threading.Event()
        settings = {**settings, "max_credits_at_risk": 30}
        enricher = self._enricher(wire, **settings)
        outcomes: list[Outcome] = []
        table = _table(rows, shared=False)
        thread = threading.Thread(target=lambda: outcomes.append(self._outcome(enricher, table)))
        thread.start()
        while thread.is_alive() and not wire.held.wait(0.005):
            pass
        try:
            let_go(enricher)
            self._run(_table(other_rows, shared=False), self._wire(()), max_credits_at_risk=60)
        finally:
            wire.hold.set()
            thread.join(30)
            enricher.close()
        assert not thread.is_alive()
        self._judge(outcomes[0], wire, settings)

    @rule(rows=_rows, other_rows=_rows, scripts=st.tuples(_script, _script), settings=_settings)
    def run_two_at_once(
        self,
        rows: list[dict[str, Any]],
        other_rows: list[dict[str, Any]],
        scripts: tuple[list[str], list[str]],
        settings: dict[str, Any],
    ) -> None:
        settings = {**settings, "max_credits_at_risk": 30}
        wires = [self._wire(script) for script in scripts]
        enrichers = [self._enricher(wire, **settings) for wire in wires]
        tables = [_table(some, shared=False) for some in (rows, other_rows)]
        pool = ThreadPoolExecutor(len(enrichers))
        outcomes = list(pool.map(self._outcome, enrichers, tables, timeout=60))
        pool.shutdown()
        for enricher, outcome, wire in zip(enrichers, outcomes, wires, strict=True):
            enricher.close()
            self._judge(outcome, wire, settings)

    @rule(person=_person)
    def find_someone_new(self, person: int) -> None:
        self._vendor.known.add(person)

    @rule(person=_person, kind=st.sampled_from(KINDS))
    def suppress(self, person: int, kind: Any) -> None:
        value = identifier(person, kind)
        self._audit.suppression.add([Identifier(kind, value)])
        self._suppressed.add(value)

    # One run

    def _run(self, table: pa.Table, wire: Wire, *, closes: bool = True, **settings: Any) -> None:
        enricher = self._enricher(wire, **settings)
        outcome = self._outcome(enricher, table)
        if closes:
            enricher.close()
        else:
            # A killed process leaves it so: nothing is told to the ledger, and the lock is gone.
            let_go(enricher)
            self._open.append(enricher)
        self._judge(outcome, wire, settings)

    @staticmethod
    def _outcome(enricher: eb_dagster.Enricher, table: pa.Table) -> Outcome:
        try:
            enriched = enricher.enrich_batches(table).read_all()
            return enriched.select(["eb_status", "eb_query", "eb_full_name"]).to_pylist()
        except EXPECTED as error:
            return error

    def _judge(self, outcome: Outcome, wire: Wire, settings: dict[str, Any]) -> None:
        assert not set(wire.values) & self._suppressed, "asked for somebody who is suppressed"
        cap = settings.get("max_credits")
        assert cap is None or wire.charged <= cap, f"{wire.charged} charged in a run that may spend {cap}"
        at_risk = self._audit.budget.spending().at_risk
        allowed = settings.get("max_credits_at_risk", 20_000)
        assert at_risk <= max(allowed, self._at_risk), f"{at_risk} at risk, {allowed} allowed"
        self._at_risk = at_risk
        self.tale.most_doubt = max(self.tale.most_doubt, at_risk)
        if isinstance(outcome, BaseException):
            self.tale.statuses[type(outcome).__name__] += 1
            return
        self.tale.statuses.update(row["eb_status"] for row in outcome)
        for row in outcome:
            if row["eb_status"] == "matched":
                self._check_person(row)

    def _check_person(self, row: dict[str, Any]) -> None:
        person = int(row["eb_full_name"].removeprefix("Person "))
        contact = self._vendor.contact(person)
        own = [*contact["emails"], *(identifier(person, kind) for kind in KINDS)]
        assert row["eb_query"] in own, "another person's contact on a row"

    # What always holds

    @invariant()
    def nothing_is_charged_twice(self) -> None:
        self.tale.steps += 1
        for value, count in self._vendor.charges.items():
            assert count <= 1 + self._vendor.allowed[value], f"charged {count} times"

    @invariant()
    def nothing_that_was_charged_is_forgotten(self) -> None:
        charged = sorted(self._vendor.charges)
        if not charged:
            return
        # The next process to open the ledger does the same.
        self._audit.recover()
        identifiers = {value: Identifier(_kind(value), value) for value in charged}
        # Whom a reply names under an address that is suppressed is not kept of it. What they were asked by is
        # suppressed too, and so must never be asked again.
        listed = self._audit.suppression.matching(identifiers.values())
        self._suppressed |= {value for value, each in identifiers.items() if each in listed}
        keys = {value: self._audit.key(each) for value, each in identifiers.items() if each not in listed}
        known, _ = self._audit.lookup(list(keys.values()), required=0)
        standings = {value: known[key].standing if key in known else None for value, key in keys.items()}
        kept = ("matched", "in_doubt", "unreadable")
        lost = {value: standing for value, standing in standings.items() if standing not in kept}
        assert not lost, f"charged and forgotten: {lost} of {self._vendor.history}"

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            for enricher in [*self._open, self._audit]:
                enricher.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        """In the end everybody is asked for, and after that nobody is."""
        # Without the shared address: its owner changes while the people who have it are bought.
        everyone: list[dict[str, Any]] = [dict.fromkeys(KINDS, (person, 0)) for person in range(PEOPLE)]
        self._run(_table(everyone, shared=False), self._wire(()))
        self.nothing_is_charged_twice()
        again = self._wire(())
        self._run(_table(everyone, shared=False), again)
        assert again.sent == 0, (
            f"a further run asked again for {[*again.values]}; before: {self._vendor.history}"
        )


def _kind(value: str) -> FieldType:
    if value.startswith("+"):
        return "phone"
    return "email" if "@" in value else "social_profile"


def let_go(enricher: eb_dagster.Enricher) -> None:
    """Drop the lock that tells others that a process lives, as its death would."""
    enricher._ledger._owner.leave()  # pyright: ignore


def run(*, steps: int, seed: int, machine: type[Buying] = Buying, shrinks: bool = False) -> Tale:
    """Drive machines for about that many steps. Raises what breaks; to shrink it takes minutes."""
    fresh = _fresh(machine)
    _run_machine(fresh, steps=steps, seed=seed, shrinks=shrinks)
    return fresh.tale


def _run_machine(machine: type[Buying], *, steps: int, seed: int, shrinks: bool = False) -> None:
    # Any: Hypothesis types the members of this enumeration as its metaclass.
    every_check: Any = list(hypothesis.HealthCheck)
    settings = hypothesis.settings(
        max_examples=max(1, steps // STEPS_A_MACHINE),
        stateful_step_count=STEPS_A_MACHINE,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrinks else [])],
        suppress_health_check=every_check,
        print_blob=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=settings)


def _fresh(machine: type[Buying]) -> type[Buying]:
    """A class of its own, because Hypothesis writes the seed on the class."""
    return type(machine.__name__, (machine,), {"tale": Tale()})


def run_in_parallel(*, steps: int, seed: int) -> Tale:
    """Share the steps among the processors; each has a seed of its own, counted from this one."""
    processors = os.cpu_count() or 1
    shares = max(processors, steps // 1_000)
    steps_a_share = math.ceil(steps / shares)
    tale = Tale()
    with ProcessPoolExecutor(processors, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_share, steps_a_share, seed + share) for share in range(shares)]
        for future in told(running, what="shares of the state machine", of=shares):
            tale.add(future.result())
    return tale


def _share(steps: int, seed: int) -> Tale:
    compiled.share()
    machine = _fresh(Buying)
    try:
        _run_machine(machine, steps=steps, seed=seed)
    except Exception as error:
        # What Hypothesis notes on an error does not travel between processes.
        text = "".join(traceback.format_exception(error))
        return replace(machine.tale, breaks=[f"machine.run(steps={steps}, seed={seed}): {text}"])
    return machine.tale


def figures(long: bool = False, *, seed: int | None = None) -> command.Rows:
    """The rows of the campaign's table."""
    seed = command.chosen_seed(seed)
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
    command.main(__doc__, figures)
