"""Each row with its own contact, however rows and replies stand to each other."""

import json
import sqlite3
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eb_dagster import LedgerError
from eb_dagster.contacts.flatten import flatten
from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.known_keys import Known
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline import output
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import Block, Question, Row

# By reply, who was found among those that were asked.
replies = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4)


def answers_of(asked: list[list[bool]]) -> list[tuple[str | None, Known]]:
    """Whom each question found, and its answer, in the order of asking."""
    made: list[tuple[str | None, Known]] = []
    for number, is_found in enumerate(asked, start=1):
        names = [f"{number}/{index}" if found else None for index, found in enumerate(is_found)]
        contacts = [
            None if name is None else read_contact(json.dumps({"full_name": name}).encode()) for name in names
        ]
        flattened = flatten(contacts)
        made += [
            (
                name,
                Known(
                    "matched" if name else "missed", number, "run", 1.0, index, contacts=flattened, row=index
                ),
            )
            for index, name in enumerate(names)
        ]
    return made


def block_of(rows: list[Row]) -> Block:
    """These rows, none of which the ledger ended at once."""
    candidates = [Candidates(tuple(question.identifier for question in row.questions), ()) for row in rows]
    return Block(0, candidates, rows, range(len(rows)), [])


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


@pytest.mark.parametrize("most_pieces", [0, 3, 1000])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=replies, data=st.data())
def test_each_row_gets_its_own_contact_however_rows_and_replies_stand(
    finisher, most_pieces, asked, data, monkeypatch
):
    monkeypatch.setattr(output, "_MOST_PIECES", most_pieces)
    made = answers_of(asked)
    expected: list[str | None] = []
    rows: list[Row] = []
    for index in data.draw(rows_of(made)):
        # Nobody for a row whose identifier was found, too: it is suppressed.
        name, answer = made[0 if index is None else index]
        question = Question(Identifier("email", "a@b.example"), b"", 0, answer=answer)
        status = "suppressed" if index is None else "matched" if name else "not_found"
        rows.append(Row((question,), status=status, question=question))
        expected.append(name if status == "matched" else None)
    batch = finisher.finish(block_of(rows), run="run", report=Report())
    assert batch.column("eb_full_name").to_pylist() == expected
    assert batch.column("eb_emails").null_count == len(rows)
    batch.validate(full=True)


@pytest.fixture(scope="module")
def ledger_of_replies(tmp_path_factory):
    """A ledger with eight replies of nine contacts each."""
    ledger = Ledger(tmp_path_factory.mktemp("replies") / "ledger.db", endpoint="https://api.example")
    for number in range(1, 9):
        entries = [
            {
                "value": f"{index}@b.example",
                "enriched_contact": {"full_name": f"{number}/{index}", "shoes": index},
            }
            for index in range(9)
        ]
        keys = [bytes([number, index]) * 8 for index in range(9)]
        claim = ledger.claim(keys, run="run", required=0, limits=Limits(None, 1000), seen=number - 1)
        assert claim.request_id == number
        body = json.dumps({"contacts": entries}).encode()
        ledger.record(number, http_status=200, encoding="", complete=True, body=body)
    yield ledger
    ledger.close()


def row_of(request_id: int, position: int | None) -> Row:
    """A row that one earlier answer ends; without a position, it missed."""
    known = Known("missed", request_id, "earlier", 1.0)
    if position is not None:
        known = Known("matched", request_id, "earlier", 1.0, position)
    question = Question(Identifier("email", "a@b.example"), b"", 0, answer=known)
    return Row((question,), status="not_found" if position is None else "matched", question=question)


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
                batch = finisher.finish(block_of(rows), run="run", report=report)
                expected = [None if index is None else f"{request}/{index}" for request, index in block]
                assert batch.column("eb_full_name").to_pylist() == expected
    found = sum(index is not None for block in blocks for _, index in block)
    assert (report.matched, report.new_fields["shoes"]) == (2 * found, 2 * found)


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
        batch = finisher.finish(block_of([row_of(1, 0)]), run="run", report=Report())
        assert batch.column("eb_full_name").to_pylist() == ["Ada"]
        with pytest.raises(LedgerError, match="request 2"):
            finisher.finish(block_of([row_of(2, 0)]), run="run", report=Report())
    ledger.close()


@pytest.mark.parametrize("position", [9, 1000, -2])
def test_a_position_that_no_reply_has_is_damage(ledger_of_replies, position):
    with (
        output.Finisher(ledger_of_replies, arrow_schema(), columns=None, prefix="eb_") as finisher,
        pytest.raises(LedgerError, match="request 3 is damaged"),
    ):
        finisher.finish(block_of([row_of(3, position)]), run="run", report=Report())


def test_a_row_that_nobody_answered_is_given_nobody_of_a_reply(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", endpoint="https://api.example")
    someone = {"email": "a@b.example", "enriched_contact": {"full_name": "Ada"}}
    claim: Any = ledger.claim([b"k" * 16], run="run", required=0, limits=Limits(None, 1000), seen=0)
    answers: Any = (("matched", 0, "Ada"), ("missed", -1, None))
    body = json.dumps({"contacts": [someone]}).encode()
    ledger.record(claim.request_id, http_status=200, encoding="", complete=True, body=body)
    with output.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_") as finisher:
        for standing, position, name in answers:
            answer = Known(standing, claim.request_id, "run", 1.0, position)
            question = Question(Identifier("email", "a@b.example"), b"", 0, answer=answer)
            row = Row((question,), status="matched", question=question)
            batch = finisher.finish(block_of([row]), run="run", report=Report())
            assert batch.column("eb_full_name").to_pylist() == [name]
    ledger.close()
