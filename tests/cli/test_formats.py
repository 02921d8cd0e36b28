"""Tables of every form in and out of the shell: spreadsheets, NDJSON, compressed, stdin and stdout, queries and databases."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from tests.cli.shell import COMMAND, leads

calamine = pytest.importorskip("python_calamine")
xlsxwriter = pytest.importorskip("xlsxwriter")
ROWS = 3


def write_sheets(path: str, sheets: dict[str, list[list[Any]]]) -> None:
    with xlsxwriter.Workbook(path) as book:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for row, cells in enumerate(rows):
                for column, cell in enumerate(cells):
                    if isinstance(cell, dt.date):
                        sheet.write_datetime(row, column, cell, day)
                    else:
                        sheet.write(row, column, cell)


def read_sheet(path: str) -> list[dict[str, Any]]:
    header, *rows = calamine.CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    return [dict(zip(header, row, strict=True)) for row in rows]


def read(path: str, content: bytes | None = None) -> list[dict[str, Any]]:
    if path.endswith(".xlsx"):
        return read_sheet(path)
    content = Path(path).read_bytes() if content is None else content
    if path.endswith(".gz"):
        content, path = gzip.decompress(content), path.removesuffix(".gz")
    if path.endswith(("json", "jsonl")):
        return [json.loads(line) for line in content.decode().splitlines()]
    separator = "\t" if path.endswith("tsv") else ","
    return [*csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter=separator)]


def write(path: str) -> None:
    rows = [{"Email": f"p{number}@firm.example", "n": f"{number:03}"} for number in range(ROWS)]
    if path.endswith(".xlsx"):
        return write_sheets(path, {"Leads": [[*rows[0]], *([*row.values()] for row in rows)]})
    if "json" in path:
        content = "\n".join(map(json.dumps, rows)).encode()
    else:
        content = "\n".join(["Email,n", *(",".join(row.values()) for row in rows), ""]).encode()
    Path(path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)
    return None


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("leads.xlsx", "out.ndjson"), ("leads.ndjson", "out.xlsx"), ("leads.csv.gz", "out.csv.gz"),
        ("leads.jsonl.gz", "out.jsonl.gz"), ("leads.csv", "out.tsv.gz"),
    ],
)  # fmt: skip
def test_every_form_goes_in_and_comes_out_whole_and_again_for_nothing(stand_in, shell, source, target):
    api = stand_in(match_rate=1.0)
    write(source)
    for _ in range(2):
        done = shell(api, "enrich", source, "-o", target)
        assert done.code == 0, done.said
        made = read(target)
        assert [row["n"] for row in made] == ["000", "001", "002"]
        assert [row["eb_query"] for row in made] == [f"p{number}@firm.example" for number in range(ROWS)]
        emails = made[0]["eb_emails"]
        assert "@" in (
            emails[0] if target.startswith("out.ndjson") or "jsonl" in target else json.loads(emails)[0]
        )
        assert all(row["eb_full_name"] for row in made)
    assert api.credits() == ROWS
    assert Path(target).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in Path().iterdir() if path.name.endswith(".tmp")] == []


def test_a_spreadsheets_numbers_are_phones_its_days_stay_days_and_nothing_in_it_is_a_formula(stand_in, shell):
    rows: list[list[Any]] = [
        ["Leads of May"], [], ["Mobile", "Since", "Score", "Mixed", "Note"],
        [12025550100, dt.date(2026, 5, 4), 1.5, 7, "+1"],
        [12025550101, dt.date(2026, 5, 5), 2, "seven", "-2"],
    ]  # fmt: skip
    write_sheets("leads.xlsx", {"Leads": rows, "Empty": []})
    done = shell(
        stand_in(match_rate=1.0),
        "enrich",
        "leads.xlsx",
        "-o",
        "out.xlsx",
        "--phone",
        "Mobile",
        "--region",
        "US",
    )
    assert done.code == 0, done.said
    assert "skipped 2 rows above the header" in done.said
    first, second = read_sheet("out.xlsx")
    assert first["Mobile"] == "12025550100"
    assert first["eb_query"] == "+12025550100"
    assert (first["Since"], first["Score"], second["Score"]) == (dt.date(2026, 5, 4), 1.5, 2)
    assert (first["Mixed"], second["Mixed"]) == ("7", "seven")
    assert (first["Note"], second["Note"]) == ("+1", "-2")
    assert first["eb_matched"] is True


def test_of_several_sheets_one_is_named(stand_in, shell):
    api = stand_in(match_rate=1.0)
    write_sheets("leads.xlsx", {"A": [["email"], ["a@firm.example"]], "B": [["email"], ["b@firm.example"]]})
    refused = shell(api, "plan", "leads.xlsx")
    assert refused.code == 2
    assert "name one with --sheet: 'A', 'B'" in refused.said
    shell(api, "enrich", "leads.xlsx", "-o", "out.csv", "--sheet", "B")
    assert [row["email"] for row in read("out.csv")] == ["b@firm.example"]
    Path("broken.xlsx").write_bytes(b"PK\x03\x04 no more")
    Path("broken.ndjson").write_text('{"email": "a@firm.example"}\n[1]\n')
    assert "cannot be read as a spreadsheet" in shell(api, "plan", "broken.xlsx").said
    assert "line 2" in shell(api, "plan", "broken.ndjson").said


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("source", ["leads", "leads.gz", "-"])
def test_a_text_says_its_encoding_by_its_start_whatever_its_form(
    stand_in, shell, monkeypatch, source, encoding, form
):
    rows = [{"Email": "p0@firm.example", "n": "Zoë 🦊"}, {"Email": "p1@firm.example", "n": "Łódź"}]
    lines = {
        "csv": ["Email,n", *(",".join(row.values()) for row in rows)],
        "ndjson": [json.dumps(row, ensure_ascii=False) for row in rows],
    }[form]
    content = "\n".join([*lines, ""]).encode(encoding)
    if source == "leads.gz":
        content = gzip.compress(content)
    if source == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    else:
        source = source.replace("leads", f"leads.{form}")
        Path(source).write_bytes(content)
    done = shell(stand_in(match_rate=1.0), "enrich", source, "-o", "out.ndjson", "--yes")
    assert done.code == 0, done.said
    assert [row["n"] for row in read("out.ndjson")] == ["Zoë 🦊", "Łódź"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"email": "a@firm.example"}\n{"n": "ü"}\n'.encode("cp1252"), "line 2: it is not UTF-8"),
        (gzip.compress(b'{"email": "a@firm.example"}\n'), "is not a text file"),
        ('{"email": "a@firm.example"}\n'.encode("utf-16") + b"\n", "begins as utf-16 and does not go on so"),
    ],
    ids=["a code page", "gzip without its ending", "UTF-16 that is cut"],
)
def test_json_lines_in_no_encoding_of_json_are_refused_with_what_to_do(stand_in, shell, content, told):
    Path("leads.ndjson").write_bytes(content)
    api = stand_in()
    refused = shell(api, "enrich", "leads.ndjson", "-o", "out.csv", "--yes")
    assert (refused.code, told in refused.said, "UTF-8" in refused.said) == (2, True, True), refused.said
    assert api.requests() == 0


@pytest.mark.parametrize(
    "source", ["leads.csv", "leads.ndjson", "leads.parquet", "leads.csv.gz", "-", "query"]
)
def test_a_sheet_of_what_is_no_spreadsheet_is_refused(stand_in, shell, monkeypatch, source):
    if source not in ("-", "query"):
        pd.DataFrame({"email": ["a@firm.example"]}).to_parquet(
            source
        ) if source == "leads.parquet" else write(source)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"email\na@firm.example\n")))
    table = ["--query", "select 1", "--connection", "a.duckdb"] if source == "query" else [source]
    api = stand_in()
    for command in (["plan"], ["enrich", "-o", "out.csv"]):
        refused = shell(api, *command, *table, "--sheet", "B")
        assert (refused.code, "--sheet is for spreadsheets (.xlsx)" in refused.said) == (2, True), (
            refused.said
        )
        assert "Usage: eb-dagster" in refused.said
    assert not Path("out.csv").exists()
    assert api.requests() == 0


@pytest.mark.parametrize("source", ["leads.ndjson", "leads.parquet", "leads.xlsx", "query"])
def test_how_text_is_read_is_refused_for_what_is_no_csv(stand_in, shell, source):
    if source == "leads.xlsx":
        write_sheets(source, {"A": [["email"], ["a@firm.example"]]})
    elif source == "leads.parquet":
        pd.DataFrame({"email": ["a@firm.example"]}).to_parquet(source)
    elif source != "query":
        write(source)
    table = ["--query", "select 1", "--connection", "a.duckdb"] if source == "query" else [source]
    api = stand_in()
    for options, told in (
        (["--encoding", "cp1252"], "--encoding is for CSV and TSV"),
        (["--separator", ";", "--header-line", "2"], "--separator and --header-line are for CSV and TSV"),
    ):
        refused = shell(api, "plan", *table, *options)
        assert (refused.code, told in refused.said) == (2, True), refused.said


@pytest.mark.parametrize("form", ["csv", "ndjson", "xlsx"])
@pytest.mark.parametrize("source", ["leads.csv", "leads.ndjson", "leads.xlsx", "leads.csv.gz"])
def test_stdin_and_stdout_are_tables_and_nothing_else_is_on_stdout(stand_in, shell, tmp_path, source, form):
    if (form == "csv") + (source == "leads.csv") == 0:
        pytest.skip("each form once is enough")
    api = stand_in(match_rate=1.0)
    # It gives the folder and the key.
    del shell
    write(source)
    words = ["enrich", "-", "-o", "-", "--format", form, "--price", "0.05"]
    with Path(source).open("rb") as stdin:
        done = subprocess.run(
            [*COMMAND, *words], stdin=stdin, capture_output=True, check=False,
            env={**os.environ, "EXACTBUYER_BASE_URL": api.url, "TMPDIR": str(tmp_path)},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"written to stdout" in done.stderr
    Path(f"out.{form}").write_bytes(done.stdout)
    assert [row["n"] for row in read(f"out.{form}")] == ["000", "001", "002"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("eb_dagster-", "tmp"))] == []


def test_a_query_is_enriched_into_a_file_and_into_a_database(stand_in, shell, monkeypatch):
    api = stand_in(match_rate=1.0)
    with sqlite3.connect("crm.sqlite") as connection:
        connection.execute("CREATE TABLE leads (id INTEGER, mail TEXT, phone INTEGER)")
        connection.executemany(
            "INSERT INTO leads VALUES (?, ?, 12025550100)", [(1, "a@firm.example"), (2, "b@firm.example")]
        )
    connection.close()
    monkeypatch.setenv("CRM", f"sqlite:///{Path('crm.sqlite').resolve()}")
    query = ("--query", "SELECT * FROM leads ORDER BY id", "--email", "mail")
    planned = shell(api, "plan", *query, "--connection", "CRM", "--json")
    assert planned.json["plan"]["rows"] == 2
    done = shell(api, "enrich", *query, "--connection", "CRM", "-o", "out.csv")
    assert done.code == 0, done.said
    assert [row["id"] for row in read("out.csv")] == ["1", "2"]
    for _ in range(2):
        into = shell(
            api, "enrich", *query, "--connection", "crm.sqlite", "--into", "duckdb:///warehouse.duckdb",
            "--dataset", "sales", "--key", "id",
        )  # fmt: skip
        assert into.code == 0, into.said
        assert "loaded into sales" in into.out
        assert "contacts: 2 rows" in into.out
        with duckdb.connect("warehouse.duckdb") as warehouse:
            assert warehouse.sql("SELECT id FROM sales.contacts ORDER BY id").fetchall() == [(1,), (2,)]
    assert api.credits() == 2


def test_what_does_not_go_together_is_refused_before_anything_is_sent(stand_in, shell, monkeypatch):
    api = stand_in()
    leads(2)
    monkeypatch.delenv("NOWHERE", raising=False)
    wrong = {
        "Missing argument 'FILE'": ("enrich", "-o", "out.csv"),
        "go together": ("enrich", "--query", "SELECT 1", "-o", "out.csv"),
        "either FILE or --query": ("plan", "leads.csv", "--query", "SELECT 1", "--connection", "x"),
        "name one target: -o": ("enrich", "leads.csv"),
        "name one target": ("enrich", "leads.csv", "-o", "out.csv", "--into", "x", "--dataset", "x"),
        "--into and --dataset": ("enrich", "leads.csv", "--into", "x"),
        "no environment variable NOWHERE": ("plan", "--query", "SELECT 1", "--connection", "NOWHERE"),
        "no database file": ("plan", "--query", "SELECT 1", "--connection", "nowhere.duckdb"),
        "not known here": ("enrich", "leads.csv", "--into", "oracle://h/x", "--dataset", "x"),
        "put the URL of --connection into": (
            "plan", "--query", "SELECT 1", "--connection", "postgresql://u:hunter2@127.0.0.1:1/x",
        ),
    }  # fmt: skip
    for says, words in wrong.items():
        done = shell(api, *words)
        assert done.code == 2, says
        assert says in done.said
        assert "hunter2" not in done.said
    assert api.requests() == 0


def test_a_table_too_large_for_a_sheet_is_refused_before_it_is_bought(stand_in, shell, monkeypatch):
    api = stand_in()
    leads(3)
    monkeypatch.setattr("eb_dagster.tables.excel.MOST_ROWS", 2)
    assert "has room for 2" in shell(api, "enrich", "leads.csv", "-o", "out.xlsx").said
    assert api.requests() == 0
    pd.DataFrame({"email": ["a@firm.example"] * 2}).to_parquet("leads.parquet")
    assert shell(api, "enrich", "leads.parquet", "-o", "out.xlsx").code in (0, 3)


def test_times_to_the_nanosecond_are_times_in_a_sheet(stand_in, shell):
    time = dt.datetime(2026, 5, 4, 3, 2, 1)
    since = pd.Series([time, None]).astype("datetime64[ns]")
    pd.DataFrame({"email": ["a@firm.example"] * 2, "Since": since}).to_parquet("leads.parquet")
    done = shell(stand_in(), "enrich", "leads.parquet", "-o", "out.xlsx")
    assert done.code == 0, done.said
    assert [row["Since"] for row in read_sheet("out.xlsx")] == [time, ""]


def test_parquet_on_stdin_becomes_parquet(stand_in, shell):
    pd.DataFrame({"email": ["a@firm.example"]}).to_parquet("leads.parquet")
    api = stand_in()
    shell(api, "plan", "leads.parquet")
    command = [*COMMAND, "enrich", "-", "-o", "out.parquet"]
    done = subprocess.run(command, input=Path("leads.parquet").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert pd.read_parquet("out.parquet")["email"].tolist() == ["a@firm.example"]
