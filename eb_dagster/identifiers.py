"""One canonical spelling of each email, phone and profile; the pandera schema of the input.

Two spellings of one address are two charges, so everything is compared, asked and remembered in
the form that `canonical` gives. Nothing here sends, stores or prints a value.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast
from urllib.parse import parse_qs, unquote, urlsplit

import email_validator
import msgspec
import phonenumbers

from eb_dagster.errors import ConfigError, InputError

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera
    import pyarrow as pa

    ContactIdentifiers: pandera.DataFrameSchema
    """The contract of the long form: columns `field_type` and `value`."""

FieldType = Literal["email", "phone", "social_profile"]
FIELD_TYPES: Final[tuple[FieldType, ...]] = ("social_profile", "email", "phone")

_RECOGNIZED: Final[tuple[tuple[FieldType, str], ...]] = (
    ("social_profile", "social_profile"),
    ("social_profile", "linkedin_url"),
    ("email", "email"),
    ("phone", "phone"),
)
_LONGEST: Final[dict[FieldType, int]] = {"email": 254, "phone": 64, "social_profile": 2048}
_LONGEST_CELL: Final = 8192
_SHORT_NAME: Final[dict[FieldType, str]] = {
    "email": "email",
    "phone": "phone",
    "social_profile": "profile",
}


class Identifier(msgspec.Struct, frozen=True, order=True, gc=False):
    """A contact identifier in canonical form. Equal identifiers are billed once.

    Its repr shows no person.
    """

    field_type: FieldType
    value: str

    def __repr__(self) -> str:
        return f"Identifier(field_type={self.field_type!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("field_type", self.field_type)]


class Candidates(msgspec.Struct, frozen=True, gc=False):
    """What one row offers, in order of asking, and why the rest of it is of no use.

    `reasons` are slugs such as `email_syntax`, each once; `("blank",)` when every cell is blank.
    """

    identifiers: tuple[Identifier, ...]
    reasons: tuple[str, ...]


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


# What one cell offers: its identifiers and the reasons against the rest.
_Cell: TypeAlias = tuple[tuple[Identifier, ...], tuple[str, ...]]
_NOTHING: Final[_Cell] = ((), ())
_BLANK: Final = Candidates((), ("blank",))


def check_region(region: str) -> str:
    """Give back a country code that phonenumbers knows, in upper case, or raise `ConfigError`."""
    known = str(region).strip().upper()
    if known == "UK":
        raise ConfigError('default_region: the two-letter code of the United Kingdom is "GB"; use that')
    if known not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigError('default_region is no country: choose a two-letter code such as "US" or "DE"')
    return known


# ---- one value ----------------------------------------------------------------------------------

# What exports and copies wrap around a value: white space of all kinds, zero-width and direction
# marks, quotes, angle brackets.
_WRAPPING: Final = (
    " \t\r\n\x85\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d"
    "\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\"'<>`´‘’‚‛“”„‟«»‹›"
)
# Half a surrogate pair cannot be written as UTF-8, so it is of no more use than a NUL.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What a decoder puts where it failed: the character that was there is lost.
_LOST: Final = "\ufffd"


def canonical(field_type: FieldType, text: str, *, default_region: str | None = None) -> Identifier | str:
    """Give the identifier in canonical form, or the reason (a short slug) why it is none."""
    value = _plain(field_type, text)
    if value is None:
        return canonical_thoroughly(field_type, text, default_region)
    return Identifier(field_type, value)


def identifiers_in(
    texts: Mapping[FieldType, Iterable[str]], kinds: Collection[FieldType] = FIELD_TYPES
) -> list[Identifier]:
    """The canonical identifiers of these kinds among a contact's texts, each once, in their order."""
    found: dict[Identifier, None] = {}
    for kind, of_kind in texts.items():
        if kind in kinds:
            for text in of_kind:
                one = canonical(kind, text)
                if isinstance(one, Identifier):
                    found[one] = None
    return list(found)


def canonical_values(field_type: FieldType, texts: Sequence[str]) -> list[str | None]:
    """What `canonical` gives for each text, as the bare value; None for what is no identifier."""
    return [
        _thorough_value(field_type, text) if value is None else value
        for value, text in zip(_plain_values(field_type, texts), texts, strict=True)
    ]


def _thorough_value(field_type: FieldType, text: str) -> str | None:
    one = canonical_thoroughly(field_type, text, None)
    return one.value if isinstance(one, Identifier) else None


