"""Every type that a column may have, through every door: as it was, or refused before anything is bought."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from click.testing import CliRunner
from polars.testing import assert_frame_equal
from sqlalchemy.dialects.postgresql import JSONB

from eb_dagster import ConfigError, InputError
from eb_dagster.cli import main

EMAILS = ["p1@firm.example", "p2@firm.example", "p3@firm.example"]
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 678901)
LISTS = [["a", None], None, []]


def of(kind: pa.DataType, values: Any = (1, None, 3)) -> Any:
    return pa.array(list(values), kind)


def encoded(dictionary: pa.Array, codes: Any = (0, 1, None), *, by: Any = None, **more: Any) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(list(codes), by or pa.int8()), dictionary, **more)


def extended(kind: Any, values: Any) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(list(values), kind.storage_type))


class Odd(pa.ExtensionType):
    """Of a library that nobody here has heard of, and that registered no type."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "tests.odd")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Odd:
        return cls()


NUMBERS = [
    of(kind)
    for kind in (
        pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.float16(), pa.float32(),
        pa.float64(), pa.decimal32(5, 2), pa.decimal64(15, 2), pa.decimal128(38, 2), pa.decimal256(60, 2),
    )
]  # fmt: skip
TIMES = [
    of(kind)
    for kind in (
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.timestamp(unit, "Europe/Berlin") for unit in ("s", "ms", "us", "ns")),
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
        pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.date32(),
    )
]  # fmt: skip
TEXTS = [of(kind, ["a", None, "ü"]) for kind in (pa.string(), pa.large_string(), pa.string_view())]
BYTES = [
    of(kind, [b"\xff\x00", None, b"bc"])
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))
]
NESTED = [
    of(pa.list_(pa.string()), LISTS), of(pa.large_list(pa.string()), LISTS), of(pa.list_view(pa.string()), LISTS),
    of(pa.large_list_view(pa.string()), LISTS), of(pa.list_(pa.string(), 2), [["a", "b"], None, ["c", None]]),
    of(pa.list_(pa.list_(pa.int64())), [[[1]], None, []]), of(pa.list_(pa.string_view()), LISTS),
    of(pa.list_(pa.binary()), [[b"\xff"], None, []]), of(pa.list_(pa.null()), [[None], None, []]),
    of(pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    of(pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, []]),
    pa.StructArray.from_arrays([encoded(pa.array(["a", "b"]))], ["d"]),
]  # fmt: skip
ENCODED = [
    encoded(pa.array(["a", "b"])), encoded(pa.array(["a", "b"], pa.large_string()), ordered=True),
    encoded(pa.array([1, 2])), encoded(pa.array([NOON, NOON])), encoded(pa.array([True, False])),
    encoded(pa.array(["a", "b"]), by=pa.uint64()), encoded(pa.nulls(0), [None] * 3),
    encoded(pa.array([f"v{number}" for number in range(128)]), [0, 127, None]),
]  # fmt: skip
ODD = [
    pa.nulls(3), of(pa.bool_(), [True, None, False]), of(pa.uint64(), [2**64 - 1, None, 1]),
    of(pa.uuid(), [b"0123456789abcdef", None, b"fedcba9876543210"]), extended(pa.json_(), ['{"a":1}', None, "[]"]),
    extended(pa.bool8(), [1, None, 0]), extended(pa.opaque(pa.int32(), "hstore", "pg"), [1, None, 2]),
    of(pa.date32(), [10**7, None, -(10**6)]), of(pa.timestamp("s"), [10**12, None, 1]), of(pa.timestamp("us"), [10**18, None, 1]),
]  # fmt: skip
# In bytes, for a place of its own for each; a name is only a number, since types have odd ones.
PASS = {
    f"{index} {array.type}": array
    for index, array in enumerate([*NUMBERS, *TIMES, *TEXTS, *BYTES, *NESTED, *ENCODED, *ODD])
}
# Years that Python's own dates do not know.
FAR = tuple(PASS)[-3:]
# Any: the stubs of pandas know no blank among numbers.
NANOSECONDS: Any = [1, None, 2]
NO_PARQUET = {
    "month_day_nano_interval": of(pa.month_day_nano_interval(), [(1, 2, 3), None, (0, 0, 1)]),
    "decimal128": of(pa.decimal128(5, -2), [decimal.Decimal(100), None, decimal.Decimal(200)]),
    "struct": of(pa.struct({}), [{}, None, {}]),
    "dictionary": encoded(pa.array([["a"], ["b"]])),
    "run_end_encoded": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3]), pa.array(["a", "b"])),
    "list": pa.ListArray.from_arrays([0, 1, 2, 3], pa.RunEndEncodedArray.from_arrays(pa.array([2, 3]), pa.array(["a", "b"]))),
    "dense_union": pa.UnionArray.from_dense(of(pa.int8(), [0, 1, 0]), of(pa.int32(), [0, 0, 1]), [pa.array(["a", "b"]), pa.array([1])]),
}  # fmt: skip


