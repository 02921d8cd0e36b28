"""One canonical spelling of each email, phone and profile; the pandera schema of the input."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

import email_validator
import phonenumbers

from eb_dagster.errors import ConfigError, InputError

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

FieldType = Literal["email", "phone", "social_profile"]
FIELD_TYPES: Final[tuple[FieldType, ...]] = ("social_profile", "email", "phone")

_COLUMN_NAMES: Final[tuple[tuple[str, FieldType], ...]] = (
    ("social_profile", "social_profile"),
    ("linkedin_url", "social_profile"),
    ("email", "email"),
    ("phone", "phone"),
)
_LONGEST: Final[dict[FieldType, int]] = {"email": 254, "phone": 64, "social_profile": 2048}
_LONGEST_CELL: Final = 8192


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """A contact identifier in canonical form. Equal identifiers are billed once."""

    field_type: FieldType
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one row offers, in order of asking, and why the rest of it is of no use."""

    identifiers: tuple[Identifier, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table keeps its identifiers: one column a kind, or the API's own long form."""

    shape: Literal["wide", "long"]
    columns: tuple[tuple[FieldType, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read."""
        if self.shape == "long":
            return ("field_type", "value")
        return tuple(name for _, name in self.columns)


def check_region(region: str) -> str:
    """A two-letter country that phonenumbers knows, in upper case, or a `ConfigError`."""
    known = region.strip().upper()
    if known not in phonenumbers.SUPPORTED_REGIONS:
        hint = "; the United Kingdom is GB" if known == "UK" else ""
        raise ConfigError(f"default_region must be a two-letter country such as US or DE{hint}")
    return known


def canonical(
    field_type: FieldType, text: str, *, default_region: str | None = None
) -> Identifier | str:
    """The identifier in canonical form, or the reason why it is none."""
    # One value of 1 MB must not cost a second.
    if len(text) > _LONGEST[field_type] * 4:
        return f"{field_type}_too_long"
    trimmed = text.strip(_TRIMMED)
    if not trimmed:
        return "blank"
    if any(unicodedata.category(character) == "Cc" for character in trimmed):
        return "control_characters"
    if field_type == "phone":
        value, reason = _phone(trimmed, default_region)
    else:
        value, reason = _READERS[field_type](trimmed)
    if reason:
        return reason
    if len(value) > _LONGEST[field_type]:
        return f"{field_type}_too_long"
    return Identifier(field_type, value)


# White space of all kinds, zero-width marks, and the quotes and brackets that exports wrap around.
_TRIMMED = " \t\r\n\f\v\u00a0\u2007\u202f\u200b\u200c\u200d\u2060\ufeff\"'<>"


def _email(text: str) -> tuple[str, str]:
    text = re.sub(r"(?i)^mailto:", "", text)
    if len(text) < len("mailto:") or "?" in text or "%" in text:
        text = unquote(text.split("?")[0])
    local, at, domain = unicodedata.normalize("NFC", text.strip(_TRIMMED)).rpartition("@")
    try:
        checked = email_validator.validate_email(
            f"{local}{at}{domain.rstrip('.')}",
            check_deliverability=False,
            # Reserved domains such as .example are fine: a miss costs nothing.
            globally_deliverable=False,
        )
    except (email_validator.EmailNotValidError, UnicodeError, ValueError):
        return "", "email_syntax"
    if not checked.ascii_domain or "." not in checked.ascii_domain:
        return "", "email_syntax"
    lowered = unicodedata.normalize("NFC", checked.local_part.lower())
    return f"{lowered}@{checked.ascii_domain.lower()}", ""


_SPREADSHEET_NUMBER = re.compile(r"^[+-]?\d+(?:[.,]\d+)?[eE]\+?\d+$")


def _phone(text: str, region: str | None) -> tuple[str, str]:
    if _SPREADSHEET_NUMBER.match(text):
        return "", "phone_spreadsheet_number"
    text = re.sub(r"^(\d+)\.0$", r"\1", text)
    if not any(character.isdigit() for character in text):
        return "", "phone_syntax"
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        no_region = error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE
        return "", "phone_no_region" if no_region and region is None else "phone_syntax"
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE:
        return "", "phone_not_possible"
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), ""


_LINKEDIN = re.compile(r"^(?:[a-z]{1,3}\.|[a-z]{2}-[a-z]{2}\.)?linkedin\.com$")
_NO_HOST = re.compile(r"^/?in/[^/?#]+", re.IGNORECASE)


def _profile(text: str) -> tuple[str, str]:
    if _NO_HOST.match(text):
        text = "linkedin.com/" + text.lstrip("/")
    if not re.match(r"(?i)^https?://", text):
        text = "https://" + text.lstrip("/")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", "profile_syntax"
    host = host.lower().removeprefix("www.")
    path = parts.path.rstrip("/")
    odd = "@" in parts.netloc or port is not None or re.search(r"\s", text)
    if odd or not re.match(r"^[^.\s]+(\.[^.\s]+)+$", host) or not path:
        return "", "profile_syntax"
    if not _LINKEDIN.match(host):
        return host + unicodedata.normalize("NFC", path), ""
    steps = [unquote(step) for step in path.split("/") if step]
    if steps and steps[0].lower() == "mwlite":
        steps = steps[1:]
    if len(steps) < 2 or steps[0].lower() not in ("in", "pub"):
        return "", "profile_not_a_person"
    # A language or a sub-page may follow the name; the old /pub/ form needs all of its parts.
    kept = steps[1:2] if steps[0].lower() == "in" else steps[1:5]
    slug = unicodedata.normalize("NFC", "/".join(kept).lower()).strip(_TRIMMED)
    if not slug or re.search(r"[\s?#%]|^/|//", slug) or "\0" in slug:
        return "", "profile_syntax"
    return f"linkedin.com/{steps[0].lower()}/{slug}", ""


_READERS: Final[dict[str, Callable[[str], tuple[str, str]]]] = {
    "email": _email,
    "social_profile": _profile,
}
_SEPARATORS: Final[dict[FieldType, re.Pattern[str]]] = {
    "email": re.compile(r"[;,|\s]+"),
    "social_profile": re.compile(r"[;,|\s]+"),
    "phone": re.compile(r"[;,|\r\n\t]+|\s/\s|\s+or\s+", re.IGNORECASE),
}


def read_cell(
    field_type: FieldType, cell: str | None, *, default_region: str | None
) -> tuple[tuple[Identifier, ...], tuple[str, ...]]:
    """Every identifier in a cell, the first valid one first, and the reasons against the rest."""
    if not cell or not cell.strip(_TRIMMED):
        return (), ()
    if len(cell) > _LONGEST_CELL:
        return (), (f"{field_type}_too_long",)
    parts = [part for part in _SEPARATORS[field_type].split(cell) if part.strip(_TRIMMED)]
    if field_type == "email":
        # "Jane Doe <jane@firm.example>": the words around an address are its name.
        parts = [part for part in parts if "@" in part] or parts[:1]
    found: dict[Identifier, None] = {}
    reasons: list[str] = []
    for part in parts:
        one = canonical(field_type, part, default_region=default_region)
        if isinstance(one, Identifier):
            found[one] = None
        else:
            reasons.append(one)
    return tuple(found), tuple(reasons)


def find_layout(
    available: Sequence[str], identifiers: Mapping[FieldType, str | Sequence[str]] | None
) -> Layout:
    """Find the identifier columns of a table.

    Raises:
        ConfigError: `identifiers` names an unknown kind, nothing, or one column twice.
        InputError: a named column is not there, or none can be recognized.
    """
    if identifiers is not None:
        layout = Layout("wide", tuple(_named(identifiers)))
    elif "field_type" in available and "value" in available:
        layout = Layout("long", ())
    else:
        columns = [
            (kind, name)
            for wanted, kind in _COLUMN_NAMES
            for name in available
            if name.strip().lower() == wanted
        ]
        layout = Layout("wide", tuple(columns))
    missing = [name for name in layout.names if name not in available]
    if missing or not layout.names:
        what = f"no columns {missing}" if missing else "no identifier columns"
        shown = ", ".join(map(repr, available[:30])) + (", …" if len(available) > 30 else "")
        raise InputError(
            f"{what}; there are: {shown or 'none'}. Name them with "
            'identifiers={"social_profile": …, "email": …, "phone": …}'
        )
    twice = [name for name, count in Counter(available).items() if count > 1 and name in layout.names]
    if twice:
        raise InputError(f"the columns {twice} are there more than once")
    return layout


def _named(
    identifiers: Mapping[FieldType, str | Sequence[str]],
) -> list[tuple[FieldType, str]]:
    columns: list[tuple[FieldType, str]] = []
    for kind, names in identifiers.items():
        if kind not in FIELD_TYPES:
            raise ConfigError(f"identifiers: {kind!r} not known; choose from {list(FIELD_TYPES)}")
        columns += [(kind, name) for name in ([names] if isinstance(names, str) else names)]
    if not columns:
        raise ConfigError("identifiers names no column")
    if len({name for _, name in columns}) < len(columns):
        raise ConfigError("identifiers names a column twice")
    return columns


def schema(layout: Layout) -> pa.DataFrameSchema:
    """The contract of the input: each identifier column is there and holds text or nothing."""
    import pandera.pandas as pa

    is_text = pa.Check(_is_text, name="is_text", element_wise=False)
    column = pa.Column(nullable=True, checks=[is_text], required=True)
    return pa.DataFrameSchema(dict.fromkeys(layout.names, column), name="ContactIdentifiers")


def _is_text(series: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("string", "empty"):
        return cast("pd.Series[Any]", series.isna() | True)
    return cast("pd.Series[Any]", series.map(lambda cell: isinstance(cell, str)) | series.isna())


def check_frame(frame: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Validate against `schema`; an `InputError` lists counts by column and check, never values."""
    import pandera.errors

    message = ""
    try:
        return cast("pd.DataFrame", schema(layout).validate(frame, lazy=True))
    except pandera.errors.SchemaErrors as error:
        failures = cast("pd.DataFrame", error.failure_cases)
        counts = Counter(zip(failures["column"], failures["check"], strict=True))
        parts = [f"{column}: {count:,} of {len(frame):,} values fail {check}" for (column, check), count in counts.items()]  # fmt: skip
        message = "; ".join(parts)
    raise InputError(f"{message}. Identifiers must be text: read these columns with dtype=str")


def read_rows(
    frame: pd.DataFrame, layout: Layout, *, default_region: str | None
) -> list[Candidates]:
    """What each row offers, in order of asking. Raises `InputError` for values that are not text."""
    check_frame(frame, layout)
    if layout.shape == "long":
        return _read_long(frame, default_region)
    cells: list[list[tuple[tuple[Identifier, ...], tuple[str, ...]]]] = []
    for kind, name in layout.columns:
        known: dict[str | None, tuple[tuple[Identifier, ...], tuple[str, ...]]] = {}
        column = _texts(frame[name])
        for text in set(column):
            known[text] = read_cell(kind, text, default_region=default_region)
        cells.append([known[text] for text in column])
    return [_row(row) for row in zip(*cells, strict=True)]


def _read_long(frame: pd.DataFrame, default_region: str | None) -> list[Candidates]:
    rows: list[Candidates] = []
    for kind, text in zip(_texts(frame["field_type"]), _texts(frame["value"]), strict=True):
        name = (kind or "").strip().lower()
        if name not in FIELD_TYPES:
            rows.append(Candidates((), ("field_type",)))
        else:
            one = read_cell(cast(FieldType, name), text, default_region=default_region)
            rows.append(_row([one]))
    return rows


def _row(cells: Sequence[tuple[tuple[Identifier, ...], tuple[str, ...]]]) -> Candidates:
    identifiers = tuple(dict.fromkeys(one for found, _ in cells for one in found))
    reasons = tuple(reason for _, against in cells for reason in against)
    if not identifiers and not reasons:
        reasons = ("blank",)
    return Candidates(identifiers, reasons)


def _texts(series: pd.Series[Any]) -> list[str | None]:
    values = series.astype(object)
    return cast("list[str | None]", values.where(series.notna(), None).tolist())


def __getattr__(name: str) -> Any:
    # pandera takes half a second to import; only who asks for the schema pays for it.
    if name == "ContactIdentifiers":
        return schema(Layout("long", ()))
    raise AttributeError(name)
