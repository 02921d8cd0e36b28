"""An identifier, and what one row offers."""

from __future__ import annotations

from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.model import Candidates, Identifier


def test_an_identifier_does_not_print_its_value() -> None:
    identifier = canonical("email", "canary@secret.example")
    assert "canary" not in repr(identifier)
    assert "canary" not in repr(Candidates((identifier,) if isinstance(identifier, Identifier) else (), ()))