def canonical_thoroughly(field_type: FieldType, text: str, default_region: str | None) -> Identifier | str:
    """What `canonical` gives, for every value by way of the libraries."""
    kind = _SHORT_NAME[field_type]
    # Lengths come first: nothing below is asked to work through a megabyte.
    if len(text) > _LONGEST_CELL:
        return f"{kind}_too_long"
    text = _without_scheme(field_type, text.strip(_WRAPPING))
    if len(text) > _LONGEST[field_type]:
        return f"{kind}_too_long"
    text = unicodedata.normalize("NFC", text).strip(_WRAPPING)
    if not text:
        return "blank"
    if _CONTROL.search(text):
        return "control_characters"
    if _LOST in text:
        return f"{kind}_syntax"
    if field_type == "email":
        one = _email(text)
    elif field_type == "phone":
        one = _phone(text, None if default_region is None else check_region(default_region))
    else:
        one = _profile(text)
    if isinstance(one, Identifier) and len(one.value) > _LONGEST[field_type]:
        return f"{kind}_too_long"
    return one


def _without_scheme(field_type: FieldType, text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if field_type == "email" and colon and scheme.lower() == "mailto":
        return unquote(rest.partition("?")[0])
    if field_type == "phone" and colon and scheme.lower() == "tel":
        return unquote(rest.lstrip("/"))
    return text


# ---- one plain value -----------------------------------------------------------------------------

# Nearly every value in a clean table is one of these, and its canonical form can be told without the
# libraries: they come to the same, twenty times slower.
# In lower case already, and too short for any part to be too long. Without "--" there is no Punycode.
_PLAIN_EMAIL: Final = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}", re.ASCII
)
_SHORT: Final = 64


def _plain(field_type: FieldType, text: str) -> str | None:
    """The canonical form of a value that is plainly one; None if only the libraries can tell."""
    if field_type == "email":
        text = text.strip(" \t\r\n").lower()
        return text if len(text) <= _SHORT and _PLAIN_EMAIL.fullmatch(text) else None
    if field_type == "phone":
        return text if _is_plain_phone(text) else None
    if (found := _PLAIN_LINKEDIN.match(text)) is not None:
        return f"linkedin.com/in/{found[1].lower()}"
    if (found := _PLAIN_PROFILE.match(text)) is not None:
        return found[1].lower() + found[2]
    return None


def _plain_values(field_type: FieldType, texts: Sequence[str]) -> list[str | None]:
    """What `_plain` gives for each text; None for some more, for which the libraries come to the same."""
    return _plain_emails(texts) if field_type == "email" else [_plain(field_type, text) for text in texts]


def _plain_emails(texts: Sequence[str]) -> list[str | None]:
    """The same for e-mails, in bulk: four times as fast."""
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute
    try:
        column: Any = pa.array(texts, type=pa.string())
    except UnicodeEncodeError:
        # Half a surrogate pair somewhere.
        return [_plain("email", text) for text in texts]
    column = compute.ascii_lower(compute.ascii_trim(column, characters=" \t\r\n"))
    is_plain = compute.and_(
        compute.match_substring_regex(column, rf"\A(?:{_PLAIN_EMAIL.pattern})\z"),
        compute.less_equal(compute.binary_length(column), _SHORT),
    )
    return cast("list[str | None]", compute.if_else(is_plain, column, None).to_pylist())


_PLAIN_LINKEDIN: Final = re.compile(
    # Not the ids that keep their case, and not whoever is logged in.
    r"(?:https?://)?(?:www\.)?linkedin\.com/in/((?!ac[a-z]aa|me/?\Z)[a-z0-9][a-z0-9_.-]{0,199})/?\Z",
    re.ASCII | re.IGNORECASE,
)
_PLAIN_PROFILE: Final = re.compile(
    r"(?:https?://)?(?:www\.)?((?:twitter|x|facebook|github)\.com)(/(?!profile\.php)[a-z0-9_.-]{1,200})/?\Z",
    re.ASCII | re.IGNORECASE,
)
_INTERNATIONAL: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z", re.ASCII)


def _is_plain_phone(text: str) -> bool:
    """Whether phonenumbers would give back the number as it is, by its own tables."""
    if not _INTERNATIONAL.match(text):
        return False
    for digits in (1, 2, 3):
        # No calling code is the beginning of another.
        if (plan := _numbering_plan(int(text[1 : digits + 1]))) is not None:
            lengths, prefix = plan
            national = text[digits + 1 :]
            return len(national) in lengths and not (prefix and prefix.match(national))
    return False


