"""The moments to send, which all processes share."""

from contextlib import closing

import pytest

from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import ENDPOINT


def test_slots_are_spaced_evenly_over_all_who_share_the_ledger(ledger, where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as other:
        waits = [opened.slots.reserve_slot(interval=10.0) for opened in (ledger, other, ledger, other)]
        assert waits == pytest.approx([0, 10, 20, 30], abs=2.0)
        other.slots.postpone_slots(seconds=100.0)
        assert ledger.slots.reserve_slot(interval=10.0) == pytest.approx(100, abs=2.0)


@pytest.mark.parametrize("back", [1_800.0, 7_200.0, 365 * 86_400.0])
def test_a_clock_that_is_put_back_holds_up_no_request(tmp_path, back):
    now = [1_790_000_000.0]
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT, clock=lambda: now[0])) as ledger:
        ledger.slots.reserve_slot(interval=1.0)
        now[0] -= back
        assert [ledger.slots.reserve_slot(interval=1.0) for _ in range(3)] == pytest.approx([1, 2, 3])
        # What a Retry-After asked is waited for all the same, and no longer.
        ledger.slots.postpone_slots(seconds=100.0)
        now[0] -= back
        assert ledger.slots.reserve_slot(interval=1.0) == pytest.approx(100)
        now[0] += 2 * back
        assert ledger.slots.reserve_slot(interval=1.0) == 0
