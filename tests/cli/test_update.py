"""`enrich --update`: the result of yesterday and the leads of today."""

import re
from pathlib import Path

import pandas as pd
import pytest

from eb_dagster.sandbox import running
from tests.cli.shell import leads

UPDATE = ("enrich", "leads.csv", "--key", "n", "--update")


def read(path):
    made = pd.read_parquet(path) if path.endswith("parquet") else pd.read_csv(path, dtype=str)
    return made.set_index("n")


@pytest.mark.parametrize("result", ["contacts.csv", "contacts.parquet"])
def test_a_schedule_updates_what_it_made_the_first_morning(stand_in, shell, result):
    api = stand_in(match_rate=1.0)
    leads(3)
    done = shell(api, *UPDATE, result)
    assert done.code == 0, done.said
    first = read(result)
    assert len(first) == 3
    lines = Path("leads.csv").read_text().splitlines()
    # One row is new, one is gone, one has another address.
    today = [lines[0], "new@firm.example,003", lines[1], lines[2].replace("p1@", "other@")]
    Path("leads.csv").write_text("\n".join([*today, ""]))
    done = shell(api, *UPDATE, result, "--json")
    assert done.code == 0, done.said
    report = done.json["report"]
    assert (report["rows"], report["kept"], report["gone"], report["credits_charged"]) == (4, 2, 1, 2)
    second = read(result)
    assert second.index.tolist() == ["000", "001", "002", "003"]
    assert second["eb_query"].tolist() == [
        "p0@firm.example", "other@firm.example", "p2@firm.example", "new@firm.example"
    ]  # fmt: skip
    kept = [name for name in map(str, first) if name.startswith("eb_") and name != "eb_from_ledger"]
    pd.testing.assert_frame_equal(second[kept].loc[["000", "002"]], first[kept].loc[["000", "002"]])
    assert api.credits() == 5
    told = shell(api, *UPDATE, result)
    counted = dict(
        re.findall(r"^ *(rows kept as they were|no longer in the input) +(\d+)$", told.out, re.MULTILINE)
    )
    assert counted == {"rows kept as they were": "4", "no longer in the input": "1"}
    pd.testing.assert_frame_equal(read(result)[kept], second[kept])


def test_a_csv_of_contacts_that_the_ledger_no_longer_holds_keeps_every_cell(stand_in, shell):
    api = stand_in(match_rate=1.0)
    lines = [f"p{number}@firm.example,=1+{number}" for number in range(30)]
    Path("leads.csv").write_text("\n".join(["email,n", *lines, ""]))
    shell(api, *UPDATE, "contacts.csv")
    first = Path("contacts.csv").read_text()
    assert ",'+" in first
    Path("ledger.db").unlink()
    shell(api, "ledger", "suppress", "leads.csv", "--kind", "email", "--column", "email")
    shell(api, "ledger", "suppress", "leads.csv", "--kind", "email", "--column", "email", "--remove")
    # It is the user's word that this ledger may go on with the file.
    refused = shell(api, *UPDATE, "contacts.csv")
    assert (refused.code, "this ledger did not write it" in refused.said) == (2, True)
    done = shell(api, *UPDATE, "contacts.csv", "--force")
    assert done.code == 0, done.said
    assert Path("contacts.csv").read_text() == first
    assert api.requests() == 1


def test_contacts_of_the_sandbox_are_never_kept_in_a_table_of_real_ones(stand_in, shell, tmp_path):
    api = stand_in(match_rate=1.0)
    leads(2)
    for result in ("contacts.csv", "contacts.parquet"):
        assert shell(api, *UPDATE, result).code == 0
    with running(bill=tmp_path / "other.db") as other:
        for result, told in [
            ("contacts.csv", "more than one address"),
            ("contacts.parquet", "from this address"),
        ]:
            before = Path(result).read_bytes()
            refused = shell(other, *UPDATE, result)
            assert (refused.code, told in refused.said) == (2, True), refused.said
            assert Path(result).read_bytes() == before
        assert other.requests() == 0


def test_what_belongs_together_is_said_before_anything_is_read(stand_in, shell):
    api = stand_in()
    for words, told in [
        (("--update", "a.csv"), "--update needs one --key COLUMN"),
        (("-o", "a.csv", "--key", "n"), "--key is for --update"),
        (("-o", "a.csv", "--update", "b.csv", "--key", "n"), "name one target"),
        ((), "name one target: -o for a new file"),
    ]:
        refused = shell(api, "enrich", "leads.csv", *words)
        assert (refused.code, told in refused.said) == (2, True), refused.said
    leads(2)
    refused = shell(api, *UPDATE[:2], "--update", "a.csv", "--key", "N")
    assert (refused.code, "did you mean 'n'?" in refused.said) == (2, True), refused.said
    Path("leads.csv").write_text("Email,n\na@firm.example,1\nb@firm.example,1\n")
    refused = shell(api, *UPDATE, "a.csv")
    assert (refused.code, "2 rows (1, 2, counted from 1 below the header)" in refused.said) == (2, True)
    assert not Path("a.csv").exists()
    assert api.requests() == 0


def test_a_result_in_place_of_the_leads_is_recognized(stand_in, shell):
    api = stand_in(match_rate=1.0)
    leads(2)
    assert shell(api, "enrich", "leads.csv", "-o", "contacts.csv").code == 0
    refused = shell(api, "enrich", "contacts.csv", "-o", "more.csv")
    assert refused.code == 2
    assert "contacts.csv is the result of an enrichment" in refused.said
    assert "enrich LEADS --update contacts.csv --key COLUMN" in refused.said
    refused = shell(api, "enrich", "contacts.csv", "--update", "contacts.csv", "--key", "n")
    assert "enrich LEADS --update contacts.csv --key COLUMN" in refused.said
    assert shell(api, "enrich", "contacts.csv", "-o", "more.csv", "--prefix", "x_").code == 0
    assert api.requests() == 1
