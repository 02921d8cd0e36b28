"""Columns that are kept beside a reply are that reply's, and whatever does not fit is as if it were not there."""

import base64
from contextlib import closing
from datetime import timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from eb_dagster.contacts.flatten import flatten
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.ledger import kept_columns, privacy, reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.schema import kept_columns as table
from eb_dagster.ledger.schema import replies
from tests.ledger.people import JANE, JOHN
from tests.ledger.steps import ENDPOINT, claim_emails

PEOPLE = pd.DataFrame({"email": [JANE, JOHN, *(f"p{number}@firm.example" for number in range(30))]})


@pytest.fixture
def again(stand_in, enricher, where):
    """Enrich the same people, which costs something only the first time; gives the added columns."""
    api = stand_in(match_rate=0.8)

    def enrich(**settings):
        buyer = enricher(api, ledger=where, **settings)
        try:
            return buyer.enrich_dataframe(PEOPLE).drop(columns="eb_from_ledger")
        finally:
            buyer.close()

    return enrich


@pytest.fixture
def kept(where):
    """The rows of what is kept; with a statement, after it was carried out."""

    def read(statement=None):
        with closing(Ledger(where, endpoint=ENDPOINT)) as ledger, ledger.database.transaction() as connection:
            if statement is not None:
                connection.execute(statement)
            return connection.execute(sa.select(table)).all()

    return read


def test_a_purchase_keeps_columns_and_a_rerun_gives_the_same_rows_from_them(again, kept, where):
    bought = again()
    (row,) = kept()
    # A body that cannot be read shows that nobody reads it.
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger, ledger.database.transaction() as connection:
        connection.execute(sa.update(replies).values(body=b"unread"))
    pd.testing.assert_frame_equal(again(), bought)
    assert row.request_id == 1


FAULTS = {
    "damaged": {"body": b"nothing"},
    "of another reply": {"reply_checksum": 7},
    "read in another way": {"reader": "another"},
    "with another checksum": {"checksum": 7},
    "of another encoding": {"encoding": "aes256gcm:arrow"},
    "of another request": {"request_id": 7},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_is_made_anew_from_the_reply(again, kept, fault):
    bought = again()
    kept(sa.update(table).values(**fault))
    pd.testing.assert_frame_equal(again(), bought)
    rows = [row for row in kept() if row.request_id == 1]
    assert [kept_columns.is_intact(row) for row in rows] == [True]


def test_kept_columns_die_with_whoever_is_forgotten_and_with_a_purge(again, kept, where):
    again()
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        assert privacy.forget(ledger, "email", JANE).contacts == 1
    assert kept() == []
    again()
    assert len(kept()) == 1
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        privacy.purge(ledger, older_than=timedelta(seconds=-10))
    assert kept() == []


def test_columns_of_a_reply_that_was_changed_meanwhile_are_not_kept(again, kept, where):
    again()
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        (stored,) = ledger.replies([1])
        privacy.forget(ledger, "email", JANE)
        ledger.kept_columns.keep(
            ledger.kept_columns.row_for(1, flatten([None] * len(PEOPLE)), reply_checksum=stored.checksum)
        )
    assert kept() == []


def test_they_are_encrypted_where_replies_are_and_useless_without_the_key(again, kept, monkeypatch):
    monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(bytes(32)).decode())
    bought = again()
    (row,) = kept()
    assert row.encoding == "aes256gcm:arrow"
    pd.testing.assert_frame_equal(again(), bought)


def test_all_can_be_dropped_and_a_damaged_one_is_told_by_check(again, kept, where):
    again()
    kept(sa.update(table).values(body=b"nothing"))
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        (fault,) = reconcile.check(ledger)
        assert "its kept columns are damaged" in fault
        assert ledger.kept_columns.drop() == 1
        assert reconcile.check(ledger) == []


def test_what_is_odd_about_contacts_is_kept_with_them(where):
    contacts = flatten(
        [None, read_contact(b'{"full_name": {"a": 1}, "new": 1}'), read_contact(b'{"full_name": "A\\u00e9"}')]
    )
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        request = claim_emails(ledger, JANE).request_id
        stored = ledger.record(request, http_status=200, encoding="", complete=True, body=b"{}")
        ledger.kept_columns.keep(
            ledger.kept_columns.row_for(request, contacts, reply_checksum=stored.checksum)
        )
        read = ledger.kept_columns.open(ledger.kept_columns.find([request, 99])[request])
    assert read.columns.equals(contacts.columns)
    assert read.is_vacant.tolist() == [True, False, False]
    assert (read.drift, read.unknown_keys) == (contacts.drift, contacts.unknown_keys)
    assert read.drift
    assert read.unknown_keys


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_body_of_another_type_is_as_if_it_were_not_there(again, kept):
    again()
    kept(sa.text("UPDATE kept_columns SET body = 'text'"))
    again()
    assert [type(row.body) for row in kept()] == [bytes]
