"""The grammar by which exports and people write several values into one cell.

A row gets its own person or nobody, so half of a broken value is none:

1. What a program put around the text is undone: HTML's entities and tags, formulas, links, wide characters,
   and lists as JSON, Python and PostgreSQL write them.
2. The rest is cut at semicolons, bars, line breaks and ` ::: `, and where that is safe, at commas and spaces.
3. A name beside a value in brackets (`Jane Doe <jane@…>`, `Jane (jane@…)`), a label (`Work: jane@…`) and a
   comment (`jane@… (work)`) belong to their value. Brackets, `mailto:` and `SMTP:` say where a value begins.
4. A part that says by itself what it is (it has an "@", a host, a scheme) or that says that there is nothing
   (`n/a`) is used or refused alone.
5. Any other part may be half of its neighbour. Before a value it always is: the value may begin earlier
   (`jane,doe@…`). After a value it is if only a space or a comma stands between them, or if the value could
   continue with it (`jane@firm.com;br`). After a semicolon, whole words (`b@y.example; nobody`) continue no
   address, but any profile. If a part may be half of a value, nothing of the whole cell is used.

Nothing here knows whether a value is valid. No pattern backtracks over what it has read, so the time for a
cell grows with its length only.
"""

from __future__ import annotations

import csv
import html
import html.entities
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import groupby
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias, TypeGuard, cast

from eb_dagster.identifiers.characters import WRAPPING, narrow

MAX_PARTS: Final = 100
"""A cell with more parts is a list of people, and nobody's own."""

LINE_BREAKS: Final = r"\r\n\x0b\x0c\x85\u2028\u2029"
SPACE: Final = r"[^\S\x1c-\x1f]"
"""White space except for the four ASCII separators, which are control characters."""


class HalfOfAValue(Exception):
    """A part of a cell could be half of a value."""


class Separator(IntEnum):
    """What stands between two pieces of a cell, from the weakest to the strongest."""

    NONE = 0
    SPACE = 1
    COMMA = 2
    HARD = 3
    """A semicolon, a bar, a line break, or the edge of the cell."""


# ---- texts that say nothing ---------------------------------------------------------------------

# What people and programs write where there is nothing.
_BLANK_WORDS: Final = (
    "n/a n.a. n.a n\\a na #n/a #na none no null (null) nil nan undefined unknown tbd tba tbc nobody empty blank missing"
    " #value! #ref! #name? x xx xxx k.a. keine unbekannt kein inconnu aucun aucune desconocido ninguno nessuno brak"
    " nieznany geen onbekend нет なし"
)
_BLANK_TEXTS: Final = frozenset(
    (
        *("", *_BLANK_WORDS.split()),
        *("no one", "not available", "not known", "not provided", "not applicable"),
        *("no email", "no e-mail", "no mail", "no phone", "no linkedin"),
        *("k. a.", "keine angabe", "nicht bekannt", "sin correo"),
    )
)
_MARKS_ONLY: Final = re.compile(r"[-–—_.*?#/\\+=~:!]*\Z")
_WHOLE_PHONE: Final = re.compile(r"\+[0-9](?:[\s()./-]?[0-9]){6,}+")


def is_blank(text: str) -> bool:
    """Whether a text says only that there is nothing."""
    text = text.strip(WRAPPING).lower()
    return text in _BLANK_TEXTS or _MARKS_ONLY.match(text) is not None


# ---- what a program put around the text ---------------------------------------------------------

