"""One canonical spelling of each identifier, and the key that all its spellings share."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from eb_dagster.identifiers.characters import CONTROL, LOST, WRAPPING, narrow
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier, Kind, NotAnIdentifier

if TYPE_CHECKING:
    # Arrow is imported with the first table.
    from eb_dagster.identifiers.arrays import Array

MAX_CELL_LENGTH: Final = 8192
"""A longer text is refused before anything works through it."""


def canonical(field_type: FieldType, text: str, *, default_region: str | None = None) -> Identifier | str:
    """Give the identifier in canonical form, or the reason (a short slug) why it is none."""
    value = KINDS[field_type].plain_form(text)
    if value is None:
        return canonical_thoroughly(field_type, text, default_region)
    return Identifier(field_type, value)


def canonical_thoroughly(field_type: FieldType, text: str, default_region: str | None) -> Identifier | str:
    """What `canonical` gives, but the libraries judge every value."""
    try:
        value = _thorough_form(KINDS[field_type], text, default_region)
    except NotAnIdentifier as error:
        return error.reason
    return Identifier(field_type, value)


def _thorough_form(kind: Kind, text: str, default_region: str | None) -> str:
    _check_length(kind, text, MAX_CELL_LENGTH)
    text = kind.without_scheme(narrow(text).strip(WRAPPING))
    _check_length(kind, text, kind.max_length)
    text = unicodedata.normalize("NFC", text).strip(WRAPPING)
    if not text:
        raise NotAnIdentifier("blank")
    if CONTROL.search(text):
        raise NotAnIdentifier("control_characters")
    if LOST in text:
        raise NotAnIdentifier(f"{kind.slug}_syntax")
    value = kind.canonical_form(text, default_region)
    _check_length(kind, value, kind.max_length)
    return value


def _check_length(kind: Kind, text: str, most: int) -> None:
    if len(text) > most:
        raise NotAnIdentifier(f"{kind.slug}_too_long")


def plain_forms(field_type: FieldType, texts: Sequence[str]) -> list[str | None]:
    """The canonical value of each text that is plainly an identifier; None where `canonical` has to tell."""
    kind = KINDS[field_type]
    from eb_dagster.identifiers.arrays import text_arrays

    try:
        (column,) = text_arrays([texts])
    except UnicodeEncodeError:
        # Somewhere there is half a surrogate pair.
        return [kind.plain_form(text) for text in texts]
    forms = kind.plain_column(column).to_pylist()
    return [kind.plain_form(text) if form is None else form for form, text in zip(forms, texts, strict=True)]


def canonical_column(field_type: FieldType, texts: Array) -> Array:
    """What `canonical` gives for each text of a column, as the bare value; null for what is no identifier."""
    from eb_dagster.identifiers.arrays import with_texts

    values = KINDS[field_type].plain_column(texts)
    if not values.null_count:
        return values
    is_left = values.is_null()
    left = [_value(field_type, text) for text in texts.filter(is_left).to_pylist()]
    return with_texts(values, is_left, left)


def _value(field_type: FieldType, text: str) -> str | None:
    identifier = canonical(field_type, text)
    return identifier.value if isinstance(identifier, Identifier) else None


def is_identifier(field_type: FieldType, text: str, *, default_region: str | None = None) -> bool:
    """Whether `canonical` gives an identifier."""
    return isinstance(canonical(field_type, text, default_region=default_region), Identifier)


def identifiers_in(
    texts: Mapping[FieldType, Iterable[str]], kinds: Collection[FieldType] = FIELD_TYPES
) -> list[Identifier]:
    """The canonical identifiers of these kinds among a contact's texts, each key once, in their order."""
    found: list[Identifier] = []
    for field_type, texts_of_kind in texts.items():
        if field_type in kinds:
            values = (_value(field_type, text) for text in texts_of_kind)
            found += [Identifier(field_type, value) for value in values if value is not None]
    return list(first_of_each_key(found))


def key_form(field_type: FieldType, value: str) -> str:
    """The form of a canonical value that all spellings of one mailbox or profile share.

    People are remembered and compared by it; the value itself is what is asked.
    """
    return KINDS[field_type].key_form(value)


def key_forms(field_type: FieldType, values: Array) -> Array:
    """What `key_form` gives for each value of a column."""
    from eb_dagster.identifiers.arrays import with_texts

    kind = KINDS[field_type]
    if kind.may_fold is None:
        return values
    may_fold = kind.may_fold(values)
    return with_texts(values, may_fold, map(kind.key_form, values.filter(may_fold).to_pylist()))


def key_of(identifier: Identifier) -> tuple[FieldType, str]:
    """What all spellings of an identifier have in common."""
    return identifier.field_type, key_form(identifier.field_type, identifier.value)


def first_of_each_key(identifiers: Iterable[Identifier]) -> tuple[Identifier, ...]:
    """The identifiers in their order; of several spellings of one key, the first."""
    found: dict[tuple[FieldType, str], Identifier] = {}
    for identifier in identifiers:
        found.setdefault(key_of(identifier), identifier)
    return tuple(found.values())