def table(columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table({"email": EMAILS, **columns})


def written(run: Any, leads: pa.Table, folder: Path) -> pa.Table:
    run.write(run.enrich_batches(leads), folder / "out.parquet")
    return pq.read_table(folder / "out.parquet")


def rewritten(run: Any, leads: pa.Table, folder: Path) -> pa.Table:
    pq.write_table(leads, folder / "in.parquet")
    run.enrich_parquet(folder / "in.parquet", folder / "out.parquet")
    return pq.read_table(folder / "out.parquet")


DOORS: dict[str, Callable[[Any, pa.Table, Path], pa.Table]] = {
    "table": lambda run, leads, _: run.enrich_dataframe(leads),
    "reader": lambda run, leads, _: run.enrich_dataframe(leads.to_reader()),
    "stream": lambda run, leads, _: run.enrich_batches(iter(leads.to_batches())).read_all(),
    "table to Parquet": written,
    "Parquet to Parquet": rewritten,
}


@pytest.mark.parametrize("door", DOORS)
def test_columns_that_pass_through_come_out_as_they_were(door, stand_in, enricher, tmp_path):
    columns = PASS if "Parquet" in door else {**PASS, **NO_PARQUET}
    leads = table(columns)
    # A Parquet table that was written and read is what it is to be compared with: it keeps some types as others.
    pq.write_table(table(PASS), tmp_path / "kept.parquet")
    expected = pq.read_table(tmp_path / "kept.parquet") if "Parquet" in door else leads
    enriched = DOORS[door](enricher(stand_in()), leads, tmp_path)
    enriched.validate(full=True)
    changed = [name for name in columns if not enriched[name].equals(expected[name])]
    assert changed == []
    assert [name for name in columns if enriched[name].type != expected[name].type] == []


def test_a_type_that_nobody_registered_comes_back_with_its_table(stand_in, enricher):
    enriched = enricher(stand_in()).enrich_dataframe(table({"odd": extended(Odd(), ["a", None, "b"])}))
    assert enriched["odd"].type == Odd()


@pytest.mark.parametrize("name", NO_PARQUET)
def test_what_parquet_cannot_hold_is_refused_before_anything_is_bought(name, stand_in, enricher, tmp_path):
    api = stand_in()
    run = enricher(api)
    with pytest.raises(InputError, match=rf"no type for columns 'x y' \({name}") as caught:
        run.write(run.enrich_batches(table({"x y": NO_PARQUET[name]})), tmp_path / "out.parquet")
    assert "cast them to text. Nothing was sent" in str(caught.value)
    assert api.requests() == 0
    assert not (tmp_path / "out.parquet").exists()


def test_two_columns_of_one_name_are_refused_before_anything_is_bought_for_a_parquet_table(
    stand_in, enricher, tmp_path
):
    api = stand_in()
    run = enricher(api)
    leads = pa.Table.from_arrays([pa.array(EMAILS), of(pa.int64()), of(pa.int64())], ["email", "n", "n"])
    with pytest.raises(InputError, match="more than one column is called"):
        run.write(run.enrich_batches(leads), tmp_path / "out.parquet")
    assert api.requests() == 0
    assert run.enrich_dataframe(leads).column_names[:3] == ["email", "n", "n"]


def with_holes(text: str) -> dict[str, pa.Array]:
    """Dictionaries with an entry that is null, which is another null than a code that is."""
    holes, more = (
        encoded(pa.array([text, None, "b"]), codes) for codes in ([2, 1, None], [2, 1, None, 0, 1, 2])
    )
    ends = pa.array([0, 2, None, 6], pa.int32())
    extension = pa.ExtensionArray.from_storage(pa.opaque(holes.type, "kind", "crm"), holes)
    return {
        "dictionary": holes,
        "dictionary of numbers": encoded(pa.array([len(text), None])),
        "struct": pa.StructArray.from_arrays([holes], ["d"], mask=pa.array([False, False, True])),
        "list": pa.ListArray.from_arrays(ends, more),
        "large list": pa.LargeListArray.from_arrays(ends.cast(pa.int64()), more),
        "list of two": pa.FixedSizeListArray.from_arrays(more, 2),
        "list of structs": pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays([more], ["d"])),
        "map": pa.MapArray.from_arrays(ends, pa.array([*"abcdef"]), more),
        "extension": extension,
        "extension in a struct": pa.StructArray.from_arrays([extension], ["d"]),
    }


