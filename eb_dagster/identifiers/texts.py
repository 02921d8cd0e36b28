"""The texts of a pandas or Arrow column, whatever its encoding, and what it holds if it is no text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date
from functools import cached_property
from itertools import islice
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.columns import listed

if TYPE_CHECKING:
    import pandas as pd

Texts: TypeAlias = str | tuple[str, ...] | None
"""What one cell holds: a text, or those of a list."""
# pyarrow's stubs leave the types of arrays, and what they hold, partly unknown.
ArrowColumn: TypeAlias = Any
"""An array, or a chunked one."""
ArrowType: TypeAlias = Any


class ArrowTexts(NamedTuple):
    """Texts as an array of Arrow, in which nothing is null."""

    array: ArrowColumn


class Cells:
    """A column as its distinct cells, and for each row the index of its own; -1 where it has none."""

    def __init__(
        self, distinct: Sequence[Texts] | ArrowTexts, codes: npt.NDArray[np.signedinteger[Any]]
    ) -> None:
        self._array: ArrowColumn = distinct.array if isinstance(distinct, ArrowTexts) else None
        self._cells = () if isinstance(distinct, ArrowTexts) else distinct
        self.codes: Final = codes
        self.has_lists: Final = any(isinstance(cell, tuple) for cell in self._cells)

    def __len__(self) -> int:
        return len(self._cells if self._array is None else self._array)

    @cached_property
    def distinct(self) -> Sequence[Texts]:
        """The distinct cells. None is not among them."""
        return self._cells if self._array is None else self._array.to_pylist()

    @property
    def texts(self) -> list[str]:
        """The distinct texts in them."""
        texts: dict[str, None] = {}
        for cell in self.distinct:
            texts.update(dict.fromkeys(cell if isinstance(cell, tuple) else [cast("str", cell)]))
        return [*texts]

    def column(self) -> ArrowColumn:
        """The distinct texts as an array, where no cell is a list. A blank one may be null.

        Raises `UnicodeEncodeError` if somewhere there is half a surrogate pair.
        """
        from eb_dagster.identifiers.arrays import text_arrays

        return text_arrays([cast("Sequence[str]", self._cells)])[0] if self._array is None else self._array


def _cells_of(texts: Iterable[Texts]) -> Cells:
    indices: dict[Texts, int] = {}
    codes = [-1 if text is None else indices.setdefault(text, len(indices)) for text in texts]
    return Cells([*indices], np.array(codes, dtype=np.int64))


def pandas_cells(series: pd.Series[Any]) -> Cells:
    """The cells of a column of pandas that holds text."""
    if is_arrow_text(series.dtype):
        # pandas cannot convert every kind of Arrow text, such as `string_view`, itself.
        return arrow_cells(series.array.__arrow_array__())
    return _cells_of(pandas_texts(series))


def arrow_cells(column: ArrowColumn) -> Cells:
    """The cells of a column of Arrow that holds text."""
    if str(column.type) not in ("string", "large_string") or hasattr(column, "chunks"):
        return _cells_of(arrow_texts(column))
    # Arrow is imported with the first table.
    import pyarrow as pa

    from eb_dagster.identifiers.arrays import numbers_in

    encoded = column.dictionary_encode()
    return Cells(ArrowTexts(encoded.dictionary.cast(pa.string())), numbers_in(encoded.indices))


def texts_of(column: pd.Series[Any] | ArrowColumn) -> list[str | None]:
    """The texts of a column; None for whatever is no text."""
    texts = arrow_texts(column) if hasattr(column, "null_count") else pandas_texts(column)
    return [text if isinstance(text, str) else None for text in texts]


NUMBERS: Final = "numbers"


def how_to_read_numbers(names: Sequence[str]) -> str:
    """What to do about columns that hold numbers, as phone numbers do that were read as such; empty without any."""
    if not names:
        return ""
    types = ", ".join(f"{listed([name])}: str" for name in names)
    return (
        f"read the file again with texts there, as in pandas.read_csv(…, dtype={{{types}}}): as a number, a phone "
        "number has lost its + and its leading zeros"
    )


# ---- pandas -------------------------------------------------------------------------------------


def pandas_texts(series: pd.Series[Any]) -> list[Texts]:
    """What each cell of a column that holds text holds."""
    if is_arrow_text(series.dtype):
        # pandas cannot convert every kind of Arrow text, such as `string_view`, itself.
        return arrow_texts(series.array.__arrow_array__())
    is_filled = series.notna().to_numpy(dtype=bool)
    if not bool(is_filled.any()):
        return [None] * len(series)
    cells: list[object] = series.to_numpy(dtype=object).tolist()
    return [
        _texts_in(cell) if has_value else None
        for cell, has_value in zip(cells, is_filled.tolist(), strict=True)
    ]


def _texts_in(cell: object) -> str | tuple[str, ...]:
    return cell if isinstance(cell, str) else tuple(cast("list[str]", elements_of(cell)))


def is_arrow_text(dtype: object) -> bool:
    """Whether a dtype is Arrow's, and holds text."""
    import pandas as pd

    return isinstance(dtype, pd.ArrowDtype) and holds_text(dtype.pyarrow_dtype)


