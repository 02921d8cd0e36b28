"""Which question is next, and when a row has ended."""

import hashlib
import math
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.pipeline.plan import Agenda, Block, Plan, PlanCount

PROFILE = Identifier("social_profile", "linkedin.com/in/ada")
EMAIL = Identifier("email", "ada@firm.example")
OTHER = Identifier("email", "bob@firm.example")


def take_in(agenda: Agenda, *rows: tuple[Identifier, ...]) -> Block:
    """Rows of which the ledger knows nothing."""
    keys = {one: one.value.encode() for row in rows for one in row}
    block = agenda.add([Candidates(row, () if row else ("blank",)) for row in rows], keys)
    for question in block.new:
        question.state = "open"
    agenda.start(block)
    return block


def ask(agenda: Agenda, step: int = 0) -> list[Identifier]:
    """The identifiers of the next partition of this step."""
    asked = agenda.cut_step(step, 1000)
    for question in asked:
        question.state = "asked"
    return [question.identifier for question in asked]


def test_a_row_asks_its_next_identifier_only_after_a_miss():
    agenda = Agenda()
    block = take_in(agenda, (PROFILE, EMAIL))
    profile, email = block.new
    assert ask(agenda) == [PROFILE]
    assert agenda.first_step() is None
    agenda.settle(profile, "missed")
    assert ask(agenda, step=1) == [EMAIL]
    agenda.settle(email, "matched", answer="somebody")
    (row,) = block.rows
    assert (row.status, row.question) == ("matched", email)


def test_rows_that_share_an_identifier_wait_for_one_question():
    agenda = Agenda()
    first = take_in(agenda, (EMAIL,), (OTHER,), (EMAIL,))
    second = take_in(agenda, (PROFILE, EMAIL))
    assert [one.identifier for one in first.new] == [EMAIL, OTHER]
    assert [one.identifier for one in second.new] == [PROFILE]
    assert ask(agenda) == [EMAIL, OTHER]
    agenda.settle(first.new[0], "matched")
    # The second row of the other block is answered by it too, so its profile is never asked.
    assert [row.status for row in (*first.rows, *second.rows)] == ["matched", None, "matched", "matched"]


def test_blocks_leave_in_order_and_whole():
    agenda = Agenda()
    first, second = take_in(agenda, (EMAIL,), ()), take_in(agenda, ())
    assert second.is_resolved
    assert list(agenda.leaving()) == []
    agenda.settle(first.new[0], "missed")
    assert list(agenda.leaving()) == [first, second]
    assert [row.status for row in (*first.rows, *second.rows)] == ["not_found", "invalid", "invalid"]
    assert agenda.open_rows == 0


def test_a_question_is_forgotten_with_the_last_row_that_asks_it():
    agenda = Agenda()
    first = take_in(agenda, (EMAIL,))
    second = take_in(agenda, (EMAIL,), (OTHER,))
    agenda.settle(first.new[0], "matched")
    assert list(agenda.leaving()) == [first]
    # The second block is open and asks it.
    assert take_in(agenda, (EMAIL,)).new == []
    agenda.settle(second.new[0], "matched")
    assert len(list(agenda.leaving())) == 2
    assert [one.identifier for one in take_in(agenda, (EMAIL,), (OTHER,)).new] == [EMAIL, OTHER]


def test_who_is_suppressed_under_one_identifier_is_asked_under_none():
    agenda = Agenda()
    block = agenda.add([Candidates((PROFILE, EMAIL), ())], {PROFILE: b"1", EMAIL: b"2"})
    agenda.settle(block.new[1], "suppressed")
    block.new[0].state = "open"
    agenda.start(block)
    assert [row.status for row in block.rows] == ["suppressed"]
    assert agenda.first_step() is None


