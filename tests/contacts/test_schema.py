from pathlib import Path

import pandas as pd
import pandera.errors
import pyarrow as pa
import pytest

from eb_dagster.contacts import schema
from eb_dagster.contacts.schema import CONTACT_COLUMNS, STATUS_COLUMNS
from eb_dagster.errors import ConfigError
from tests.contacts.readings import NAMES


def test_a_table_of_nulls_has_the_same_schema():
    table = schema.arrow_schema().empty_table().to_pandas(types_mapper=schema.pandas_dtype)
    assert isinstance(schema.EnrichedContacts.validate(table), pd.DataFrame)


def test_the_arrow_schema_tells_what_a_column_means():
    found = schema.arrow_schema(prefix="p_", columns=["phone", "full_name"])
    assert found.names == [
        *(f"p_{column.name}" for column in STATUS_COLUMNS), "p_full_name", "p_phone",
    ]  # fmt: skip
    assert found.field("p_phone").metadata == {b"description": b"The first phone number."}
    assert [field.name for field in found if not field.nullable] == ["p_status", "p_from_ledger"]


def test_an_unknown_column_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'fone'.*'full_name'"):
        schema.select(["phone", "fone"])
    assert schema.select(()) == ()
    assert schema.select(None) == CONTACT_COLUMNS


def statuses(**columns: list) -> pd.DataFrame:
    size = len(columns["status"])
    given_columns = {name: columns.get(name, [None] * size) for name in NAMES}
    status = {column.name: columns.get(column.name, [None] * size) for column in STATUS_COLUMNS}
    status["from_ledger"] = [False] * size
    rows = {f"eb_{name}": values for name, values in {**status, **given_columns}.items()}
    table = pa.table(rows, schema=schema.arrow_schema())
    return table.to_pandas(types_mapper=schema.pandas_dtype)


def test_a_row_of_each_status_passes_the_contract_beside_columns_of_the_input():
    matched = [{"matched": True, "not_found": False}.get(status) for status in schema.STATUSES]
    profiles = [[{"network": None, "url": "u"}]] + [None] * (len(matched) - 1)
    frame = statuses(status=list(schema.STATUSES), matched=matched, social_profiles=profiles).assign(lead=1)
    assert len(schema.EnrichedContacts.validate(frame)) == 7
    assert schema.EnrichedContacts is schema.EnrichedContacts


@pytest.mark.parametrize(
    ("status", "matched"),
    [
        ("matched", None),
        ("matched", False),
        ("not_found", True),
        ("not_found", None),
        ("in_doubt", False),
        ("invalid", True),
        ("fine", None),
    ],
)
def test_a_match_flag_that_disagrees_with_its_status_breaks_the_contract(status, matched):
    frame = statuses(status=[status], matched=[matched], full_name=["Canary"])
    with pytest.raises(pandera.errors.SchemaError) as refusal:
        schema.EnrichedContacts.validate(frame)
    assert "Canary" not in str(refusal.value)


def test_a_column_of_another_type_breaks_the_contract():
    frame = statuses(status=["in_doubt"]).assign(eb_phone=[1])
    with pytest.raises(pandera.errors.SchemaError, match="eb_phone"):
        schema.EnrichedContacts.validate(frame)


def test_the_documents_have_the_columns():
    page = (Path(__file__).parents[2] / "docs" / "columns.md").read_text("utf-8")
    assert schema.markdown_table() in page
