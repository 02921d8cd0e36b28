"""What a ledger may be opened on, and what may change behind its back."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eb_dagster import LedgerError
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger, Limits
from tests import pooler

ENDPOINT = "http://127.0.0.1:1/v1/bulk-enrich"
PLENTY = Limits(max_credits=None, max_credits_at_risk=20_000)
DEFAULTS = [
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "statement_timeout = '300ms'",
    "lock_timeout = '10ms'",
    "idle_in_transaction_session_timeout = '300ms'",
]

CLAIMING = """
import sys
from contextlib import closing
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.ledger import Ledger, Limits
where, endpoint, run = sys.argv[1:]
sys.stdin.readline()
with closing(Ledger(where, endpoint=endpoint)) as ledger:
    granted = 0
    for number in range(40):
        key = ledger.key(Identifier("email", f"p{number}@firm.example"))
        granted += ledger.claim([key], run=run, required=0, limits=Limits(None, 20_000), seen=0).granted
    print(granted, flush=True)
    # Until all are done: what a process that is gone had claimed is in doubt, and not the others' either.
    sys.stdin.readline()
"""


def claim(ledger: Ledger, *addresses: str, seen: int | None = None) -> Any:
    keys = [ledger.key(Identifier("email", one)) for one in addresses]
    newest = ledger.last_request() if seen is None else seen
    return ledger.claim(keys, run="r", required=0, limits=PLENTY, seen=newest)


def claimed_by_four(where: str) -> list[int]:
    """How many of the same forty people each of four processes may ask, that open a new ledger at once."""
    words = [sys.executable, "-c", CLAIMING, where, ENDPOINT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*words, f"run {number}"], **pipes) for number in range(4)]
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
    counts = [int(one.stdout.readline() or -1) for one in running]
    for one in running:
        one.communicate("\n")
    assert [one.returncode for one in running] == [0] * 4
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
            target=lambda: granted.append(claim(other, "a@firm.example", seen=0).granted)
        )
        with ledger.transaction() as connection:
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
        assert claim(ledger, "a@firm.example").granted == 1
        postgresql.run(
            "CREATE SCHEMA elsewhere", f"ALTER DATABASE {name} SET search_path = elsewhere", name=name
        )
        # The next ones have another default.
        postgresql.kill_sessions(name)
        assert claim(ledger, "a@firm.example", seen=0).known
        with ledger.reading() as connection:
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
            assert ledger.spending().in_doubt == 40
            with closing(Ledger(url, endpoint=ENDPOINT)) as other:
                assert claim(other, "x@firm.example").granted == 1
                assert ledger.recover() == 0
            assert ledger.recover() == 1
            assert reconcile.check(ledger) == []


# Files


def unusual(path: Path, kind: str) -> socket.socket | None:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/null")
    else:
        # Bound in its folder, for a path of a socket must be short.
        here = Path.cwd()
        os.chdir(path.parent)
        one = socket.socket(socket.AF_UNIX)
        one.bind(path.name)
        os.chdir(here)
        return one
    return None


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device", "a socket"])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_told_as_what_it_is_and_not_waited_for(tmp_path, kind, end):
    if end:
        Ledger(tmp_path / "l.db", endpoint=ENDPOINT).close()
    kept = unusual(tmp_path / f"l.db{end}", kind)
    with pytest.raises(LedgerError, match=kind):
        Ledger(tmp_path / "l.db", endpoint=ENDPOINT)
    if kept is not None:
        kept.close()


def foreign_file(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("email\njane@firm.example\n")
    elif kind == "Parquet":
        pd.DataFrame({"email": ["jane@firm.example"]}).to_parquet(path)
    else:
        with closing(sqlite3.connect(path)) as connection:
            if kind == "an application's mark":
                connection.execute("PRAGMA application_id = 1234")
                connection.execute("VACUUM")
            else:
                connection.execute(
                    "CREATE TABLE meta (x)" if kind == "our names" else "CREATE TABLE people (x)"
                )
            if kind == "a log":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.commit()


@pytest.mark.parametrize("kind", ["text", "Parquet", "tables", "our names", "an application's mark", "a log"])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_another_programs_file_is_refused_and_left_as_it_is(tmp_path, kind, mode):
    path = tmp_path / "other.db"
    foreign_file(path, kind)
    path.chmod(mode)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"another (program|kind)"):
        Ledger(path, endpoint=ENDPOINT)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["other.db"]


def test_an_empty_file_is_a_new_ledger_unless_one_was_there(tmp_path):
    path = tmp_path / "l.db"
    path.touch(mode=0o600)
    Ledger(path, endpoint=ENDPOINT).close()
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="was emptied"):
        Ledger(path, endpoint=ENDPOINT)
    path.unlink()
    (tmp_path / "l.db-wal").write_bytes(b"what came last")
    with pytest.raises(LedgerError, match="still there"):
        Ledger(path, endpoint=ENDPOINT)
    assert not path.exists()


def test_an_emptied_table_of_facts_makes_no_new_ledger(tmp_path):
    path = tmp_path / "l.db"
    Ledger(path, endpoint=ENDPOINT).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM meta")
        connection.commit()
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path, endpoint=ENDPOINT)


def taken_away(path: Path, how: str) -> None:
    if how == "the folder moved":
        path.parent.rename(path.parent.with_name("elsewhere"))
    elif how == "moved":
        path.rename(path.with_name("elsewhere.db"))
    elif how == "replaced":
        shutil.copy(path, path.with_name("copy.db"))
        path.with_name("copy.db").replace(path)
    else:
        path.with_name(path.name + how).unlink()


@pytest.mark.parametrize("how", ["", "-wal", "-shm", "moved", "replaced", "the folder moved"])
def test_nothing_is_claimed_once_the_files_behind_the_path_are_others(tmp_path, how):
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / "l.db"
    ledger = Ledger(path, endpoint=ENDPOINT)
    one = claim(ledger, "a@firm.example")
    taken_away(path, how)
    with pytest.raises(LedgerError, match="moved, removed or replaced"):
        claim(ledger, "b@firm.example")
    # A reply that was paid for is written down all the same.
    ledger.record(one.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    ledger.close()


def test_a_run_stops_when_its_ledger_is_moved_and_the_next_pays_nothing_twice(stand_in, enricher, tmp_path):
    api, path = stand_in(match_rate=1.0), tmp_path / "ledger.db"
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(40)]})

    def move(report) -> None:
        if report.answers >= 10 and path.exists():
            path.rename(tmp_path / "elsewhere.db")

    one = enricher(api, partition_size=1, max_credits_at_risk=1, progress=move)
    with pytest.raises(LedgerError, match="moved"):
        one.enrich_dataframe(frame)
    one.close()
    (tmp_path / "elsewhere.db").rename(path)
    enricher(api).enrich_dataframe(frame)
    assert (api.charged_twice(), api.credits()) == (0, 40)


def test_an_older_copy_in_place_of_what_was_read_is_noticed(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        claim(ledger, "a@firm.example")
        with pytest.raises(LedgerError, match="damaged or missing"):
            claim(ledger, "b@firm.example", seen=7)


def test_at_the_end_of_a_run_the_file_alone_holds_what_was_bought(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(20)]})
    one = enricher(api, partition_size=5)
    one.enrich_dataframe(frame)
    # While the first is open, its log is there; somebody copies the file alone.
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    enricher(api, ledger=tmp_path / "copy.db").enrich_dataframe(frame)
    assert api.credits() == 20
