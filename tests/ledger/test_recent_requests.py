"""What is kept of the newest requests, against a look-up that reads all of them."""

from contextlib import closing

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from eb_dagster.errors import LedgerError
from eb_dagster.ledger import recent_requests
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.recent_requests import RecentRequests
from eb_dagster.ledger.schema import requests
from tests.ledger.index_steps import answer, ask, change, email
from tests.ledger.steps import ENDPOINT

PEOPLE = range(12)
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "release"]),
        st.booleans(),
        st.integers(0, 20),
        st.lists(st.sampled_from(PEOPLE), max_size=3),
    ),
    max_size=25,
)


def may_tell(ledger: Ledger, recent: RecentRequests, *numbers: int, after: int = 0) -> bool:
    keys = [ledger.key(email(number)) for number in numbers]
    with ledger.database.transaction() as connection:
        return recent.may_tell(connection, keys, after=after)


def carry_out(ledger: Ledger, step: str, chosen: int, numbers: list[int], open_requests: list[int]) -> None:
    if step == "ask" and not ledger.lookup([ledger.key(email(chosen))], required=0)[0]:
        open_requests.append(ask(ledger, chosen, 100 + chosen))
    elif step == "answer" and open_requests:
        answer(ledger, open_requests.pop(chosen % len(open_requests)), *numbers)
    elif step == "release" and open_requests:
        ledger.release(open_requests.pop(chosen % len(open_requests)), state="free", note="")


@settings(deadline=None, max_examples=30)
@given(steps)
def test_whatever_a_look_up_tells_of_a_key_may_be_told_by_what_is_kept(tmp_path_factory, taken):
    path = tmp_path_factory.mktemp("ledger") / "l.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as one, closing(Ledger(path, endpoint=ENDPOINT)) as another:
        recent, open_requests = RecentRequests(), list[int]()
        for step, is_other, chosen, numbers in taken:
            carry_out(another if is_other else one, step, chosen, numbers, open_requests)
            after = chosen % (one.last_request() + 1)
            keys = [one.key(email(number)) for number in PEOPLE]
            known, _ = one.lookup(keys, required=0, alias_keys=keys, after=after)
            for number, key in zip(PEOPLE, keys, strict=True):
                assert may_tell(one, recent, number, after=after) or key not in known
        assert not may_tell(one, recent, 99)


def test_a_request_is_read_once_and_again_when_it_has_changed(ledger):
    read: list[list[int]] = []

    def note(_connection, _cursor, statement, parameters, *_more) -> None:
        if statement.startswith(str(recent_requests._SELECT_KEYS)[:60]) and "IN" in statement:
            read.append(sorted(parameters.values() if isinstance(parameters, dict) else parameters))

    event.listen(ledger.database.engine, "before_cursor_execute", note)
    recent = RecentRequests()
    first, second = ask(ledger, 1, 2), ask(ledger, 3, 4)
    assert may_tell(ledger, recent, 1)
    assert not may_tell(ledger, recent, 5, after=first)
    answer(ledger, second, 5)
    assert may_tell(ledger, recent, 5, after=first)
    assert read == [[first, second], [second]]


def test_what_is_of_no_use_any_more_is_let_go(ledger):
    recent = RecentRequests()
    for number in range(60):
        ask(ledger, 2 * number, 2 * number + 1)
        assert may_tell(ledger, recent, 2 * number, after=max(0, number - 2))
        assert len(recent._checksums) < 30


def test_a_request_that_went_missing_is_noticed_by_what_comes_after_it(ledger):
    for number in range(4):
        ask(ledger, number, 10 + number)
    recent = RecentRequests()
    assert may_tell(ledger, recent, 0)
    change(ledger, sa.delete(requests).where(requests.c.id == 2))
    for after in (0, 1, 2) if ledger.file else (2,):
        with pytest.raises(LedgerError, match="damaged or missing"):
            may_tell(ledger, recent, 0, after=after)
    assert may_tell(ledger, recent, 3, after=3)
