"""Values as a warehouse takes them."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from eb_dagster.errors import InputError
from tests.tables.test_types import FAR, NO_PARQUET, PASS
from tests.warehouse.enriched_tables import enriched, person

dlt = pytest.importorskip("dlt")
from eb_dagster.warehouse import load_contacts  # noqa: E402
from tests.warehouse.warehouses import IGNORED_WARNINGS, columns  # noqa: E402

pytestmark = IGNORED_WARNINGS

BELOW = re.compile(r"^\d+ (timestamp|time64)\[ns")


def with_types(columns: dict[str, pa.Array]) -> pa.Table:
    """Three people with columns of these types."""
    table = enriched({number: person(number) for number in (1, 2, 3)})
    for name, array in columns.items():
        table = table.append_column(name, array)
    return table


def test_every_type_arrives_as_itself_or_as_text_that_loses_nothing(warehouse):
    is_postgres = "postgres" in str(warehouse.destination().destination_name)
    known = {
        kind: array
        for kind, array in {**PASS, **NO_PARQUET}.items()
        if kind not in FAR and kind != "list" and not ("binary" in kind.partition("<")[0] and is_postgres)
    }
    whole = {
        kind: pa.array([1000, None, 3000], array.type) if BELOW.search(kind) else array
        for kind, array in known.items()
    }
    warehouse.load(with_types({f"c{index}": array for index, array in enumerate(whole.values())}).to_reader())
    there = {name for table, name in columns(warehouse) if table == "contacts"}
    nothing = {f"c{index}" for index, kind in enumerate(whole) if "null" in kind.replace("<item: null>", "")}
    assert {f"c{index}" for index in range(len(whole))} - there == nothing
    for index, (kind, array) in enumerate(whole.items()):
        if f"c{index}" in there:
            ((count,),) = warehouse.ask(f"SELECT count(c{index}) FROM crm.contacts")
            assert count == sum(value.is_valid for value in array), kind
    for kind, first in (
        ("duration[s]", "PT1S"), ("duration[ns]", "PT0.000000001S"), ("month_day", "P1M2DT0.000000003S"),
        ("arrow.uuid", "30313233-3435-3637-3839-616263646566"), ("arrow.json", '{"a":1}'), ("decimal256", "1.00"),
        (" uint64", str(2**64 - 1)), (" struct<a", '{"a":1,"b":"x"}'), ("dense_union", '"a"'), ("string_view", "a"),
        ("timestamp[ns]", "1970-01-01 00:00:00.000001"), ("time64[ns]", "00:00:00.000001"),
    ):  # fmt: skip
        index = next(index for index, name in enumerate(whole) if kind in name)
        ((value,),) = warehouse.ask(f"SELECT c{index}::VARCHAR FROM crm.contacts WHERE lead_id = 1")
        # dlt takes a moment without a zone for UTC.
        assert value.removesuffix("+00") == first, kind


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 3], pa.timestamp("ns")),
        pa.array([1, None, 3], pa.time64("ns")),
        pa.array([10**7, None, 1], pa.date32()),
    ],
    ids=lambda values: str(values.type),
)
def test_a_value_that_a_warehouse_would_cut_is_refused_with_its_column(values, tmp_path):
    target = dlt.destinations.duckdb(str(tmp_path / "warehouse.duckdb"))
    with pytest.raises(
        InputError, match=rf"column 'When' \({re.escape(str(values.type))}\) .*; round them, or cast"
    ):
        load_contacts(with_types({"When": values}).to_reader(), target, dataset="crm")