@cache
def _numbering_plan(calling_code: int) -> tuple[frozenset[int], re.Pattern[str] | None] | None:
    """Lengths of national numbers, and what the library would take off their start."""
    region = phonenumbers.region_code_for_country_code(calling_code)
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    if plan is None or plan.general_desc is None:
        return None
    prefix = plan.national_prefix_for_parsing
    return frozenset(plan.general_desc.possible_length), re.compile(prefix) if prefix else None


# ---- e-mail -------------------------------------------------------------------------------------

# The library refuses these names whatever it is told. A miss is free, so they may be asked.
_RESERVED: Final = re.compile(r"(?<=.)\.(?:arpa|invalid|local|localhost|onion|test)\Z")


def _email(text: str) -> Identifier | str:
    # Lower-cased before it is checked, so that what was checked is what is sent.
    local, _, domain = unicodedata.normalize("NFC", text.lower()).rpartition("@")
    domain = domain.rstrip(".")
    reserved = _RESERVED.search(domain)
    try:
        checked = email_validator.validate_email(
            f"{local}@{domain[: reserved.start()] + '.example' if reserved else domain}",
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            # Asks for a dot and for a last label that ends in a letter; no DNS.
            globally_deliverable=True,
            check_deliverability=False,
        )
    # `EmailNotValidError` and all that `idna` raises.
    except ValueError:
        return "email_syntax"
    ascii_domain = checked.ascii_domain
    if reserved:
        ascii_domain = ascii_domain.removesuffix(".example") + reserved[0]
    return Identifier("email", f"{checked.local_part}@{ascii_domain}")


# ---- phone --------------------------------------------------------------------------------------

# A spreadsheet has rounded these: the last digits are gone.
_SPREADSHEET_NUMBER: Final = re.compile(r"[\d.,]\s?[eE]\s?\+?\d")
_FLOAT: Final = re.compile(r"(\+?\d{5,})\.0\Z")
# "773 474 9362 (office)", "773 474 9362 mobile"; but "1 800 FLOWERS" is all number.
_LABEL: Final = re.compile(r"(?<=\d\d\d\d)\s*(?:\([^()\d]+\)|\s[^\W\d_]\D*)\Z")
_START: Final = re.compile(r"[+＋\d]")
# Other people's addresses, masked digits (773-474-XXXX, 030 1234**), and URLs with a number in
# them. The library would skip the odd characters and give somebody else's number.
_NOT_A_PHONE: Final = re.compile(r"[@_*?…\r\n\u2028\u2029]|x{2}|\A[^\d+＋]*[/=]", re.IGNORECASE)
_LETTER: Final = re.compile(r"[^\W\d_]")
_PHONE_PUNCTUATION: Final = re.compile(r"[\s().\-/‐-―]")
_VANITY: Final = re.compile(r"[+＋]?1?\d{3,7}[a-z]{3,7}\d{0,4}", re.IGNORECASE)


def _phone(text: str, region: str | None) -> Identifier | str:
    if _SPREADSHEET_NUMBER.search(text):
        return "phone_spreadsheet_number"
    text = _FLOAT.sub(r"\1", _LABEL.sub("", text.replace("\t", " ")))
    start = _START.search(text)
    if start is None or _NOT_A_PHONE.search(text):
        return "phone_syntax"
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        unplaced = error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE
        placed = start[0] in "+＋" or "phone-context" in text
        return "phone_no_region" if unplaced and region is None and not placed else "phone_syntax"
    if number.extension is None and _has_stray_letters(text[start.start() :], number):
        return "phone_syntax"
    if not _is_possible(number):
        return "phone_not_possible"
    value = _e164(number)
    # A number that the library reads in another way once it is written out has two readings.
    again = phonenumbers.parse(value, None)
    if _e164(again) != value or not _is_possible(again):
        return "phone_not_possible"
    return Identifier("phone", value)


