"""Whether two spellings can be one person's name. Libraries know titles, scripts, nicknames and legal forms.

Two names agree if they share a given name and a family name, in either order. They differ only if both sides
have both. Nothing here sends, stores or prints a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from eb_dagster.errors import ConfigError
from eb_dagster.identifiers.grammar import is_blank

if TYPE_CHECKING:
    from nicknames import NickNamer

# Two plain words need no parser, which takes a hundred times as long.
_TWO_WORDS: Final = re.compile(r"[^\W\d_]{2,}[ ][^\W\d_]{2,}\Z")
_LETTERS: Final = re.compile(r"[a-z]+")
_LETTERS_AND_DIGITS: Final = re.compile(r"[a-z0-9]+")
_OWN_WORDS: Final = re.compile(r"[^\W\d_]+")
_BRACKETS: Final = re.compile(r"[\[\](){}<>]")
# Of such words alone, no name is made.
_PLACEHOLDERS: Final = frozenset({
    *("test", "tester", "testing", "dummy", "demo", "sample", "example", "user", "name", "first", "last", "middle"),
    *("firstname", "lastname", "fullname", "surname", "contact", "customer", "client", "lead", "admin", "guest"),
    *("not", "no", "provided", "available", "known", "applicable"),
})  # fmt: skip
# What people write who have no employer, as `company_key` spells it.
_NO_COMPANIES: Final = frozenset({
    *("self employed", "selfemployed", "self", "freelance", "freelancer", "freelancing", "independent"),
    *("independent consultant", "consultant", "contractor", "private", "privat", "private person", "individual"),
    *("retired", "student", "unemployed", "between jobs", "looking for work", "open to work", "stealth"),
    *("stealth startup", "confidential", "various", "other", "selbststandig", "selbstaendig", "freiberuflich"),
    *("freiberufler", "rentner", "rentnerin", "independant", "retraite", "autonomo", "jubilado"),
})  # fmt: skip
# Anyascii spells these umlauts with one letter; by hand, they are spelt with two.
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_HAN: Final = re.compile(r"[\u3400-\u9fff]")
_LEAST_LIKENESS: Final = 0.9
"""Jaro-Winkler, of 1: one letter in a name of five and more."""
_SHORTEST_FUZZY: Final = 5
_CACHED: Final = 65_536

_NameParts: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]


class RowPerson(msgspec.Struct, frozen=True, gc=False):
    """Who a row says it is about. Its repr shows no person."""

    name: str
    company: str

    def __repr__(self) -> str:
        return "RowPerson()"

    def __rich_repr__(self) -> list[Any]:
        return []

    @property
    def hold(self) -> str | None:
        """The same for rows that may be about one person; None where that cannot be told, or of no company."""
        given, family = _parts(self.name)
        company = company_key(self.company) if self.company else ""
        if not (given and family and company):
            return None
        # In their own letters: many Chinese names are spelt alike in Latin ones.
        return " ".join((*sorted(_OWN_WORDS.findall(_folded(self.name))), "@", company))


_LIBRARIES: Final = ("anyascii", "cleanco", "nameparser", "nicknames", "rapidfuzz")


def check_installed() -> None:
    """Raise `ConfigError` if the libraries that compare names are not there."""
    if any(find_spec(library) is None for library in _LIBRARIES):
        raise ConfigError('person compares names, which needs libraries: pip install "eb-dagster[names]"')


def row_person(
    *, name: str | None, first: str | None, last: str | None, company: str | None
) -> RowPerson | None:
    """Who a row says it is about, from a full name or its two parts; None if it has no name."""
    full = _told(name) or f"{_told(first)} {_told(last)}".strip()
    return RowPerson(full, _told(company)) if full else None


@lru_cache(_CACHED)
def _told(text: str | None) -> str:
    """The words of a text with single blanks between them; nothing if they only say that there is nothing."""
    told = " ".join((text or "").split())
    bare = _BRACKETS.sub(" ", told).lower()
    says_nothing = is_blank(bare) or all(is_blank(word) or word in _PLACEHOLDERS for word in bare.split())
    return "" if says_nothing else told


def agrees(
    person: RowPerson, *, full_name: str | None, first_name: str | None, last_name: str | None
) -> bool | None:
    """Whether a contact's name is that of the row's person: None where it cannot be told."""
    theirs = full_name or " ".join(f"{first_name or ''} {last_name or ''}".split())
    return _agree(person.name, theirs) if theirs else None


def tokens(name: str) -> frozenset[str]:
    """The words of a name in one spelling; empty for less than two, which say too little."""
    given, family = _parts(name)
    words = frozenset(word for word in (*given, *family) if len(word) > 1)
    return words if len(words) > 1 else frozenset()


@lru_cache(_CACHED)
def company_key(company: str) -> str:
    """A company's name without its legal form, in one spelling; empty for what is no company."""
    from anyascii import anyascii

    # It ships no types.
    basename: Callable[[str], str] = import_module("cleanco").basename
    key = " ".join(_LETTERS_AND_DIGITS.findall(anyascii(basename(company)).lower()))
    return "" if key in _NO_COMPANIES else key


