"""`email=`, `phone=` and `social_profile=`: columns as they are typed, in place of `identifiers={…}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from eb_dagster.errors import ConfigError

KIND_KEYWORDS: Final[Mapping[str, str]] = {
    "social_profile": "Columns of profiles, in place of identifiers. Those that are given so are asked in the order "
    "given. Default: none.",
    "email": "Columns of e-mail addresses, likewise. Default: none.",
    "phone": "Columns of phone numbers, likewise. Default: none.",
}
"""By keyword, what `help` says of it."""

Columns = str | Sequence[str]


class KindOptions(TypedDict, total=False):
    """The columns of each kind of identifier, in the order of asking."""

    social_profile: Columns | None
    email: Columns | None
    phone: Columns | None


def with_identifiers(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same keywords with `identifiers` in place of those that are called as a kind is, in the order given.

    Raises:
        ConfigError: both are given.

    """
    plain = {name: given for name, given in options.items() if name not in KIND_KEYWORDS}
    by_kind = {name: given for name, given in options.items() if name in KIND_KEYWORDS and given is not None}
    if not by_kind:
        return plain
    if plain.get("identifiers") is not None:
        raise ConfigError(
            f"identifiers and {', '.join(by_kind)} both name columns; put all of them into identifiers, or leave it out"
        )
    return {**plain, "identifiers": by_kind}
