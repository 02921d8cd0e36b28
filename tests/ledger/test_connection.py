"""A database that cannot be reached, named or trusted."""

import shutil
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from eb_dagster import LedgerError
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import ENDPOINT, JANE, claim, no_session_is_left


def test_only_what_can_be_told_again_from_a_durable_reply_is_committed_without_a_sync(ledger):
    query = "PRAGMA synchronous" if ledger.file is not None else "SHOW synchronous_commit"

    def promised(**more) -> str:
        with ledger.database.transaction(**more) as connection:
            return str(connection.exec_driver_sql(query).scalar())

    assert [promised(), promised(is_durable=False), promised()] in (["2", "1", "2"], ["on", "off", "on"])


def test_a_claim_on_a_database_that_is_gone_says_so(own_postgresql):
    ledger = Ledger(own_postgresql.new_database(), endpoint=ENDPOINT)
    own_postgresql.down()
    try:
        with pytest.raises(LedgerError, match="database failed"):
            claim(ledger, JANE, seen=0)
    finally:
        own_postgresql.up()
    assert claim(ledger, JANE).granted == 1
    ledger.close()


def test_a_ledger_that_cannot_be_opened_is_let_go(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger, ledger.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE requests RENAME TO mislaid")
    with pytest.raises(LedgerError, match="database failed") as error:
        Ledger(where, endpoint=ENDPOINT)
    if where.startswith("postgresql"):
        assert no_session_is_left(where)
    else:
        assert not list(Path(f"{where}-owners").iterdir())
    assert error.tb is not None


def test_a_ledger_on_a_full_disk_is_told_to_make_room(tmp_path):
    with closing(Ledger(tmp_path / "ledger.db", endpoint=ENDPOINT)) as ledger:
        with ledger.database.transaction() as connection:
            # SQLite says the same of a database that may not grow as of a disk that is full.
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(LedgerError, match=r"is full\); .* that its disk has room"):
            claim(ledger, *(Identifier("email", f"p{number}@firm.example") for number in range(5_000)))


@pytest.mark.parametrize("text", ["mysql://x/y", "sqlite://", "nonsense://"])
def test_what_is_no_ledger_is_refused(text):
    with pytest.raises(LedgerError):
        Ledger(text, endpoint=ENDPOINT)


def test_a_password_in_the_url_is_in_no_message():
    with pytest.raises(LedgerError) as error:
        Ledger("postgresql://u:canary-secret@127.0.0.1:9/x", endpoint=ENDPOINT)
    assert "canary-secret" not in f"{error.value!r} {error.value.__cause__!r} {error.value.__context__!r}"


def test_a_table_that_is_gone_is_told_at_once_and_not_waited_for(ledger):
    claimed = claim(ledger, JANE)
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE replies RENAME TO other")
    started = time.monotonic()
    with pytest.raises(LedgerError):
        ledger.record(claimed.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    assert time.monotonic() - started < 30


def test_at_the_end_of_a_run_the_file_alone_holds_what_was_bought(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(20)]})
    buyer = enricher(api, partition_size=5)
    buyer.enrich_dataframe(frame)
    # While the first is open, its log is there; somebody copies the file alone.
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    enricher(api, ledger=tmp_path / "copy.db").enrich_dataframe(frame)
    assert api.credits() == 20