def _has_stray_letters(text: str, number: phonenumbers.PhoneNumber) -> bool:
    # The library dials all letters: "+49 30 1234-home" would be another subscriber. Letters are
    # taken for digits only in 1-800-FLOWERS, in the one country code with one length of number.
    text = text.partition(";")[0]
    if not _LETTER.search(text):
        return False
    vanity = _VANITY.fullmatch(_PHONE_PUNCTUATION.sub("", text))
    return number.country_code != 1 or vanity is None


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    reason = phonenumbers.is_possible_number_with_reason(number)
    return reason == phonenumbers.ValidationResult.IS_POSSIBLE


def _e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


# ---- profile ------------------------------------------------------------------------------------

_SCHEMES: Final = re.compile(r"\A(?:https?:/+)*/*", re.IGNORECASE)
_NO_HOST: Final = re.compile(r"\A/?in/", re.IGNORECASE)
_WWW: Final = re.compile(r"\A(?:www\.)+")
_HOST: Final = re.compile(r"\A[\w-]+(?:\.[\w-]+)*\.[^\W\d_][\w-]+\Z")
# www. is gone by then. Languages and telephones; business., learning. and the like are no people.
_LINKEDIN: Final = re.compile(r"\A(?:(?:[a-z]{1,3}|[a-z]{2}-[a-z]{2}|mobile|touch)\.)?linkedin\.com\Z")
_LINKEDIN_DOORS: Final = ("mwlite", "comm", "m", "profile")
_LINKEDIN_OLD: Final = re.compile(r"\A[0-9a-z]{1,3}\Z")
# LinkedIn's internal member ids are base64, so their case matters.
_LINKEDIN_MEMBER: Final = re.compile(r"\AAC[a-z]AA[\w-]{20,}\Z")
_NOT_IN_A_SLUG: Final = re.compile(r"[\s/?#%@\\]")
# Keys that say who it is. Without its query such an address is the same for everybody, and one
# person's answer would be given to all of them.
_WHO: Final = frozenset(("id", "uid", "user", "user_id"))


def _profile(text: str) -> Identifier | str:
    if _NO_HOST.match(text):
        text = "linkedin.com/" + text.lstrip("/")
    text = _SCHEMES.sub("", text)
    if re.search(r"\s", text):
        return "profile_syntax"
    try:
        parts = urlsplit("//" + text)
    except ValueError:
        return "profile_syntax"
    host = _WWW.sub("", unicodedata.normalize("NFC", parts.netloc.lower()).rstrip("."))
    # No user info and no port: neither "@" nor ":" is part of a host.
    if not _HOST.match(host):
        return "profile_syntax"
    path = parts.path.rstrip("/" + _WRAPPING)
    if host == "linkedin.com" or host.endswith(".linkedin.com"):
        return _linkedin(path) if _LINKEDIN.match(host) else "profile_not_a_person"
    if f".{host}".endswith(".facebook.com") and path == "/profile.php":
        return _facebook(host, parts.query)
    if not path or _WHO & parse_qs(parts.query).keys():
        return "profile_syntax"
    return Identifier("social_profile", host + path)


def _facebook(host: str, query: str) -> Identifier | str:
    # facebook.com/profile.php?id=1 and facebook.com/1 are one page, and the second needs no query.
    member = parse_qs(query).get("id", [""])[0]
    if not re.fullmatch(r"[0-9]+", member):
        return "profile_syntax"
    return Identifier("social_profile", f"{host}/{member}")


def _linkedin(path: str) -> Identifier | str:
    try:
        steps = [unquote(step, errors="strict") for step in path.split("/") if step]
    except UnicodeDecodeError:
        return "profile_syntax"
    while len(steps) > 1 and steps[0].lower() in _LINKEDIN_DOORS:
        del steps[0]
    if not steps:
        return "profile_syntax"
    folder = steps[0].lower()
    if folder == "in":
        # What follows the name is a language or a sub-page.
        slug = _slug(steps[1]) if len(steps) > 1 else ""
        if slug == "me":
            # LinkedIn's address for whoever is logged in.
            return "profile_not_a_person"
        return Identifier("social_profile", f"linkedin.com/in/{slug}") if slug else "profile_syntax"
    if folder == "pub" and steps[1:2] != ["dir"]:
        return _linkedin_old(steps[1:5])
    return "profile_not_a_person"


def _linkedin_old(steps: Sequence[str]) -> Identifier | str:
    # linkedin.com/pub/jane-doe/1a/2b/3c: people who share a name differ in what follows it.
    name, *codes = [_slug(step) for step in steps] or [""]
    if not name or len(codes) != 3 or not all(_LINKEDIN_OLD.match(code) for code in codes):
        return "profile_syntax"
    return Identifier("social_profile", "/".join(("linkedin.com/pub", name, *codes)))