WITH_HOLES = with_holes("a")


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", WITH_HOLES)
def test_a_dictionary_with_a_null_in_it_is_written_wherever_it_stands(
    name, start, stand_in, enricher, tmp_path
):
    leads = table({"kind": WITH_HOLES[name]}).slice(start)
    enriched = written(enricher(stand_in()), leads, tmp_path)
    assert enriched["kind"].to_pylist() == leads["kind"].to_pylist()


@pytest.mark.parametrize("name", WITH_HOLES)
@pytest.mark.parametrize("form", ["Arrow", "pandas"])
def test_different_dictionaries_with_nulls_in_them_are_joined(name, form, stand_in, enricher):
    both = pa.concat_tables([table({"kind": with_holes(text)[name]}) for text in ("a", "other")])
    leads: Any = both.append_column("id", pa.array(range(6)))
    run = enricher(stand_in())
    if form == "pandas":
        leads = leads.to_pandas(types_mapper=pd.ArrowDtype)
    updated = run.update_batches(leads, None, key="id").read_all()
    assert updated["kind"].to_pylist() == both["kind"].to_pylist()


@pytest.fixture
def shell(stand_in, tmp_path, monkeypatch) -> Callable[..., None]:
    """Enrich a Parquet table of leads into a file, as a person does."""
    monkeypatch.setenv("EXACTBUYER_API_KEY", "canary-key")
    monkeypatch.setenv("EXACTBUYER_BASE_URL", stand_in(match_rate=1.0).url)

    def enrich(leads: pa.Table, target: Path, *more: str) -> None:
        pq.write_table(leads, tmp_path / "in.parquet")
        words = [
            "enrich",
            str(tmp_path / "in.parquet"),
            "-o",
            str(target),
            "--ledger",
            str(tmp_path / "l.db"),
            "-y",
        ]
        done = CliRunner().invoke(
            main, [*words, "--requests-per-minute", "60000", *more], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output

    return enrich


def test_the_shell_writes_every_type_of_a_parquet_table_as_text(shell, tmp_path):
    shell(table(PASS), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["email"] for row in rows] == EMAILS
    texts = {name: [row[name] != "" for row in rows] for name in PASS}
    assert [name for name, array in PASS.items() if texts[name] != [cell.is_valid for cell in array]] == []


POLARS = {
    "Int128": pl.Series([2**100, None, 1], dtype=pl.Int128),
    "Object": pl.Series([{1}, None, {2}], dtype=pl.Object),
    "List": pl.Series([[1], None, []], dtype=pl.List(pl.Int128)),
    "Decimal": pl.Series([decimal.Decimal("1.5"), None, decimal.Decimal(2)], dtype=pl.Decimal(38, 4)),
    "Categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "Enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
    "Array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
    "Struct": pl.Series([{"a": 1}, None, {"a": 2}]),
    "Time": pl.Series([NOON.time(), None, NOON.time()]),
    "Duration": pl.Series([datetime.timedelta(1), None, None]),
    "Binary": pl.Series([b"\xff", None, b""]),
    "Null": pl.Series([None, None, None]),
    "UInt64": pl.Series([2**64 - 1, None, 1], dtype=pl.UInt64),
}
NOT_IN_ARROW = ("Int128", "Object", "List")


def test_no_column_of_a_polars_frame_is_converted(stand_in, enricher):
    frame = pl.DataFrame({"email": EMAILS, **POLARS})
    run = enricher(stand_in())
    assert run.plan(frame.lazy()).to_ask == run.plan(frame).to_ask == 3
    enriched = run.enrich_dataframe(frame)
    assert enriched.schema["Object"] == pl.Object
    assert enriched["Object"].to_list() == frame["Object"].to_list()
    assert_frame_equal(enriched[:, : frame.width].drop("Object"), frame.drop("Object"))


@pytest.mark.parametrize("name", NOT_IN_ARROW)
def test_a_column_of_polars_that_arrow_lacks_is_named_before_anything_is_bought(name, stand_in, enricher):
    api = stand_in()
    with pytest.raises(InputError, match=rf"no type for columns 'x' \({name}\); leave them out, or cast"):
        enricher(api).enrich_batches(pl.DataFrame({"email": EMAILS, "x": POLARS[name]}))
    assert api.requests() == 0


DUCKDB = (
    "170141183460469231731687303715884105727::HUGEINT", "1::UHUGEINT", "1::BIGNUM", "'0101'::BIT", "uuid()", "INTERVAL 1 MONTH",
    "'01:02:03+02'::TIMETZ", "'2026-01-01'::TIMESTAMP_NS", "now()", "'infinity'::TIMESTAMP", "'infinity'::DATE", "MAP {'a': 1}",
    "{'a': 1}", "union_value(num := 2)", "['a']", "['a', 'b']::VARCHAR[2]", "'a'::ENUM('a', 'b')", "'\\xff'::BLOB", "'{}'::JSON",
    "1.5::DECIMAL(38, 2)", "'01:02'::TIME", "NULL",
)  # fmt: skip


def test_every_type_of_duckdb_goes_out_and_back(stand_in, enricher):
    with duckdb.connect() as connection:
        columns = ", ".join(f'{value} AS "{index}"' for index, value in enumerate(DUCKDB))
        connection.execute(f"CREATE TABLE leads AS SELECT unnest({EMAILS}) AS email, {columns}")
        enriched = enricher(stand_in()).enrich_dataframe(connection.sql("FROM leads"))
        assert isinstance(enriched, pa.Table)
        connection.execute("CREATE TABLE contacts AS FROM enriched")
        assert connection.sql('SELECT count(*), count("0") FROM contacts').fetchall() == [(3, 3)]


def pandas_columns() -> dict[str, pd.Series]:
    spread = {
        name: pd.Series(array.to_pandas(types_mapper=pd.ArrowDtype))
        for name, array in PASS.items()
        if not isinstance(array.type, pa.BaseExtensionType)
    }
    return {
        **spread,
        "lists": pd.Series(LISTS), "arrays": pd.Series([np.array([1, 2]), None, np.array([3])]), "dicts": pd.Series([{"a": 1}, None, {}]),
        "sets": pd.Series([{1}, None, {2}]), "complex": pd.Series([1j, np.nan, 2]), "large": pd.Series([2**70, None, 1], dtype=object),
        "sparse": pd.Series(pd.arrays.SparseArray([1.0, np.nan, 2.0])), "period": pd.Series(pd.period_range("2026", periods=3)),
        "interval": pd.Series(pd.interval_range(0, 3)), "category": pd.Series([1, None, 3], dtype="category"),
        "ordered": pd.Series(pd.Categorical(["a", None, "b"], ordered=True)), "mixed": pd.Series([1, "a", object]),
        "dates": pd.Series([NOON.date(), None, pd.NaT]), "decimals": pd.Series([decimal.Decimal("1.5"), None, decimal.Decimal("NaN")]),
        "zone": pd.Series(pd.date_range("2026-03-29", periods=3, tz="Europe/Berlin")), "delta": pd.Series(pd.to_timedelta(NANOSECONDS)),
        "Int64": pd.Series([1, None, 3], dtype="Int64"), "boolean": pd.Series([True, None, False], dtype="boolean"),
    }  # fmt: skip


def values(column: pd.Series) -> Any:
    if isinstance(column.dtype, pd.ArrowDtype):
        return column.array.__arrow_array__()
    return repr(list(column.array))


def test_no_column_of_a_pandas_frame_is_touched(stand_in, enricher):
    frame = pd.DataFrame({"email": EMAILS}, index=[5, 5, 1])
    frame = frame.assign(**{name: column.array for name, column in pandas_columns().items()})
    run = enricher(stand_in())
    assert run.plan(frame).to_ask == 3
    enriched = run.enrich_dataframe(frame)
    assert enriched.index.tolist() == [5, 5, 1]
    assert [name for name in frame if enriched[name].dtype != frame[name].dtype] == []
    assert [name for name in frame if values(enriched[name]) != values(frame[name])] == []


# What is done with the result of pandas


@pytest.fixture
def bought(stand_in, enricher) -> Callable[..., pd.DataFrame]:
    """An enriched frame of two people, one who was not found and one who cannot be asked."""
    api = stand_in(match_rate=0.5)
    leads = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(20)]})
    first = enricher(api).enrich_dataframe(leads)
    found, missed = (
        first["email"][first["eb_status"] == status].tolist() for status in ("matched", "not_found")
    )
    some = pd.DataFrame({"email": [found[0], missed[0], found[1], "no address"]}, index=[7, 7, 3, 0])
    return lambda **settings: enricher(api, **settings).enrich_dataframe(some)