_ENTITY: Final = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_QUOTED: Final = r'"((?:[^"]|"")*+)"'
# Some spreadsheets write a plus, a minus or an at sign before a function.
_FORMULA_SIGN: Final = rf"[=+@-]{{1,2}}{SPACE}*+"
_TEXT_FORMULA: Final = re.compile(rf"{_FORMULA_SIGN}{_QUOTED}")
_NUMBER_FORMULA: Final = re.compile(r"=\+?[0-9]++")
# The names of the function in the languages of spreadsheets.
_LINK_FORMULA: Final = re.compile(
    rf"{_FORMULA_SIGN}(?:HYPERLINK|LIEN_HYPERTEXTE|HIPERV[IÍ]NCULO|HIPERLIGA[CÇ][AÃ]O|HIPERLINK|COLLEG\.IPERTESTUALE"
    rf"|HYPERL[ÄA]NK|HYPERLINKKI|HYPERKOBLING|HIPER[ŁL][ĄA]CZE|HIPERHIVATKOZ[ÁA]S|KÖPRÜ|ГИПЕРССЫЛКА|HYPERTEXTOV[ÝY]\.ODKAZ)"
    rf"\(\s*+{_QUOTED}\s*+(?:[,;]\s*+(?:{_QUOTED}|[^\"()]*+)\s*+)?\)",
    re.IGNORECASE,
)
_ANY_FORMULA: Final = re.compile(r"[=@]\S*+.*[(\"&]", re.DOTALL)
_MARKDOWN_LINK: Final = re.compile(r"\[([^\[\]]*+)\]\(\s*+<?([^()\s<>]*+)>?(?:\s++\"[^\"()]*+\")?\s*+\)")
_HTML_LINK: Final = re.compile(
    r"<a\s[^<>]*?href\s?=\s?[\"']?([^\"'<>\s]++)[\"']?[^<>]*+>([^<>]*+)</a\s?>", re.IGNORECASE
)
_TAG: Final = re.compile(
    r"</?(?:br|p|div|li|ul|ol|td|tr|table|span|b|i|u|em|strong|font)(?:\s[^<>@]*+)?/?>", re.IGNORECASE
)
_LISTS: Final = {"[": "]", "{": "}"}
_OUTER_SPACE: Final = WRAPPING.translate({ord(mark): None for mark in "\"'<>`´‘’‚‛“”„‟«»‹›"})


def without_wrapping(cell: str, is_value: Callable[[str], bool]) -> str:
    """A cell without what a program put around it.

    A link becomes its target, unless only the text that it shows `is_value`.
    """
    text = narrow(_without_entities(cell)).strip(_OUTER_SPACE)
    return _without_markup(_without_formula(text, is_value), is_value)


def is_formula(text: str) -> bool:
    """Whether a text without wrapping is a formula still, whose result nobody knows."""
    return _ANY_FORMULA.match(text) is not None


def _without_entities(text: str) -> str:
    # Some are escaped twice, as "&amp;#39;".
    for _ in range(3):
        if "&" not in text:
            break
        text = _ENTITY.sub(_character, text)
    return text


def _character(entity: re.Match[str]) -> str:
    is_known = entity[1][0] == "#" or f"{entity[1]};" in html.entities.html5
    return html.unescape(entity[0]) if is_known else entity[0]


def _without_formula(text: str, is_value: Callable[[str], bool]) -> str:
    if text.startswith(("'=", "'+", "'@", "'-")):
        text = text[1:]
    if (formula := _TEXT_FORMULA.fullmatch(text)) is not None:
        return _unquoted(formula[1])
    if (formula := _LINK_FORMULA.fullmatch(text)) is not None:
        return _value_of_link(_unquoted(formula[1]), _unquoted(formula[2] or ""), is_value)
    return text[1:] if _NUMBER_FORMULA.fullmatch(text) else text


def _unquoted(text: str) -> str:
    return text.replace('""', '"')


def _value_of_link(target: str, shown: str, is_value: Callable[[str], bool]) -> str:
    return target if is_value(target) or not is_value(shown) else shown


def _without_markup(text: str, is_value: Callable[[str], bool]) -> str:
    if "](" in text:
        text = _MARKDOWN_LINK.sub(lambda link: f"<{_value_of_link(link[2], link[1], is_value)}>", text)
    if "<" in text:
        text = _HTML_LINK.sub(lambda link: f"<{_value_of_link(link[1], link[2], is_value)}>", text)
        text = _TAG.sub("\n", text)
    return text


def list_items(text: str) -> list[str]:
    """The items of a list as JSON, Python or PostgreSQL writes it; else the text alone."""
    if len(text) < 2 or _LISTS.get(text[0]) != text[-1]:
        return [text]
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return [str(item) for item in cast("list[object]", found) if item is not None]
    items = _items_between_commas(text[1:-1].strip())
    return [text] if items is None else items


