"""The table of kinds."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Kind


def test_each_kind_is_in_the_table_in_the_order_of_asking():
    assert tuple(KINDS) == FIELD_TYPES
    assert set(KINDS) == set(get_args(FieldType))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.field_type)
def test_a_kind_suggests_the_columns_that_it_recognizes(kind: Kind) -> None:
    for name in kind.recognized_columns:
        assert kind.likely_column.search(name) or name == kind.field_type


VALUES = st.sampled_from([
    "info@corp.example", "no.reply@corp.example", "ada@corp.example", "+12025550100", "x.com/ada",
    "linkedin.com/in/ada", "linkedin.com/in/ACwAAA0123456789", "linkedin.com/pub/ada/1/2/3",
])  # fmt: skip


@given(st.lists(VALUES))
@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.field_type)
def test_what_a_column_says_about_whose_it_is_is_what_each_value_says(kind: Kind, texts: list[str]) -> None:
    assert kind.traits(text_array(texts)).tolist() == [kind.trait(text) for text in texts]
