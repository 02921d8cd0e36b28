"""JSON that only a lenient reader takes: NaN, lone surrogates, bad UTF-8, numbers of any size."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, cast

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_LONGEST_INTEGER: Final = 400


def decode_damaged(raw: bytes) -> tuple[Any, tuple[str, ...]]:
    """Decode what the standard library takes. Returns the value, and what was damaged.

    Raises `ValueError` if it is no JSON at all.
    """
    # A dict, so that each kind of damage is told once and in the order in which it is found.
    damage: dict[str, None] = {}
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        damage["damaged_text"] = None

    def mend(escape: re.Match[str]) -> str:
        if escape["lone"] is None:
            return escape[0]
        # Neither UTF-8 nor Arrow has a lone surrogate.
        damage["damaged_text"] = None
        return r"\ufffd"

    def read_constant(name: str) -> float:
        damage["not_finite"] = None
        return float(name)

    decoder = json.JSONDecoder(
        strict=False, parse_int=_read_integer, parse_float=_read_decimal, parse_constant=read_constant
    )
    try:
        return decoder.decode(_ESCAPE.sub(mend, text)), tuple(damage)
    except ValueError:
        # Its own error carries the whole text.
        raise ValueError("the contact is not JSON") from None


def _read_integer(digits: str) -> int | str:
    # Python refuses to read or write integers of more digits than its own limit.
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


def _read_decimal(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def dump_damaged(value: Any, *, is_sorted: bool = False) -> bytes:
    """A value of `decode_damaged` as JSON."""
    return json.dumps(
        _as_finite(value), ensure_ascii=False, separators=(",", ":"), sort_keys=is_sorted
    ).encode()


def _as_finite(value: Any) -> Any:
    """The value with the text "NaN" or "Infinity" for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, list):
        return [_as_finite(entry) for entry in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _as_finite(inner) for key, inner in cast("dict[str, Any]", value).items()}
    return value
