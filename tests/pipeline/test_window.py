"""Which question is next, and when a row has ended. The arrays come to what a slow, plain model comes to."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster.contacts.schema import STATUSES
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.names import row_person
from eb_dagster.pipeline.rows import Identifiers, State, decide
from eb_dagster.pipeline.window import Window
from tests.pipeline.histories import History, check
from tests.pipeline.tables import Told, looked_up_rows, rows_offering

PROFILE = Identifier("social_profile", "linkedin.com/in/ada")
EMAIL = Identifier("email", "ada@firm.example")
OTHER = Identifier("email", "bob@firm.example")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_arrays_and_the_plain_model_agree_and_nobody_is_asked_twice(seed):
    check(History(seed))


def take_in(window: Window, *rows: tuple[Identifier, ...], known=None, **how):
    """Rows, with what the ledger knows of them; nothing if not said otherwise."""
    block = window.add(looked_up_rows(rows_offering(*rows), known, **how))
    window.start(block)
    return block


def ask(window: Window, step: int = 0) -> list[Identifier]:
    """The identifiers of the next partition of this step."""
    slots = window.wanted(window.cut_step(step, 1000))
    window.slots.table["state"][slots] = State.ASKED
    return window.slots.identifiers(slots)


def settle(window: Window, identifier: Identifier, state: State) -> None:
    slots = window.slots.used()
    index = window.slots.identifiers(slots).index(identifier)
    window.settle(slots[[index]], state)


def statuses(window: Window) -> list[str | None]:
    return [None if code < 0 else STATUSES[code] for code in window._rows["status"].tolist()]


def left(window: Window) -> list[list[str]]:
    return [[STATUSES[code] for code in ended.status.tolist()] for ended in window.leaving()]


def test_a_row_asks_its_next_identifier_only_after_a_miss():
    window = Window()
    take_in(window, (PROFILE, EMAIL))
    assert ask(window) == [PROFILE]
    assert window.first_step() is None
    settle(window, PROFILE, State.MISSED)
    assert ask(window, step=1) == [EMAIL]
    settle(window, EMAIL, State.MATCHED)
    (ended,) = window.leaving()
    assert (ended.query, [STATUSES[code] for code in ended.status]) == ([EMAIL.value], ["matched"])


def test_rows_that_share_an_identifier_wait_for_one_question():
    window = Window()
    first = take_in(window, (EMAIL,), (OTHER,), (EMAIL,))
    second = take_in(window, (PROFILE, EMAIL))
    assert (first.identifiers, second.identifiers) == (2, 1)
    assert ask(window) == [EMAIL, OTHER]
    settle(window, EMAIL, State.MATCHED)
    # The second row of the other block is answered by it too, so its profile is never asked.
    assert statuses(window) == ["matched", None, "matched", "matched"]


def test_a_row_does_not_ask_what_a_row_of_the_same_block_is_about_to_answer():
    window = Window()
    take_in(window, (EMAIL,), (PROFILE, EMAIL))
    assert ask(window) == [EMAIL]
    window = Window()
    # The other way round, the first row has asked before the second one is looked at.
    take_in(window, (PROFILE, EMAIL), (EMAIL,))
    assert ask(window) == [PROFILE, EMAIL]


def test_blocks_leave_in_order_and_whole():
    window = Window()
    take_in(window, (EMAIL,), ())
    take_in(window, ())
    assert left(window) == []
    ask(window)
    settle(window, EMAIL, State.MISSED)
    assert left(window) == [["not_found", "invalid"], ["invalid"]]
    assert window.open_rows == 0


def test_a_question_is_forgotten_with_the_last_row_that_asks_it():
    window = Window()
    take_in(window, (EMAIL,))
    take_in(window, (EMAIL,), (OTHER,))
    ask(window)
    settle(window, EMAIL, State.MATCHED)
    assert left(window) == [["matched"]]
    # The second block is open and asks it.
    assert take_in(window, (EMAIL,)).identifiers == 0
    settle(window, OTHER, State.MATCHED)
    assert len(left(window)) == 2
    assert len(window.slots) == 0
    assert take_in(window, (EMAIL,), (OTHER,)).identifiers == 2


def test_who_is_suppressed_under_one_identifier_is_asked_under_none():
    window = Window()
    take_in(window, (PROFILE, EMAIL), suppressed={EMAIL})
    assert left(window) == [["suppressed"]]
    assert window.first_step() is None


def test_what_was_bought_once_is_kept_when_it_cannot_be_asked_again():
    window = Window()
    take_in(window, (PROFILE, EMAIL), known={EMAIL: Told("matched", position=0, is_stale=True)})
    window.give_up()
    (ended,) = window.leaving()
    assert (ended.query, [STATUSES[code] for code in ended.status]) == ([EMAIL.value], ["matched"])


def test_a_question_that_no_row_waits_for_any_more_is_not_asked():
    window = Window()
    take_in(window, (EMAIL, PROFILE), known={EMAIL: Told("matched"), PROFILE: Told("in_flight")})
    # Another process asks it, which costs nothing in the end.
    elsewhere = window.elsewhere
    assert window.slots.identifiers(elsewhere) == [PROFILE]
    assert left(window) == [["matched"]]
    # A row that comes later asks it anew: once, whatever becomes of the question that is left over.
    take_in(window, (PROFILE,), known={PROFILE: Told("in_flight")})
    window.put_back(elsewhere)
    assert ask(window) == [PROFILE]
    assert ask(window) == []


def test_a_slot_whose_request_is_under_way_is_used_for_nobody_else():
    window = Window()
    take_in(window, (EMAIL,))
    ask(window)
    asked = window.slots.used()
    window.suppress(asked)
    assert left(window) == [["suppressed"]]
    take_in(window, (OTHER,), (PROFILE,))
    assert window.slots.identifiers(asked) == [EMAIL]
    window.settle(asked, State.MATCHED)
    assert statuses(window) == [None, None]
    assert len(window.slots) == 2


def test_rows_of_one_name_go_on_when_the_first_of_them_is_suppressed():
    ada = row_person(name="Ada Lovelace", first=None, last=None, company="Firm")
    window = Window()
    window.start(window.add(looked_up_rows([Candidates((EMAIL,), (), ada), Candidates((OTHER,), (), ada)])))
    assert ask(window) == [EMAIL]
    slots = window.slots.used()
    window.suppress(slots[[window.slots.identifiers(slots).index(EMAIL)]])
    assert statuses(window) == ["suppressed", None]
    assert ask(window) == [OTHER]


def test_a_contact_that_contradicts_the_row_is_not_taken_when_nothing_more_is_asked():
    window = Window()
    take_in(window, (PROFILE, EMAIL), known={EMAIL: Told("matched", has_vanity=True)})
    window.give_up()
    assert left(window) == [["not_asked"]]


def test_an_old_contact_that_contradicts_the_row_is_not_taken_when_it_cannot_be_asked_again():
    old = {EMAIL: Told("matched", is_stale=True, has_vanity=True)}
    window = Window()
    take_in(window, (PROFILE, EMAIL), known=old)
    window.give_up()
    assert left(window) == [["not_asked"]]
    # An e-mail that is the row's first identifier decides, whatever profile its contact has.
    take_in(window, (EMAIL, PROFILE), known=old)
    window.give_up()
    assert left(window) == [["matched"]]


def test_an_identifier_is_counted_once_as_long_as_an_open_block_offers_it():
    known = {EMAIL: Told("matched")}
    window = Window()
    counts = [take_in(window, *rows, known=known).identifiers for rows in ([(EMAIL,)], [(EMAIL,), (OTHER,)])]
    assert counts == [1, 1]
    assert len(left(window)) == 1
    # The second block waits for bob, and ada is in it.
    assert take_in(window, (EMAIL,), (OTHER,), known=known).identifiers == 0
    window.clear()
    assert take_in(window, (EMAIL,), (OTHER,), known=known).identifiers == 2


def test_what_was_learned_since_the_look_up_holds_as_long_as_a_row_of_an_open_block_offers_it():
    known = {OTHER: Told("matched")}
    window = Window()
    take_in(window, (EMAIL,))
    take_in(window, (EMAIL, OTHER), (PROFILE,), known=known)
    assert statuses(window) == [None, "matched", None]
    settle(window, EMAIL, State.IN_DOUBT)
    assert left(window) == [["in_doubt"]]
    third = take_in(window, (EMAIL,))
    assert (third.identifiers, statuses(window)) == (0, ["matched", None, "in_doubt"])
    settle(window, PROFILE, State.MISSED)
    assert left(window) == [["matched", "not_found"], ["in_doubt"]]
    assert take_in(window, (EMAIL,)).identifiers == 1


def test_an_array_of_rows_without_identifiers_is_invalid():
    nothing = np.zeros(0, dtype=np.int8)
    none = np.zeros(0, dtype=np.bool_)
    decision = decide(np.zeros(3, dtype=np.int64), Identifiers(nothing, nothing, none, none))
    assert Counter(STATUSES[code] for code in decision.status) == {"invalid": 3}


def test_the_repr_of_what_rows_offer_shows_no_person():
    ada = row_person(name="Ada Lovelace", first=None, last=None, company="Firm")
    rows = looked_up_rows([Candidates((EMAIL,), (), ada)])
    window = Window()
    block = window.add(rows)
    window.start(block)
    window.settle(window.cut_step(0, 1), State.MISSED)
    (ended,) = window.leaving()
    for shown in (rows.offers, rows.keyed, rows, block, ended):
        assert "ada" not in repr(shown).lower()
