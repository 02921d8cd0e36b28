"""Files and objects that are not read or not written."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import xlsxwriter

from eb_dagster.cli import formats, inputs, people, people_files, targets
from eb_dagster.tables import csv
from eb_dagster.tables.atomic_file import check_writable
from eb_dagster.tables.excel import ExcelWriter
from eb_dagster.tables.object_store import place
from eb_dagster.tables.parquet import open_parquet, read_metadata
from eb_dagster.tables.row_files import write_rows
from eb_dagster.tables.source import Source
from tests.messages.scene import Provocations, Scene


def parquet_of_numbers(scene: Scene) -> Path:
    path = scene.folder / "numbers.parquet"
    pd.DataFrame({"phone": [17734749362]}).to_parquet(path)
    return path


def sheets(scene: Scene, columns: dict[str, list[str]]) -> Path:
    """A spreadsheet of sheets of one column each."""
    path = scene.folder / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        for name, cells in columns.items():
            book.add_worksheet(name).write_column(0, 0, cells)
    return path


FILES: Provocations = {
    "a file that is not there": lambda s: open_parquet(s.folder / "nowhere.parquet"),
    "a file that is no Parquet": lambda s: open_parquet(s.file("a.parquet", b"email")),
    "a target that is no Parquet": lambda s: read_metadata(s.file("a.parquet", b"email")),
    "a target below a file": lambda s: check_writable(s.file("a") / "b.parquet"),
    "a target that leads nowhere": lambda s: check_writable(s.folder / "a\0b"),
    "a target that is a folder": lambda s: check_writable(s.folder),
    "a target that is a device": lambda _: check_writable(Path(os.devnull)),
    "a text file without a header": lambda s: csv.TextTable(s.file("a.csv", b"\n")),
    "a line with too many cells": lambda s: csv.TextTable(s.file("a.csv", b"email,n\n" + b"a,1\n" * 200 + b"a,1,2,3\n")),
    "a quote that never ends": lambda s: csv.TextTable(s.file("a.csv", b'email,n\n"' + b"a" * 200_000)),
    "another encoding than named": lambda s: csv.TextTable(s.file("a.csv", "email\nü\n".encode()), encoding="ascii"),
    "an unknown encoding": lambda s: csv.TextTable(s.file("a.csv", b"email\n"), encoding="klingon"),
    "a separator that is not plain": lambda s: csv.TextTable(s.file("a.csv", b"email,n;m\na,b;c\nd,e;f\n")),
    "a file that is no text": lambda s: csv.TextTable(s.file("a.csv", b"PK\x03\x04\0\0\0")),
    "a file of two encodings": lambda s: csv.TextTable(s.file("a.csv", "email,ü\n".encode() + b"\xfc\n")),
    "a file of no known encoding": lambda s: csv.TextTable(s.file("a.csv", b"email\na\x81\x8db\x9d\xa4\xffc\n")),
    "a file of one of two encodings": lambda s: csv.TextTable(s.file("a.csv", "email\nPavlů\n".encode("cp1250"))),
    "a line that is no header": lambda s: csv.TextTable(s.file("a.csv", b"email\n"), header_line=7),
    "a folder as the file of leads": lambda s: inputs.open_table(s.folder, inputs.Reading()),
    "a folder as the output": lambda s: targets.check_targets(s.file("a.csv"), s.folder, None),
    "a file that the command line cannot find": lambda s: inputs.open_table(s.folder / "a.csv", inputs.Reading()),
    "an old Excel file": lambda s: inputs.open_table(s.folder / "a.xls", inputs.Reading()),
    "a spreadsheet that is none": lambda s: inputs.open_table(s.file("a.xlsx", b"PK"), inputs.Reading()),
    "a spreadsheet without a cell": lambda s: inputs.open_table(sheets(s, {"A": []}), inputs.Reading()),
    "a spreadsheet of several sheets": lambda s: inputs.open_table(sheets(s, {"A": ["a"], "B": ["b"]}), inputs.Reading()),
    "a spreadsheet without that sheet": lambda s: inputs.open_table(sheets(s, {"A": ["a"]}), inputs.Reading(sheet="B")),
    "a spreadsheet without a header": lambda s: inputs.open_table(sheets(s, {"A": [" "]}), inputs.Reading()),
    "a text too long for a spreadsheet": lambda s: write_rows([pa.record_batch({"a": ["x" * 40_000]})], s.folder / "a.xlsx", lambda sink: ExcelWriter(sink, ["a"])),
    "a line that is no JSON object": lambda s: inputs.open_table(s.file("a.ndjson", b"[1]"), inputs.Reading()),
    "JSON in a code page": lambda s: inputs.open_table(s.file("a.ndjson", b'{"n": "\xfc"}'), inputs.Reading()),
    "JSON in half of UTF-16": lambda s: inputs.open_table(s.file("a.ndjson", "{}".encode("utf-16") + b"\n"), inputs.Reading()),
    "JSON that is compressed": lambda s: inputs.open_table(s.file("a.ndjson", b"\x1f\x8b"), inputs.Reading()),
    "JSON without keys": lambda s: inputs.open_table(s.file("a.ndjson", b"{}"), inputs.Reading()),
    "a variable that is not set": lambda _: formats.address_of("CANARY_NOWHERE", "--connection"),
    "a table too large for a spreadsheet": lambda _: formats.check_form(formats.SourceTable(Source(pa.schema([]), 2_000_000)), "xlsx"),
    "two columns of one name in a file": lambda s: inputs.check_column_names(csv.TextTable(s.file("a.csv", b"n,n\n1,2\n"))),
    "a folder that is not there": lambda s: targets.check_targets(s.file("a.csv"), s.folder / "b" / "b.csv", None),
    "a ledger as the output": lambda s: check_writable(s.file("a.parquet", b"SQLite format 3\0")),
    "a table as the report": lambda s: targets.check_targets(s.file("a.csv"), s.folder / "b.csv", s.folder / "c.csv"),
    "a file that somebody else wrote": lambda s: targets.confirm_replacing(s.file("a.csv"), asks=False),
    "values to forget that are none": lambda _: people.check_identifiers([("email", "canary@"), ("email", "a")], None),
    "people who cannot be told from the columns": lambda s: people_files.read_people(s.file("a.csv", b"a,b\n1,2\n"), column=None, kind=None, region=None, reading=inputs.Reading()),
    "people who are no identifiers": lambda s: people_files.read_people(s.file("a.csv", b"email\ncanary@\n"), column=None, kind=None, region=None, reading=inputs.Reading()),
    "people who are numbers": lambda s: people_files.read_people(parquet_of_numbers(s), column=None, kind=None, region=None, reading=inputs.Reading()),
    "one file for input and output": lambda s: targets.check_targets(s.file("a.csv"), s.folder / "a.csv", None),
}  # fmt: skip

OBJECTS: Provocations = {
    "an address with a key": lambda _: place("s3://me:canary-secret@crm/a.parquet"),
    "a bucket in place of an object": lambda _: check_writable(place("s3://crm")),
    "a report in an object store": lambda _: check_writable(Path("s3://crm/report.html")),
}

PROVOCATIONS: Provocations = {**FILES, **OBJECTS}
