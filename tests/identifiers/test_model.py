"""An identifier, and what one row offers."""

from __future__ import annotations

from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.grammar import Phrase, Piece, Separator, Token
from eb_dagster.identifiers.model import Candidates, Identifier


def test_an_identifier_does_not_print_its_value() -> None:
    identifier = canonical("email", "canary@secret.example")
    assert "canary" not in repr(identifier)
    assert "canary" not in repr(Candidates((identifier,) if isinstance(identifier, Identifier) else (), ()))


def test_what_a_cell_is_taken_apart_into_does_not_print_it() -> None:
    text, none = "canary@secret.example", Separator.NONE
    for part in (Token("word", text, none), Piece("value", text, none), Phrase(text, none, none)):
        assert part.text == text
        assert "canary" not in repr(part)
