"""Entries with fields."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.pipeline.table import Table

ENTRY = np.dtype([("key", "V2"), ("state", "i1"), ("is_held", "?")])
ENTRIES = st.lists(st.tuples(st.binary(min_size=2, max_size=2), st.integers(0, 9), st.booleans()))


def table_of(entries):
    array = np.array(entries, dtype=ENTRY)
    return Table({name: array[name] for name in ENTRY.names})


def entries_in(table):
    return [*zip(*(table[name].tolist() for name in ENTRY.names), strict=True)]


@given(ENTRIES, ENTRIES, st.data())
def test_a_table_is_as_a_structured_array(first, second, data):
    table = Table.zeros(ENTRY, 0)
    table.append(table_of(first))
    table.append(table_of(second))
    array = np.array([*first, *second], dtype=ENTRY)
    assert (len(table), entries_in(table)) == (len(array), array.tolist())
    assert entries_in(table[1:3]) == array[1:3].tolist()
    if len(array):
        places = np.array(data.draw(st.lists(st.integers(0, len(array) - 1), unique=True)), dtype=np.int64)
        assert entries_in(table[places]) == array[places].tolist()
        table.put(places, Table.zeros(ENTRY, len(places)))
        array[places] = np.zeros(len(places), dtype=ENTRY)
        assert entries_in(table) == array.tolist()
    table["state"] = 3
    assert set(table["state"].tolist()) <= {3}