def _slug(step: str) -> str:
    """Spell a slug canonically; empty if it is none."""
    slug = unicodedata.normalize("NFC", step).strip(_WRAPPING)
    if not _LINKEDIN_MEMBER.match(slug):
        slug = unicodedata.normalize("NFC", slug.lower())
    odd = _NOT_IN_A_SLUG.search(slug) or _CONTROL.search(slug) or _LOST in slug
    return "" if odd or not re.search(r"[^\W_]", slug) else slug


# ---- one cell -----------------------------------------------------------------------------------

_LINES: Final = r"\r\n\x0b\x0c\x85\u2028\u2029"
# White space but for the four ASCII separators, which are control characters.
_SPACE: Final = r"[^\S\x1c-\x1f]"
_GROUPS: Final = re.compile(rf"[;|{_LINES}]+")
_EMAIL_WORDS: Final = re.compile(rf"(?:[,<>]|{_SPACE})+")
_MAILTO: Final = re.compile(r"mailto:([^?\s<>;|]*)(?:\?[^\s<>]*)?", re.IGNORECASE)
# Not at the ";" of "tel:030123;ext=5", nor at the decimal comma of a number that was rounded.
_PHONES: Final = re.compile(
    rf"(?:,(?!\d+E\+\d)|[|{_LINES}])+|;(?!\s?(?:ext|isub|phone-context)=)|\s/\s|\sor\s", re.IGNORECASE
)
# Before a space or a comma inside "linkedin.com/in/jane doe" stands another person's address, so
# these separate only if an address can follow.
_PROFILES: Final = re.compile(
    rf"[;|{_LINES}]+|,(?={_SPACE}|\Z)|,(?=[^\s,;|/.]*[/.])|(?<!\s){_SPACE}++(?=[^\s,;|/.]*[/.])"
)


def read_cell(field_type: FieldType, cell: str | None, *, default_region: str | None) -> _Cell:
    """Read every identifier in a cell, in its order, and the reasons against the rest.

    Both are empty if the cell is blank.
    """
    if not cell or cell.isspace():
        return _NOTHING
    if len(cell) > _LONGEST_CELL:
        return (), (f"{_SHORT_NAME[field_type]}_too_long",)
    identifiers: dict[Identifier, None] = {}
    reasons: dict[str, None] = {}
    for part in _parts(field_type, cell):
        one = canonical(field_type, part, default_region=default_region)
        if isinstance(one, Identifier):
            identifiers[one] = None
        elif one != "blank":
            reasons[one] = None
    return (tuple(identifiers), tuple(reasons)) if identifiers or reasons else _NOTHING


def _parts(field_type: FieldType, cell: str) -> Iterable[str]:
    if field_type == "phone":
        return _PHONES.split(cell)
    if field_type == "social_profile":
        return _PROFILES.split(cell)
    # The query may hold other people's addresses, as in ?cc=; the list before it may have commas.
    cell = _MAILTO.sub(lambda found: "mailto:" + found[1].replace(",", ",mailto:"), cell)
    return [part for group in _GROUPS.split(cell) for part in _addresses(group)]


def _addresses(group: str) -> list[str]:
    words = _EMAIL_WORDS.split(group)
    if "<" not in group:
        return words
    # "Jane Doe <jane@firm.example>": the words around an address in brackets are its name.
    return [word for word in words if "@" in word] or [group]


# ---- one table ----------------------------------------------------------------------------------


def _as_keyword(named: Mapping[FieldType, Sequence[str]]) -> str:
    pairs = [f'"{kind}": {[*names]!r}' for kind, names in named.items()]
    return f"identifiers={{{', '.join(pairs)}}}"


def find_layout(
    available: Sequence[str],
    identifiers: Mapping[FieldType, str | Sequence[str]] | None,
    *,
    show: Callable[[Mapping[FieldType, Sequence[str]]], str] = _as_keyword,
) -> Layout:
    """Find the identifier columns of a table. `show` spells, for the error, how to name them.

    Raises:
        ConfigError: `identifiers` names an unknown kind, nothing, or one column twice.
        InputError: a named column is not there or there twice, or none can be recognized.

    """
    if identifiers is not None:
        layout = Layout("wide", _named(identifiers))
    elif "field_type" in available and "value" in available:
        layout = Layout("long", ())
    else:
        layout = Layout("wide", _recognized(available))
    if not layout.names:
        likely = suggest(available) or dict.fromkeys(FIELD_TYPES, ("…",))
        raise InputError(f"no identifier columns; name them, as in {show(likely)} ({_there(available)})")
    _check_columns(available, layout)
    return layout