def _items_between_commas(inner: str) -> list[str] | None:
    quote = "'" if inner.startswith("'") else '"'
    try:
        (items,) = csv.reader([inner], quotechar=quote, escapechar="\\", skipinitialspace=True)
    except (ValueError, csv.Error):
        return None
    return items


# ---- tokens -------------------------------------------------------------------------------------

_HARD_MARKS: Final = re.compile(rf":::|(?<!\S)/(?!\S)|{SPACE}[•·]{SPACE}")
_SEPARATOR_GROUPS: Final[Mapping[str | None, Separator]] = MappingProxyType(
    {"space": Separator.SPACE, "comma": Separator.COMMA, "hard": Separator.HARD}
)


class Token(NamedTuple):
    """A word, or what stands in brackets or quotes."""

    kind: str
    """`angle`, `round`, `quote` or `word`: the group of the pattern that matched."""
    text: str
    separator: Separator
    """What separates it from the token before."""

    def __repr__(self) -> str:
        return f"Token({self.kind})"

    @property
    def inner(self) -> str:
        """The text without its brackets or quotes."""
        return self.text[1:-1].strip()


def tokens_of(text: str, pattern: re.Pattern[str], *, first: Separator) -> Iterator[Token]:
    """Cut a text by a pattern whose groups are called as the kinds of tokens and separators are.

    `first` stands before the first token.
    """
    separator = first
    for found in pattern.finditer(_HARD_MARKS.sub("\n", text)):
        stronger = _SEPARATOR_GROUPS.get(found.lastgroup)
        if stronger is not None:
            separator = max(separator, stronger)
        else:
            yield Token(found.lastgroup or "word", found[0], separator)
            separator = Separator.NONE


_LETTER: Final = re.compile(r"[^\W\d_]")


def is_comment(token: Token) -> bool:
    """Whether a bracket without a value says something about the value before it, or nothing at all."""
    inner = token.inner
    if not inner:
        return True
    return token.kind == "round" and inner[0] not in ".-_" and _LETTER.search(inner) is not None


# ---- what stands beside what --------------------------------------------------------------------


@dataclass(slots=True)
class Piece:
    """A piece of a cell: a value, a text that plainly is something else (`other`), or words."""

    kind: Literal["value", "other", "words"]
    text: str = field(repr=False)
    separator: Separator
    """What separates it from the piece before."""
    is_start_certain: bool = False
    """Whether nothing before it can belong to it."""
    is_end_certain: bool = False
    """Whether nothing after it can belong to it."""


class Phrase(NamedTuple):
    """The words between two separators."""

    text: str
    before: Separator
    after: Separator

    def __repr__(self) -> str:
        return "Phrase()"


CanContinue: TypeAlias = Callable[[Phrase, bool], bool]
"""Whether a value could continue with the phrase after it.

The second argument says whether the phrase may be the name of the value behind it.
"""

# Words that stand between two values.
_CONJUNCTIONS: Final = frozenset(
    ("or", "and", "oder", "und", "ou", "et", "o", "y", "e", "of", "en", "&", "+", "/", "bzw.")
)
_LABEL: Final = re.compile(r"[^\W_][\w '/-]*+:")


def bracketed(parts: Sequence[str], values: Sequence[str], *, separator: Separator) -> list[Piece]:
    """The pieces that stand in brackets, of which some are values: nothing outside can belong to them."""
    return [
        Piece(
            kind="value" if part in values else "other",
            text=part,
            separator=separator if index == 0 else Separator.COMMA,
            is_start_certain=True,
            is_end_certain=True,
        )
        for index, part in enumerate(parts)
    ]


def parts_of(pieces: Sequence[Piece], can_continue: CanContinue) -> list[str]:
    """The parts of a cell in their order. Raises `HalfOfAValue` if a part could be half of a value."""
    has_value = any(piece.kind == "value" for piece in pieces)
    if not has_value:
        return _parts_without_value(pieces)
    parts: list[str] = []
    left: Piece | None = None
    runs = _runs(pieces)
    for index, (is_words, run) in enumerate(runs):
        if is_words:
            right = runs[index + 1][1][0] if index + 1 < len(runs) else None
            parts += _unattached_words(left, _phrases(run, right), right, can_continue)
        else:
            left = run[-1]
            parts += [piece.text for piece in run]
    return parts


