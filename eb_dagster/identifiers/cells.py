"""What one cell holds: the grammar by which exports and people write several values into one.

The rule: a row gets its own person or nobody, so half of a broken value is none.

1. What a program put around the text is undone: HTML's entities and tags, formulas, links, wide characters,
   and lists as JSON, Python and PostgreSQL write them.
2. The rest is cut at semicolons, bars, line breaks and ` ::: `, and where it can be, at commas and spaces.
3. A name in brackets' company (`Jane Doe <jane@…>`, `Jane (jane@…)`), a label (`Work: jane@…`) and a comment
   (`jane@… (work)`) belong to their value. Brackets, `mailto:` and `SMTP:` say where a value begins.
4. A part that says by itself what it is (it has an "@", a host, a scheme) or that says that there is nothing
   (`n/a`) is used or refused alone.
5. Any other part may be the half of its neighbour. Before a value it always is: the value may begin earlier
   (`jane,doe@…`). Behind one it is if only a space or a comma stands between, or if the value could go on
   with it (`jane@firm.com;br`): behind a semicolon, whole words (`b@y.example; nobody`) go on no address,
   but any profile. Then nothing of the whole cell is used.

Nothing here knows whether a value is valid. No pattern goes back over what it has read, so a long cell takes
no longer than its length.
"""

from __future__ import annotations

import csv
import html
import html.entities
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from eb_dagster.identifiers.characters import WRAPPING, narrow
from eb_dagster.identifiers.networks import HOSTS

MOST_PARTS: Final = 100
"""So many are a list of people, and no one's."""

Separator = Literal["", "space", "comma", "hard"]
_RANK: Final[dict[Separator, int]] = {"": 0, "space": 1, "comma": 2, "hard": 3}

_LINES: Final = r"\r\n\x0b\x0c\x85\u2028\u2029"
# White space but for the four ASCII separators, which are control characters.
_SPACE: Final = r"[^\S\x1c-\x1f]"

# What people and programs write where there is nothing.
_BLANK_TEXTS: Final = frozenset(
    (
        "", "n/a", "n.a.", "n.a", "n\\a", "na", "#n/a", "#na", "none", "no", "null", "(null)", "nil", "nan", "undefined",
        "unknown", "tbd", "tba", "tbc", "nobody", "no one", "empty", "blank", "missing", "not available", "not known",
        "not provided", "not applicable", "no email", "no e-mail", "no mail", "no phone", "no linkedin",
        "#value!", "#ref!", "#name?", "x", "xx", "xxx", "k.a.", "k. a.", "keine", "keine angabe", "unbekannt",
        "nicht bekannt", "kein", "inconnu", "aucun", "aucune", "desconocido", "ninguno", "sin correo", "nessuno",
        "brak", "nieznany", "geen", "onbekend", "нет", "なし",
    )
)  # fmt: skip
_MARKS_ONLY: Final = re.compile(r"[-–—_.*?#/\\+=~:!]*\Z")
# Words that stand between two values.
_BETWEEN: Final = frozenset(
    ("or", "and", "oder", "und", "ou", "et", "o", "y", "e", "of", "en", "&", "+", "/", "bzw.")
)
_LABEL: Final = re.compile(r"[^\W_][\w '/-]*+:")
_LABELS: Final = re.compile(
    r"(?:(?:e-?mails?|mail|correo|courriel|work|home|office|business|private|privat|personal|main|other|primary|secondary"
    r"|direct|arbeit|beruflich|gesch[äa]e?ftlich|pro|perso|email address)[ _-]?\d?):(?=.)",
    re.IGNORECASE,
)


def is_blank(text: str) -> bool:
    """Whether a text says only that there is nothing."""
    text = text.strip(WRAPPING).lower()
    return text in _BLANK_TEXTS or _MARKS_ONLY.match(text) is not None


# ---- what a program put around it ----------------------------------------------------------------

_ENTITY: Final = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_QUOTED: Final = r'"((?:[^"]|"")*+)"'
# A plus, a minus or an at before a function is what spreadsheets of other makes wrote.
_FORMULA_SIGN: Final = rf"[=+@-]{{1,2}}{_SPACE}*+"
_TEXT_FORMULA: Final = re.compile(rf"{_FORMULA_SIGN}{_QUOTED}")
_NUMBER_FORMULA: Final = re.compile(r"=\+?[0-9]++")
# The function by the names that it has in the languages of spreadsheets.
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
_HARD_MARKS: Final = re.compile(rf":::|(?<!\S)/(?!\S)|{_SPACE}[•·]{_SPACE}")
_LISTS: Final = {"[": "]", "{": "}"}
_AROUND: Final = WRAPPING.translate({ord(mark): None for mark in "\"'<>`´‘’‚‛“”„‟«»‹›"})


