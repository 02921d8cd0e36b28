"""The types: an identifier, what one row offers, and everything in which the kinds of identifiers differ.

Two spellings of one address are two charges, so everything is compared, asked and remembered in
canonical form. Nothing in this room sends, stores or prints a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from eb_dagster.identifiers.names import RowPerson

if TYPE_CHECKING:
    # Arrow is imported with the first table.
    from eb_dagster.identifiers.arrays import Array, Codes

FieldType = Literal["email", "phone", "social_profile"]
FIELD_TYPES: Final[tuple[FieldType, ...]] = ("social_profile", "email", "phone")
"""In the order of asking, if the user gives no other."""


class Identifier(msgspec.Struct, frozen=True, order=True, gc=False):
    """A contact identifier in canonical form. Equal identifiers are billed once.

    Its repr shows no person.
    """

    field_type: FieldType
    value: str

    def __repr__(self) -> str:
        return f"Identifier(field_type={self.field_type!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("field_type", self.field_type)]


class Candidates(msgspec.Struct, frozen=True, gc=False):
    """What one row offers, in the order of asking, and why the rest of it is of no use.

    `reasons` are slugs such as `email_syntax`, each once; `("blank",)` when every cell is blank.
    """

    identifiers: tuple[Identifier, ...]
    reasons: tuple[str, ...]
    person: RowPerson | None = None
    """Who the row says it is about, if the user named columns with names."""


class Trait(IntEnum):
    """What an identifier says about whose it is."""

    PROFILE = 0
    """A profile that cannot be compared with others."""
    VANITY = 1
    """A LinkedIn name that its owner chose. Two of them can be compared."""
    EMAIL = 2
    """A person's own mailbox."""
    ROLE = 3
    """A mailbox such as info@, which is nobody's own."""
    PHONE = 4

    @property
    def is_weak(self) -> bool:
        """Whether several people may share such an identifier."""
        return self in (Trait.ROLE, Trait.PHONE)


class NotAnIdentifier(ValueError):
    """A text is no identifier. The reason is a slug such as `email_syntax`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Everything in which one kind of identifier differs from the others.

    Each kind has a file of its own, which ends with its `Kind`, and `kinds.KINDS` lists them.
    """

    field_type: FieldType
    slug: str
    """The first word of the reasons against a value, as in `email_syntax`."""
    max_length: int
    """The most characters that a value may have."""
    without_scheme: Callable[[str], str]
    """Removes a scheme such as `mailto:`."""
    plain_form: Callable[[str], str | None]
    """The canonical form of a text that is plainly an identifier; None where only `canonical_form` can tell.

    Nearly every value of a clean table is plain. The libraries come to the same, twenty times slower.
    """
    plain_column: Callable[[Array], Array]
    """The same for many texts at once, some times as fast. It may give null for more of them."""
    canonical_form: Callable[[str, str | None], str]
    """The canonical form of a trimmed text, with the default region. Raises `NotAnIdentifier`."""
    key_form: Callable[[str], str]
    """The form of a canonical value that all spellings of one mailbox, number or profile share."""
    may_fold: Callable[[Array], Array] | None = None
    """Which of many canonical values may have another key form; without it, none has."""
    trait: Callable[[str], Trait]
    """What a canonical value says about whose it is."""
    traits: Callable[[Array], Codes]
    """The same for a column."""
    split_cell: Callable[[str, Callable[[str], bool]], list[str]]
    """The parts of a cell, with a function that says whether a text is an identifier of this kind.

    Raises `grammar.HalfOfAValue` if a part could be half of a value.
    """
    recognized_columns: tuple[str, ...]
    """The column names, in lower case, that are used without being named by the user."""
    likely_column: re.Pattern[str]
    """The column names, in lower case, that are suggested."""
    likely_value: re.Pattern[str]
    """What at least one of several values looks like, if a column with such a name holds this kind."""
    is_telling: Callable[[str], bool] = lambda _value: True
    """Whether a canonical value shows by itself, without a column's name, that it is of this kind."""
