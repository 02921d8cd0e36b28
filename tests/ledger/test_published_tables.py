"""Rows that are taken out of published tables."""

import tempfile
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.ledger import privacy
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.tables import atomic_file
from tests.ledger.people import JANE, JOHN


def test_a_table_that_was_moved_away_is_counted(bought):
    _, start, table = bought
    table.rename(table.with_name("moved.parquet"))
    assert start().forget("email", JANE).missing_tables == 1


def test_the_rewritten_table_is_still_known_to_its_ledger(bought, tmp_path):
    _, start, table = bought
    start().forget("email", JANE)
    again = start()
    again.enrich_parquet(tmp_path / "leads.parquet", table)
    assert again.report.requests == 0
    assert pq.read_table(table)["eb_status"].to_pylist() == ["suppressed", "matched"]


def published(ledger: Ledger, folder: Path, name: str, table: pa.Table) -> Path:
    path = folder / name
    pq.write_table(table, path)
    ledger.publications.note(str(path))
    return path


def test_only_the_rows_of_the_person_go(where, tmp_path):
    people = [
        "jane@firm.com", "jane@firm.com.br", "o'brien@firm.com", "mary.jane@firm.com", "JANE%40firm.com",
        "Jane+tag@firm.com", "x.com/jane.doe", "'jane@firm.com'", None,
    ]  # fmt: skip
    table = pa.table({"number": range(len(people)), "who": people})
    with closing(Ledger(where, endpoint="")) as ledger:
        path = published(ledger, tmp_path, "table.parquet", table)
        gone = privacy.forget(ledger, "email", "jane@firm.com")
        assert (gone.rows, gone.tables, gone.unsearched[:-1] if "://" in where else gone.unsearched) == (
            4,
            1,
            (),
        )
        assert pq.read_table(path)["number"].to_pylist() == [1, 2, 3, 6, 8]
        assert privacy.forget(ledger, "social_profile", "x.com/jane").rows == 0
        assert privacy.forget(ledger, "email", "brien@firm.com").rows == 0
        assert privacy.forget(ledger, "email", "jane@firm.com").rows == 0


@pytest.mark.parametrize(
    "kind",
    [
        pa.string_view(), pa.binary(), pa.list_(pa.string(), 1), pa.map_(pa.string(), pa.string()),
        pa.dictionary(pa.int8(), pa.string()),
        pa.list_(pa.struct([("a", pa.string())])),
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_taken_out_of_a_table_with_columns_of_any_type(tmp_path, kind):
    def cell(text: str) -> object:
        if pa.types.is_binary(kind):
            return text.encode()
        if pa.types.is_map(kind):
            return [("a", text)]
        if pa.types.is_list(kind):
            return [{"a": text}]
        return [text] if pa.types.is_fixed_size_list(kind) else text

    column = pa.array([cell(JOHN), cell(JANE), cell("x"), None], kind)
    with closing(Ledger(tmp_path / "ledger.db", endpoint="")) as ledger:
        path = published(ledger, tmp_path, "table.parquet", pa.table({"id": [1, 2, 3, 4], "who": column}))
        schema = pq.read_schema(path)
        assert privacy.forget(ledger, "email", JANE).rows == 1
        left = pq.read_table(path)
    assert left["id"].to_pylist() == [1, 3, 4]
    assert left.schema.field("who").type == schema.field("who").type
    assert JANE.encode() not in path.read_bytes()


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_text_table_keeps_its_other_rows_to_the_byte(tmp_path, start):
    rows = [
        start + "name;mail\n", f'"Jane\nDoe";{JANE}\n', "John;'+4917055501451\n", f'"{{""m"":""{JANE}""}}";x\n',
        "Mary;jane@firm.example.br\r\n", "no end;here",
    ]  # fmt: skip
    path = tmp_path / "contacts.csv"
    path.write_bytes("".join(rows).encode())
    with closing(Ledger(tmp_path / "ledger.db", endpoint="")) as ledger:
        ledger.publications.note(str(path))
        gone = privacy.forget(ledger, "email", JANE)
        assert (gone.rows, gone.tables, gone.unsearched) == (2, 1, ())
        assert path.read_bytes().decode() == "".join([rows[0], rows[2], rows[4], rows[5]])
        assert path.stat().st_mode & 0o777 == 0o600
        assert privacy.forget(ledger, "phone", "0170 5550 1451", default_region="DE").rows == 1
    assert path.read_bytes().decode() == "".join([rows[0], rows[4], rows[5]])


def test_a_number_beside_other_numbers_is_found_in_a_text_table(tmp_path):
    path = tmp_path / "contacts.tsv"
    path.write_text("day\tphone\tcount\n2024-01-01\t4917055501451\t3\n2024-01-01\t4917055501452\t3\n")
    with closing(Ledger(tmp_path / "ledger.db", endpoint="")) as ledger:
        ledger.publications.note(str(path))
        assert privacy.forget(ledger, "phone", "+4917055501451").rows == 1
    assert path.read_text() == "day\tphone\tcount\n2024-01-01\t4917055501452\t3\n"


def test_what_cannot_be_searched_is_named_and_the_rest_is_forgotten(bought, where, tmp_path):
    _, start, _ = bought
    (tmp_path / "odd.parquet").write_bytes(b"a table once")
    (tmp_path / "odd.csv").write_bytes("J\xe4ne".encode("utf-16"))
    buyer = start()
    for name in ("odd.parquet", "odd.csv", "gone.parquet"):
        buyer._ledger.publications.note(str(tmp_path / name))
    gone = buyer.forget("email", JANE)
    assert (gone.contacts, gone.rows, gone.missing_tables) == (1, 1, 1)
    named = {Path(text).name for text in gone.unsearched if text.startswith("/")}
    assert named == {"odd.parquet", "odd.csv", "gone.parquet"}
    assert any("write-ahead log" in text for text in gone.unsearched) == ("://" in where)


def test_what_a_crash_left_beside_tables_and_ledger_goes(bought, where, tmp_path):
    _, start, _ = bought
    torn = [tmp_path / f".{name}.0123456789abcdef.tmp" for name in ("out.parquet", "other.csv")]
    if "://" not in where:
        torn.append(Path(where).parent / ".copy.db.0123456789abcdef.tmp")
    for path in torn:
        path.write_bytes(JANE.encode())
    (tmp_path / ".hidden.tmp").write_text("the user's")
    with atomic_file.published(tmp_path / "live.parquet") as sink:
        sink.write(b"half")
        assert start().forget("email", JANE).torn_files == len(torn)
        sink.write(b" and half")
    assert not [path for path in torn if path.exists()]
    assert (tmp_path / "live.parquet").read_bytes() == b"half and half"
    assert (tmp_path / ".hidden.tmp").exists()


def test_what_a_crash_left_of_a_library_goes_and_what_is_in_use_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torn = tmp_path / ".eb_dagster-folder.0123456789abcdef"
    torn.mkdir()
    (torn / "rows").write_bytes(JANE.encode())
    torn.with_name(f"{torn.name}.tmp").touch()
    with atomic_file.private_folder() as used:
        assert not torn.exists()
        assert Path(used).stat().st_mode & 0o777 == 0o700
        assert atomic_file.clear_torn_folders() == 0
        assert Path(used).is_dir()
    assert list(tmp_path.iterdir()) == []