def _undone(cell: str, fits: Callable[[str], bool]) -> str:
    """The text without what a program put around it. Of a link, the target, unless only its text `fits`."""
    text = cell
    # Some are made twice, as "&amp;#39;".
    for _ in range(3):
        if "&" not in text:
            break
        text = _ENTITY.sub(_character, text)
    text = narrow(text).strip(_AROUND)
    if text[:1] == "'" and text[1:2] in ("=", "+", "@", "-"):
        text = text[1:]
    if (found := _TEXT_FORMULA.fullmatch(text)) is not None:
        text = found[1].replace('""', '"')
    elif (found := _LINK_FORMULA.fullmatch(text)) is not None:
        target, shown = (one.replace('""', '"') for one in (found[1], found[2] or ""))
        text = target if fits(target) or not fits(shown) else shown
    elif _NUMBER_FORMULA.fullmatch(text):
        text = text[1:]

    def link(target: str, shown: str) -> str:
        return f"<{target if fits(target) or not fits(shown) else shown}>"

    if "](" in text:
        text = _MARKDOWN_LINK.sub(lambda found: link(found[2], found[1]), text)
    if "<" in text:
        text = _HTML_LINK.sub(lambda found: link(found[1], found[2]), text)
        text = _TAG.sub("\n", text)
    return text


def _character(entity: re.Match[str]) -> str:
    is_known = entity[1][0] == "#" or f"{entity[1]};" in html.entities.html5
    return html.unescape(entity[0]) if is_known else entity[0]


def _listed(text: str) -> list[str]:
    """The items of a list as JSON, Python or PostgreSQL writes it; else the text alone."""
    if len(text) < 2 or _LISTS.get(text[0]) != text[-1]:
        return [text]
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return [str(item) for item in cast("list[object]", found) if item is not None]
    inner = text[1:-1].strip()
    try:
        (items,) = csv.reader([inner], quotechar=inner[:1] if inner[:1] in "\"'" and inner else '"', escapechar="\\",
                              skipinitialspace=True)  # fmt: skip
    except (ValueError, csv.Error):
        return [text]
    return items


# ---- what stands beside what ---------------------------------------------------------------------


@dataclass(slots=True)
class _Item:
    """A piece of a cell: a value, one that stands for itself and is no value, or words."""

    kind: Literal["value", "own", "words"]
    text: str
    before: Separator
    """What separates it from the piece before."""
    begins: bool = False
    """Whether nothing before it can be a part of it."""
    ends: bool = False


class _Chunk(NamedTuple):
    """Words between two separators."""

    text: str
    before: Separator
    after: Separator


# Whether the value before could go on with a chunk, which may be the name of the value behind it.
_GoesOn: TypeAlias = Callable[[_Chunk, bool], bool]


def _parts(items: Sequence[_Item], goes_on: _GoesOn) -> list[str] | None:
    """The parts of a cell in their order; None if a part could be the half of a value."""
    parts: list[str] = []
    has_value = any(one.kind == "value" for one in items)
    left: _Item | None = None
    groups = [(kind == "words", list(group)) for kind, group in groupby(items, lambda one: one.kind)]
    for at, (is_words, group) in enumerate(groups):
        if is_words:
            right = groups[at + 1][1][0] if at + 1 < len(groups) else None
            chunks = _chunks(group, "hard" if right is None else right.before)
            rest = _rest(left, chunks, right, goes_on) if has_value else [one.text for one in chunks]
            if rest is None:
                return None
            parts += rest
        else:
            left = group[-1]
            parts += [one.text for one in group]
    return parts


def _chunks(words: Sequence[_Item], after: Separator) -> list[_Chunk]:
    """Words in a row, with what separates them from what is before and after."""
    texts: list[list[str]] = []
    before: list[Separator] = []
    for one in words:
        if not texts or _RANK[one.before] > _RANK["space"]:
            texts.append([])
            before.append(one.before)
        texts[-1].append(one.text)
    behind: list[Separator] = [*before[1:], after]
    return [_Chunk(" ".join(some), at, then) for some, at, then in zip(texts, before, behind, strict=True)]


