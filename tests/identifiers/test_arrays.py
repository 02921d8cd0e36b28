"""Arrow arrays that are made from buffers are those that Arrow itself makes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.identifiers.arrays import (
    bytes_array,
    bytes_array_from_buffers,
    fixed_bytes_in,
    flag_array,
    flags_in,
    lists_of,
    number_array,
    numbers_in,
    text_array,
    text_arrays,
    with_gaps,
    with_texts,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ["", "\0", "a\0b", "é€😀"]
)
columns = st.lists(st.lists(texts, max_size=6), max_size=4)


@given(columns)
def test_columns_of_text_side_by_side_are_as_arrow_makes_them_with_null_for_what_is_blank(several):
    arrays = text_arrays(several)
    for array in arrays:
        array.validate(full=True)
    assert arrays == [pa.array([text or None for text in column], pa.string()) for column in several]


@given(st.lists(st.none() | texts))
def test_one_column_of_text_or_bytes_is_as_arrow_makes_it(column):
    encoded = [None if text is None else text.encode() for text in column]
    assert text_array(column) == pa.array(column, pa.string())
    assert text_array(column, pa.large_string()) == pa.array(column, pa.large_string())
    assert bytes_array(encoded) == pa.array(encoded, pa.binary())
    assert bytes_array_from_buffers(encoded, pa.binary()) == pa.array(encoded, pa.binary())
    assert bytes_array(encoded, pa.string()) == text_array(column)


def list_array(lists):
    entries = text_array([entry for several in lists for entry in several or ()])
    lengths = np.array([len(several or ()) for several in lists], dtype=np.int32)
    is_there = np.array([several is not None for several in lists], dtype=np.bool_)
    return lists_of(entries, lengths, is_there=is_there)


@given(st.lists(st.none() | st.booleans()), st.lists(st.none() | st.lists(texts, max_size=3)))
def test_flags_and_lists_are_as_arrow_makes_them(flags, lists):
    assert flag_array(flags) == pa.array(flags, pa.bool_())
    assert flags_in(pa.array(flags, pa.bool_())).tolist() == [flag is True for flag in flags]
    assert flags_in(pa.array(flags, pa.bool_())[1:]).tolist() == [flag is True for flag in flags[1:]]
    assert list_array(lists) == pa.array(lists, pa.list_(pa.string()))


@given(st.lists(st.binary(min_size=3, max_size=3)))
def test_bytes_of_one_length_are_read_as_they_stand(values):
    array = pa.array(values, pa.binary(3))
    assert fixed_bytes_in(array).tolist() == values
    assert fixed_bytes_in(array[1:]).tolist() == values[1:]


@given(st.lists(st.none() | st.integers(0, 99)))
def test_numbers_of_either_width_are_read_as_they_are(numbers):
    expected = [-1 if number is None else number for number in numbers]
    for type_ in (pa.int32(), pa.int64()):
        column = pa.array(numbers, type_)
        assert numbers_in(column).tolist() == expected
        assert numbers_in(column[1:]).tolist() == expected[1:]


@given(st.lists(st.tuples(texts.filter(bool), st.booleans())))
def test_texts_are_put_where_the_flags_say(rows):
    column = text_array([text for text, _ in rows])
    put = with_texts(column, flag_array([flag for _, flag in rows]), ["new" for _, flag in rows if flag])
    assert put.to_pylist() == ["new" if flag else text for text, flag in rows]


def test_times_keep_their_nulls_and_a_wrong_width_is_refused():
    times = np.array(["2026-01-01", "NaT"], dtype="datetime64[us]")
    made = number_array(times, pa.timestamp("us", tz="UTC"), is_null=np.isnat(times))
    assert made == pa.array(times, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    with pytest.raises(TypeError, match="are no int64"):
        number_array(np.zeros(2, np.int32), pa.int64())


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(UnicodeEncodeError):
        text_arrays([["\ud800"]])


@given(st.lists(st.tuples(st.booleans(), st.none() | texts)), st.data())
def test_columns_with_gaps_are_null_there_and_the_same_elsewhere(rows, data):
    is_there = np.array([there for there, _ in rows], dtype=np.bool_)
    given = [text for there, text in rows if there]
    lists = [None if text is None else data.draw(st.lists(texts, max_size=2)) for text in given]
    profiles = [None if several is None else [{"url": text} for text in several] for several in lists]
    urls = pa.list_(pa.struct([("url", pa.string())]))
    for column, kind in ((given, pa.string()), (lists, pa.list_(pa.string())), (profiles, urls)):
        array = pa.array([None, *column], kind)[1:]
        (spread,) = with_gaps([array], is_there)
        spread.validate(full=True)
        left = iter(column)
        assert spread.to_pylist() == [next(left) if there else None for there in is_there]
