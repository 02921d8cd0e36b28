"""The short form of the fault campaign; `python -m tests.faults` runs all of it."""

import pytest

from . import naive
from .campaign import Figures, Place, run_case
from .conftest import Verdicts
from .table import FAULTS, Fault

# One worker runs all cases, several at once.
pytestmark = pytest.mark.xdist_group("campaign")

DATABASES = ("SQLite", "PostgreSQL")
# Each fault on one database in turn, and what is basic on both.
SHORT = [
    (fault, database)
    for at, fault in enumerate(one for one in FAULTS if one.short)
    for database in DATABASES
    if fault.basic or DATABASES[at % 2] == database
]


@pytest.mark.parametrize("case", SHORT, ids=lambda case: f"{case[0].name}, {case[1]}")
def test_the_promises_hold(verdicts: Verdicts, case: tuple[Fault, str]):
    assert verdicts.on(*case).complaints == []


def test_the_naive_client_breaks_them(sqlite: Place):
    """The control: what catches nobody proves nothing."""
    figures = Figures()
    for fault in FAULTS:
        if fault.basic:
            figures.add(run_case(fault, sqlite, client=naive.enrich).figures)
    assert figures.charged_twice > 100
    assert figures.wrong_rows > 10
    assert figures.lost > 0
    assert figures.broken > figures.cases / 2
