"""The short form of the fault campaign; `python -m tests.faults` runs all of it."""

import pytest

from . import naive
from .campaign import run_case
from .cases import Figures, Place
from .conftest import Verdicts
from .table import FAULTS, Fault

# One worker runs all cases, several at once.
pytestmark = pytest.mark.xdist_group("campaign")

DATABASES = ("SQLite", "PostgreSQL")
# Each fault runs on one database in turn; the basic ones run on both. A number of which nothing is short has its
# last fault here, so that none is left to the long form alone.
NUMBERS = {fault.number for fault in FAULTS if fault.short}
LAST = {fault.number: fault.name for fault in FAULTS}
SHORT_FAULTS = [
    fault
    for fault in FAULTS
    if fault.short or (fault.number not in NUMBERS and fault.name == LAST[fault.number])
]
SHORT = [
    (fault, database)
    for index, fault in enumerate(SHORT_FAULTS)
    for database in DATABASES
    if fault.basic or DATABASES[index % 2] == database
]


@pytest.mark.parametrize("case", SHORT, ids=lambda case: f"{case[0].name}, {case[1]}")
def test_the_promises_hold(verdicts: Verdicts, case: tuple[Fault, str]):
    assert verdicts.on(*case).complaints == []


def test_the_naive_client_breaks_them(on_sqlite: Place):
    """A campaign that the naive client passed would prove nothing."""
    figures = Figures()
    for fault in FAULTS:
        if fault.basic:
            figures.add(run_case(fault, on_sqlite, client=naive.enrich).figures)
    assert figures.charged_twice > 100
    assert figures.wrong_rows > 10
    assert figures.lost > 0
    assert figures.broken > figures.cases / 2
