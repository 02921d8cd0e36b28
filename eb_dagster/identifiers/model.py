"""One canonical spelling of each email, phone and profile; the pandera schema of the input.

Two spellings of one address are two charges, so everything is compared, asked and remembered in
the form that `canonical` gives. Nothing here sends, stores or prints a value.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from functools import cache
from itertools import islice
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast
from urllib.parse import unquote

import email_validator
import msgspec
import phonenumbers

from eb_dagster.errors import ConfigError, InputError, shown
from eb_dagster.identifiers import cells
from eb_dagster.identifiers.characters import CONTROL, LOST, WRAPPING, narrow
from eb_dagster.identifiers.mailboxes import OTHER_DOMAINS, without_dots, without_tag
from eb_dagster.identifiers.names import RowPerson, row_person
from eb_dagster.identifiers.networks import (
    NotAProfileError,
    canonical_profile,
    folded_profile,
    is_of_network,
    plain_profile,
)
from eb_dagster.identifiers.role_mailboxes import is_role_mailbox

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera
    import pyarrow as pa

    ContactIdentifiers: pandera.DataFrameSchema
    """The contract of the long form: columns `field_type` and `value`."""

FieldType = Literal["email", "phone", "social_profile"]
FIELD_TYPES: Final[tuple[FieldType, ...]] = ("social_profile", "email", "phone")
_VANITY_FOLDER: Final = "linkedin.com/in/"

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


def is_vanity(value: str) -> bool:
    """Whether a canonical profile is a LinkedIn name that its owner chose: two of these can be compared.

    An opaque member id, a capital A and what follows, may be the same person's.
    """
    return value.startswith(_VANITY_FOLDER) and not value.startswith("A", len(_VANITY_FOLDER))


class Trait(IntEnum):
    """What an identifier says of who it belongs to."""

    PROFILE = 0
    """One that cannot be compared with others."""
    VANITY = 1
    """A LinkedIn name."""
    EMAIL = 2
    ROLE = 3
    """A mailbox such as info@."""
    PHONE = 4


def trait_of(identifier: Identifier) -> Trait:
    """Which of these it is."""
    if identifier.field_type == "phone":
        return Trait.PHONE
    if identifier.field_type == "email":
        return Trait.ROLE if is_role_mailbox(identifier.value) else Trait.EMAIL
    return Trait.VANITY if is_vanity(identifier.value) else Trait.PROFILE


def is_weak(identifier: Identifier) -> bool:
    """Whether it may be several people's: a phone, or a mailbox that is a role's."""
    return identifier.field_type == "phone" or is_role(identifier)


def is_role(identifier: Identifier) -> bool:
    """Whether it is a mailbox such as info@, which is nobody's own."""
    return identifier.field_type == "email" and is_role_mailbox(identifier.value)


class Candidates(msgspec.Struct, frozen=True, gc=False):
    """What one row offers, in order of asking, and why the rest of it is of no use.

    `reasons` are slugs such as `email_syntax`, each once; `("blank",)` when every cell is blank.
    """

    identifiers: tuple[Identifier, ...]
    reasons: tuple[str, ...]
    person: RowPerson | None = None
    """Who the row says it is about, where columns with names are given."""


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


def canonical(field_type: FieldType, text: str, *, default_region: str | None = None) -> Identifier | str:
    """Give the identifier in canonical form, or the reason (a short slug) why it is none."""
    value = _plain(field_type, text)
    if value is None:
        return canonical_thoroughly(field_type, text, default_region)
    return Identifier(field_type, value)


def identifiers_in(
    texts: Mapping[FieldType, Iterable[str]], kinds: Collection[FieldType] = FIELD_TYPES
) -> list[Identifier]:
    """The canonical identifiers of these kinds among a contact's texts, each key once, in their order."""
    ones = (canonical(kind, text) for kind, of_kind in texts.items() if kind in kinds for text in of_kind)
    return list(_once(one for one in ones if isinstance(one, Identifier)))


def key_form(field_type: FieldType, value: str) -> str:
    """The form of a canonical value that all spellings of one mailbox or profile share.

    By it people are remembered and compared; what is asked is the value itself.
    """
    return KEY_FORMS[field_type](value)


