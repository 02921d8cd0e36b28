"""Arrow arrays from Python's values, without pandas.

`pyarrow.array` and `pyarrow.scalar` import pandas when they are first called, and so does a function of
`pyarrow.compute` that is given a text or a number of Python's: 0.2 s and 50 MB for a process that needs none of it.
These are made from buffers instead, where pandas is not loaded. Nulls are None.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array: TypeAlias = pa.Array
Mask: TypeAlias = "npt.NDArray[np.bool_]"
Codes: TypeAlias = "npt.NDArray[np.int8]"
_Integer = TypeVar("_Integer", bound=np.integer[Any])


def text_array(texts: Sequence[str | None], type: pa.DataType | None = None) -> Array:  # noqa: A002 - Arrow's word
    """A column of text; a lone surrogate raises `UnicodeEncodeError`."""
    encoded = [None if text is None else text.encode() for text in texts]
    return bytes_array_from_buffers(encoded, type or pa.string())


def text_arrays(columns: Sequence[Sequence[str]]) -> list[Array]:
    """Columns of text; what is blank is null. Made for many at a time."""
    # Each text ends in a byte that occurs in hardly any, so that one pass finds where all of them end. Columns are
    # encoded one by one, because one text that is not ASCII makes all that it is joined with ten times as slow.
    joined = b"\0".join([*("\0".join(column).encode() for column in columns if column), b""])
    ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    count = sum(map(len, columns))
    if len(ends) != count or len(joined) > np.iinfo(np.int32).max:
        return [text_array([text or None for text in column]) for column in columns]
    offsets = np.zeros(count + 1, dtype=np.int32)
    offsets[1:] = ends - np.arange(count)
    is_there = offsets[1:] > offsets[:-1]
    data = pa.py_buffer(joined.replace(b"\0", b""))
    arrays: list[Array] = []
    start = 0
    for column in columns:
        end = start + len(column)
        valid, nulls = _validity(is_there[start:end])
        buffers = [valid, pa.py_buffer(offsets[start : end + 1]), data]
        arrays.append(pa.Array.from_buffers(pa.string(), len(column), buffers, nulls))
        start = end
    return arrays


def with_texts(column: Array, where: Array, texts: Iterable[str | None]) -> Array:
    """The column with these texts, one after the other, where the flags say so. What is blank is null."""
    (replacements,) = text_arrays([[text or "" for text in texts]])
    return pc.replace_with_mask(column, where, replacements) if len(replacements) else column


def concatenated(arrays: Sequence[Array]) -> Array:
    """The values of all these columns of one type, one after the other."""
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def taken(values: Array, indices: npt.NDArray[np.int64]) -> Array:
    """The values in these places."""
    return values.take(number_array(indices, pa.int64()))


def bytes_array(values: Sequence[bytes | None], type: pa.DataType | None = None) -> Array:  # noqa: A002
    """A column of bytes; of text, if the type says so and the caller knows that it is UTF-8."""
    if _is_pandas_loaded():
        array = pa.array(values, pa.binary())
        return array if type is None else array.view(type)
    return bytes_array_from_buffers(values, type or pa.binary())


def bytes_array_from_buffers(values: Sequence[bytes | None], type: pa.DataType) -> Array:  # noqa: A002
    """As `bytes_array`, in any process."""
    is_there = np.array([value is not None for value in values], dtype=np.bool_)
    valid, nulls = _validity(is_there)
    is_large = pa.types.is_large_string(type) or pa.types.is_large_binary(type)
    given = [value or b"" for value in values]
    lengths = np.fromiter(map(len, given), np.int64, len(given))
    offsets = _offsets(lengths, np.dtype(np.int64 if is_large else np.int32))
    data = pa.py_buffer(b"".join(given))
    return pa.Array.from_buffers(type, len(values), [valid, pa.py_buffer(offsets), data], nulls)


def distinct(numbers: npt.NDArray[_Integer]) -> npt.NDArray[_Integer]:
    """Each of these rising numbers once. `np.unique` takes many times as long, and loads masked arrays."""
    is_first = np.ones(len(numbers), dtype=np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    return numbers[is_first]


def number_array(values: npt.NDArray[Any], type: pa.DataType, *, is_null: Mask | None = None) -> Array:  # noqa: A002
    """A column of numbers or times. Their dtype has to be as wide as the type."""
    if values.dtype.itemsize * 8 != type.bit_width:
        raise TypeError(f"values of {values.dtype} are no {type}")
    valid, nulls = _validity(None if is_null is None else ~is_null)
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type, len(values), [valid, buffer], nulls)


def flag_array(values: Sequence[bool | None] | Mask) -> Array:
    """A column of booleans."""
    if isinstance(values, np.ndarray):
        return _flags(values, None)
    flags = np.fromiter((value is True for value in values), np.bool_, len(values))
    return _flags(flags, np.fromiter((value is not None for value in values), np.bool_, len(values)))


def lists_of(entries: Array, lengths: npt.NDArray[np.int32], *, is_there: Mask | None = None) -> Array:
    """A column of lists: how many of the entries are in each, and which lists are not null, or that none is."""
    valid, nulls = _validity(is_there)
    return pa.Array.from_buffers(
        pa.list_(entries.type),
        len(lengths),
        [valid, pa.py_buffer(_offsets(lengths, np.dtype(np.int32)))],
        nulls,
        children=[entries],
    )


def with_gaps(columns: Sequence[Array], is_there: Mask) -> list[Array]:
    """Columns of text or of lists in the rows where something is, in their order; null in the others. Copies no text."""
    behind = np.concatenate([[0], np.cumsum(is_there)])
    return [_with_gaps(column, is_there, behind) for column in columns]


def _with_gaps(column: Array, is_there: Mask, behind: npt.NDArray[np.int64]) -> Array:
    """`behind` is, for each new row and their end, how many of the column's rows stand before it."""
    if not len(column):
        return pa.nulls(len(is_there), column.type)
    valid, offsets, *data = column.buffers()
    starts = np.frombuffer(memoryview(offsets or b""), dtype=np.int32)[column.offset :][behind]
    is_given = is_there.copy()
    if valid is not None:
        is_given[is_there] = _bits(memoryview(valid), column)
    given, nulls = _validity(is_given)
    buffers = [given, pa.py_buffer(starts)]
    if isinstance(column, pa.ListArray):
        return pa.Array.from_buffers(column.type, len(is_there), buffers, nulls, children=[column.values])
    return pa.Array.from_buffers(column.type, len(is_there), [*buffers, data[0]], nulls)