def _rest(
    left: _Item | None, chunks: Sequence[_Chunk], right: _Item | None, goes_on: _GoesOn
) -> list[str] | None:
    """Of words between two pieces, those that belong to neither; None if they could be the half of one."""
    is_open_left = left is not None and left.kind == "value" and not left.ends
    is_open_right = right is not None and right.kind == "value" and not right.begins
    first, last = chunks[0], chunks[-1]
    texts = [one.text for one in chunks]
    if all(_is_nothing(one, is_open_left or is_open_right) for one in chunks):
        return texts
    is_value_next = right is not None and right.kind == "value"
    if is_value_next and _RANK[last.after] <= _RANK["space"]:
        is_label = _LABEL.fullmatch(last.text) is not None
        if len(chunks) == 1 and (is_label or (left is not None and last.text.lower() in _BETWEEN)):
            return []
        is_open_right = is_open_right and not is_label
    if is_open_right:
        return None
    is_name = is_value_next and len(chunks) == 1
    if is_open_left and not _is_nothing(first, True) and goes_on(first, is_name):
        return None
    return [] if is_value_next else texts


def _is_nothing(chunk: _Chunk, is_beside_a_value: bool) -> bool:
    # "na doe@firm.example": only across a separator does it say that there is nothing.
    is_apart = min(_RANK[chunk.before], _RANK[chunk.after]) > _RANK["space"] or not is_beside_a_value
    if not is_apart:
        return _MARKS_ONLY.match(chunk.text) is not None
    return is_blank(chunk.text) or _PHONE.fullmatch(chunk.text) is not None


_PHONE: Final = re.compile(r"\+[0-9](?:[\s()./-]?[0-9]){6,}+")


_TOKEN: Final = re.compile(
    rf"(?P<angle><[^<>]*+>)|(?P<round>\([^()]*+\)|\[[^\[\]]*+\])|(?P<quote>\"[^\"]*+\")|(?P<hard>[;|{_LINES}])"
    rf"|(?P<comma>,)|(?P<space>{_SPACE}++)|(?P<word>(?:[^\s,;|<>()\[\]\"]|[\x1c-\x1f])++)"
)
# A comma stays inside an address, and so do brackets.
_PROFILE_TOKEN: Final = re.compile(
    rf"(?P<angle><[^<>]*+>)|(?P<round>(?:\([^()]*+\)|\[[^\[\]]*+\])(?=[\s,;|]|\Z))|(?P<quote>\"[^\"]*+\")"
    rf"|(?P<hard>;(?!!!)|[|{_LINES}])|(?P<comma>,(?=\s|\Z))|(?P<space>{_SPACE}++)"
    rf"|(?P<word>(?:[^\s,;|<>\"]|[\x1c-\x1f]|,(?!\s|\Z)|;(?=!!))++)"
)


class _Token(NamedTuple):
    kind: Literal["angle", "round", "quote", "word"]
    text: str
    before: Separator


def _tokens(text: str, pattern: re.Pattern[str], first: Separator) -> Iterator[_Token]:
    before: Separator = first
    for found in pattern.finditer(_HARD_MARKS.sub("\n", text)):
        kind: Any = found.lastgroup
        if kind in _RANK:
            before = max(before, kind, key=_RANK.__getitem__)
        else:
            yield _Token(kind, found[0], before)
            before = ""


# ---- e-mails ------------------------------------------------------------------------------------

_MAILTO: Final = re.compile(r"(mailto:[^?\s<>;|]*+)(?:\?[^\s<>]*+)?", re.IGNORECASE)
_MAIL_SCHEME: Final = re.compile(r"(?:mailto:/*|smtp:)", re.IGNORECASE)
# What Exchange lists beside the addresses of a mailbox.
_OTHER_PROXY: Final = re.compile(
    r"(?:x[45]00|ex|sip|spo|eum|notes|ccmail|msmail|gwise|fax|rfax|ums|im):", re.IGNORECASE
)
_OWN: Final = re.compile(r"[a-z][a-z0-9+.-]*:.|www\.|[a-z0-9]{1,5}=", re.IGNORECASE)
# A domain goes on with a dot or with a short last label.
_DOMAIN_END: Final = re.compile(r"[a-z0-9-]{1,4}\Z", re.IGNORECASE)


def emails(cell: str) -> list[str] | None:
    """The parts of a cell of e-mails; None if a part could be the half of an address."""
    text = _undone(cell, lambda one: "@" in one)
    if _ANY_FORMULA.match(text):
        return [text]
    items: list[_Item] = []
    for item in _listed(text):
        found = _email_items(item, "comma" if items else "hard")
        if found is None:
            return None
        items += found
    return _parts(items, _could_end_a_domain)


def _could_end_a_domain(chunk: _Chunk, is_name: bool) -> bool:
    if chunk.text[0] in ".-_" or _RANK[chunk.before] <= _RANK["space"]:
        return True
    return not is_name and (chunk.before == "comma" or _DOMAIN_END.match(chunk.text) is not None)


