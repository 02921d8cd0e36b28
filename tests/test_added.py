"""Each row with its own contact, however rows and replies stand to each other."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eb_dagster import added
from eb_dagster.contacts import arrow_schema, flatten, read_contact
from eb_dagster.findings import Known
from eb_dagster.identifiers import Identifier
from eb_dagster.ledger import Ledger, Limits
from eb_dagster.plan import Question, Row
from eb_dagster.purchase import Answer
from eb_dagster.report import Report

# By reply, who was found among those that were asked.
replies = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4)


def answers_of(asked: list[list[bool]]) -> list[tuple[str | None, Answer]]:
    """Whom each question found, and its answer, in the order of asking."""
    made: list[tuple[str | None, Answer]] = []
    for number, is_found in enumerate(asked, start=1):
        names = [f"{number}/{at}" if found else None for at, found in enumerate(is_found)]
        contacts = [one and read_contact(json.dumps({"full_name": one}).encode()) for one in names]
        flattened = flatten(contacts)
        made += [
            (name, Answer(Known("matched" if name else "missed", number, "run", 1.0, at), flattened, at))
            for at, name in enumerate(names)
        ]
    return made


@st.composite
def rows_of(draw, made):
    """Indices of answers as rows may have them; None for a row that gets nobody, whoever was asked."""
    indices = st.integers(0, len(made) - 1)
    runs = st.tuples(indices, st.integers(1, 20)).map(lambda run: list(range(run[0], sum(run)))[:20])
    pieces = draw(st.lists(runs | st.just([None]) | indices.map(lambda one: [one]), max_size=8))
    return [one for piece in pieces for one in piece if one is None or one < len(made)]


@pytest.fixture(scope="module")
def finisher(tmp_path_factory):
    ledger = Ledger(tmp_path_factory.mktemp("added") / "ledger.db", endpoint="https://api.example")
    yield added.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_")
    ledger.close()


@pytest.mark.parametrize("most_pieces", [0, 3, 1000])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=replies, data=st.data())
def test_each_row_gets_its_own_contact_however_rows_and_replies_stand(
    finisher, most_pieces, asked, data, monkeypatch
):
    monkeypatch.setattr(added, "_MOST_PIECES", most_pieces)
    made = answers_of(asked)
    expected: list[str | None] = []
    rows: list[Row] = []
    for at in data.draw(rows_of(made)):
        # Nobody for a row whose identifier was found, too: it is suppressed.
        name, answer = made[0 if at is None else at]
        question = Question(Identifier("email", "a@b.example"), b"", 0, answer=answer)
        status = "suppressed" if at is None else "matched" if name else "not_found"
        rows.append(Row((question,), (), status=status, question=question))
        expected.append(name if status == "matched" else None)
    batch = finisher.finish(rows, run="run", report=Report())
    assert batch.column("eb_full_name").to_pylist() == expected
    assert batch.column("eb_emails").null_count == len(rows)
    batch.validate(full=True)


def test_a_row_that_nobody_answered_is_given_nobody_of_a_reply(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", endpoint="https://api.example")
    someone = {"email": "a@b.example", "enriched_contact": {"full_name": "Ada"}}
    claim = ledger.claim([b"k" * 16], run="run", required=0, limits=Limits(None, 1000), seen=0)
    body = json.dumps({"contacts": [someone]}).encode()
    ledger.record(claim.request_id, http_status=200, encoding="", complete=True, body=body)
    finisher = added.Finisher(ledger, arrow_schema(), columns=None, prefix="eb_")
    for standing, position, name in (("matched", 0, "Ada"), ("missed", -1, None)):
        answer = Answer(Known(standing, claim.request_id, "run", 1.0, position))
        question = Question(Identifier("email", "a@b.example"), b"", 0, answer=answer)
        row = Row((question,), (), status="matched", question=question)
        batch = finisher.finish([row], run="run", report=Report())
        assert batch.column("eb_full_name").to_pylist() == [name]
    ledger.close()
