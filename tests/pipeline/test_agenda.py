"""Which question is next, and when a row has ended."""

import subprocess
import sys
from typing import Any

from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.names import row_person
from eb_dagster.ledger.known_keys import Known
from eb_dagster.pipeline.agenda import Agenda
from eb_dagster.pipeline.rows import Block, Question, Row, decide

PROFILE = Identifier("social_profile", "linkedin.com/in/ada")
EMAIL = Identifier("email", "ada@firm.example")
OTHER = Identifier("email", "bob@firm.example")


def take_in(agenda: Agenda, *rows: tuple[Identifier, ...]) -> Block:
    """Rows of which the ledger knows nothing."""
    keys = {identifier: identifier.value.encode() for row in rows for identifier in row}
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
    somebody: Any = "somebody"
    agenda.settle(email, "matched", answer=somebody)
    (row,) = block.rows
    assert (row.status, row.question) == ("matched", email)


def test_rows_that_share_an_identifier_wait_for_one_question():
    agenda = Agenda()
    first = take_in(agenda, (EMAIL,), (OTHER,), (EMAIL,))
    second = take_in(agenda, (PROFILE, EMAIL))
    assert [question.identifier for question in first.new] == [EMAIL, OTHER]
    assert [question.identifier for question in second.new] == [PROFILE]
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
    assert [question.identifier for question in take_in(agenda, (EMAIL,), (OTHER,)).new] == [EMAIL, OTHER]


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
    profile.state, email.state = "open", "open"
    email.old_answer = Known("matched", 1, "run", 1.0, 0, is_stale=True)
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
    witnessed: Any = Witness()
    block.new[0].answer = witnessed
    del witnessed
    witness = weakref.ref(block.new[0].answer)
    gc.collect()
    gc.disable()
    try:
        del agenda, block
        assert witness() is None
    finally:
        gc.enable()


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
        "from eb_dagster.pipeline.agenda import Agenda\n"
        "def run():\n"
        "    one = Identifier('email', 'a@b.example')\n"
        "    agenda = Agenda()\n"
        "    agenda.start(agenda.add([Candidates((one,), ())] * 30_000, {one: b'k' * 16}))\n"
        "threading.stack_size(256 * 1024)\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start(), thread.join()\n"
    )
    subprocess.run([sys.executable, "-c", drop], check=True)


def test_rows_of_one_name_go_on_when_the_first_of_them_is_suppressed():
    ada = row_person(name="Ada Lovelace", first=None, last=None, company="Firm")
    agenda = Agenda()
    rows = [Candidates((EMAIL,), (), ada), Candidates((OTHER,), (), ada)]
    block = agenda.add(rows, {EMAIL: b"1", OTHER: b"2"})
    for question in block.new:
        question.state = "open"
    agenda.start(block)
    assert ask(agenda) == [EMAIL]
    agenda.suppress({EMAIL})
    assert [row.status for row in block.rows] == ["suppressed", None]
    assert ask(agenda) == [OTHER]


def test_a_contact_that_contradicts_the_row_is_not_taken_when_nothing_more_is_asked():
    profile = Question(PROFILE, b"1", 0, state="not_asked")
    email = Question(
        EMAIL, b"2", 0, state="matched", answer=Known("matched", 1, "run", 1.0, 0, has_vanity=True)
    )
    assert decide(Row((profile, email))) == ("not_asked", profile)


def test_an_old_contact_that_contradicts_the_row_is_not_taken_when_it_cannot_be_asked_again():
    profile = Question(PROFILE, b"1", 0, state="not_asked")
    old = Known("matched", 1, "run", 1.0, 0, is_stale=True, has_vanity=True)
    email = Question(EMAIL, b"2", 0, state="open", old_answer=old)
    assert decide(Row((profile, email))) == ("not_asked", profile)
    # An e-mail that is the row's first identifier decides, whatever profile its contact has.
    email.state = "not_asked"
    assert decide(Row((email, profile))) == ("matched", email)


def test_the_repr_of_a_row_shows_no_person():
    row = Row((Question(EMAIL, b"1", 0),), hold="ada lovelace @ firm")
    assert "ada" not in repr(row) + repr(row.__rich_repr__())
    assert "ada" not in repr(Block(0, [Candidates((EMAIL,), ())], [row], [0], []))
