"""What a command that is killed leaves on the disk of those whom it was about: nothing beside the ledger."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from eb_dagster.tables.object_store import place
from eb_dagster.tables.parquet import write_parquet
from tests import object_stores
from tests.cli.shell import COMMAND

PEOPLE = [f"p{number}@canary.example" for number in range(5)]
TEXT = "\n".join(["email", *PEOPLE, ""]).encode()
LINES = "".join(json.dumps({"email": email}) + "\n" for email in PEOPLE).encode()
PATIENCE = 120


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files of the commands that are run, of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    for name, value in {
        "TMPDIR": str(folder), "EXACTBUYER_API_KEY": "canary-key", "EB_DAGSTER_LEDGER": str(tmp_path / "ledger.db"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return folder


def left(folder: Path) -> list[Path]:
    """The files in it that may hold somebody: the ledger that a plan began with is empty, and so are locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    return [path for path in files if "ledger.db" not in str(path.relative_to(folder))]


def kill_in_flight(api, *words: str, piped: bytes = b"") -> None:
    """Kill a command while its first request is under way."""
    environment = {**os.environ, "EXACTBUYER_BASE_URL": api.url}
    with subprocess.Popen(
        [*COMMAND, *words, "--yes"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(piped)
        process.stdin.close()
        until = time.monotonic() + PATIENCE
        while not api.requests():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("-", TEXT), ("-", gzip.compress(TEXT)), ("-", LINES), ("leads.csv.gz", gzip.compress(TEXT)),
        ("leads.ndjson.gz", gzip.compress(LINES)),
    ],
    ids=["text from stdin", "gzip from stdin", "NDJSON from stdin", "gzip", "NDJSON in gzip"],
)  # fmt: skip
def test_nothing_of_the_input_is_left(name, content, stand_in, temporary):
    api = stand_in(latency=PATIENCE)
    if name != "-":
        Path(name).write_bytes(content)
    kill_in_flight(api, "enrich", name, "-o", "out.csv", piped=content if name == "-" else b"")
    assert left(temporary) == []


def test_nothing_of_a_query_is_left(stand_in, temporary):
    api = stand_in(latency=PATIENCE)
    with sqlite3.connect("crm.db") as connection:
        connection.execute("CREATE TABLE leads (email TEXT)")
        connection.executemany("INSERT INTO leads VALUES (?)", [(email,) for email in PEOPLE])
    connection.close()
    words = ["--query", "SELECT * FROM leads", "--connection", "crm.db"]
    kill_in_flight(api, "enrich", *words, "-o", "out.csv")
    assert left(temporary) == []


@pytest.fixture
def store(monkeypatch) -> Iterator[object_stores.ObjectStore]:
    pytest.importorskip("moto")
    with object_stores.running() as server:
        for name, value in {**object_stores.KEYS, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        server.make_bucket("crm")
        yield server


@pytest.mark.xdist_group("object stores")
@pytest.mark.usefixtures("store")
def test_nothing_of_an_object_is_left_that_was_read_or_was_to_be_written(stand_in, temporary):
    api = stand_in(latency=PATIENCE)
    table = pa.table({"email": PEOPLE})
    write_parquet(table.to_batches(), place("s3://crm/leads.parquet"), schema=table.schema)
    assert subprocess.run(
        [*COMMAND, "enrich", "s3://crm/leads.parquet", "-o", "s3://crm/leads.csv", "--yes"],
        env={**os.environ, "EXACTBUYER_BASE_URL": stand_in().url, "EB_DAGSTER_LEDGER": "other.db"},
        check=False,
    ).returncode in (0, 3)  # fmt: skip
    kill_in_flight(api, "enrich", "s3://crm/leads.csv", "--email", "email", "-o", "s3://crm/out.parquet")
    assert left(temporary) == []


KILLED_WHILE = """
import os, signal, sys
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{patch}
from eb_dagster.cli import main
main(sys.argv[1:], prog_name="eb-dagster")
"""
WRITES_A_SHEET = "import xlsxwriter; xlsxwriter.Workbook.close = kill"
LOADS = "import dlt; dlt.Pipeline.load = kill"


@pytest.mark.parametrize(
    ("patch", "target"),
    [
        (WRITES_A_SHEET, ["-o", "out.xlsx"]),
        (LOADS, ["--into", "duckdb:///w.duckdb", "--dataset", "crm", "--key", "email"]),
    ],
    ids=["a spreadsheet", "a load"],
)
def test_what_libraries_kept_in_files_goes_with_the_next_run_and_with_forgetting(
    patch, target, stand_in, temporary
):
    Path("leads.csv").write_bytes(TEXT)
    environment = {**os.environ, "EXACTBUYER_BASE_URL": stand_in(match_rate=1.0).url}

    def run(program: list[str], *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *words], env=environment, capture_output=True, text=True)

    words = ["enrich", "leads.csv", *target, "--yes"]
    killer = [sys.executable, "-c", KILLED_WHILE.format(patch=patch)]
    for again in (words, ["ledger", "forget", PEOPLE[0]]):
        assert run(killer, *words, "--force").returncode == -signal.SIGKILL
        assert left(temporary)
        done = run(COMMAND, *again)
        assert done.returncode == 0, done.stderr
        assert list(temporary.rglob("*")) == []