LISTED = ("eb_emails", "eb_phones", "eb_social_profiles")


def test_lists_are_pythons_own(bought):
    frame = bought()
    for name in LISTED:
        assert frame[name].map(type).tolist() == [list, type(None), list, type(None)]
    profile = frame["eb_social_profiles"].iloc[0][0]
    assert sorted(profile) == ["network", "url"]
    assert frame.index.tolist() == [7, 7, 3, 0]
    assert frame["email"].iloc[0] in frame["eb_emails"].iloc[0]


def test_as_json_they_are_text_of_the_same_lists(bought):
    lists, texts = bought(), bought(lists="json")
    for name in LISTED:
        assert texts[name].dtype == "string"
        decoded = [None if text is pd.NA else json.loads(text) for text in texts[name]]
        assert decoded == lists[name].tolist()
    pd.testing.assert_frame_equal(texts.drop(columns=list(LISTED)), lists.drop(columns=list(LISTED)))


@pytest.mark.parametrize("lists", ["list", "json"])
def test_files_hold_the_lists_as_they_are(bought, lists, tmp_path):
    frame = bought(lists=lists)
    frame.to_parquet(tmp_path / "contacts.parquet")
    kept = pq.read_table(tmp_path / "contacts.parquet")
    frame.to_csv(tmp_path / "contacts.csv")
    texts = pd.read_csv(tmp_path / "contacts.csv")
    parsed = json.loads(frame.to_json(orient="records", date_format="iso"))
    for name in LISTED:
        plain = [None if cell is None or cell is pd.NA else cell for cell in frame[name]]
        assert kept[name].to_pylist() == [row[name] for row in parsed] == plain
        assert texts[name].dropna().tolist() == [str(cell) for cell in plain if cell is not None]