def _email_items(text: str, first: Separator) -> list[_Item] | None:
    # The query may hold other people's addresses, as in ?cc=; the list before it may have commas.
    text = _MAILTO.sub(lambda found: found[1].replace(",", ",mailto:"), text)
    items: list[_Item] = []
    skips = False
    for token in _tokens(text, _TOKEN, first):
        # An Exchange address of another kind may hold anything up to the next separator.
        skips = token.before != "hard" and skips
        skips = skips or (token.kind == "word" and _OTHER_PROXY.match(token.text) is not None)
        found = [] if skips else _email_token(token)
        if found is None:
            return None
        items += found
    return items


def _email_token(token: _Token) -> list[_Item] | None:
    """The pieces of a token; None if one of them is a half."""
    if token.kind == "word":
        return _email_word(token)
    has_at, inner = "@" in token.text, token.text[1:-1].strip()
    if token.kind == "quote":
        return [_Item("value" if has_at else "words", inner, token.before)] if inner else []
    if has_at:
        parts = emails(inner)
        return None if parts is None else _bracketed(parts, token.before, list(filter(_has_at, parts)))
    return [] if _is_comment(token) else [_Item("words", inner, token.before)]


def _has_at(text: str) -> bool:
    # In "mailto:", it may be encoded.
    return "@" in text or "%40" in text


def _bracketed(parts: Sequence[str], before: Separator, values: Sequence[str]) -> list[_Item]:
    """What stands in brackets: nothing outside can be a part of it."""
    return [
        _Item("value" if part in values else "own", part, "comma" if at else before, begins=True, ends=True)
        for at, part in enumerate(parts)
    ]


def _is_comment(token: _Token) -> bool:
    inner = token.text[1:-1].strip()
    return not inner or (
        token.kind == "round" and inner[0] not in ".-_" and _LETTER.search(inner) is not None
    )


_LETTER: Final = re.compile(r"[^\W\d_]")


def _email_word(token: _Token) -> list[_Item] | None:
    text = token.text.strip(WRAPPING)
    if not text:
        return []
    if _MAIL_SCHEME.fullmatch(text):
        return []
    if _MAIL_SCHEME.match(text):
        return [_Item("value", text, token.before, begins=True)] if _has_at(text) else None
    if "@" in text and (label := _LABELS.match(text)) is not None:
        return [_Item("value", text[label.end() :], token.before, begins=True)]
    is_own = _OWN.match(text) is not None and (":" in text.partition("@")[0] or "@" not in text)
    return [_Item("own" if is_own else "value" if "@" in text else "words", text, token.before)]


# ---- profiles -----------------------------------------------------------------------------------

_SCHEME: Final = re.compile(r"(?:https?:|www\.|//)", re.IGNORECASE)
_NO_HOST: Final = re.compile(r"/?in/.", re.IGNORECASE)
_HOST: Final = re.compile(r"((?:[\w-]++\.)+[\w-]++)\.?(?:[/?#]|\Z)")
_MAIL: Final = re.compile(r"[^\s@/]++@[\w-]++\.\w")
_OTHER_SCHEME: Final = re.compile(r"([a-z][\w+-]*+):(?=.)", re.IGNORECASE)
# A comma before another address, and not inside one, as "…/sales/lead/ACwAA…,NAME_SEARCH".
_PROFILE_COMMA: Final = re.compile(r",(?=https?:|www\.|(?:[\w-]++\.)++[\w-]++/|/?in/)", re.IGNORECASE)
_MEMBER_PATH: Final = re.compile(r"linkedin\.com/(?:sales|talent|recruiter)/", re.IGNORECASE)
_COMMA_INSIDE: Final = re.compile(r"[^?#]*?,(?!-)")


def profiles(cell: str) -> list[str] | None:
    """The parts of a cell of profiles; None if a part could be the half of an address."""
    text = _undone(cell, lambda one: "@" not in one and "." in one)
    if _ANY_FORMULA.match(text):
        return [text]
    items: list[_Item] = []
    for item in _listed(text):
        for token in _tokens(_PROFILE_COMMA.sub(", ", item), _PROFILE_TOKEN, "comma" if items else "hard"):
            found = _profile_token(token)
            if found is None:
                return None
            items += found
    # "www.linked in.com/in/jane": of two addresses a space apart, the second has to begin by itself.
    for one, other in pairwise(items):
        is_apart = _RANK[other.before] > _RANK["space"] or one.ends or other.begins
        if one.kind == other.kind == "value" and not is_apart:
            return None
    return _parts(items, lambda _chunk, _is_name: True)