def key_forms(field_type: FieldType, values: Iterable[str]) -> list[str]:
    """What `key_form` gives for each."""
    return list(map(KEY_FORMS[field_type], values))


KEY_FORMS: Final[dict[FieldType, Callable[[str], str]]] = {
    "email": without_dots,
    "phone": str,
    "social_profile": folded_profile,
}


def canonical_values(field_type: FieldType, texts: Sequence[str]) -> list[str | None]:
    """What `canonical` gives for each text, as the bare value; None for what is no identifier."""
    return [
        _value(field_type, text) if value is None else value
        for value, text in zip(_plain_values(field_type, texts), texts, strict=True)
    ]


def _value(field_type: FieldType, text: str) -> str | None:
    one = canonical(field_type, text)
    return one.value if isinstance(one, Identifier) else None


def canonical_thoroughly(field_type: FieldType, text: str, default_region: str | None) -> Identifier | str:
    """What `canonical` gives, for every value by way of the libraries."""
    kind = _SHORT_NAME[field_type]
    # Lengths come first: nothing below is asked to work through a megabyte.
    if len(text) > _LONGEST_CELL:
        return f"{kind}_too_long"
    text = _without_scheme(field_type, narrow(text).strip(WRAPPING))
    if len(text) > _LONGEST[field_type]:
        return f"{kind}_too_long"
    text = unicodedata.normalize("NFC", text).strip(WRAPPING)
    if not text:
        return "blank"
    if CONTROL.search(text):
        return "control_characters"
    if LOST in text:
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
    if field_type == "email" and colon and scheme.lower() in ("mailto", "smtp"):
        # "mailto://" is wrong and not rare. Exchange lists its addresses as "SMTP:" and "smtp:".
        return unquote(rest.lstrip("/").partition("?")[0]) if scheme.lower() == "mailto" else rest
    if field_type == "phone" and colon and scheme.lower() == "tel":
        return unquote(rest.lstrip("/"))
    return text


# ---- one plain value -----------------------------------------------------------------------------

# Nearly every value in a clean table is one of these, and its canonical form can be told without the
# libraries: they come to the same, twenty times slower.
# In lower case already, and too short for any part to be too long. Without "--" there is no Punycode.
_LABELS: Final = r"(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}"
_LOCAL: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_OTHERS: Final = "|".join(map(re.escape, OTHER_DOMAINS))
_PLAIN_EMAIL: Final = re.compile(rf"{_LOCAL}@(?!(?:{_OTHERS})\Z){_LABELS}", re.ASCII)
# Its provider may take it for another.
_TAGGED_EMAIL: Final = re.compile(rf"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@{_LABELS}", re.ASCII)
_SHORT: Final = 64


def _plain(field_type: FieldType, text: str) -> str | None:
    """The canonical form of a value that is plainly one; None if only the libraries can tell."""
    if field_type == "email":
        text = text.strip(" \t\r\n").lower()
        if len(text) > _SHORT:
            return None
        if _PLAIN_EMAIL.fullmatch(text):
            return text
        return without_tag(text) if _TAGGED_EMAIL.fullmatch(text) else None
    if field_type == "phone":
        return text if _is_plain_phone(text) else None
    if (found := _PLAIN_LINKEDIN.match(text)) is not None:
        return f"linkedin.com/in/{found[1].lower()}"
    if (found := _PLAIN_PROFILE.match(text)) is not None:
        return plain_profile(found[1].lower(), found[2].lower())
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
        compute.match_substring_regex(column, rf"\A{_LOCAL}@{_LABELS}\z"),
        compute.less_equal(compute.binary_length(column), _SHORT),
    )
    for domain in OTHER_DOMAINS:
        is_plain = compute.and_not(is_plain, compute.ends_with(column, f"@{domain}"))
    return cast("list[str | None]", compute.if_else(is_plain, column, None).to_pylist())