def test_a_list_becomes_rows(bought):
    frame = bought()
    rows = frame.explode("eb_emails")
    assert rows["eb_emails"].dropna().tolist() == [
        email for emails in frame["eb_emails"].dropna() for email in emails
    ]


def test_frames_are_joined_and_rows_that_are_there_twice_are_dropped_or_refused(bought):
    lists, texts = bought(), bought(lists="json")
    assert lists.merge(lists, on="email")["eb_emails_x"].tolist() == lists["eb_emails"].tolist()
    twice = pd.concat([texts, texts])
    assert len(twice.drop_duplicates()) == 4
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        pd.concat([lists, lists]).drop_duplicates()


@pytest.fixture(params=["sqlite3", "sqlite", "psycopg", "psycopg2"])
def database(request, tmp_path) -> Any:
    if request.param == "sqlite3":
        with closing(sqlite3.connect(tmp_path / "contacts.db")) as connection:
            yield connection
        return
    url = f"sqlite:///{tmp_path / 'contacts.db'}"
    if request.param != "sqlite":
        address = request.getfixturevalue("postgresql").new_database()
        url = address.replace("postgresql://", f"postgresql+{request.param}://")
    engine = sqlalchemy.create_engine(url)
    yield engine
    engine.dispose()


def test_a_database_without_arrays_takes_the_lists_as_json_and_the_nulls_as_nulls(bought, database):
    frame = bought(lists="json")
    frame.to_sql("contacts", database, index=False)
    back = pd.read_sql("SELECT * FROM contacts", database)
    for name in LISTED:
        assert [None if pd.isna(cell) else cell for cell in back[name]] == [
            None if pd.isna(cell) else cell for cell in frame[name]
        ]
    for name in ("eb_matched", "eb_from_ledger"):
        assert [None if pd.isna(cell) else bool(cell) for cell in back[name]] == [
            None if pd.isna(cell) else cell for cell in frame[name]
        ]
    count = "SELECT count(*) AS n FROM contacts WHERE eb_matched IS NULL AND eb_emails IS NULL AND eb_enriched_at IS NULL"
    assert pd.read_sql(count, database)["n"].tolist() == [1]
    moments = pd.to_datetime(back["eb_enriched_at"], utc=True)
    assert moments.dropna().tolist() == frame["eb_enriched_at"].dropna().tolist()