def _runs(pieces: Sequence[Piece]) -> list[tuple[bool, list[Piece]]]:
    """Pieces in a row that are words, or that are not."""
    grouped = groupby(pieces, lambda piece: piece.kind == "words")
    return [(is_words, list(run)) for is_words, run in grouped]


def _parts_without_value(pieces: Sequence[Piece]) -> list[str]:
    parts: list[str] = []
    for is_words, run in _runs(pieces):
        parts += (
            [phrase.text for phrase in _phrases(run, None)] if is_words else [piece.text for piece in run]
        )
    return parts


def _phrases(words: Sequence[Piece], right: Piece | None) -> list[Phrase]:
    """The phrases that words in a row make, with what separates each from what is before and after."""
    texts: list[list[str]] = []
    before: list[Separator] = []
    for piece in words:
        if not texts or piece.separator > Separator.SPACE:
            texts.append([])
            before.append(piece.separator)
        texts[-1].append(piece.text)
    after = [*before[1:], Separator.HARD if right is None else right.separator]
    return [
        Phrase(" ".join(text), separator_before, separator_after)
        for text, separator_before, separator_after in zip(texts, before, after, strict=True)
    ]


def _unattached_words(
    left: Piece | None, phrases: Sequence[Phrase], right: Piece | None, can_continue: CanContinue
) -> list[str]:
    """The phrases between two pieces that belong to neither of them."""
    is_beside_value = _is_end_open(left) or _is_start_open(right)
    texts = [phrase.text for phrase in phrases]
    if all(_says_nothing(phrase, is_beside_value=is_beside_value) for phrase in phrases):
        return texts
    if _is_value(right) and _lead_to_value(left, phrases):
        return []
    if _are_part_of_value(left, phrases, right, can_continue):
        raise HalfOfAValue
    return [] if _is_value(right) else texts


def _lead_to_value(left: Piece | None, phrases: Sequence[Phrase]) -> bool:
    """Whether the words before a value are only its label, or only a conjunction."""
    if len(phrases) > 1:
        return False
    return _is_label(phrases[0]) or (left is not None and _is_conjunction(phrases[0]))


def _are_part_of_value(
    left: Piece | None, phrases: Sequence[Phrase], right: Piece | None, can_continue: CanContinue
) -> bool:
    """Whether a value before or after the words could reach into them."""
    if _is_start_open(right) and not _is_label(phrases[-1]):
        return True
    if not _is_end_open(left) or _says_nothing(phrases[0], is_beside_value=True):
        return False
    is_alone_before_value = len(phrases) == 1 and _is_value(right)
    return can_continue(phrases[0], is_alone_before_value)


def _is_label(phrase: Phrase) -> bool:
    """Whether it names the value right after it, as in "Work: jane@…"."""
    return phrase.after <= Separator.SPACE and _LABEL.fullmatch(phrase.text) is not None


def _is_conjunction(phrase: Phrase) -> bool:
    """Whether it leads to the value right after it, as "or" does."""
    return phrase.after <= Separator.SPACE and phrase.text.lower() in _CONJUNCTIONS


def _is_value(piece: Piece | None) -> TypeGuard[Piece]:
    return piece is not None and piece.kind == "value"


def _is_end_open(piece: Piece | None) -> bool:
    """Whether a value could continue after this piece."""
    return _is_value(piece) and not piece.is_end_certain


def _is_start_open(piece: Piece | None) -> bool:
    """Whether a value could begin before this piece."""
    return _is_value(piece) and not piece.is_start_certain


def _says_nothing(phrase: Phrase, *, is_beside_value: bool) -> bool:
    # "na doe@firm.example": beside a value, "na" says that there is nothing only across a strong separator.
    is_apart = min(phrase.before, phrase.after) > Separator.SPACE or not is_beside_value
    if not is_apart:
        return _MARKS_ONLY.match(phrase.text) is not None
    return is_blank(phrase.text) or _WHOLE_PHONE.fullmatch(phrase.text) is not None
