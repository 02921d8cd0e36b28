"""Text in every type that pandas and Arrow have for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.model import Candidates
from eb_dagster.identifiers.rows import read_batch, read_rows

EMAIL = Layout("wide", (("email", "email"),))


TEXT_DTYPES = [
    "object", "string", "string[pyarrow]", "category",
    pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.large_string()),
    pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
]  # fmt: skip
if int(pd.__version__.partition(".")[0]) >= 3:
    # pandas 2 makes the text "None" of a blank in the first, and does not know the second.
    TEXT_DTYPES += ["str", pd.ArrowDtype(pa.string_view())]


@pytest.mark.parametrize("dtype", TEXT_DTYPES, ids=str)
def test_every_text_dtype_is_read(dtype: Any) -> None:
    column = pd.Series(pa.array(["a@x.example", None, "a@x.example"]).to_pandas(), dtype=dtype)
    frame = pd.DataFrame({"email": column})
    first, second, third = read_rows(frame, EMAIL, default_region=None)
    assert [identifier.value for identifier in first.identifiers] == ["a@x.example"]
    assert second.reasons == ("blank",)
    assert third == first


FIRST, SECOND, THIRD = "a@x.example", "B@x.example", "c@x.example"


BLANKS = [None, np.nan, pd.NaT, pd.NA]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([[FIRST, *BLANKS, SECOND], [THIRD], [], None]),
        pd.Series([(FIRST, SECOND), (THIRD, *BLANKS), (), pd.NaT]),
        pd.Series([np.array([FIRST, SECOND]), np.array([THIRD, None]), np.array([]), np.nan]),
        pd.Series([{SECOND, FIRST}, frozenset([THIRD]), set(), pd.NA]),
        pd.Series([[FIRST, SECOND], THIRD, pd.NaT, ""], dtype=object),
        pd.Series([[FIRST, SECOND], [THIRD], [None], None], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
    ],
    ids=["lists", "tuples", "arrays", "sets", "lists and texts", "arrow"],
)
def test_each_element_of_a_list_is_read_like_a_cell(column: pd.Series) -> None:
    rows = read_rows(pd.DataFrame({"email": column}), EMAIL, default_region=None)
    assert [sorted(identifier.value for identifier in row.identifiers) for row in rows] == [
        ["a@x.example", "b@x.example"], ["c@x.example"], [], [],
    ]  # fmt: skip
    assert rows[2].reasons == rows[3].reasons == ("blank",)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 2),
        pa.list_view(pa.string()), pa.large_list_view(pa.string_view()), pa.list_(pa.string_view()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("start", [0, 2])
def test_an_arrow_list_is_read_element_by_element(kind: pa.DataType, start: int) -> None:
    cells = [["x@x.example", None], None, [FIRST, SECOND], None, [THIRD, None]]
    batch = pa.record_batch({"email": pa.array(cells, kind)}).slice(start)
    rows = read_batch(batch, EMAIL, default_region=None)
    assert [[identifier.value for identifier in row.identifiers] for row in rows] == [
        ["x@x.example"], [], ["a@x.example", "b@x.example"], [], ["c@x.example"],
    ][start:]  # fmt: skip


def test_a_full_dictionary_with_a_null_is_read() -> None:
    texts = [f"p{number}@x.example" for number in range(128)]
    full = pa.DictionaryArray.from_arrays(pa.array([*range(128), None], pa.int8()), pa.array(texts))
    (*rows, blank) = read_batch(pa.record_batch({"email": full}), EMAIL, default_region=None)
    assert [row.identifiers[0].value for row in rows] == texts
    assert blank.reasons == ("blank",)


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 4]), pa.array([FIRST, None, SECOND])),
        pa.array([FIRST, None, SECOND, SECOND], pa.json_()),
        pa.array([FIRST, None, SECOND, SECOND]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_encoded_text_is_text(column: pa.Array) -> None:
    rows = read_batch(pa.record_batch({"email": column}).slice(1), EMAIL, default_region=None)
    assert [[identifier.value for identifier in row.identifiers] for row in rows] == [
        [],
        ["b@x.example"],
        ["b@x.example"],
    ]


def test_sparse_text_is_text() -> None:
    cells = pd.arrays.SparseArray(np.array([FIRST, None, SECOND], dtype=object))
    rows = read_rows(pd.DataFrame({"email": cells}), EMAIL, default_region=None)
    assert [[identifier.value for identifier in row.identifiers] for row in rows] == [
        ["a@x.example"],
        [],
        ["b@x.example"],
    ]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.nan, np.nan]),
        pd.Series([None, None], dtype=object),
        pd.Series([pd.NA, None], dtype=object),
        pd.Series([pd.NA, None], dtype="Int64"),
        pd.Series([pd.NaT, pd.NaT]),
        pd.Series([None, None], dtype="string"),
        pd.Series([None, None], dtype="category"),
        pd.Series([None, None], dtype=pd.ArrowDtype(pa.null())),
        pd.Series([None, None], dtype=pd.ArrowDtype(pa.int64())),
        pd.Series([None, np.nan, pd.NA, pd.NaT, "", "  "], dtype=object),
        pd.Series([[], [None], [np.nan, pd.NaT, " "]]),
        pd.Series([None, [None]], dtype=pd.ArrowDtype(pa.list_(pa.null()))),
        pd.Series(pd.arrays.SparseArray([np.nan, np.nan])),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_column_of_nulls_is_blank_whatever_its_dtype(column: pd.Series) -> None:
    rows = read_rows(pd.DataFrame({"email": column}), EMAIL, default_region=None)
    assert rows == [Candidates((), ("blank",))] * len(column)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_an_arrow_table_reads_as_the_same_dataframe_does(kind: pa.DataType) -> None:
    texts = ["A@x.example", None, "", "a@x.example", "no address", "b@x.example; c@x.example"]
    batch = pa.record_batch({"email": pa.array(texts).cast(kind), "phone": pa.nulls(len(texts))})
    layout = Layout("wide", (("email", "email"), ("phone", "phone")))
    rows = read_batch(batch, layout, default_region=None)
    assert rows == read_rows(pd.DataFrame({"email": texts, "phone": None}), layout, default_region=None)
    assert rows[0] == rows[3]


def test_a_slice_of_a_dictionary_is_read() -> None:
    column = pa.array(["a@x.example", "b@x.example", None, "b@x.example"]).dictionary_encode()
    rows = read_batch(pa.record_batch({"email": column}).slice(1), EMAIL, default_region=None)
    assert [[identifier.value for identifier in row.identifiers] for row in rows] == [
        ["b@x.example"],
        [],
        ["b@x.example"],
    ]
