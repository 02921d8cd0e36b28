"""What a server may have by default, and what may stand between."""

import threading
from contextlib import closing

import pytest

from eb_dagster import LedgerError
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from tests import pooler
from tests.faults import workers
from tests.ledger.steps import ENDPOINT, claim_emails, claim_forty, no_session_is_left


def test_postgresql_that_may_forget_is_refused(postgresql):
    import psycopg

    url = postgresql.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    with pytest.raises(LedgerError, match="synchronous_commit") as error:
        Ledger(url, endpoint=ENDPOINT)
    assert no_session_is_left(url)
    # Until here, it holds on to whatever was open when it was raised.
    assert error.tb is not None


DEFAULTS = [
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "statement_timeout = '300ms'",
    "lock_timeout = '10ms'",
    "idle_in_transaction_session_timeout = '300ms'",
]


def claimed_by_four(where: str) -> list[int]:
    """How many of the same forty people each of four processes may ask, that open a new ledger at once."""
    pipes = [workers.CONTEXT.Pipe() for _ in range(4)]
    running = [
        workers.start(claim_forty, theirs, where, f"run {number}") for number, (_, theirs) in enumerate(pipes)
    ]
    for ours, theirs in pipes:
        theirs.close()
        ours.send("open it")
    counts = [ours.recv() for ours, _ in pipes]
    for process, (ours, _) in zip(running, pipes, strict=True):
        ours.close()
        process.join()
    assert [process.exitcode for process in running] == [0] * 4
    return counts


@pytest.mark.parametrize("default", DEFAULTS)
def test_whatever_a_database_has_by_default_four_processes_claim_each_person_once(postgresql, default):
    url = postgresql.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    postgresql.run(f"ALTER DATABASE {name} SET {default}")
    assert sum(claimed_by_four(url)) == 40


def test_a_transaction_waits_for_another_longer_than_the_server_lets_it_by_default(postgresql):
    url = postgresql.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        postgresql.run(f"ALTER DATABASE {name} SET {setting} = '100ms'")
    with closing(Ledger(url, endpoint=ENDPOINT)) as ledger, closing(Ledger(url, endpoint=ENDPOINT)) as other:
        granted: list[int] = []
        waiting = threading.Thread(
            target=lambda: granted.append(claim_emails(other, "a@firm.example", seen=0).granted)
        )
        with ledger.database.transaction() as connection:
            waiting.start()
            connection.exec_driver_sql("SELECT pg_sleep(0.5)")
            waiting.join(0.5)
            assert not granted
        waiting.join(30)
        assert granted == [1]
        assert not other._owner.is_gone(ledger._owner.name)


def test_a_default_of_read_only_is_refused(postgresql):
    url = postgresql.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    postgresql.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(LedgerError, match="read-only"):
        Ledger(url, endpoint=ENDPOINT)


def test_the_tables_are_found_again_whatever_becomes_of_the_search_path(postgresql):
    import sqlalchemy as sa

    url = postgresql.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    with closing(Ledger(url, endpoint=ENDPOINT)) as ledger:
        assert claim_emails(ledger, "a@firm.example").granted == 1
        postgresql.run(
            "CREATE SCHEMA elsewhere", f"ALTER DATABASE {name} SET search_path = elsewhere", name=name
        )
        # The next ones have another default.
        postgresql.kill_sessions(name)
        assert claim_emails(ledger, "a@firm.example", seen=0).known
        with ledger.database.reading() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM requests")).scalar() == 1
    postgresql.run(f"ALTER DATABASE {name} SET search_path = nowhere")
    with pytest.raises(LedgerError, match="search_path"):
        Ledger(url, endpoint=ENDPOINT)


@pytest.mark.parametrize("foreign", ["meta (id integer)", "requests (id integer)"])
def test_a_database_with_another_programs_tables_of_the_same_names_is_refused(postgresql, foreign):
    url = postgresql.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    postgresql.run(f"CREATE TABLE {foreign}", name=name)
    with pytest.raises(LedgerError, match="another program"):
        Ledger(url, endpoint=ENDPOINT)
    tables = postgresql.run("SELECT relname FROM pg_stat_user_tables", name=name)
    assert tables == [(foreign.partition(" ")[0],)]


@pytest.mark.skipif(pooler.FOUND is None, reason="no pgbouncer is installed")
def test_a_pooler_that_lends_a_session_for_a_transaction_may_stand_between(postgresql, tmp_path):
    with pooler.pooled(postgresql.new_database(), tmp_path) as url:
        assert sum(claimed_by_four(url)) == 40
        with closing(Ledger(url, endpoint=ENDPOINT)) as ledger:
            # What those left that have ended.
            assert ledger.budget.spending().in_doubt == 40
            with closing(Ledger(url, endpoint=ENDPOINT)) as other:
                assert claim_emails(other, "x@firm.example").granted == 1
                assert ledger.recover() == 0
            assert ledger.recover() == 1
            assert reconcile.check(ledger) == []
