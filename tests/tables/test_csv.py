import csv
import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.tables.csv import BATCH_ROWS, TextTable, read_separator, write_text


@pytest.fixture
def table(tmp_path):
    """Write bytes, or text in UTF-8, to a file and open it."""

    def start(content: bytes | str, *, name: str = "leads.csv", **reading) -> TextTable:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return TextTable(path, **reading)

    return start


def rows(source: TextTable) -> list[list[str | None]]:
    return [list(row.values()) for row in source.reader().read_all().to_pylist()]


# Reading


def test_cells_stay_text_and_blank_ones_are_null(table):
    source = table('id,phone,note\n007,+1 773,"a, ""b""\nc"\nNA,,null\n')
    assert source.columns == ("id", "phone", "note")
    assert rows(source) == [["007", "+1 773", 'a, "b"\nc'], ["NA", None, "null"]]
    assert source.notes == []


def test_it_is_read_in_batches_as_often_as_one_likes(table):
    source = table("email\n" + "".join(f"p{number}@firm.example\n" for number in range(BATCH_ROWS + 5)))
    assert source.rows == BATCH_ROWS + 5
    for _ in range(2):
        assert [batch.num_rows for batch in source.reader()] == [BATCH_ROWS, 5]


def test_blank_lines_are_no_rows_and_a_header_alone_has_none(table):
    assert rows(table("a,b\n\n1,2\n\n\n3,4\n\n")) == [["1", "2"], ["3", "4"]]
    assert table("a,b\n").rows == 0
    assert table("a,b").reader().read_all().schema.names == ["a", "b"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_by_how_the_rows_fit_the_header(table, separator):
    source = table(
        separator.join(["name", "email", "note"]) + "\n" + separator.join(['"x;y,z|\t"', "a@b.c", "-"]) + "\n"
    )
    assert source.columns == ("name", "email", "note")
    assert rows(source) == [["x;y,z|\t", "a@b.c", "-"]]


def test_a_separator_that_is_only_in_cells_is_none(table):
    assert rows(table("email;note\na@firm.example;x, y, z\n")) == [["a@firm.example", "x, y, z"]]
    assert rows(table("email,more\na@firm.example,b@firm.example;c@firm.example\n")) == [
        ["a@firm.example", "b@firm.example;c@firm.example"]
    ]


def test_one_column_needs_no_separator(table):
    assert rows(table("email\na@firm.example\n")) == [["a@firm.example"]]


@pytest.mark.parametrize(
    "text", ["name, first;email\nDoe, Jane;j@firm.example\n", "email, work\nj@firm.example\n"]
)
def test_a_separator_that_is_not_sure_is_asked_for(table, text):
    with pytest.raises(InputError, match="--separator"):
        table(text)
    assert table(text, separator="\t").columns == (text.split("\n", 1)[0],)


def test_a_tsv_is_separated_by_tabs_alone(table):
    assert table("a,b\tc,d\n1\t2\n", name="x.tsv").columns == ("a,b", "c,d")
    assert table("a,b\n1,2\n", name="x.tsv").columns == ("a,b",)


def test_names_of_separators_are_understood():
    named = ["tab", "\\t", "comma", "Semicolon", "bar", "^", None]
    assert [read_separator(name) for name in named] == ["\t", "\t", ",", ";", "|", "^", None]
    with pytest.raises(ValueError, match="tab"):
        read_separator("colon")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_recognized(table, encoding):
    source = table("näme,email\nZoë 愛,z@firm.example\n".encode(encoding))
    assert source.columns == ("näme", "email")
    assert rows(source) == [["Zoë 愛", "z@firm.example"]]
    assert source.notes == []


def test_what_is_not_utf8_is_read_as_windows_and_said(table):
    source = table("name,email\nZoë – “x”,z@firm.example\n".encode("cp1252"))
    assert rows(source)[0][0] == "Zoë – “x”"
    assert "Windows-1252" in source.notes[0]
    assert table("name\nЗоя\n".encode("cp1251"), encoding="cp1251").reader().read_all()[
        "name"
    ].to_pylist() == ["Зоя"]


@pytest.mark.parametrize(
    "content",
    [
        "näme,email\n".encode() + b"Zo\xeb,z@firm.example\n",
        b"name\na\x81\x8db\x9d\xa4\xffc\n",
        b"PK\x03\x04\x00\x00\x00\x00\x00",
    ],
    ids=["half UTF-8", "no words", "binary"],
)
def test_an_encoding_that_is_not_sure_is_refused(table, content):
    with pytest.raises(InputError, match=r"leads\.csv"):
        table(content)


def test_an_encoding_that_is_wrong_or_unknown_is_refused(table):
    with pytest.raises(InputError, match="is not ascii"):
        table("näme\nx\n", encoding="ascii")
    for name in ("nonsense", "base64"):
        with pytest.raises(InputError, match=r"none that Python knows"):
            table("a\n1\n", encoding=name)
    assert table("\ufeffa\n1\n", encoding="utf-8").columns == ("a",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('a,b\n1,2\n3,4\n1,"canary@firm.example, 5\n', "at line 4 .* never closed"),
        ('a,b\n1,2\n"canary"@firm.example,2\n', "line 3: a quote"),
        ("a,b\n1,2\n1,2,canary@firm.example\n", "line 3: 3 cells, and the header has 2"),
        ('a,b\n1,"' + "x" * 140_000 + '"\n', "line 2 is too long"),
        ("", "is empty"),
        ("sep=;\n", "is empty"),
    ],
)
def test_a_broken_file_is_refused_by_line_and_without_quoting_it(table, text, fault):
    with pytest.raises(InputError, match=fault) as refused:
        table(text)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_lines_are_counted_with_the_hint(table):
    with pytest.raises(InputError, match="line 3: 3 cells"):
        table("sep=,\na,b\n1,2,3\n")


