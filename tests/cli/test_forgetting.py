"""A person who is forgotten is in no published table, whatever its form and wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eb_dagster.tables.object_store import ObjectPath, place
from tests import object_stores
from tests.cli.shell import leads
from tests.cli.test_formats import read, write_sheets

# One server for all.
pytestmark = pytest.mark.xdist_group("object stores")
FORMS = ("made.csv", "made.csv.gz", "made.tsv.gz", "made.tsv", "made.ndjson", "made.jsonl.gz", "made.xlsx")
GONE = "p1@firm.example"


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, str]]:
    """The environment in which s3://crm and gs://crm are stores of this machine's own."""
    pytest.importorskip("moto")
    pytest.importorskip("gcp_storage_emulator")
    with object_stores.running() as amazon, object_stores.google() as google:
        amazon.make_bucket("crm")
        yield {**object_stores.KEYS, "AWS_ENDPOINT_URL": amazon.url, "STORAGE_EMULATOR_HOST": google}


def rows_of(target: str) -> list[dict[str, Any]]:
    if "://" not in target:
        return read(target)
    copy = Path(f"copy-{target.rpartition('/')[2]}")
    stored = place(target)
    assert isinstance(stored, ObjectPath)
    with stored.open() as file:
        copy.write_bytes(file.read())
    return read(str(copy))


@pytest.mark.parametrize("folder", ["", "s3://crm/", "gs://crm/"], ids=["here", "s3", "gs"])
def test_the_row_goes_and_the_others_stay_as_they_are(folder, stand_in, shell, monkeypatch, request):
    if folder:
        for name, value in request.getfixturevalue("stores").items():
            monkeypatch.setenv(name, value)
    api = stand_in(match_rate=1.0)
    leads(3)
    targets = [folder + form for form in FORMS]
    for target in targets:
        assert shell(api, "enrich", "leads.csv", "-o", target, "--yes").code == 0
    before = [rows_of(target) for target in targets]
    done = shell(api, "ledger", "forget", GONE)
    assert done.code == 0
    assert f"{len(FORMS)} rows from {len(FORMS)} published tables" in done.out
    assert "not searched" not in done.out
    for rows, target in zip(before, targets, strict=True):
        assert rows_of(target) == [row for row in rows if row["Email"] != GONE]
        assert GONE not in str(rows_of(target))
        assert len(rows) == 3
    # What was written anew is the ledger's own still, and the next morning replaces it.
    for target in targets:
        assert shell(api, "enrich", "leads.csv", "-o", target, "--yes").code == 0
        assert [row["eb_status"] for row in rows_of(target)] == ["matched", "suppressed", "matched"]
    assert api.credits() == 3


def test_a_table_that_became_something_else_is_named(stand_in, shell):
    api = stand_in(match_rate=1.0)
    leads(3)
    for name in ("a.xlsx", "b.xlsx", "c.csv.gz"):
        assert shell(api, "enrich", "leads.csv", "-o", name, "--yes").code == 0
    write_sheets("a.xlsx", {"contacts": [["Email"], [GONE]], "Notes": [["mine"]]})
    Path("b.xlsx").write_bytes(b"no spreadsheet")
    Path("c.csv.gz").write_bytes(b"not compressed")
    done = shell(api, "ledger", "forget", GONE)
    assert done.code == 0
    assert {Path(line.partition(": ")[2]).name for line in done.out.splitlines() if "not searched" in line} == {
        "a.xlsx", "b.xlsx", "c.csv.gz",
    }  # fmt: skip