def _named(
    identifiers: Mapping[FieldType, str | Sequence[str]],
) -> tuple[tuple[FieldType, str], ...]:
    columns: list[tuple[FieldType, str]] = []
    for kind, names in identifiers.items():
        if kind not in FIELD_TYPES:
            raise ConfigError(
                f"identifiers: {kind!r} is no kind of identifier; choose from {listed(FIELD_TYPES)}"
            )
        wanted = (names,) if isinstance(names, str) else names
        columns.extend((kind, name) for name in wanted)
    if not columns:
        raise ConfigError(
            "identifiers names no column; name at least one, as in identifiers={'email': 'Email'}"
        )
    twice = _repeated([name for _, name in columns])
    if twice:
        raise ConfigError(f"identifiers names a column twice: {listed(twice)}; name it once")
    return tuple(columns)


def _recognized(available: Sequence[str]) -> tuple[tuple[FieldType, str], ...]:
    # A name that is there twice is kept once here, and refused by `_check_columns`. Names of
    # other types than text occur in pandas, hence str().
    names = tuple(dict.fromkeys(available))
    return tuple(
        (kind, name) for kind, wanted in _RECOGNIZED for name in names if str(name).strip().lower() == wanted
    )


# Names that CRMs and spreadsheets give to identifiers, and to what is only about them.
_LIKELY: Final[dict[FieldType, re.Pattern[str]]] = {
    "social_profile": re.compile(r"linked.?in(?!.*(?:connections|bio|member))|profile.?url"),
    "email": re.compile(r"e-?mail|(?:^|[^a-z])mail$"),
    "phone": re.compile(r"phone|(?<!auto)mobile|(?:^|[^a-z])(?:cell|tel|direct dial)(?:[^a-z]|$)|telefon"),
}
_ABOUT: Final = re.compile(
    r"company|corporate|bounce|opt|consent|owner|domain|status|date|count|last|first|sent|open|click"
    r"|deliver|replied|valid|verif|quarantin|subscri|type|source|reason|template|campaign|country"
    r"|region|\bext|do.?not|\bid\b"
)


def suggest(
    available: Sequence[str], samples: Mapping[str, Sequence[str]] | None = None
) -> dict[FieldType, list[str]]:
    """Columns that may hold identifiers, by their names and first values; never used without being named."""
    likely: dict[FieldType, list[str]] = {}
    for name in dict.fromkeys(available):
        if _is_value(name):
            continue
        text = str(name).strip().lower()
        for kind in FIELD_TYPES:
            by_name = bool(_LIKELY[kind].search(text) and not _ABOUT.search(text))
            if by_name if samples is None else _holds(kind, samples.get(name, ()), by_name=by_name):
                likely.setdefault(kind, []).append(name)
                break
    return {kind: likely[kind] for kind in FIELD_TYPES if kind in likely}


def _holds(kind: FieldType, texts: Sequence[str], *, by_name: bool) -> bool:
    if by_name:
        # A phone may be national.
        read = [read_cell(kind, text, default_region="US" if kind == "phone" else None) for text in texts]
        return not texts or any(found for found, _ in read)
    if kind == "phone":
        return False
    found = [read_cell(kind, text, default_region=None)[0] for text in texts]
    sure = [one for one in found if one and (kind == "email" or one[0].value.startswith("linkedin.com/in/"))]
    return bool(sure) and len(sure) * 2 > len(texts)


def _check_columns(available: Sequence[str], layout: Layout) -> None:
    missing = [name for name in layout.names if name not in available]
    if missing:
        raise InputError(f"no column {listed(missing)}; {_there(available)}. Check the spelling")
    twice = [name for name in _repeated(available) if name in layout.names]
    if twice:
        raise InputError(f"more than one column is called {listed(twice)}; rename or drop one")


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _there(available: Sequence[str]) -> str:
    return f"there are {listed(available)}" if available else "there are no columns at all"


def _is_value(name: object) -> bool:
    return any(isinstance(canonical(kind, str(name)), Identifier) for kind in FIELD_TYPES)


