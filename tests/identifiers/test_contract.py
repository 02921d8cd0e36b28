"""Values that are not text are refused, counted and never shown."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pandera.errors
import pyarrow as pa
import pytest

from eb_dagster.errors import InputError
from eb_dagster.identifiers import contract
from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.contract import schema
from eb_dagster.identifiers.rows import read_batch, read_rows

CANARIES = ("canary@secret.example", "+17735550199", "linkedin.com/in/canary", "5550199")


PHONE = Layout("wide", (("phone", "phone"),))


WIDE = Layout("wide", (("social_profile", "linkedin_url"), ("email", "email"), ("phone", "phone")))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pd.Series([5550199, 5550199]), "'phone': 2 of 2 values are numbers, not text"),
        (pd.Series([5550199.0, np.nan]), "'phone': 1 of 2 values are numbers"),
        (pd.Series([5550199, None], dtype="Int64"), "'phone': 1 of 2 values are numbers"),
        (pd.Series([5550199, None], dtype=pd.ArrowDtype(pa.int64())), "1 of 2 values are numbers"),
        (pd.Series([Decimal(5550199)], dtype=object), "1 of 1 values are numbers"),
        (pd.Series(["+17735550199", 5550199, None], dtype=object), "1 of 3 values are numbers"),
        (pd.Series([b"+17735550199"], dtype=object), "1 of 1 values are bytes"),
        (pd.Series([b"+17735550199"], dtype=pd.ArrowDtype(pa.binary())), "1 values are bytes"),
        (pd.Series([{"n": "+17735550199"}, ["5550199"]], dtype=object), "1 of 2 values are objects"),
        (pd.Series([["+17735550199", 5550199], None]), "1 of 2 values are lists of numbers"),
        (pd.Series([[["5550199"]]]), "1 of 1 values are lists of lists"),
        (pd.Series([np.array([5550199])]), "lists of numbers"),
        (
            pd.Series([[{"n": "5550199"}]], dtype=pd.ArrowDtype(pa.list_(pa.struct([("n", pa.string())])))),
            "lists",
        ),
        (pd.Series(pd.arrays.SparseArray([5550199.0, np.nan])), "1 of 2 values are numbers"),
        (pd.Series([5550199j]), "1 of 1 values are numbers"),
        (pd.Series([5550199 * 2**70]), "1 of 1 values are numbers"),
        (pd.Series(pd.to_timedelta([5550199])), "1 of 1 values are objects"),
        (pd.Series(pd.period_range("2024-01-01", periods=1)), "1 of 1 values are objects"),
        (pd.Series([True, False]), "2 of 2 values are booleans"),
        (pd.Series(pd.to_datetime(["2024-01-01"])), "1 of 1 values are dates"),
        (pd.Series([5550199, 1, 1], dtype="category"), "3 of 3 values are numbers"),
    ],
)
def test_values_that_are_not_text_are_counted_and_never_shown(column: pd.Series, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_rows(pd.DataFrame({"phone": column}), PHONE, default_region=None)
    assert "dtype=" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not any(canary in repr(caught.value) + str(caught.value) for canary in CANARIES)


def test_each_faulty_column_is_named() -> None:
    frame = pd.DataFrame({"email": [1, 2], "phone": ["x", 3], "linkedin_url": ["in/jane", None]})
    with pytest.raises(InputError, match=r"'email': 2 of 2 .*; 'phone': 1 of 2 ") as caught:
        read_rows(frame, WIDE, default_region=None)
    assert "linkedin_url" not in str(caught.value)


def test_the_schema_itself_reports_no_values() -> None:
    frame = pd.DataFrame({"field_type": ["phone"], "value": [5550199]})
    for lazy in (True, False):
        with pytest.raises((pandera.errors.SchemaErrors, pandera.errors.SchemaError)) as caught:
            contract.ContactIdentifiers.validate(frame, lazy=lazy)
        assert "5550199" not in str(caught.value) + repr(caught.value)
        assert "is_text" in str(caught.value)


def test_the_schema_of_the_long_form_is_public() -> None:
    assert list(contract.ContactIdentifiers.columns) == ["field_type", "value"]
    assert list(schema(WIDE.names).columns) == ["linkedin_url", "email", "phone"]
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = getattr(contract, "nothing_like_it")  # noqa: B009 - no type checker has to know it


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([5550199, None]), "'phone': 1 of 2 values are numbers, not text"),
        (pa.array([5550199.5]), "numbers"),
        (pa.array([True]), "booleans"),
        (pa.array([b"5550199"]), "bytes"),
        (pa.array([date(2024, 1, 1)]), "dates"),
        (pa.array([{"number": "5550199"}]), "objects"),
        (pa.array([[5550199]]), "1 of 1 values are lists of numbers"),
        (pa.array([[["5550199"]]]), "lists of lists"),
        (pa.array([5550199], pa.decimal256(60)), "numbers"),
        (pa.array([b"5550199"], pa.binary_view()), "bytes"),
        (pa.array([b"5550199 is 16 by"], pa.uuid()), "bytes"),
        (pa.array([5550199], pa.duration("s")), "objects"),
        (pa.array([5550199]).dictionary_encode(), "numbers"),
    ],
    ids=lambda case: str(getattr(case, "type", case)),
)
def test_arrow_values_that_are_not_text_are_counted_and_never_shown(column: pa.Array, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_batch(pa.record_batch({"phone": column}), PHONE, default_region=None)
    assert "5550199" not in str(caught.value)
