"""What a plan counts."""

import math

from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.identifiers.model import Identifier
from eb_dagster.pipeline.plan import Plan, PlanCount
from eb_dagster.pipeline.window import Window
from tests.pipeline.tables import looked_up_rows, rows_offering

PROFILE = Identifier("social_profile", "linkedin.com/in/ada")
EMAIL = Identifier("email", "ada@firm.example")
OTHER = Identifier("email", "bob@firm.example")


def planned(blocks: list[list[tuple[Identifier, ...]]], *, size: int = 3) -> Plan:
    window, count = Window(), PlanCount()
    for rows in blocks:
        count.add(window, window.add(looked_up_rows(rows_offering(*rows))))
    return count.plan(
        partition_size=size, max_credits=None, max_credits_at_risk=20 * size, requests_per_minute=198
    )


ROWS = st.lists(st.lists(st.sampled_from([PROFILE, EMAIL, OTHER]), unique=True).map(tuple), max_size=12)


@given(st.lists(ROWS, max_size=4))
def test_a_plan_made_block_by_block_is_what_sets_of_all_rows_come_to(blocks):
    rows = [row for block in blocks for row in block]
    asked, steps = set(), [set(), set(), set()]
    for row in rows:
        if row and not asked & {*row}:
            asked.add(row[0])
        for step, identifier in enumerate(row):
            steps[step].add(identifier)
    every = set().union(*steps)
    fresh = [steps[index] - set().union(*steps[:index]) for index in range(3)]
    plan = planned(blocks)
    assert (plan.rows, plan.identifiers) == (len(rows), len(every))
    assert plan.folded == sum(map(len, rows)) - len(every)
    assert plan.invalid == ({"blank": rows.count(())} if () in rows else {})
    assert (plan.to_ask, plan.to_ask_at_most) == (len(asked), len(every))
    assert plan.requests == math.ceil(len(asked) / 3)
    assert plan.requests_at_most == max(sum(math.ceil(len(step) / 3) for step in fresh), plan.requests)
    assert plan.credits_at_most == min(len(every), len({*rows} - {()}))


def test_a_plan_says_when_it_is_what_is_at_risk_that_bounds_the_time():
    long = planned([[(Identifier("email", f"p{index}@firm.example"),) for index in range(63)]])
    short = planned([[(EMAIL,)]])
    facts = dict(long.facts())
    assert long.in_flight_at_most == 20
    assert facts["minutes at least"] == "0.1, more if replies take over 6.1 s (max_credits_at_risk)"
    assert dict(short.facts())["minutes at least"] == "0.0"