def listed(names: Sequence[str]) -> str:
    """Column names as a message may show them: where the header is missing, they are people."""
    if any(map(_is_value, names)):
        return f"{len(names)} names that look like values, so they are not shown (is the header missing?)"
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return ", ".join(repr(name) for name in names[:30]) + more


def schema(names: Sequence[str]) -> pandera.DataFrameSchema:
    """Build the contract of the input: each identifier column is there and holds text or nothing.

    The check answers for a whole column at once, so pandera has no values to put in its report.
    """
    # pandera and pandas take most of a second to import; only who has a table pays for it.
    import pandera.pandas as pandera

    column = pandera.Column(nullable=True, checks=[pandera.Check(_is_text, name="is_text", ignore_na=False)])
    return pandera.DataFrameSchema(dict.fromkeys(names, column), name="ContactIdentifiers")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "ContactIdentifiers":
            return schema(Layout("long", ()).names)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_text(series: pd.Series[Any]) -> bool:
    import pandas as pd

    if isinstance(series.dtype, pd.StringDtype) or _is_arrow_text(series.dtype):
        return True
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.drop_duplicates().astype(object)
    if bool(series.isna().all()):
        return True
    return pd.api.types.infer_dtype(series, skipna=True) == "string"


def _is_arrow_text(dtype: object) -> bool:
    import pandas as pd

    return isinstance(dtype, pd.ArrowDtype) and _holds_text(dtype.pyarrow_dtype)


# pyarrow's stubs leave types and arrays partly untyped, hence `Any` from here on.
def _holds_text(held: Any) -> bool:
    if str(held).startswith("dictionary"):
        held = held.value_type
    # By name, because `string_view` is younger than the oldest pyarrow that is allowed.
    return str(held) in ("string", "large_string", "string_view")


def read_rows(frame: pd.DataFrame, layout: Layout, *, default_region: str | None) -> list[Candidates]:
    """Read what each row offers, in order of asking.

    Raises:
        ConfigError: `default_region` is no country.
        InputError: an identifier column is missing, there twice, or holds values that are not text.

    """
    whole = read_blocks(frame, layout, default_region=default_region, rows=max(len(frame), 1))
    return [row for block in whole for row in block]


def read_blocks(
    frame: pd.DataFrame, layout: Layout, *, default_region: str | None, rows: int
) -> Iterator[list[Candidates]]:
    """What `read_rows` does, so many rows at a time. All of them are checked before the first.

    Else a value that is no text would stop a run that has bought what is before it.
    """
    region = None if default_region is None else check_region(default_region)
    _check_columns([*frame.columns], layout)
    check_text(frame, layout.names)
    for start in range(0, len(frame), rows):
        block = frame.iloc[start : start + rows]
        yield _read_columns([_texts(block[name]) for name in layout.names], layout, region)


def read_batch(batch: pa.RecordBatch, layout: Layout, *, default_region: str | None) -> list[Candidates]:
    """Read what each row of an Arrow table offers: what `read_rows` does, without pandas.

    Raises:
        ConfigError: `default_region` is no country.
        InputError: an identifier column is missing, there twice, or holds values that are not text.

    """
    region = None if default_region is None else check_region(default_region)
    _check_columns(batch.schema.names, layout)
    columns: dict[str, Any] = {name: batch.column(name) for name in layout.names}
    faults = [
        f"{name}: {len(column) - column.null_count:,} of {len(column):,} values are {_kind_of(column.type)}, not text"
        for name, column in columns.items()
        if column.null_count < len(column) and not _holds_text(column.type)
    ]
    if faults:
        raise InputError(f"{'; '.join(faults)}; cast the column to text")
    return _read_columns([_texts_of(column) for column in columns.values()], layout, region)


