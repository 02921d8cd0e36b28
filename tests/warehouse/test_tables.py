"""The tables that are made of an enriched one."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.contacts.flatten import as_json
from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.errors import InputError
from eb_dagster.tables.parquet import write_parquet
from tests.warehouse.enriched_tables import FULL, PEOPLE, TABLES, enriched, everybody, with_own

dlt = pytest.importorskip("dlt")
from eb_dagster.warehouse import load_contacts  # noqa: E402
from tests.warehouse.warehouses import IGNORED_WARNINGS, columns  # noqa: E402

pytestmark = IGNORED_WARNINGS


def test_lists_that_were_written_as_json_or_rewritten_since_make_the_same_tables(tmp_path):
    database = str(tmp_path / "warehouse.duckdb")
    table = enriched(everybody())
    lists = [field.name for field in arrow_schema() if pa.types.is_list(field.type)]
    ways = {
        "list": lambda column: column,
        "json": as_json,
        "large": lambda column: column.cast(pa.large_list(column.type.value_type)),
    }
    rows = []
    for way in ways.values():
        arrays = [
            way(column.combine_chunks()) if name in lists else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        ]
        load_contacts(
            pa.Table.from_arrays(arrays, table.column_names).to_reader(),
            dlt.destinations.duckdb(database),
            dataset="crm",
            is_whole=True,
        )
        with duckdb.connect(database, read_only=True) as connection:
            rows.append(
                [
                    connection.execute(f"SELECT * FROM crm.{name} ORDER BY 1, 2").fetchall()
                    for name in TABLES[1:]
                ]
            )
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0][0]) == 2 * PEOPLE


def test_what_the_vendor_invents_changes_no_table(warehouse, publish):
    warehouse.load(publish(everybody()))
    before = columns(warehouse)
    odd = everybody(
        full_name=["Canary", 3], gender={"new": "kind"}, invented={"new": "key"}, phone_numbers="none",
        personal_emails=[{"address": 7}], education=7, experiences={"title": [[]], "new": 1}, employment=[1],
    )  # fmt: skip
    warehouse.load(publish(odd))
    assert columns(warehouse) == before
    assert warehouse.counts()[0] == PEOPLE
    ((other,),) = warehouse.ask("SELECT eb_other FROM crm.contacts WHERE lead_id = 3")
    assert "invented" in other


def test_entries_of_any_shape_are_rows(publish, tmp_path):
    database = str(tmp_path / "warehouse.duckdb")
    odd = everybody(education={"school": 7}, experiences=["ten years", {"company": {"name": ["Acme"]}}, None])
    load_contacts(publish(odd), dlt.destinations.duckdb(database), dataset="crm")
    with duckdb.connect(database) as connection:
        query = (
            "SELECT {} FROM crm.{} JOIN crm.contacts USING (contact_id) WHERE lead_id = 3 ORDER BY position"
        )
        assert connection.execute(query.format("school_name", "contact_education")).fetchall() == [("7",)]
        rows = connection.execute(query.format("company_name, entry", "contact_experiences")).fetchall()
    assert rows == [("ten years", '"ten years"'), ("Acme", '{"company":{"name":["Acme"]}}'), (None, "null")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("contact_id", "would both be 'contact_id'"),
        ("Contact Id", "would both be 'contact_id'"),
        ("EB full name", "would both be 'eb_full_name'"),
        ("_dlt_id", "cannot be called '_dlt_id'"),
        ("", "cannot be called ''"),
    ],
)
def test_a_column_of_the_users_that_would_be_another_one_there_is_refused(name, said, publish, tmp_path):
    database = tmp_path / "warehouse.duckdb"
    table = with_own(publish(everybody()), name, pa.array(range(PEOPLE + 1)))
    with pytest.raises(InputError, match=said):
        load_contacts(table, dlt.destinations.duckdb(str(database)), dataset="crm")


def test_the_users_own_key_keeps_two_leads_with_one_address_apart(warehouse, publish):
    table = publish(everybody())
    rows = pq.read_table(table)
    query = rows.schema.get_field_index("eb_query")
    same = rows.set_column(query, rows.schema.field(query), pa.array(["same@work.example"] * len(rows)))
    write_parquet(same.to_batches(), table, schema=same.schema)
    warehouse.load(table, key="Lead Id")
    assert warehouse.counts() == FULL
    warehouse.load(table)
    assert warehouse.counts() == [1, 2, 1, 2, 2, 1]


def test_a_key_that_is_not_unique_is_refused_without_a_name(warehouse, publish):
    table = publish(everybody())
    with pytest.raises(InputError, match=r"row 1 has the same \['eb_status'\] as one before"):
        warehouse.load(table, key="eb_status")
    with pytest.raises(InputError, match=r"row 0 has no value in \['eb_gender'\]"):
        warehouse.load(table, key="eb_gender")
    with pytest.raises(InputError, match="no columns"):
        warehouse.load(table, key="LeadNumber")


def test_a_table_that_is_not_enriched_is_refused(tmp_path):
    pq.write_table(pa.table({"Email": ["canary@work.example"]}), tmp_path / "leads.parquet")
    with pytest.raises(InputError, match="no enriched table"):
        load_contacts(
            tmp_path / "leads.parquet", dlt.destinations.duckdb(str(tmp_path / "w.duckdb")), dataset="crm"
        )