def _agree_by_part(own: _NameParts, contact: _NameParts) -> bool:
    """Whether given and family names are alike, in either order."""
    return any(
        _any_alike(own[0], given) and _any_alike(own[1], family, are_families=True)
        for given, family in (contact, contact[::-1])
    )


def _is_one_inside_other(own: _NameParts, contact: _NameParts) -> bool:
    """Parsers cannot tell the first of two family names from a given name."""
    shorter, longer = sorted(((*own[0], *own[1]), (*contact[0], *contact[1])), key=len)
    return all(_any_alike([word], longer) for word in shorter)


def _telling(words: Sequence[str]) -> tuple[str, ...]:
    """The words that tell a person: beside whole names, a letter that is not the first one may stand for anything."""
    if not any(len(word) > 1 for word in words):
        return tuple(words)
    return tuple(word for number, word in enumerate(words) if not number or len(word) > 1)


@lru_cache(_CACHED)
def _agree(ours: str, theirs: str) -> bool | None:
    own, contact = _parts(ours), _parts(theirs)
    if not _written_together(own).isdisjoint(_written_together(contact)):
        return True
    if not (own[0] and own[1] and contact[0] and contact[1]):
        return None
    own, contact = ((_telling(given), _telling(family)) for given, family in (own, contact))
    if _agree_by_part(own, contact) or _is_one_inside_other(own, contact):
        return True
    # A name of Han characters is spelt out as in Chinese, whichever language it is of.
    if bool(_HAN.search(ours)) != bool(_HAN.search(theirs)):
        return None
    return False


def _written_together(parts: Sequence[Sequence[str]]) -> frozenset[str]:
    """The whole name as one word, in either order: of some scripts, nobody can tell the words."""
    given, family = ("".join(words) for words in parts)
    return frozenset((given + family, family + given))


@lru_cache(_CACHED)
def _parts(name: str) -> _NameParts:
    """The words of the given names and of the family name, in small ASCII letters."""
    if _TWO_WORDS.match(name):
        first, last = name.split(" ")
        return _words(first), _words(last)
    from nameparser import HumanName

    parsed: Any = HumanName(name)
    given, family = f"{parsed.first} {parsed.middle}", parsed.last
    return _words(given), _words(family)


def _words(text: str) -> tuple[str, ...]:
    from anyascii import anyascii

    return tuple(_LETTERS.findall(anyascii(_folded(text).translate(_UMLAUTS)).lower()))


def _folded(text: str) -> str:
    """In small letters and without apostrophes."""
    return unicodedata.normalize("NFC", text).lower().replace("'", "").replace("’", "")


def _any_alike(ours: Sequence[str], theirs: Sequence[str], *, are_families: bool = False) -> bool:
    return any(_are_alike(our_word, their_word, are_families) for our_word in ours for their_word in theirs)


@lru_cache(_CACHED)
def _are_alike(first: str, second: str, are_families: bool) -> bool:
    if first == second or (1 in (len(first), len(second)) and first[0] == second[0]):
        return True
    if not _nicknames_of(first).isdisjoint(_nicknames_of(second)):
        return True
    if min(len(first), len(second)) < _SHORTEST_FUZZY:
        return False
    if not are_families and _ends_in_a(first) != _ends_in_a(second):
        # Martin and Martina are two people, Andrea and Andreas mostly.
        return False
    from rapidfuzz.distance import JaroWinkler

    return JaroWinkler.similarity(first, second) >= _LEAST_LIKENESS


def _ends_in_a(word: str) -> bool:
    return word.removesuffix("h").endswith("a")


@lru_cache(_CACHED)
def _nicknames_of(word: str) -> frozenset[str]:
    """The full names that it may stand for, itself included."""
    return frozenset((word, *_namer().canonicals_of(word)))


@lru_cache(1)
def _namer() -> NickNamer:
    from nicknames import NickNamer

    return NickNamer()