def test_what_was_bought_once_is_kept_when_it_cannot_be_asked_again():
    agenda = Agenda()
    block = agenda.add([Candidates((PROFILE, EMAIL), ())], {PROFILE: b"1", EMAIL: b"2"})
    profile, email = block.new
    profile.state, email.state, email.answer = "open", "open", "bought long ago"
    agenda.start(block)
    agenda.give_up()
    assert [(row.status, row.question) for row in block.rows] == [("matched", email)]


def test_nothing_leads_back_to_a_row_so_that_the_collector_of_cycles_has_no_work():
    import gc
    import weakref

    class Witness:
        pass

    agenda = Agenda()
    block = take_in(agenda, (PROFILE, EMAIL))
    block.new[0].answer = Witness()
    witness = weakref.ref(block.new[0].answer)
    gc.collect()
    gc.disable()
    try:
        del agenda, block
        assert witness() is None
    finally:
        gc.enable()


def planned(blocks: list[list[tuple[Identifier, ...]]], *, size: int = 3) -> Plan:
    agenda, count = Agenda(), PlanCount()
    for rows in blocks:
        keys = {one: hashlib.blake2b(one.value.encode()).digest()[:16] for row in rows for one in row}
        block = agenda.add([Candidates(row, ()) for row in rows], keys)
        for question in block.new:
            question.state = "open"
        count.expect(block.new)
        agenda.start(block)
        count.add(block, agenda.clear())
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
    fresh = [steps[at] - set().union(*steps[:at]) for at in range(3)]
    plan = planned(blocks)
    assert (plan.rows, plan.identifiers) == (len(rows), len(every))
    assert plan.folded == sum(map(len, rows)) - len(every)
    assert plan.invalid == ({"blank": rows.count(())} if () in rows else {})
    assert (plan.to_ask, plan.to_ask_at_most) == (len(asked), len(every))
    assert plan.requests == math.ceil(len(asked) / 3)
    assert plan.requests_at_most == max(sum(math.ceil(len(one) / 3) for one in fresh), plan.requests)
    assert plan.credits_at_most == min(len(every), len({*rows} - {()}))


def test_a_plan_says_when_it_is_what_is_at_risk_that_bounds_the_time():
    long = planned([[(Identifier("email", f"p{at}@firm.example"),) for at in range(63)]])
    short = planned([[(EMAIL,)]])
    facts = dict(long.facts())
    assert long.in_flight_at_most == 20
    assert facts["minutes at least"] == "0.1, more if replies take over 6.1 s (max_credits_at_risk)"
    assert dict(short.facts())["minutes at least"] == "0.0"


def test_a_question_that_no_row_waits_for_any_more_is_not_asked():
    agenda = Agenda()
    block = agenda.add([Candidates((EMAIL, PROFILE), ())], {EMAIL: b"1", PROFILE: b"2"})
    email, profile = block.new
    email.state = "open"
    agenda.settle(email, "matched")
    # Another process asks it, which costs nothing in the end.
    profile.state = "elsewhere"
    agenda.start(block)
    agenda.put_back([profile])
    assert agenda.first_step() is None
    assert list(agenda.leaving()) == [block]
    # A row that comes later asks it anew: once, whatever becomes of the question that is left over.
    later = agenda.add([Candidates((PROFILE,), ())], {PROFILE: b"2"})
    later.new[0].state = "elsewhere"
    agenda.start(later)
    agenda.put_back([profile, *later.new])
    assert ask(agenda) == [PROFILE]
    assert ask(agenda) == []


def test_an_agenda_that_is_dropped_with_many_rows_of_one_address_needs_no_deep_stack():
    drop = (
        "import threading\n"
        "from eb_dagster.identifiers.model import Candidates, Identifier\n"
        "from eb_dagster.pipeline.plan import Agenda\n"
        "def run():\n"
        "    one = Identifier('email', 'a@b.example')\n"
        "    agenda = Agenda()\n"
        "    agenda.start(agenda.add([Candidates((one,), ())] * 30_000, {one: b'k' * 16}))\n"
        "threading.stack_size(256 * 1024)\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start(), thread.join()\n"
    )
    subprocess.run([sys.executable, "-c", drop], check=True)
