"""The table of kinds. A new kind of identifier is a file like `phone.py`, and one entry here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from eb_dagster.identifiers import email, phone, profile
from eb_dagster.identifiers.model import FieldType, Identifier, Kind, Trait

_KINDS: Final = (profile.KIND, email.KIND, phone.KIND)
KINDS: Final[Mapping[FieldType, Kind]] = MappingProxyType({kind.field_type: kind for kind in _KINDS})
"""The kinds, in the order of `FIELD_TYPES`."""


def trait_of(identifier: Identifier) -> Trait:
    """What an identifier says about whose it is."""
    return KINDS[identifier.field_type].trait(identifier.value)


def is_weak(identifier: Identifier) -> bool:
    """Whether several people may share it: a phone, or a role mailbox."""
    return trait_of(identifier).is_weak


def is_role(identifier: Identifier) -> bool:
    """Whether it is a mailbox such as info@, which is nobody's own."""
    return trait_of(identifier) is Trait.ROLE
