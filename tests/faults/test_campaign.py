"""The short form of the fault campaign; `python -m tests.faults` runs all of it."""

import pytest

from .campaign import Place, run_case
from .table import FAULTS, Fault

SHORT = [fault for fault in FAULTS if fault.short]


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_the_promises_hold(place: Place, fault: Fault):
    verdict = run_case(fault, place)
    assert verdict.complaints == []
