"""Tables of other versions, and tables that were emptied."""

import sqlite3
from contextlib import closing

import pytest

from eb_dagster import LedgerError
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import ENDPOINT, JANE, claim


def test_a_newer_ledger_is_refused(ledger, where):
    import sqlalchemy as sa

    from eb_dagster.ledger import schema

    with ledger.database.transaction() as connection:
        connection.execute(
            sa.update(schema.meta).where(schema.meta.c.name == "schema_version").values(value=b"99")
        )
    with pytest.raises(LedgerError, match="upgrade"):
        Ledger(where, endpoint=ENDPOINT)


@pytest.mark.parametrize("version", [b"1", b"2"])
def test_a_ledger_of_a_development_version_is_refused_and_left_as_it_is(tmp_path, version):
    path = tmp_path / "old.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as new:
        claim(new, JANE)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", [version])
        # As those versions were: unsigned, and the first without a sum over the key of the hashes.
        connection.execute("PRAGMA application_id = 0")
        connection.execute("DELETE FROM meta WHERE name = 'secret_checksum'")
        connection.commit()
        before = list(connection.iterdump())
    with pytest.raises(LedgerError, match=r"development version .* name a new ledger"):
        Ledger(path, endpoint=ENDPOINT)
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def test_an_emptied_table_of_facts_makes_no_new_ledger(tmp_path):
    path = tmp_path / "l.db"
    Ledger(path, endpoint=ENDPOINT).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM meta")
        connection.commit()
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path, endpoint=ENDPOINT)
