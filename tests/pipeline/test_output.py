"""Each row with its own contact, however rows and replies stand to each other."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eb_dagster import LedgerError
from eb_dagster.contacts.flatten import Flattened, flatten
from eb_dagster.contacts.schema import STATUSES, Status, arrow_schema
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.identifiers.model import FIELD_TYPES, Candidates, Identifier, Trait
from eb_dagster.identifiers.offers import offers_of
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline import output
from eb_dagster.pipeline.ended import EndedRows
from eb_dagster.pipeline.report import Report

EMAIL = Identifier("email", "a@b.example")
# By reply, who was found among those that were asked.
replies = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4)


class Answer(NamedTuple):
    """How a row ended, and where its contact is: among contacts in memory, or at a position of a kept reply."""

    status: Status
    request_id: int = 1
    position: int = -1
    contacts: Flattened | None = None
    contact: int = -1


def answers_of(asked: list[list[bool]]) -> list[tuple[str | None, Answer]]:
    """Whom each question found, and its answer, in the order of asking."""
    made: list[tuple[str | None, Answer]] = []
    for number, is_found in enumerate(asked, start=1):
        names = [f"{number}/{index}" if found else None for index, found in enumerate(is_found)]
        contacts = flatten([
            None if name is None else read_contact(json.dumps({"full_name": name}).encode()) for name in names
        ])  # fmt: skip
        for index, name in enumerate(names):
            found = Answer("matched", number, index, contacts, index)
            made.append((name, found if name else Answer("not_found", number)))
    return made


def ended(answers: list[Answer]) -> EndedRows:
    """Rows that ended with these answers."""
    sources = {id(answer.contacts): answer.contacts for answer in answers if answer.contacts is not None}
    number_of = {key: number for number, key in enumerate(sources)}
    count = len(answers)
    nothing = np.zeros(0, dtype=np.int64)
    return EndedRows(
        offers=offers_of([Candidates((EMAIL,), ())] * count),
        status=np.array([STATUSES.index(answer.status) for answer in answers], dtype=np.int8),
        kind=np.full(count, FIELD_TYPES.index("email"), dtype=np.int8),
        trait=np.full(count, Trait.EMAIL, dtype=np.int8),
        query=[EMAIL.value] * count,
        request_id=np.array([answer.request_id for answer in answers], dtype=np.int64),
        position=np.array([answer.position for answer in answers], dtype=np.int64),
        source=np.array([number_of.get(id(answer.contacts), -1) for answer in answers], dtype=np.int64),
        contact=np.array([answer.contact for answer in answers], dtype=np.int64),
        answered_at=np.ones(count),
        is_from_ledger=np.zeros(count, dtype=np.bool_),
        sources={number_of[key]: contacts for key, contacts in sources.items()},
        missed_row=nothing,
        missed_kind=nothing.astype(np.int8),
    )


@st.composite
def rows_of(draw, made):
    """Indices of answers as rows may have them; None for a row that gets nobody, whoever was asked."""
    indices = st.integers(0, len(made) - 1)
    runs = st.tuples(indices, st.integers(1, 20)).map(lambda run: list(range(run[0], sum(run)))[:20])
    pieces = draw(st.lists(runs | st.just([None]) | indices.map(lambda index: [index]), max_size=8))
    return [index for piece in pieces for index in piece if index is None or index < len(made)]


@pytest.fixture(scope="module")
def finisher(tmp_path_factory):
    ledger = Ledger(tmp_path_factory.mktemp("added") / "ledger.db", endpoint="https://api.example")
    with output.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_") as made:
        yield made
    ledger.close()


@pytest.mark.parametrize("least_rows_uncopied", [0, 256])
@pytest.mark.parametrize("most_pieces", [0, 3, 1000])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=replies, data=st.data())
def test_each_row_gets_its_own_contact_however_rows_and_replies_stand(
    finisher, most_pieces, least_rows_uncopied, asked, data, monkeypatch
):
    monkeypatch.setattr(output, "_MOST_PIECES", most_pieces)
    monkeypatch.setattr(output, "_LEAST_ROWS_UNCOPIED", least_rows_uncopied)
    made = answers_of(asked)
    expected: list[str | None] = []
    rows: list[Answer] = []
    for index in data.draw(rows_of(made)):
        # Nobody for a row whose identifier was found, too: it is suppressed.
        name, answer = (None, Answer("suppressed", 0)) if index is None else made[index]
        rows.append(answer)
        expected.append(name)
    table = finisher.finish(ended(rows), report=Report())
    assert table.column("eb_full_name").to_pylist() == expected
    assert table.column("eb_emails").null_count == len(rows)
    table.validate(full=True)


@pytest.fixture(scope="module")
def ledger_of_replies(tmp_path_factory):
    """A ledger with eight replies of nine contacts each."""
    ledger = new_ledger_of_replies(tmp_path_factory.mktemp("replies"))
    yield ledger
    ledger.close()


def new_ledger_of_replies(folder: Path, *, missed: int = 0) -> Ledger:
    ledger = Ledger(folder / "ledger.db", endpoint="https://api.example")
    for number in range(1, 9):
        entries = [
            {
                "value": f"{index}@b.example",
                "enriched_contact": {"full_name": f"{number}/{index}", "shoes": index}
                if index < 9 - missed
                else None,
            }
            for index in range(9)
        ]
        keys = [bytes([number, index]) * 8 for index in range(9)]
        claim = ledger.claim(keys, run="run", required=0, limits=Limits(None, 1000), seen=number - 1)
        assert claim.request_id == number
        body = json.dumps({"contacts": entries}).encode()
        ledger.record(number, http_status=200, encoding="", complete=True, body=body)
    return ledger


def row_of(request_id: int, position: int | None) -> Answer:
    """A row that one earlier answer ends; without a position, it missed."""
    return Answer("not_found", request_id) if position is None else Answer("matched", request_id, position)


@settings(max_examples=50)
@given(data=st.data())
def test_each_row_gets_its_own_contact_back_whatever_was_expected(ledger_of_replies, data):
    requests = st.integers(1, 8)
    places = st.tuples(requests, st.integers(0, 8) | st.none())
    blocks = data.draw(st.lists(st.lists(places, max_size=30), max_size=4))
    report = Report()
    with output.Finisher(ledger_of_replies, arrow_schema(), columns=None, prefix="eb_") as finisher:
        for block in blocks:
            finisher.expect(sorted(data.draw(st.sets(requests))))
            rows = [row_of(*place) for place in block]
            # A reply that was read back stays at hand for a while, for the rows that come later.
            for _ in range(2):
                batch = finisher.finish(ended(rows), report=report)
                expected = [None if index is None else f"{request}/{index}" for request, index in block]
                assert batch.column("eb_full_name").to_pylist() == expected
    found = sum(index is not None for block in blocks for _, index in block)
    assert (report.matched, report.new_fields["shoes"]) == (2 * found, 2 * found)


def test_a_reply_that_reaches_into_two_blocks_is_kept_as_columns_at_once(tmp_path):
    with (
        closing(new_ledger_of_replies(tmp_path, missed=5)) as ledger,
        output.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_") as finisher,
    ):
        for positions in ((0, 1), (2, 3)):
            batch = finisher.finish(ended([row_of(1, index) for index in positions]), report=Report())
            assert batch.column("eb_full_name").to_pylist() == [f"1/{index}" for index in positions]
        assert sorted(ledger.kept_columns.find([1])) == [1]


def test_replies_of_which_a_few_rows_are_wanted_time_and_again_are_kept_as_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "_REPLIES_KEPT", 1)
    with (
        closing(new_ledger_of_replies(tmp_path)) as ledger,
        output.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_") as finisher,
    ):
        kept = []
        # As of a table that was shuffled since it was bought. Of two replies, one is still at hand each time.
        for index in range(9):
            report = Report()
            batch = finisher.finish(
                ended([row_of(1, index), row_of(2, None), row_of(2, index)]), report=report
            )
            assert batch.column("eb_full_name").to_pylist() == [f"1/{index}", None, f"2/{index}"]
            assert report.new_fields["shoes"] == 2
            kept.append(sorted(ledger.kept_columns.find([1, 2])))
    assert kept == [*[[]] * 5, [1], *[[1, 2]] * 3]


def test_a_damaged_reply_that_was_expected_stops_only_who_wants_it(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", endpoint="https://api.example")
    for number in (1, 2):
        ledger.claim(
            [bytes([number]) * 16], run="run", required=0, limits=Limits(None, 1000), seen=number - 1
        )
        body = json.dumps({"contacts": [{"value": "", "enriched_contact": {"full_name": "Ada"}}]}).encode()
        ledger.record(number, http_status=200, encoding="", complete=True, body=body)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE replies SET body = x'00' WHERE request_id = 2")
    connection.close()
    with output.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_") as finisher:
        finisher.expect([1, 2])
        batch = finisher.finish(ended([row_of(1, 0)]), report=Report())
        assert batch.column("eb_full_name").to_pylist() == ["Ada"]
        with pytest.raises(LedgerError, match="request 2"):
            finisher.finish(ended([row_of(2, 0)]), report=Report())
    ledger.close()


@pytest.mark.parametrize("position", [9, 1000, -2])
def test_a_position_that_no_reply_has_is_damage(ledger_of_replies, position):
    with (
        output.Finisher(ledger_of_replies, arrow_schema(), columns=None, prefix="eb_") as finisher,
        pytest.raises(LedgerError, match="request 3 is damaged"),
    ):
        finisher.finish(ended([row_of(3, position)]), report=Report())


def test_a_row_that_nobody_answered_is_given_nobody_of_a_reply(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", endpoint="https://api.example")
    someone = {"email": "a@b.example", "enriched_contact": {"full_name": "Ada"}}
    claim: Any = ledger.claim([b"k" * 16], run="run", required=0, limits=Limits(None, 1000), seen=0)
    answers: Any = (("matched", 0, "Ada"), ("not_found", -1, None))
    body = json.dumps({"contacts": [someone]}).encode()
    ledger.record(claim.request_id, http_status=200, encoding="", complete=True, body=body)
    with output.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_") as finisher:
        for status, position, name in answers:
            batch = finisher.finish(ended([Answer(status, claim.request_id, position)]), report=Report())
            assert batch.column("eb_full_name").to_pylist() == [name]
    ledger.close()