_PLAIN_LINKEDIN: Final = re.compile(
    # Not the ids that keep their case, and not whoever is logged in.
    r"(?:https?://)?(?:www\.)?linkedin\.com/in/((?!a[a-z][a-z]aa|me/?\Z)[a-z0-9](?:[a-z0-9_.-]{0,198}[a-z0-9_-])?)/?\Z",
    re.ASCII | re.IGNORECASE,
)
_PLAIN_PROFILE: Final = re.compile(
    r"(?:https?://)?(?:www\.)?((?:twitter|x|facebook|github|instagram)\.com)/([a-z0-9_.-]{0,198}[a-z0-9])/?\Z",
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
    return Identifier("email", without_tag(f"{checked.local_part}@{ascii_domain}"))


# ---- phone --------------------------------------------------------------------------------------

# A spreadsheet has rounded these: the last digits are gone.
_SPREADSHEET_NUMBER: Final = re.compile(r"[\d.,]\s?[eE]\s?\+?\d")
_FLOAT: Final = re.compile(r"(\+?\d{5,})\.0\Z")
# "773 474 9362 (office)", "773 474 9362 mobile"; but "1 800 FLOWERS" is all number.
_LABEL: Final = re.compile(r"(?<=\d\d\d\d)\s*(?:\([^()\d]+\)|\s[^\W\d_]\D*)\Z")
_START: Final = re.compile(r"[+＋\d]")
# Other people's addresses, masked digits (773-474-XXXX, 030 1234**), and URLs with a number in
# them. The library would skip the odd characters and give somebody else's number.
# "901820/21" are two numbers, of which the second is told by its end.
_NOT_A_PHONE: Final = re.compile(r"[@_*?…\r\n\u2028\u2029]|x{2}|\A[^\d+＋]*[/=]|/\s?\d{1,3}\Z", re.IGNORECASE)
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


def _profile(text: str) -> Identifier | str:
    try:
        return Identifier("social_profile", canonical_profile(text))
    except NotAProfileError as error:
        return error.reason


# ---- one cell -----------------------------------------------------------------------------------


def read_cell(field_type: FieldType, cell: str | None, *, default_region: str | None) -> _Cell:
    """Read every identifier in a cell, in its order, and the reasons against the rest.

    Both are empty if the cell is blank.
    """
    if not cell or cell.isspace():
        return _NOTHING
    if len(cell) > _LONGEST_CELL:
        return (), (f"{_SHORT_NAME[field_type]}_too_long",)
    parts = _parts(field_type, cell, default_region)
    if parts is None:
        return (), (f"{_SHORT_NAME[field_type]}_syntax",)
    if len(parts) > cells.MOST_PARTS:
        return (), (f"{_SHORT_NAME[field_type]}_too_long",)
    identifiers: list[Identifier] = []
    reasons: dict[str, None] = {}
    for part in parts:
        one = canonical(field_type, part, default_region=default_region)
        if isinstance(one, Identifier):
            identifiers.append(one)
        elif one != "blank":
            reasons[one] = None
    return (_once(identifiers), tuple(reasons)) if identifiers or reasons else _NOTHING


def _parts(field_type: FieldType, cell: str, region: str | None) -> list[str] | None:
    """The parts of a cell, each once; None if a part could be the half of a value."""
    if field_type == "phone":
        parts = cells.phones(
            cell, lambda text: isinstance(canonical("phone", text, default_region=region), Identifier)
        )
    else:
        parts = cells.emails(cell) if field_type == "email" else cells.profiles(cell)
    return None if parts is None else list(dict.fromkeys(parts))


def _once(identifiers: Iterable[Identifier]) -> tuple[Identifier, ...]:
    """Of several spellings of one key, the first."""
    found: dict[tuple[FieldType, str], Identifier] = {}
    for one in identifiers:
        found.setdefault((one.field_type, key_form(one.field_type, one.value)), one)
    return tuple(found.values())


# ---- one table ----------------------------------------------------------------------------------


def _as_keyword(named: Mapping[FieldType, Sequence[str]]) -> str:
    pairs = [f'"{kind}": {[*names]!r}' for kind, names in named.items()]
    return f"identifiers={{{', '.join(pairs)}}}"


def find_layout(
    available: Sequence[str],
    identifiers: Mapping[FieldType, str | Sequence[str]] | None,
    *,
    show: Callable[[Mapping[FieldType, Sequence[str]]], str] = _as_keyword,
    samples: Mapping[str, Sequence[str]] | None = None,
) -> Layout:
    """Find the identifier columns of a table. `show` spells, for the error, how to name them.

    `samples`, values of each column's first rows, make better what the error suggests.

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
        likely = suggest(available, samples) or dict.fromkeys(FIELD_TYPES, ("…",))
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
                f"identifiers: {shown(kind)} is no kind of identifier; choose from {listed(FIELD_TYPES)}"
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


# Names that CRMs and spreadsheets give to identifiers, and to what is only about them or somebody else's.
_LIKELY: Final[dict[FieldType, re.Pattern[str]]] = {
    "social_profile": re.compile(
        r"linked.?in(?!.*(?:connections|bio|member|headline|title|follow|industry|summary))|profile.?url"
        r"|(?:twitter|facebook|github|instagram|xing|tiktok)\W{0,3}(?:url|profile|link)"
    ),
    "email": re.compile(r"e-?mail|(?:^|[^a-z])mail$"),
    "phone": re.compile(r"phone|(?<!auto)mobile|(?:^|[^a-z])(?:cell|tel|direct dial)(?:[^a-z]|$)|telefon"),
}
_ABOUT: Final = re.compile(
    r"company|corporate|bounce|opt|consent|owner|domain|status|date|count|last|first|sent|open|click"
    r"|deliver|replied|valid|verif|quarantin|subscri|type|source|reason|template|campaign|country"
    r"|region|\bext|do.?not|\bid\b|\blabel|confiden|display|scor|quality|catch.?all|format|subject|body"
    r"|notes?\b|permission|prefer|frequen|language|signature|hash|md5|sha.?256|provider|carrier|time.?zone"
    r"|device|\bapp\b|assistant|manager|referr|spouse|emergency|zoominfo"
)


def suggest(
    available: Sequence[str], samples: Mapping[str, Sequence[str]] | None = None
) -> dict[FieldType, list[str]]:
    """Columns that may hold identifiers; never used without being named.

    They are told by their names, and by `samples`, values of a column's first rows: a column is added if
    most of its values are identifiers of a kind, and left out if none of several looks like one.
    """
    likely: dict[FieldType, list[str]] = {}
    for name in dict.fromkeys(available):
        if _is_value(name):
            continue
        kind = _likely_kind(str(name).strip().lower(), () if samples is None else samples.get(name, ()))
        if kind is not None:
            likely.setdefault(kind, []).append(name)
    return {kind: likely[kind] for kind in FIELD_TYPES if kind in likely}


def _likely_kind(name: str, samples: Sequence[str]) -> FieldType | None:
    if _ABOUT.search(name):
        return None
    texts = [text for text in samples if text.strip(WRAPPING)]
    for kind in FIELD_TYPES:
        if _LIKELY[kind].search(name):
            # One value may be a slip; if none of several looks like one, the column holds something else.
            is_other = len(texts) > 1 and not any(_LOOKS_LIKE[kind].search(text) for text in texts)
            return None if is_other else kind
    for kind in FIELD_TYPES:
        if sum(_is_surely(kind, text) for text in texts) * 2 > sum(
            not cells.is_blank(text) for text in texts
        ):
            return kind
    return None


_LOOKS_LIKE: Final[dict[FieldType, re.Pattern[str]]] = {
    "social_profile": re.compile(r"[./]"),
    "email": re.compile("[@\uff20]"),
    "phone": re.compile(r"(?:\d\D{0,3}){6}"),
}


def _is_surely(kind: FieldType, text: str) -> bool:
    """Whether a cell holds an identifier by itself, without a name of the column that says so."""
    identifiers, _ = read_cell(kind, text, default_region=None)
    if kind == "social_profile":
        # Any page of a firm could be one; only a network's is.
        return any(is_of_network(one.value) for one in identifiers)
    return bool(identifiers)


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


# Without its country code, no number is told to be one.
_LOOKS_LIKE_A_VALUE: Final = re.compile(r"@|%40|://|(?:\d\D{0,2}){7}")


def _is_value(name: object) -> bool:
    return _LOOKS_LIKE_A_VALUE.search(str(name)) is not None or any(
        isinstance(canonical(kind, str(name)), Identifier) for kind in FIELD_TYPES
    )


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
        series = series.drop_duplicates()
    cells = _filled(series)
    if not len(cells) or pd.api.types.infer_dtype(cells, skipna=False) == "string":
        return True
    return all(_fault_of(cell) is None for cell in cells)


def _is_arrow_text(dtype: object) -> bool:
    import pandas as pd

    return isinstance(dtype, pd.ArrowDtype) and _holds_text(dtype.pyarrow_dtype)


def _filled(series: pd.Series[Any]) -> Any:
    """The cells that are not null, as an array of objects, whatever the dtype."""
    return series.to_numpy(dtype=object)[series.notna().to_numpy(dtype=bool)]


# pyarrow's stubs leave types and arrays partly untyped, hence `Any` from here on.
def _holds_text(held: Any) -> bool:
    held = _unwrapped(held)
    held = _unwrapped(held.value_type) if _is_list(held) else held
    return str(held) in ("null", "string", "large_string", "string_view")


def _unwrapped(held: Any) -> Any:
    """The type of the values themselves, however they are encoded."""
    import pyarrow as pa

    while True:
        if pa.types.is_dictionary(held) or pa.types.is_run_end_encoded(held):
            held = held.value_type
        elif isinstance(held, pa.BaseExtensionType):
            held = held.storage_type
        else:
            return held


def _is_list(held: Any) -> bool:
    from pyarrow import types

    return (
        types.is_list(held)
        or types.is_large_list(held)
        or types.is_fixed_size_list(held)
        or types.is_list_view(held)
        or types.is_large_list_view(held)
    )


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
        raise InputError(f"{'; '.join(faults)}; cast the column to text, or to lists of text")
    return _read_columns([_texts_of(column) for column in columns.values()], layout, region)


def check_person_columns(available: Sequence[str], person: Mapping[str, str]) -> None:
    """Raise `InputError` if a column that is to hold names is not there, or there twice."""
    _check_columns(available, Layout("wide", tuple(("email", name) for name in person.values())))


def with_persons(rows: Sequence[Candidates], columns: Mapping[str, Sequence[str | None]]) -> list[Candidates]:
    """The same rows, each with the person whom `name`, `first_name`, `last_name` and `company` tell of."""
    nobody: Sequence[str | None] = [None] * len(rows)
    parts = [columns.get(part, nobody) for part in ("name", "first_name", "last_name", "company")]
    persons = [
        row_person(name=name, first=first, last=last, company=company)
        for name, first, last, company in zip(*parts, strict=True)
    ]
    return [
        row if person is None else Candidates(row.identifiers, row.reasons, person)
        for row, person in zip(rows, persons, strict=True)
    ]


def texts_of(column: Any) -> list[str | None]:
    """The texts of a pandas or Arrow column; None for whatever is no text."""
    texts = _texts_of(column) if hasattr(column, "null_count") else _texts(column)
    return [text if isinstance(text, str) else None for text in texts]


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
    kinds = Counter(fault for cell in _filled(series) if (fault := _fault_of(cell)) is not None)
    if not kinds:
        return f"fails {check}"
    counts = " and ".join(
        f"{count:,} of {len(series):,} values are {kind}" for kind, count in kinds.most_common()
    )
    return f"{counts}, not text"


def _fault_of(cell: object) -> str | None:
    """What a cell holds that is neither text nor a list of texts; None if there is no such fault."""
    if isinstance(cell, str):
        return None
    elements = _elements(cell)
    if elements is None:
        return _kind(cell)
    odd = next((one for one in elements if not isinstance(one, str)), None)
    return None if odd is None else f"lists of {_kind(odd)}"


def _elements(cell: object) -> list[object] | None:
    """What a list holds, without its nulls; None if the cell holds no list."""
    import pandas as pd

    if isinstance(cell, Mapping) or not pd.api.types.is_list_like(cell):
        return None
    # A set has no order of its own, and what is asked first must not change from run to run.
    elements = sorted(cast("Set[object]", cell), key=str) if isinstance(cell, Set) else cell
    return [
        one
        for one in cast("Iterable[object]", elements)
        if isinstance(one, str) or not (pd.api.types.is_scalar(one) and pd.isna(cast("Any", one)))
    ]


def _kind(cell: object) -> str:
    if type(cell).__name__.startswith("bool"):
        return "booleans"
    if isinstance(cell, Number):
        return "numbers"
    if isinstance(cell, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(cell, list | tuple):
        return "lists"
    return "dates" if isinstance(cell, date) else "objects"


def _kind_of(held: Any) -> str:
    from pyarrow import types

    held = _unwrapped(held)
    if _is_list(held):
        inner = _unwrapped(held.value_type)
        return f"lists of {'lists' if _is_list(inner) else _kind_of(inner)}"
    if types.is_boolean(held):
        return "booleans"
    if types.is_integer(held) or types.is_floating(held) or types.is_decimal(held):
        return "numbers"
    if "binary" in str(held):
        return "bytes"
    return "dates" if types.is_timestamp(held) or types.is_date(held) else "objects"


# What one cell holds: a text, or those of a list.
_Texts: TypeAlias = str | tuple[str, ...] | None


def _texts(series: pd.Series[Any]) -> list[_Texts]:
    if _is_arrow_text(series.dtype):
        # Arrow's own way out: pandas cannot take every kind of Arrow text (`string_view`) apart.
        return _texts_of(series.array.__arrow_array__())
    is_there = series.notna().to_numpy(dtype=bool)
    if not bool(is_there.any()):
        return [None] * len(series)
    cells = cast("list[object]", series.to_numpy(dtype=object).tolist())
    return [
        (cell if isinstance(cell, str) else tuple(cast("list[str]", _elements(cell)))) if there else None
        for cell, there in zip(cells, is_there.tolist(), strict=True)
    ]


def _texts_of(column: Any) -> list[_Texts]:
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute
    if isinstance(column, pa.ChunkedArray):
        chunks: list[Any] = cast("Any", column).chunks
        return [text for chunk in chunks for text in _texts_of(chunk)]
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = compute.run_end_decode(column)
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        # Each text once, however many rows it has.
        distinct = _texts_of(column.dictionary)
        codes: list[int | None] = column.indices.to_pylist()
        return [None if code is None else distinct[code] for code in codes]
    if _is_list(column.type):
        return _texts_of_lists(column)
    if str(column.type) == "string_view":
        column = column.cast(pa.string())
    return cast("list[_Texts]", column.to_pylist())


def _texts_of_lists(column: Any) -> list[_Texts]:
    import pyarrow.compute

    lengths: list[int | None] = cast("Any", pyarrow.compute).list_value_length(column).to_pylist()
    # Without what stands behind nulls.
    elements = iter(_texts_of(column.flatten()))
    return [
        None if length is None else tuple(one for one in islice(elements, length) if isinstance(one, str))
        for length in lengths
    ]


def _read_columns(
    columns: Sequence[Sequence[_Texts]], layout: Layout, region: str | None
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


def _read_column(field_type: FieldType, cells: Sequence[_Texts], region: str | None) -> list[Candidates]:
    # Each distinct text is read once, and equal cells share what was read.
    distinct = set(cells)
    lists = [cell for cell in distinct if isinstance(cell, tuple)]
    texts = list({cell for cell in distinct if isinstance(cell, str)}.union(*lists))
    known: dict[_Texts, Candidates] = {None: _BLANK}
    for text, value in zip(texts, _plain_values(field_type, texts), strict=True):
        if value is None:
            known[text] = _candidates(read_cell(field_type, text, default_region=region))
        else:
            known[text] = Candidates((Identifier(field_type, value),), ())
    known |= {cell: _row([known[text] for text in cell]) for cell in lists}
    return [known[cell] for cell in cells]


def _read_pair(kind: _Texts, text: _Texts, region: str | None) -> Candidates:
    if isinstance(text, tuple):
        return _row([_read_pair(kind, one, region) for one in text or (None,)])
    # A list of kinds is no kind.
    name = kind.strip(WRAPPING).lower() if isinstance(kind, str) else ""
    for field_type in FIELD_TYPES:
        if name == field_type:
            return _candidates(read_cell(field_type, text, default_region=region))
    blank = not name and not (text or "").strip(WRAPPING)
    return _BLANK if blank else Candidates((), ("field_type",))


def _candidates(cell: _Cell) -> Candidates:
    return _BLANK if cell is _NOTHING else Candidates(*cell)


def _row(cells: Sequence[Candidates]) -> Candidates:
    useful = [cell for cell in cells if cell is not _BLANK]
    if not useful:
        return _BLANK
    if len(useful) == 1:
        return useful[0]
    identifiers = _once(one for cell in useful for one in cell.identifiers)
    reasons = dict.fromkeys(reason for cell in useful for reason in cell.reasons)
    return Candidates(identifiers, tuple(reasons))