def elements_of(cell: object) -> list[object] | None:
    """What a list holds, without its nulls; None if the cell holds no list."""
    import pandas as pd

    if isinstance(cell, Mapping) or not pd.api.types.is_list_like(cell):
        return None
    # A set has no order of its own, and what is asked first must not change from run to run.
    elements = sorted(cast("Set[object]", cell), key=str) if isinstance(cell, Set) else cell
    return [element for element in cast("Iterable[object]", elements) if not _is_null(element)]


def _is_null(element: Any) -> bool:
    import pandas as pd

    if isinstance(element, str) or not pd.api.types.is_scalar(element):
        return False
    return pd.isna(element) is True


def fault_of(cell: object) -> str | None:
    """What a cell holds that is neither text nor a list of texts; None if there is no such fault."""
    if isinstance(cell, str):
        return None
    elements = elements_of(cell)
    if elements is None:
        return _kind_of_cell(cell)
    for element in elements:
        if not isinstance(element, str):
            return f"lists of {_kind_of_cell(element)}"
    return None


def _kind_of_cell(cell: object) -> str:
    if type(cell).__name__.startswith("bool"):
        return "booleans"
    if isinstance(cell, Number):
        return NUMBERS
    if isinstance(cell, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(cell, list | tuple):
        return "lists"
    return "dates" if isinstance(cell, date) else "objects"


# ---- Arrow --------------------------------------------------------------------------------------


def _texts_of_dictionary(column: ArrowColumn) -> list[Texts]:
    # Each text once, however many rows it has.
    distinct = arrow_texts(column.dictionary)
    codes: list[int | None] = column.indices.to_pylist()
    return [None if code is None else distinct[code] for code in codes]


def arrow_texts(column: ArrowColumn) -> list[Texts]:
    """What each cell of a column that holds text holds."""
    import pyarrow as pa

    if hasattr(column, "chunks"):
        return [text for chunk in column.chunks for text in arrow_texts(chunk)]
    column = _without_encoding(column)
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        return _texts_of_dictionary(column)
    if _is_list(column.type):
        return _texts_of_lists(column)
    if str(column.type) == "string_view":
        column = column.cast(pa.string())
    return column.to_pylist()


def _without_encoding(column: ArrowColumn) -> ArrowColumn:
    """The stored values of an extension type, and each value of a run."""
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return compute.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column


def _texts_of_lists(column: ArrowColumn) -> list[Texts]:
    import pyarrow.compute

    compute: Any = pyarrow.compute
    lengths: list[int | None] = compute.list_value_length(column).to_pylist()
    # Flattening leaves out what stands behind nulls.
    elements = iter(arrow_texts(column.flatten()))
    return [
        None if length is None else tuple(text for text in islice(elements, length) if isinstance(text, str))
        for length in lengths
    ]


def holds_text(kind: ArrowType) -> bool:
    """Whether an Arrow type is text, lists of text, or nothing but nulls, whatever its encoding."""
    kind = _decoded(kind)
    kind = _decoded(kind.value_type) if _is_list(kind) else kind
    return str(kind) in ("null", "string", "large_string", "string_view")


def _kind_of_elements(kind: ArrowType) -> str:
    element = _decoded(kind.value_type)
    return "lists" if _is_list(element) else kind_of_values(element)


def kind_of_values(kind: ArrowType) -> str:
    """What an Arrow type holds, in the words of a message."""
    from pyarrow import types

    kind = _decoded(kind)
    if _is_list(kind):
        return f"lists of {_kind_of_elements(kind)}"
    if types.is_boolean(kind):
        return "booleans"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return NUMBERS
    if "binary" in str(kind):
        return "bytes"
    return "dates" if types.is_timestamp(kind) or types.is_date(kind) else "objects"


def _decoded(kind: ArrowType) -> ArrowType:
    """The type of the values themselves, whatever their encoding."""
    import pyarrow as pa

    while True:
        if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def _is_list(kind: ArrowType) -> bool:
    from pyarrow import types

    return any(
        is_kind(kind)
        for is_kind in (
            types.is_list,
            types.is_large_list,
            types.is_fixed_size_list,
            types.is_list_view,
            types.is_large_list_view,
        )
    )
