"""The short form of the fault campaign; `python -m tests.faults` runs all of it."""

import pytest

from . import naive
from .campaign import Figures, Place, run_case
from .table import FAULTS, Fault

SHORT = [fault for fault in FAULTS if fault.short]


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_the_promises_hold(place: Place, fault: Fault):
    if not fault.basic and FAULTS.index(fault) % 2 == (place.postgresql is None):
        pytest.skip("the short form runs it on the other database")
    verdict = run_case(fault, place)
    assert verdict.complaints == []


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
