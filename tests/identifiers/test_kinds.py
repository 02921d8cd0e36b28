"""The table of kinds."""

from typing import get_args

import pytest

from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Kind


def test_each_kind_is_in_the_table_in_the_order_of_asking():
    assert tuple(KINDS) == FIELD_TYPES
    assert set(KINDS) == set(get_args(FieldType))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.field_type)
def test_a_kind_suggests_the_columns_that_it_recognizes(kind: Kind) -> None:
    for name in kind.recognized_columns:
        assert kind.likely_column.search(name) or name == kind.field_type
