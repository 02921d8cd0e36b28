import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from eb_dagster import InputError, enrich_dataframe
from eb_dagster.contacts import schema

ADDED = schema.arrow_schema().names


def leads(count: int = 10) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "email": [f"p{number}@firm.example" for number in range(count)],
            "kind": pl.Series(["a", "b"] * (count // 2), dtype=pl.Enum(["b", "a"])),
            "score": range(count),
        }
    )


def relation(frame: pl.DataFrame) -> duckdb.DuckDBPyRelation:
    with_frame = duckdb.connect()
    with_frame.register("leads", frame.to_arrow())
    return with_frame.sql("FROM leads")


class Foreign:
    """A table of a library that nobody here has heard of."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


ARROW = {
    "table": lambda frame: frame.to_arrow(),
    "reader": lambda frame: frame.to_arrow().to_reader(),
    "batch": lambda frame: frame.to_arrow().combine_chunks().to_batches()[0],
    "relation": relation,
    "foreign": lambda frame: Foreign(frame.to_arrow()),
    "string views": lambda frame: Foreign(pa.table(frame)),
}


@pytest.mark.parametrize("lazy", [False, True])
def test_a_polars_frame_comes_back_as_one_with_its_own_columns_untouched(stand_in, enricher, lazy):
    frame = leads()
    run = enricher(stand_in())
    enriched = run.enrich_dataframe(frame.lazy() if lazy else frame)
    assert_frame_equal(enriched.select(frame.columns), frame)
    assert enriched.columns == [*frame.columns, *ADDED]
    assert enriched["eb_matched"].sum() == run.report.matched > 0
    assert enriched.schema["eb_emails"] == pl.List(pl.String)


@pytest.mark.parametrize("kind", ARROW)
def test_whatever_speaks_arrow_comes_back_as_an_arrow_table(stand_in, enricher, kind):
    run = enricher(stand_in())
    enriched = run.enrich_dataframe(ARROW[kind](leads()))
    assert isinstance(enriched, pa.Table)
    assert enriched.column_names == [*leads().columns, *ADDED]
    assert enriched["email"].to_pylist() == leads()["email"].to_list()
    assert enriched["eb_matched"].to_pylist().count(True) == run.report.matched > 0


def test_every_kind_gives_the_same_contacts_and_pays_for_them_once(stand_in, enricher):
    api = stand_in()
    usual = enricher(api).enrich_dataframe(leads().to_pandas())
    spent = api.credits()
    for make in (*ARROW.values(), pl.DataFrame.lazy):
        enriched = enricher(api).enrich_dataframe(make(leads()))
        names = enriched["eb_full_name"]
        found = names.to_list() if isinstance(names, pl.Series) else names.to_pylist()
        assert (
            found == usual["eb_full_name"].astype(object).where(usual["eb_full_name"].notna(), None).tolist()
        )
    assert api.credits() == spent > 0


@pytest.mark.parametrize("make", [*(ARROW[name] for name in ARROW if name != "reader"), pl.DataFrame.lazy])
def test_every_kind_can_be_planned(stand_in, enricher, make):
    assert enricher(stand_in()).plan(make(leads())).credits_at_most == 10


def test_the_one_line_form_takes_them_too(stand_in, tmp_path):
    enriched = enrich_dataframe(
        leads(), api_key="canary-key", base_url=stand_in().url, ledger=tmp_path / "one.db", progress=False
    )
    assert isinstance(enriched, pl.DataFrame)


def test_an_empty_table_comes_back_with_every_column(stand_in, enricher):
    run = enricher(stand_in())
    assert run.enrich_dataframe(leads(0)).columns == [*leads().columns, *ADDED]
    assert run.enrich_dataframe(leads(0).to_arrow()).num_rows == 0


def test_a_table_that_fails_while_it_is_read_fails_before_anything_is_sent(stand_in, enricher):
    batch = leads(40_000).to_arrow().combine_chunks().to_batches()[0]

    def batches():
        yield batch
        raise RuntimeError("the warehouse is gone")

    api = stand_in()
    with pytest.raises(RuntimeError, match="is gone"):
        enricher(api).enrich_dataframe(pa.RecordBatchReader.from_batches(batch.schema, batches()))
    assert api.requests() == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "not int"),
        ([{"email": "jane@canary.example"}], "list of dicts"),
        (pl.Series("name", ["jane@canary.example"]), "Series"),
        (pd.Series(["jane@canary.example"]), "Series"),
        (pa.chunked_array([["jane@canary.example"]]), "Arrow array"),
        (pl.DataFrame({"email": pl.Series([{1}], dtype=pl.Object)}), r"'email' \(Object\)"),
        (pl.DataFrame({"email": pl.Series([1], dtype=pl.Int128)}), r"'email' \(Int128\)"),
        (
            pl.DataFrame({"email": pl.Series([1], dtype=pl.Decimal(38, 2))}),
            "'email': 1 of 1 values are numbers",
        ),
        (pl.DataFrame({"email": ["jane@canary.example"], "eb_status": [1]}), "another prefix"),
        (pl.DataFrame({"mail": ["jane@canary.example"]}), "no identifier columns"),
    ],
)
def test_what_is_no_table_of_leads_is_refused_before_anything_is_sent(stand_in, enricher, value, words):
    api = stand_in()
    with pytest.raises(InputError, match=words) as caught:
        enricher(api).enrich_dataframe(value)
    assert "canary" not in str(caught.value)
    assert api.requests() == 0
