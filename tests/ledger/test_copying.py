"""A ledger moves whole to another database, and never two of them buy."""

import base64
from contextlib import closing

import pandas as pd
import pytest
import sqlalchemy as sa

from eb_dagster import LedgerError
from eb_dagster.ledger import privacy, reconcile, schema
from eb_dagster.ledger.copying import copy_ledger
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.people import JANE, JOHN, leads
from tests.ledger.steps import ENDPOINT, claim_emails

MANY = pd.DataFrame(
    {"email": [f"p{number}@firm.example" for number in range(30)], "phone": ["+15125550100"] * 30}
)


@pytest.fixture
def target(where, tmp_path, postgresql):
    """An empty database of the other kind."""
    return str(tmp_path / "new" / "ledger.db") if "://" in where else postgresql.new_database()


@pytest.fixture
def sent(stand_in, enricher, where, monkeypatch):
    """A ledger with replies that are encrypted, doubts and decisions; gives a way to go on buying with any ledger."""
    monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(bytes(32)).decode())
    api = stand_in(match_rate=0.8)

    def enrich(ledger, frame):
        buyer = enricher(api, ledger=ledger)
        try:
            return buyer.enrich_dataframe(frame), buyer.report.requests
        finally:
            buyer.close()

    enrich(where, MANY)
    enrich(where, leads(JANE))
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        claim_emails(ledger, "doubt@firm.example")
        privacy.suppress(ledger, [("email", "never@firm.example")])
        ledger.budget.set_cap("month", 1_000_000)
    return enrich


def rows_of(where):
    opened = closing(Ledger(where, endpoint=ENDPOINT, must_exist=True, may_be_moved=True))
    with opened as ledger, ledger.database.reading() as connection:
        return {
            table.name: sorted(
                repr([bytes(value) if isinstance(value, memoryview) else value for value in row])
                for row in connection.execute(sa.select(table))
            )
            for table in schema.metadata.sorted_tables
            if table.name not in schema.CACHES
        }


def test_a_ledger_moves_to_the_other_kind_of_database_and_back_and_nothing_is_bought_twice(
    sent, where, target, tmp_path, postgresql, monkeypatch
):
    before = rows_of(where)
    key = base64.b64encode(bytes(32)).decode()
    monkeypatch.delenv("EB_DAGSTER_LEDGER_KEY")
    copied = copy_ledger(where, target)
    monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", key)
    assert rows_of(target) == before
    assert copied.requests == len(before["requests"])
    known, requests = sent(target, MANY)
    assert requests == 0
    assert known["eb_from_ledger"].all()
    sent(target, leads(JOHN))
    back = postgresql.new_database() if "://" in where else str(tmp_path / "back.db")
    copy_ledger(target, back)
    assert sent(back, pd.concat([MANY, leads(JANE, JOHN)], ignore_index=True))[1] == 0
    with closing(Ledger(back, endpoint=ENDPOINT, must_exist=True)) as ledger:
        assert reconcile.check(ledger) == []
        assert ledger.suppression.current().keys
        assert ledger.budget.caps()["month"] == 1_000_000
        assert [doubt.at_risk for doubt in reconcile.doubts(ledger)] == [1]


def test_a_ledger_that_was_moved_is_refused_and_says_what_to_do(sent, where, target):
    copy_ledger(where, target)
    with pytest.raises(LedgerError, match=r"was moved by .* name the one that it was copied to"):
        sent(where, leads(JOHN))
    with pytest.raises(LedgerError, match="was moved"):
        copy_ledger(where, target)


def test_a_ledger_that_was_moved_is_copied_to_no_other_place(sent, where, target, tmp_path):
    sent(where, leads(JOHN))
    copy_ledger(where, target)
    with pytest.raises(LedgerError, match="was moved"):
        copy_ledger(where, tmp_path / "elsewhere.db")
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.usefixtures("sent")
def test_a_process_that_had_the_ledger_open_cannot_claim_once_it_was_moved(where, target):
    with closing(Ledger(where, endpoint=ENDPOINT)) as idle:
        copy_ledger(where, target)
        with pytest.raises(LedgerError, match="was moved"):
            claim_emails(idle, JOHN)


@pytest.mark.usefixtures("sent")
def test_a_ledger_in_use_is_not_copied_and_stays_as_it_was(where, target):
    with closing(Ledger(where, endpoint=ENDPOINT)) as running:
        claim_emails(running, JOHN)
        with pytest.raises(LedgerError, match="still has it open"):
            copy_ledger(where, target)
        assert claim_emails(running, "bo@firm.example").granted == 1


def test_nothing_is_copied_over_another_ledger_or_onto_itself(sent, where, target):
    Ledger(target, endpoint=ENDPOINT).close()
    with pytest.raises(LedgerError, match="a ledger already"):
        copy_ledger(where, target)
    with pytest.raises(LedgerError, match="onto itself"):
        copy_ledger(where, where)
    assert sent(where, leads(JANE))[1] == 0


class Crash(BaseException):
    pass


def test_a_copy_that_breaks_off_is_refused_and_made_anew_by_the_next(sent, where, target):
    def crash(table):
        if table == "replies":
            raise Crash

    with pytest.raises(Crash):
        copy_ledger(where, target, on_table=crash)
    with pytest.raises(LedgerError, match="not complete"):
        Ledger(target, endpoint=ENDPOINT)
    assert sent(where, leads(JOHN))[1] == 1
    copy_ledger(where, target)
    assert sent(target, leads(JANE, JOHN))[1] == 0


def test_a_crash_after_the_ledger_was_marked_leaves_one_that_the_next_copy_completes(sent, where, target):
    copy_ledger(where, target)
    # As if it had ended just before the last step.
    with (
        closing(Ledger(where, endpoint=ENDPOINT, may_be_moved=True)) as ledger,
        ledger.database.reading() as connection,
    ):
        token = schema.read_mark(connection, schema.MOVED)
    with closing(Ledger(target, endpoint=ENDPOINT)) as ledger, ledger.database.transaction() as connection:
        connection.execute(sa.insert(schema.meta).values(name=schema.INCOMPLETE, value=token))
    with pytest.raises(LedgerError, match="not complete"):
        Ledger(target, endpoint=ENDPOINT)
    copy_ledger(where, target)
    assert sent(target, leads(JANE))[1] == 0


@pytest.mark.usefixtures("sent")
def test_a_damaged_ledger_is_not_copied(where, target):
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger, ledger.database.transaction() as connection:
        connection.execute(sa.update(schema.requests).where(schema.requests.c.id == 1).values(credits=29_999))
    with pytest.raises(LedgerError, match="faults"):
        copy_ledger(where, target)


@pytest.mark.usefixtures("sent")
def test_the_ids_of_new_requests_go_on_in_the_copy(where, target):
    copy_ledger(where, target)
    with closing(Ledger(target, endpoint=ENDPOINT)) as ledger:
        last = ledger.last_request()
        assert claim_emails(ledger, "x@firm.example").request_id == last + 1
