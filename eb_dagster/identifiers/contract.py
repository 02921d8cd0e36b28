"""The pandera contract of the input: identifier columns are there, and hold text or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from eb_dagster.errors import InputError
from eb_dagster.identifiers.columns import Layout, listed
from eb_dagster.identifiers.texts import NUMBERS, fault_of, how_to_read_numbers, is_arrow_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pandera.pandas as pandera

    ContactIdentifiers: pandera.DataFrameSchema
    """The contract of the long form: columns `field_type` and `value`."""


def schema(names: Sequence[str]) -> pandera.DataFrameSchema:
    """Build the contract of the input: each identifier column is there and holds text or nothing.

    The check answers for a whole column at once, so pandera has no values to put in its report.
    """
    # pandera and pandas take most of a second to import; only who has a table pays for it.
    import pandera.pandas as pandera

    column = pandera.Column(nullable=True, checks=[pandera.Check(_is_text, name="is_text", ignore_na=False)])
    return pandera.DataFrameSchema(dict.fromkeys(names, column), name="ContactIdentifiers")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "ContactIdentifiers":
            return schema(Layout("long", ()).names)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_text(series: pd.Series[Any]) -> bool:
    import pandas as pd

    if isinstance(series.dtype, pd.StringDtype) or is_arrow_text(series.dtype):
        return True
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.drop_duplicates()
    cells = _filled_cells(series)
    if not len(cells) or pd.api.types.infer_dtype(cells, skipna=False) == "string":
        return True
    return all(fault_of(cell) is None for cell in cells)


def _filled_cells(series: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """The cells that are not null, as objects, whatever the dtype."""
    return series.to_numpy(dtype=object)[series.notna().to_numpy(dtype=bool)]


def check_text(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Hold the named columns to the contract of the input. Raises `InputError` with counts, no values."""
    import pandera.errors

    try:
        schema(names).validate(frame[list(names)], lazy=True)
        return
    except pandera.errors.SchemaErrors as error:
        # pandera gives no type for it.
        cases: pd.DataFrame = cast("Any", error).failure_cases
        failed: dict[str, str] = dict(zip(cases["column"], cases["check"], strict=True))
    # Raised outside the handler: pandera's error holds the whole frame, so it must not be the
    # context of ours.
    faults = {name: _fault(frame[name], check) for name, check in failed.items()}
    told = "; ".join(f"{listed([name])}: {fault}" for name, fault in faults.items())
    numbers = [name for name, fault in faults.items() if NUMBERS in fault]
    raise InputError(f"{told}; {how_to_read_numbers(numbers) or 'read the column as text, e.g. dtype=str'}")


def _fault(series: pd.Series[Any], check: str) -> str:
    faults = Counter(fault for cell in _filled_cells(series) if (fault := fault_of(cell)) is not None)
    if not faults:
        return f"fails {check}"
    counts = [f"{count:,} of {len(series):,} values are {fault}" for fault, count in faults.most_common()]
    return f"{' and '.join(counts)}, not text"