def test_columns_of_one_name_are_kept(table):
    source = table("email,x,x\na@firm.example,1,2\n")
    assert source.columns == ("email", "x", "x")
    assert [column.to_pylist() for column in source.reader().read_all().columns] == [
        ["a@firm.example"],
        ["1"],
        ["2"],
    ]


def test_a_folder_or_no_file_is_an_input_error(tmp_path):
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            TextTable(path)


# Writing


def batch(**columns) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def write(
    target: Path, *batches: pa.RecordBatch, ours: tuple[str, ...] = (), separator: str = ",", has_mark=False
):
    return write_text(
        batches, target, columns=batches[0].schema.names, ours=ours, separator=separator, has_mark=has_mark
    )


FORMULAS = ["=1+1", "+1773", "-2", "@x", "\tx", "\rx", "＝x"]


def test_formulas_of_ours_become_text_and_the_users_cells_stay(tmp_path):
    target = tmp_path / "out.csv"
    assert write(target, batch(theirs=FORMULAS, ours=FORMULAS), ours=("ours",)) == len(FORMULAS)
    with target.open(newline="", encoding="utf-8") as made:
        records = list(csv.reader(made))
    assert [record[0] for record in records[1:]] == FORMULAS
    assert [record[1] for record in records[1:]] == [f"'{cell}" for cell in FORMULAS]


def test_every_type_has_its_text(tmp_path):
    moment = datetime(2026, 3, 12, 9, 14, tzinfo=UTC)
    write(
        tmp_path / "out.csv",
        batch(
            flag=[True, False, None], list=[["a", "ü"], [], None], moment=[moment, None, None],
            pairs=[[{"network": "x", "url": None}], None, None], number=[1, None, 3],
        ),
    )  # fmt: skip
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as made:
        records = list(csv.reader(made))
    assert records[1] == [
        "true", '["a", "ü"]', "2026-03-12T09:14:00+00:00", '[{"network": "x", "url": null}]', "1",
    ]  # fmt: skip
    assert records[2] == ["false", "[]", "", "", ""]


