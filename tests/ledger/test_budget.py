"""Limits and caps, of one run and of all."""

import threading
from contextlib import closing

import pytest
import sqlalchemy as sa

from eb_dagster.api.envelope import MISSED, UNREADABLE
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.schema import counters
from tests.ledger.steps import ENDPOINT, JANE, JOHN, answer, claim


@pytest.mark.parametrize(
    ("limits", "short_of"),
    [
        (Limits(3, 20_000), "credits"),
        (Limits(None, 3), "risk"),
        (Limits(None, 20_000, max_credits_per_day=3), "day"),
        (Limits(None, 20_000, max_credits_per_month=3), "month"),
    ],
)
def test_a_claim_stays_inside_each_limit(ledger, limits, short_of):
    people = [Identifier("email", f"p{n}@firm.example") for n in range(5)]
    assert claim(ledger, *people, limits=limits).granted == 3
    more = claim(ledger, JANE, limits=limits)
    assert (more.granted, more.short_of) == (0, short_of)


def test_the_caps_of_the_ledger_hold_for_every_run_until_the_day_is_over(where):
    now = [1_790_000_000.0]
    with closing(Ledger(where, endpoint=ENDPOINT, clock=lambda: now[0])) as ledger:
        ledger.budget.set_cap("day", 2)
        assert claim(ledger, JANE, JOHN, run="a").granted == 2
        assert claim(ledger, Identifier("email", "x@firm.example"), run="b").short_of == "day"
        # A clock that is put back opens no new day.
        now[0] -= 400 * 86_400
        back = claim(ledger, Identifier("email", "x@firm.example"), run="b", accept_clock=True)
        assert back.short_of == "day"
        now[0] += 401 * 86_400
        assert claim(ledger, Identifier("email", "x@firm.example"), run="b").granted == 1
        ledger.budget.set_cap("day", None)
        assert ledger.budget.caps() == {"day": None, "month": None}


@pytest.mark.parametrize("limits", [{"max_credits_per_day": 2}, {"max_credits_per_month": 2}])
def test_a_cap_counts_what_was_spent_at_its_own_endpoint(ledger, where, limits):
    limits = Limits(None, 20_000, **limits)
    assert claim(ledger, JANE, JOHN, limits=limits).granted == 2
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert claim(other, JANE, JOHN, Identifier("email", "x@firm.example"), limits=limits).granted == 2


def test_many_threads_stay_inside_the_cap_together(ledger):
    limits, granted = Limits(50, 20_000), []

    def ask(thread: int) -> None:
        for number in range(10):
            people = [Identifier("email", f"t{thread}n{number}k{k}@firm.example") for k in range(3)]
            granted.append(claim(ledger, *people, limits=limits).granted)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 50


def test_what_is_at_risk_at_one_endpoint_bounds_no_other(ledger, where):
    limits = Limits(None, 2)
    claimed = claim(ledger, JANE, JOHN, limits=limits)
    ledger.doubt(claimed.request_id, http_status=502, note="HTTP 502")
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert claim(other, JANE, JOHN, limits=limits).granted == 2
        assert claim(other, Identifier("email", "x@firm.example"), limits=limits).short_of == "risk"


def amounts(ledger: Ledger) -> tuple[int, int, int, int]:
    spent = ledger.budget.spending()
    return spent.credits, spent.in_flight, spent.in_doubt, spent.unreadable


def test_what_is_spent_and_at_risk_follows_each_step_of_a_request(ledger):
    requests = [
        claim(ledger, *[Identifier("email", f"p{n}{k}@firm.example") for k in range(3)]) for n in range(4)
    ]
    late, free, bought, unread = [request.request_id for request in requests]
    assert amounts(ledger) == (0, 12, 0, 0)
    ledger.release(free, state="free", note="")
    ledger.doubt(late, http_status=None, note="")
    assert amounts(ledger) == (0, 6, 3, 0)
    answer(ledger, bought, 0, 1, MISSED)
    answer(ledger, unread, 0, UNREADABLE, MISSED)
    assert amounts(ledger) == (3, 0, 3, 1)
    reconcile.resolve(ledger, [late], "charged", credits=2)
    assert amounts(ledger) == (5, 0, 0, 1)
    # The reply comes after all, and with it the decision goes.
    ledger.record(late, http_status=200, encoding="", complete=True, body=b"raw")
    assert amounts(ledger) == (3, 3, 0, 1)
    assert ledger.budget.spending(run="r") == ledger.budget.spending()
    assert reconcile.check(ledger) == []


@pytest.mark.parametrize("damage", ["a number", "a missing row", "no rows"])
def test_damaged_counters_are_told_and_counted_anew(ledger, where, damage):
    claimed = claim(ledger, JANE, JOHN)
    with ledger.database.transaction() as connection:
        if damage == "a number":
            connection.execute(sa.update(counters).values(at_risk=0))
        else:
            is_gone = counters.c.name == "all" if damage == "a missing row" else sa.true()
            connection.execute(sa.delete(counters).where(is_gone))
    assert any("counte" in fault for fault in reconcile.check(ledger))
    # Nothing is asked beyond the limits meanwhile.
    x = Identifier("email", "x@firm.example")
    limits = Limits(2, 2, max_credits_per_day=2, max_credits_per_month=2)
    assert claim(ledger, x, limits=limits).granted == 0
    assert amounts(ledger) == (0, 2, 0, 0)
    with closing(Ledger(where, endpoint=ENDPOINT)) as other:
        assert claim(other, x).granted == 1
        assert reconcile.check(other) == []
    ledger.release(claimed.request_id, state="free", note="")
    assert amounts(ledger) == (0, 1, 0, 0)