def check_text(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Hold the named columns to the contract of the input. Raises `InputError` with counts, no values."""
    import pandera.errors

    try:
        schema(names).validate(frame[list(names)], lazy=True)
        return
    except pandera.errors.SchemaErrors as error:
        cases = cast("pd.DataFrame", cast(Any, error).failure_cases)
        failed: dict[str, str] = dict(zip(cases["column"], cases["check"], strict=True))
    # Raised outside the handler: pandera's error holds the whole frame, so it must not be the
    # context of ours.
    faults = [f"{name}: {_fault(frame[name], check)}" for name, check in failed.items()]
    raise InputError(f"{'; '.join(faults)}; read the column as text, e.g. dtype=str")


def _fault(series: pd.Series[Any], check: str) -> str:
    cells = cast("list[object]", series.astype(object)[series.notna()].tolist())
    kinds = Counter(_kind(cell) for cell in cells if not isinstance(cell, str))
    if not kinds:
        return f"fails {check}"
    counts = " and ".join(
        f"{count:,} of {len(series):,} values are {kind}" for kind, count in kinds.most_common()
    )
    return f"{counts}, not text"


def _kind(cell: object) -> str:
    if type(cell).__name__.startswith("bool"):
        return "booleans"
    if isinstance(cell, Number):
        return "numbers"
    if isinstance(cell, bytes | bytearray | memoryview):
        return "bytes"
    return "dates" if isinstance(cell, date) else "objects"


def _kind_of(held: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(held):
        held = held.value_type
    if types.is_boolean(held):
        return "booleans"
    if types.is_integer(held) or types.is_floating(held) or types.is_decimal(held):
        return "numbers"
    if types.is_binary(held) or types.is_large_binary(held) or types.is_fixed_size_binary(held):
        return "bytes"
    return "dates" if types.is_timestamp(held) or types.is_date(held) else "objects"


def _texts(series: pd.Series[Any]) -> list[str | None]:
    if _is_arrow_text(series.dtype):
        # Arrow's own way out: pandas cannot take every kind of Arrow text (`string_view`) apart.
        return _texts_of(series.array.__arrow_array__())
    present = series.notna()
    if not bool(present.any()):
        return [None] * len(series)
    return cast("list[str | None]", series.astype(object).where(present, None).tolist())


def _texts_of(column: Any) -> list[str | None]:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        chunks: list[Any] = cast("Any", column).chunks
        return [text for chunk in chunks for text in _texts_of(chunk)]
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        # Each text once, however many rows it has.
        distinct = [*_texts_of(column.dictionary), None]
        codes: list[int] = column.indices.fill_null(len(distinct) - 1).to_numpy().tolist()
        return [distinct[code] for code in codes]
    if str(column.type) == "string_view":
        column = column.cast(pa.string())
    return cast("list[str | None]", column.to_pylist())


def _read_columns(
    columns: Sequence[Sequence[str | None]], layout: Layout, region: str | None
) -> list[Candidates]:
    if layout.shape == "long":
        kinds, texts = columns
        pairs = list(zip(kinds, texts, strict=True))
        known = {(kind, text): _read_pair(kind, text, region) for kind, text in set(pairs)}
        return [known[pair] for pair in pairs]
    read = [
        _read_column(kind, texts, region) for (kind, _), texts in zip(layout.columns, columns, strict=True)
    ]
    return read[0] if len(read) == 1 else [_row(cells) for cells in zip(*read, strict=True)]


def _read_column(field_type: FieldType, texts: Sequence[str | None], region: str | None) -> list[Candidates]:
    # Each distinct text is read once, and equal cells share what was read.
    distinct = list({text for text in texts if text is not None})
    known: dict[str | None, Candidates] = {None: _BLANK}
    for text, value in zip(distinct, _plain_values(field_type, distinct), strict=True):
        if value is None:
            known[text] = _candidates(read_cell(field_type, text, default_region=region))
        else:
            known[text] = Candidates((Identifier(field_type, value),), ())
    return [known[text] for text in texts]


def _read_pair(kind: str | None, text: str | None, region: str | None) -> Candidates:
    name = (kind or "").strip(_WRAPPING).lower()
    for field_type in FIELD_TYPES:
        if name == field_type:
            return _candidates(read_cell(field_type, text, default_region=region))
    blank = not name and not (text or "").strip(_WRAPPING)
    return _BLANK if blank else Candidates((), ("field_type",))


def _candidates(cell: _Cell) -> Candidates:
    return _BLANK if cell is _NOTHING else Candidates(*cell)


def _row(cells: Sequence[Candidates]) -> Candidates:
    useful = [cell for cell in cells if cell is not _BLANK]
    if not useful:
        return _BLANK
    if len(useful) == 1:
        return useful[0]
    identifiers = dict.fromkeys(one for cell in useful for one in cell.identifiers)
    reasons = dict.fromkeys(reason for cell in useful for reason in cell.reasons)
    return Candidates(tuple(identifiers), tuple(reasons))