def test_the_mark_and_the_separator_are_the_callers(tmp_path):
    write(tmp_path / "out.csv", batch(a=["ü"], b=["x;y"]), separator=";", has_mark=True)
    assert (tmp_path / "out.csv").read_bytes() == '\ufeffa;b\nü;"x;y"\n'.encode()


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("old")

    def batches():
        yield batch(a=["1"])
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_text(batches(), target, columns=["a"], ours=(), separator=",", has_mark=False)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_disk_that_fills_up_is_told_and_leaves_the_old_one(tmp_path):
    import resource

    target = tmp_path / "out.csv"
    target.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(ConfigError, match="make room there"):
            write(target, batch(a=["x" * 100_000]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_only_the_owner_can_read_it(tmp_path):
    write(tmp_path / "out.csv", batch(a=["1"]))
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600


# Above the header

TABLE = 'Name,Email,Note\nAda,ada@firm.example,"a, b"\nBo,bo@firm.example,\n'


@pytest.mark.parametrize(
    ("above", "lines"),
    [
        ("", 0),
        ("\n", 1),
        ("My leads\n\n", 2),
        ('"My ""best"" leads"\n', 1),
        ("My leads,,\n,,\n", 2),
        ("# exported 2026-01-01\n", 1),
        ("# exported 2026-01-01, by nobody\n# second\n", 2),
        ('Notes:\n"Some of these, or all,\nare missing."\n\n', 4),
        ("Report,Leads\nDate,2026-01-01\n\n", 3),
        ("Exported,today\n", 1),
        ("Leads, of all kinds, in all cities, of today\n", 1),
        ("Leads, of all kinds, in all cities, of today\n\n", 2),
        ("one\ntwo\nthree\nfour\nfive\nsix\n", 6),
    ],
)
def test_lines_above_the_header_are_passed_over_and_counted(table, above, lines):
    source = table(above + TABLE)
    assert source.columns == ("Name", "Email", "Note")
    assert rows(source) == [["Ada", "ada@firm.example", "a, b"], ["Bo", "bo@firm.example", None]]
    told = [note for note in source.notes if "above the header" in note]
    assert bool(told) == bool(lines)
    skipped = "skipped 1 line above" if lines == 1 else f"skipped {lines} lines above"
    assert all(note.startswith(skipped) for note in told)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_lines_above_the_header_do_not_hide_the_separator(table, separator):
    source = table("Leads, of all kinds\n\n" + TABLE.replace(",", separator).replace("a; b", "a, b"))
    assert source.separator == separator
    assert source.columns == ("Name", "Email", "Note")


def test_a_title_above_a_list_of_one_column_is_passed_over(table):
    assert table("Unsubscribed\n\nEmail\nada@firm.example\n").columns == ("Email",)
    assert table("Unsubscribed\nEmail\nada@firm.example\n").columns == ("Email",)


@pytest.mark.parametrize(
    "text",
    [
        "Company,City\nMobile GmbH,Bonn\n",
        "Company;City\n\nAcme;Bonn\n",
        "a,b\n\n1,2\n",
        "#,Email\n1,ada@firm.example\n",
        "Unsubscribed\nada@firm.example\n",
        "ada@firm.example,x\nbo@firm.example,y\n",
    ],
)
def test_a_header_that_is_one_is_never_passed_over(table, text):
    assert table(text).columns[0] == text[:40].splitlines()[0].split(";")[0].split(",")[0]
    assert not any("above" in note for note in table(text).notes)


@pytest.mark.parametrize("text", ["a,b\n1,2,3\n", "a,b\n\n1,2,3\n", "email\nx@firm.example,y\n"])
def test_rows_wider_than_the_header_do_not_become_it(table, text):
    with pytest.raises(InputError, match="header"):
        table(text)


def test_the_line_of_the_header_can_be_said(table):
    text = 'My "leads, 6" wide\nEmail,x\n"open\nName,Mail\nAda,ada@firm.example\n'
    source = table(text, header_line=4)
    assert source.columns == ("Name", "Mail")
    assert rows(source) == [["Ada", "ada@firm.example"]]
    assert "skipped 3 lines above the header; if that is wrong, give --header-line" in source.notes
    with pytest.raises(InputError, match="line 6: 3 cells"):
        table(text + "1,2,3\n", header_line=4)
    with pytest.raises(InputError, match="has no header in line 9"):
        table(text, header_line=9)
    assert table("sep=;\nx\na;b\n1;2\n", header_line=3).columns == ("a", "b")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_separator_at_the_end_of_each_row_makes_no_column(table, separator):
    source = table("email,name\na@firm.example,Ada,\nb@firm.example,Bo,,\n".replace(",", separator))
    assert source.columns == ("email", "name")
    assert rows(source) == [["a@firm.example", "Ada"], ["b@firm.example", "Bo"]]


def test_nuls_are_read_and_told(table):
    source = table(b"email,name\na@firm.example,A\0da\nb@firm.example,\0\0\n")
    assert rows(source) == [["a@firm.example", "A\0da"], ["b@firm.example", "\0\0"]]
    assert source.notes == ["3 NUL characters in it (the first in line 2): passed through, but never asked"]


# NULs and lone carriage returns are among them; other controls in numbers make a file no text.
CELL = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\0\t\r\n"), max_size=12)


@given(
    cells=st.lists(st.tuples(CELL, CELL), max_size=8),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    above=st.sampled_from(["", "My leads\n\n", "# a note\n"]),
)
@settings(max_examples=150, deadline=None)
def test_what_passes_through_comes_out_as_it_went_in(cells, separator, encoding, above):
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.csv"), Path(folder, "out.csv")
        with source.open("w", encoding=encoding, newline="") as sink:
            sink.write(above)
            lines = [["email", "a", "b"], *(["x@firm.example", *pair] for pair in cells)]
            csv.writer(sink, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(lines)
        try:
            opened = TextTable(source)
        except InputError as error:
            # Cells full of another separator: it is asked for, never guessed.
            if "say which with --separator" not in str(error):
                raise
            opened = TextTable(source, separator=separator)
        write_text(
            opened.reader(),
            target,
            columns=opened.columns,
            ours=(),
            separator=opened.separator,
            has_mark=opened.has_mark,
        )
        with target.open(encoding="utf-8-sig", newline="") as made:
            assert list(csv.reader(made, delimiter=separator)) == lines


def test_bytes_are_base64_wherever_they_stand_and_lists_are_json(tmp_path):
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    write(tmp_path / "out.csv", batch(raw=[b"\xff\0"], many=[[b"\xff"]], deep=[{"a": b"\xff", "at": moment}]))
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as made:
        _, cells = csv.reader(made)
    assert cells == ["/wA=", '["/w=="]', '{"a": "/w==", "at": "2026-01-02T03:04:05+00:00"}']


@pytest.mark.parametrize("has_mark", [False, True])
def test_who_is_suppressed_before_a_text_table_is_published_is_not_in_it(
    has_mark, stand_in, enricher, tmp_path
):
    buying = enricher(stand_in(match_rate=1.0))
    leads = pa.table({"email": [f"p{number}@firm.example" for number in range(10_000)]})
    reader = buying.enrich_batches(leads)

    def suppressing():
        for number, batch in enumerate(reader):
            yield batch
            if number == 0:
                assert enricher(stand_in()).suppress([("email", "p3@firm.example")]) == 1

    target = tmp_path / "contacts.csv"
    write_text(
        pa.RecordBatchReader.from_batches(reader.schema, suppressing()), target, columns=reader.schema.names,
        ours=set(), separator=",", has_mark=has_mark, revise=buying.revisions(reader.schema),
    )  # fmt: skip
    written = target.read_bytes()
    assert written.count("\ufeff".encode()) == has_mark
    table = pd.read_csv(target, encoding="utf-8-sig", dtype=str)
    assert table["email"].tolist() == leads.column("email").to_pylist()
    assert table["eb_status"].value_counts().to_dict() == {"matched": 9_999, "suppressed": 1}
    assert table.loc[3, "eb_status":].dropna().to_dict() == {
        "eb_status": "suppressed",
        "eb_from_ledger": "false",
    }