def text_scalar(text: str | None, type: pa.DataType | None = None) -> pa.Scalar:  # noqa: A002
    """A text for a function of `pyarrow.compute`."""
    return text_array([text], type)[0]


def number_scalar(number: int) -> pa.Scalar:
    """A number for a function of `pyarrow.compute`."""
    return number_array(np.array([number], np.int32), pa.int32())[0]


def numbers_in(numbers: Array) -> npt.NDArray[np.int64]:
    """A column of whole numbers; -1 for a null. `to_numpy` would import pandas."""
    if numbers.null_count:
        numbers = numbers.fill_null(number_scalar(-1))
    values = np.frombuffer(_content(numbers), dtype=f"i{numbers.type.bit_width // 8}")
    return values[numbers.offset : numbers.offset + len(numbers)].astype(np.int64)


def flags_in(flags: Array) -> Mask:
    """The values of a column of booleans; False for a null. `to_numpy` would import pandas."""
    if flags.null_count:
        flags = flags.fill_null(flag_array([False])[0])
    return _bits(_content(flags), flags)


def fixed_bytes_in(values: Array) -> npt.NDArray[np.void]:
    """The values of a column of bytes of one length, in which nothing is null."""
    content = np.frombuffer(_content(values), dtype=f"V{values.type.byte_width}")
    return content[values.offset : values.offset + len(values)]


def _bits(buffer: memoryview, values: Array) -> Mask:
    """A buffer with a bit for each of the values."""
    bits = np.frombuffer(buffer, dtype=np.uint8)
    end = values.offset + len(values)
    return np.unpackbits(bits, count=end, bitorder="little")[values.offset :].astype(np.bool_)


def _content(values: Array) -> memoryview:
    return memoryview(values.buffers()[1] or b"")


def _is_pandas_loaded() -> bool:
    # Arrow's own way is faster then, and costs no import any more.
    return "pandas" in sys.modules


def _flags(values: Mask, is_there: Mask | None) -> Array:
    valid, nulls = _validity(is_there)
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [valid, bits], nulls)


def _validity(is_there: Mask | None) -> tuple[pa.Buffer | None, int]:
    nulls = 0 if is_there is None else len(is_there) - int(np.count_nonzero(is_there))
    if is_there is None or not nulls:
        return None, 0
    return pa.py_buffer(np.packbits(is_there, bitorder="little")), nulls


def _offsets(lengths: npt.ArrayLike, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if offsets[-1] > np.iinfo(dtype).max:
        raise pa.ArrowCapacityError("more than 2 GB of text in one array")
    return offsets.astype(dtype)