def _profile_token(token: _Token) -> list[_Item] | None:
    """The pieces of a token; None if one of them is a half."""
    if token.kind == "word":
        return _profile_word(token)
    inner = token.text[1:-1].strip()
    parts = profiles(inner)
    if parts is None:
        return None
    values = [one for one in parts if _is_address(one)]
    if values:
        return _bracketed(parts, token.before, values)
    return [] if _is_comment(token) else [_Item("words", inner, token.before)]


def _is_address(text: str) -> bool:
    host = _HOST.match(text)
    has_path = host is not None and host[0] != host[1]
    return has_path or _SCHEME.match(text) is not None or _NO_HOST.match(text) is not None


def _profile_word(token: _Token) -> list[_Item] | None:
    text = token.text.strip(WRAPPING)
    if not text:
        return []
    begins = _SCHEME.match(text) is not None
    host = _HOST.match(text)
    if not begins and host is None and (label := _OTHER_SCHEME.match(text)) is not None:
        rest = text[label.end() :]
        if not _is_address(rest) or label[1].lower() in ("mailto", "tel", "ftp"):
            return [_Item("own", text, token.before)]
        text, begins = rest, True
        host = _HOST.match(text)
    if not begins and _MAIL.match(text):
        return [_Item("own", text, token.before)]
    is_known = host is not None and _is_known(host[1].lower())
    if _is_address(text) or is_known:
        if _COMMA_INSIDE.match(text) and not _MEMBER_PATH.search(text):
            return None
        return [_Item("value", text, token.before, begins=begins or is_known)]
    # A host without a path is nobody, but "jane.doe" may look like one.
    return [_Item("own" if host is not None and token.before == "hard" else "words", text, token.before)]


def _is_known(host: str) -> bool:
    return any(host == one or host.endswith(f".{one}") for one in HOSTS)


# ---- phones -------------------------------------------------------------------------------------

# Not at the ";" of "tel:030123;ext=5", nor at the decimal comma of a number that was rounded.
_PHONES: Final = re.compile(
    rf"(?:,(?!\d++E\+\d)|[|{_LINES}])++|;(?!\s?(?:ext|isub|phone-context)=)"
    rf"|\s(?:or|and|oder|und|ou|et|o|y|e|&)\s|(?<=\d)\s++(?=[+])|(?<=[\d)])\s++(?=\(\+)",
    re.IGNORECASE,
)
_SLASH: Final = re.compile(r"\s/\s")
_EXTENSION: Final = re.compile(
    r"\W*+(?:extension|extn?|x|durchwahl|dw|app|int|poste|anexo|ramal|nebenstelle)\W*+\d{1,7}\W*+\Z",
    re.IGNORECASE,
)
_DIGITS_OF_A_NUMBER: Final = 7
_OWN_BEGINNING: Final = re.compile(r"\W*+(?:\+|00|tel:)", re.IGNORECASE)
_TRUNK_BEGINNING: Final = re.compile(r"[^\w+]*+0")


def phones(cell: str, is_number: Callable[[str], bool]) -> list[str] | None:
    """The parts of a cell of phone numbers; None if a part could be the half of a number."""
    text = _undone(
        cell, lambda one: "@" not in one and "://" not in one and _digits(one) >= _DIGITS_OF_A_NUMBER
    )
    items = [item.replace(":::", "\n") for item in _listed(text)]
    # An extension belongs to the number before it, and the number is asked without.
    parts = [
        part
        for item in items
        for group in _PHONES.split(item)
        for part in _slashed(group)
        if part.strip(WRAPPING) and not _EXTENSION.match(part)
    ]
    if len(parts) > MOST_PARTS or any(_is_one_number(*pair, is_number) for pair in pairwise(parts)):
        return None
    return parts


def _slashed(text: str) -> list[str]:
    # "0170 / 5550145" is one number, and so may be "030 901820 / 21".
    parts = _SLASH.split(text)
    return parts if all(_digits(part) >= _DIGITS_OF_A_NUMBER for part in parts) else [text]


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _is_one_number(one: str, other: str, is_number: Callable[[str], bool]) -> bool:
    """Whether two parts could be the halves of one number."""
    if (
        _OWN_BEGINNING.match(other)
        or is_blank(one)
        or is_blank(other)
        or not (_digits(one) and _digits(other))
    ):
        return False
    are_long = min(_digits(one), _digits(other)) >= _DIGITS_OF_A_NUMBER
    if are_long and _TRUNK_BEGINNING.match(other) and is_number(one) and is_number(other):
        return False
    return is_number(f"{one.strip(WRAPPING)} {other.strip(WRAPPING)}")
