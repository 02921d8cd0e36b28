"""What each row of a table offers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster.errors import InputError
from eb_dagster.identifiers import contract
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.columns import Layout, find_layout
from eb_dagster.identifiers.model import FIELD_TYPES, Candidates, FieldType
from eb_dagster.identifiers.rows import read_batch, read_rows
from tests.identifiers.spellings import NEAR, TEXTS

EMAIL = Layout("wide", (("email", "email"),))


WIDE = Layout("wide", (("social_profile", "linkedin_url"), ("email", "email"), ("phone", "phone")))


LONG = Layout("long", ())


PACKAGE = Path(contract.__file__).parents[1]


def test_a_frame_without_the_column_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'email'"):
        read_rows(pd.DataFrame({"phone": [None]}), EMAIL, default_region=None)


def test_a_wide_row_offers_its_identifiers_in_order_without_repeats() -> None:
    frame = pd.DataFrame(
        {
            "email": ["A@x.example; b@x.example", None, "nobody", ""],
            "phone": ["+1 773 474 9362", "773 474 9362", "n/a", None],
            "linkedin_url": ["in/jane", np.nan, "linkedin.com/feed", " "],
        }
    )
    first, second, third, fourth = read_rows(frame, WIDE, default_region=None)
    assert [identifier.value for identifier in first.identifiers] == [
        "linkedin.com/in/jane",
        "a@x.example",
        "b@x.example",
        "+17734749362",
    ]
    assert first.reasons == ()
    assert second == Candidates((), ("phone_no_region",))
    assert third == Candidates((), ("profile_not_a_person", "email_syntax", "phone_syntax"))
    assert fourth == Candidates((), ("blank",))


def test_one_address_in_two_columns_is_asked_once() -> None:
    layout = find_layout(["work", "home"], {"email": ["work", "home"]})
    frame = pd.DataFrame({"work": ["a@x.example"], "home": ["A@X.example, b@x.example"]})
    (row,) = read_rows(frame, layout, default_region=None)
    assert [identifier.value for identifier in row.identifiers] == ["a@x.example", "b@x.example"]


def test_a_long_table_is_read_by_its_field_types() -> None:
    frame = pd.DataFrame(
        {
            "field_type": ["email", " PHONE ", "Social_Profile", "fax", None, None, "email"],
            "value": ["A@x.example", "773 474 9362", "in/jane", "1", "a@x.example", "", None],
        }
    )
    rows = read_rows(frame, LONG, default_region="US")
    assert [[identifier.value for identifier in row.identifiers] for row in rows[:3]] == [
        ["a@x.example"],
        ["+17734749362"],
        ["linkedin.com/in/jane"],
    ]
    assert [row.reasons[0] for row in rows[3:]] == ["field_type", "field_type", "blank", "blank"]


def test_an_empty_table_has_no_rows() -> None:
    assert read_rows(pd.DataFrame({"email": []}), EMAIL, default_region=None) == []


def test_reading_leaves_the_frame_alone() -> None:
    frame = pd.DataFrame({"email": ["A@x.example", None], "other": [1, 2]}, index=[7, 7])
    before = frame.copy(deep=True)
    read_rows(frame, EMAIL, default_region=None)
    pd.testing.assert_frame_equal(frame, before)


def test_importing_the_module_imports_neither_pandera_nor_dagster() -> None:
    # In the package itself other files may; so the module is loaded from its own file.
    code = (
        "import sys, types;"
        f"package = types.ModuleType('eb_dagster'); package.__path__ = [{str(PACKAGE)!r}];"
        "sys.modules['eb_dagster'] = package; import eb_dagster.identifiers.rows;"
        "sys.exit(bool({'dagster', 'pandera', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_million_blank_rows_are_quick() -> None:
    blank = pd.DataFrame({"email": [""] * 1_000_000, "phone": None, "linkedin_url": np.nan})
    read_rows(blank[:1], WIDE, default_region=None)
    started = time.process_time()
    rows = read_rows(blank, WIDE, default_region=None)
    assert time.process_time() - started < 5
    assert rows[-1].reasons == ("blank",)


def test_repeated_cells_are_read_once() -> None:
    frame = pd.DataFrame({"email": ["jane@firm.example"] * 300_000})
    started = time.process_time()
    rows = read_rows(frame, EMAIL, default_region=None)
    assert time.process_time() - started < 5
    assert rows.values.to_pylist() == ["jane@firm.example"]


def test_an_arrow_table_in_the_long_form_is_read() -> None:
    table = {"field_type": ["email", "PHONE", None, "fax"], "value": ["A@x.example", "+17734749362", "", "1"]}
    rows = read_batch(pa.record_batch(table), LONG, default_region=None)
    assert rows == read_rows(pd.DataFrame(table), LONG, default_region=None)


def test_an_arrow_table_without_the_column_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'email'"):
        read_batch(pa.record_batch({"phone": ["1"]}), EMAIL, default_region=None)


def test_a_million_blank_arrow_rows_are_quick() -> None:
    blank = pa.DictionaryArray.from_arrays(pa.nulls(1_000_000, pa.int8()), pa.array([], pa.string()))
    for column in (blank, pa.array([""] * 1_000_000).dictionary_encode(), pa.nulls(1_000_000)):
        started = time.process_time()
        rows = read_batch(pa.record_batch({"email": column}), EMAIL, default_region=None)
        assert time.process_time() - started < 2
        assert rows[-1].reasons == ("blank",)


@given(st.sampled_from(FIELD_TYPES), st.data())
@settings(max_examples=600, deadline=None)
def test_a_column_reads_as_its_cells_do(field_type: FieldType, data: st.DataObject) -> None:
    near = NEAR[field_type]
    texts = data.draw(st.lists(near | TEXTS, max_size=4))
    # In the order of the cell, and in a table of one column.
    alone = [read_cell(field_type, text, default_region="US") for text in texts]
    batch = pa.record_batch({"column": pa.array([*texts, None], pa.string())})
    rows = read_batch(batch, Layout("wide", ((field_type, "column"),)), default_region="US")[:-1]
    assert [
        (row.identifiers, tuple(reason for reason in row.reasons if reason != "blank")) for row in rows
    ] == alone


def test_a_list_says_why_the_rest_of_it_is_of_no_use() -> None:
    cells = [["no address", "a@x.example", "a@x.example; d@x.example", " "]]
    (row,) = read_batch(pa.record_batch({"email": cells}), EMAIL, default_region=None)
    assert [identifier.value for identifier in row.identifiers] == ["a@x.example", "d@x.example"]
    assert row.reasons == ("email_syntax",)


def test_the_long_form_may_hold_lists_of_one_kind() -> None:
    frame = pd.DataFrame(
        {"field_type": ["email", "fax", None, ["email"]], "value": [["a@x.example", "?"], ["1"], [], "1"]}
    )
    rows = read_rows(frame, LONG, default_region=None)
    assert [identifier.value for identifier in rows[0].identifiers] == ["a@x.example"]
    assert [row.reasons for row in rows] == [("email_syntax",), ("field_type",), ("blank",), ("field_type",)]
