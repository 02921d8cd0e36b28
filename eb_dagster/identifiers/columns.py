"""Which columns of a table hold identifiers: those that are named, recognized or only suggested."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from eb_dagster.errors import ConfigError, InputError, closest, counted, shown
from eb_dagster.identifiers.canonical import is_identifier
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.characters import WRAPPING
from eb_dagster.identifiers.grammar import is_blank
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Kind


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table keeps its identifiers: a column for each kind, or the API's own long form."""

    shape: Literal["wide", "long"]
    columns: tuple[tuple[FieldType, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read."""
        if self.shape == "long":
            return ("field_type", "value")
        return tuple(name for _, name in self.columns)


def _as_keyword(columns: Mapping[FieldType, Sequence[str]]) -> str:
    pairs = [f'"{kind}": {[*names]!r}' for kind, names in columns.items()]
    return f"identifiers={{{', '.join(pairs)}}}"


def find_layout(
    available: Sequence[str],
    identifiers: Mapping[FieldType, str | Sequence[str]] | None,
    *,
    show: Callable[[Mapping[FieldType, Sequence[str]]], str] = _as_keyword,
    samples: Mapping[str, Sequence[str]] | None = None,
) -> Layout:
    """Find the identifier columns of a table.

    Args:
        available: the names of the table's columns.
        identifiers: the columns of each kind, as the user named them.
        show: spells, for the error, how to name columns.
        samples: values of each column's first rows. With them, the error suggests better columns.

    Raises:
        ConfigError: `identifiers` names an unknown kind, no column, or one column twice.
        InputError: a named column is not there or there twice, or none can be recognized.

    """
    if identifiers is not None:
        layout = Layout("wide", _named(identifiers))
    elif "field_type" in available and "value" in available:
        layout = Layout("long", ())
    else:
        layout = Layout("wide", _recognized(available))
    if not layout.names:
        likely = suggest(available, samples) or dict.fromkeys(FIELD_TYPES, ("…",))
        raise InputError(f"no identifier columns; name them, as in {show(likely)} ({_there_are(available)})")
    check_columns(available, layout.names)
    return layout


def _check_kind(kind: object) -> None:
    if kind not in FIELD_TYPES:
        raise ConfigError(
            f"identifiers: {shown(kind)} is no kind of identifier; choose from {listed(FIELD_TYPES)}"
            f"{_kind_meant(kind)}"
        )


def likely_kind(word: object) -> FieldType | None:
    """The kind that somebody may mean who writes "mail", "linkedin" or "cell"; None if nobody can tell."""
    named = closest(word, FIELD_TYPES)
    for kind in FIELD_TYPES:
        if kind == named:
            return kind
    return _likely_kind(_folded(word), ())


def _kind_meant(word: object) -> str:
    kind = likely_kind(word)
    return f". Did you mean {kind!r}?" if kind else ""


def _named(identifiers: Mapping[FieldType, str | Sequence[str]]) -> tuple[tuple[FieldType, str], ...]:
    columns: list[tuple[FieldType, str]] = []
    for kind, names in identifiers.items():
        _check_kind(kind)
        columns.extend((kind, name) for name in ([names] if isinstance(names, str) else names))
    if not columns:
        raise ConfigError(
            "identifiers names no column; name at least one, as in identifiers={'email': 'Email'}"
        )
    repeated = _repeated([name for _, name in columns])
    if repeated:
        raise ConfigError(f"identifiers names a column twice: {listed(repeated)}; name it once")
    return tuple(columns)


def _recognized(available: Sequence[str]) -> tuple[tuple[FieldType, str], ...]:
    # A name that is there twice is kept once here, and `check_columns` refuses it.
    names = tuple(dict.fromkeys(available))
    return tuple(
        (kind.field_type, name)
        for kind in KINDS.values()
        for recognized in kind.recognized_columns
        for name in names
        if _folded(name) == recognized
    )


def _folded(name: object) -> str:
    # In pandas, a name may be of another type than text.
    return str(name).strip().lower()


def check_columns(available: Sequence[str], names: Sequence[str]) -> None:
    """Raise `InputError` if one of these columns is not there, or there twice."""
    missing = [name for name in names if name not in available]
    if missing:
        raise InputError(
            f"no column {listed(missing)}; {_there_are(available)}. {_columns_meant(missing, available)}"
        )
    repeated = [name for name in _repeated(available) if name in names]
    if repeated:
        raise InputError(f"more than one column is called {listed(repeated)}; rename or drop one")


def _columns_meant(missing: Sequence[str], available: Sequence[str]) -> str:
    meant = dict.fromkeys(filter(None, (closest(name, map(str, available)) for name in missing)))
    if not meant or any(map(_looks_like_a_value, meant)):
        return "Check the spelling"
    return f"Check the spelling: did you mean {listed([*meant])}?"


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


# ---- suggesting ---------------------------------------------------------------------------------

# Words in the names of columns that are only about an identifier, or hold somebody else's.
_ABOUT: Final = re.compile(
    r"company|corporate|bounce|opt|consent|owner|domain|status|date|count|last|first|sent|open|click"
    r"|deliver|replied|valid|verif|quarantin|subscri|type|source|reason|template|campaign|country"
    r"|region|\bext|do.?not|\bid\b|\blabel|confiden|display|scor|quality|catch.?all|format|subject|body"
    r"|notes?\b|permission|prefer|frequen|language|signature|hash|md5|sha.?256|provider|carrier|time.?zone"
    r"|device|\bapp\b|assistant|manager|referr|spouse|emergency|zoominfo"
)


def suggest(
    available: Sequence[str], samples: Mapping[str, Sequence[str]] | None = None
) -> dict[FieldType, list[str]]:
    """Columns that may hold identifiers. They are never used without being named.

    Their names decide, and `samples`, the values of a column's first rows: a column is added if most of its
    values are identifiers of a kind, and left out if none of several looks like one.
    """
    samples = {} if samples is None else samples
    likely: dict[FieldType, list[str]] = {}
    for name in dict.fromkeys(available):
        kind = None if _looks_like_a_value(name) else _likely_kind(_folded(name), samples.get(name, ()))
        if kind is not None:
            likely.setdefault(kind, []).append(name)
    return {kind: likely[kind] for kind in FIELD_TYPES if kind in likely}


def _likely_kind(name: str, samples: Sequence[str]) -> FieldType | None:
    if _ABOUT.search(name):
        return None
    texts = [text for text in samples if text.strip(WRAPPING)]
    for kind in KINDS.values():
        if kind.likely_column.search(name):
            return None if _are_something_else(texts, kind) else kind.field_type
    return _kind_of_most(texts)


def _kind_of_most(texts: Sequence[str]) -> FieldType | None:
    """The kind that more than half of the texts plainly are."""
    filled = sum(not is_blank(text) for text in texts)
    for kind in KINDS.values():
        if 2 * sum(_is_plainly(kind, text) for text in texts) > filled:
            return kind.field_type
    return None


def _are_something_else(texts: Sequence[str], kind: Kind) -> bool:
    """Whether none of several values looks like one of this kind. A single one may be a slip."""
    return len(texts) > 1 and not any(kind.likely_value.search(text) for text in texts)


def _is_plainly(kind: Kind, text: str) -> bool:
    """Whether a cell holds an identifier of this kind, whatever its column is called."""
    identifiers, _ = read_cell(kind.field_type, text, default_region=None)
    return any(kind.is_telling(identifier.value) for identifier in identifiers)


# ---- names in messages --------------------------------------------------------------------------

_MAX_NAMES_SHOWN: Final = 30
# A number without its country code is not recognized as one.
_VALUE_IN_A_NAME: Final = re.compile(r"@|%40|://|(?:\d\D{0,2}){7}")


def listed(names: Sequence[str]) -> str:
    """Column names as a message may show them. Where the header is missing, they are people."""
    if any(map(_looks_like_a_value, names)):
        return f"{counted(len(names), 'name')} not shown, which may be values (is the header missing?)"
    rest = len(names) - _MAX_NAMES_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(repr(name) for name in names[:_MAX_NAMES_SHOWN]) + more


def _looks_like_a_value(name: object) -> bool:
    text = str(name)
    return _VALUE_IN_A_NAME.search(text) is not None or any(is_identifier(kind, text) for kind in FIELD_TYPES)


def _there_are(available: Sequence[str]) -> str:
    return f"there are {listed(available)}" if available else "there are no columns at all"