def test_a_database_without_arrays_refuses_the_lists_themselves(bought, database):
    with pytest.raises(pd.errors.DatabaseError):
        bought().to_sql("contacts", database, index=False)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_postgresql_takes_the_lists_as_its_own(bought, driver, postgresql):
    frame = bought()
    engine = sqlalchemy.create_engine(
        postgresql.new_database().replace("postgresql://", f"postgresql+{driver}://")
    )
    kinds = {
        "eb_emails": sqlalchemy.ARRAY(sqlalchemy.Text),
        "eb_phones": sqlalchemy.ARRAY(sqlalchemy.Text),
        "eb_social_profiles": JSONB(none_as_null=True),
    }
    frame.to_sql("contacts", engine, index=False, dtype=kinds)
    back = pd.read_sql("SELECT * FROM contacts", engine)
    engine.dispose()
    for name in LISTED:
        assert back[name].tolist() == frame[name].tolist()


@pytest.mark.parametrize("lists", ["list", "json"])
def test_duckdb_takes_both(bought, lists):
    frame = bought(lists=lists)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE contacts AS FROM frame")
        columns = ", ".join(LISTED)
        rows = connection.sql(f"SELECT {columns} FROM contacts WHERE eb_matched").fetchall()
        assert rows == [
            tuple(row) for row in frame[frame["eb_matched"].fillna(False)][[*LISTED]].values.tolist()
        ]
        assert connection.sql("SELECT count(*) FROM contacts WHERE eb_matched IS NULL").fetchall() == [(1,)]


def test_json_is_chosen_for_every_door(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    run = enricher(api, lists="json")
    leads = table({})
    assert run.enrich_dataframe(leads)["eb_emails"].type == pa.string()
    assert run.enrich_dataframe(pl.from_arrow(leads)).schema["eb_emails"] == pl.String
    run.write(run.enrich_batches(leads), tmp_path / "out.parquet")
    assert EMAILS[0] in json.loads(pq.read_table(tmp_path / "out.parquet")["eb_emails"][0].as_py())


def test_the_shell_writes_lists_as_json_text_if_told_so(shell, tmp_path):
    shell(table({}), tmp_path / "out.parquet", "--lists", "json")
    texts = pq.read_table(tmp_path / "out.parquet").column("eb_emails")
    assert EMAILS[0] in json.loads(texts[0].as_py())


def test_another_choice_of_lists_is_a_fault_of_the_settings(stand_in, enricher):
    with pytest.raises(ConfigError, match=r"lists is 'text'; choose from \['list', 'json'\]"):
        enricher(stand_in(), lists="text")
