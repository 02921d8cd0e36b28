"""One contact → typed flat columns.

The table of columns below is the only place that names them: the Arrow schema, the pandera schema,
the Dagster column schema and the README's table are all made from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa

from eb_dagster.errors import ConfigError

if TYPE_CHECKING:
    import pandera.pandas as pandera

SCHEMA_VERSION: Final = 1
STATUSES: Final = (
    "matched", "not_found", "invalid", "suppressed", "not_asked", "in_doubt", "unreadable",
)  # fmt: skip

_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())
_PROFILES = pa.list_(pa.struct([("network", pa.string()), ("url", pa.string())]))
_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """One added column, without the prefix."""

    name: str
    type: pa.DataType
    description: str
    source: str = ""
    nullable: bool = True


STATUS_COLUMNS: Final = (
    Column("matched", pa.bool_(), "True found, false not found, null when not known."),
    Column("status", _TEXT, f"One of {', '.join(STATUSES)}.", nullable=False),
    Column("field_type", _TEXT, "Kind of the identifier that answered, or was asked last."),
    Column("query", _TEXT, "That identifier in canonical form."),
    Column("from_ledger", pa.bool_(), "Answered without a request in this run.", nullable=False),
    Column("enriched_at", _MOMENT, "When the vendor's answer arrived, in UTC."),
)

CONTACT_COLUMNS: Final = (
    Column("full_name", _TEXT, "Full name.", "full_name"),
    Column("first_name", _TEXT, "First name.", "first_name"),
    Column("last_name", _TEXT, "Last name.", "last_name"),
    Column("gender", _TEXT, "Gender as the vendor gives it.", "gender"),
    Column("work_email", _TEXT, "Current work e-mail, else the first one.", "current_work_email, work_emails[]"),
    Column("personal_email", _TEXT, "Current personal e-mail, else the first one.", "current_personal_email, personal_emails[]"),
    Column("emails", _TEXTS, "Every distinct e-mail address, current ones first.", "all of these and emails[]"),
    Column("phone", _TEXT, "The first phone number.", "phone_numbers[].E164"),
    Column("phones", _TEXTS, "Every distinct phone number.", "phone_numbers[].E164"),
    Column("linkedin_url", _TEXT, "LinkedIn profile.", "social_profiles[].url"),
    Column("twitter_url", _TEXT, "Twitter or X profile.", "social_profiles[].url"),
    Column("facebook_url", _TEXT, "Facebook profile.", "social_profiles[].url"),
    Column("github_url", _TEXT, "GitHub profile.", "social_profiles[].url"),
    Column("social_profiles", _PROFILES, "Every profile with its network.", "social_profiles[]"),
    Column("city", _TEXT, "City.", "location.city"),
    Column("region", _TEXT, "State or region.", "location.region"),
    Column("country", _TEXT, "Country.", "location.country"),
    Column("job_title", _TEXT, "Current job title.", "employment.job.title"),
    Column("job_level", _TEXT, "First job level.", "employment.job.levels[]"),
    Column("company_name", _TEXT, "Employer.", "employment.name"),
    Column("company_domain", _TEXT, "The employer's domain or web site.", "employment.domain, .website"),
    Column("company_size", _TEXT, "The employer's size as the vendor gives it.", "employment.size"),
    Column("company_industry", _TEXT, "The employer's industry.", "employment.industry"),
    Column("company_linkedin_url", _TEXT, "The employer's LinkedIn page.", "employment.linkedin_url"),
    Column("photo_url", _TEXT, "Profile picture.", "employment.profile_pic_url"),
    Column("school_name", _TEXT, "The first school.", "education[].school.name"),
    Column("education", _TEXT, "Education as JSON.", "education[]"),
    Column("experiences", _TEXT, "Experiences as JSON.", "experiences[]"),
    Column("other", _TEXT, "Everything that no column took, as JSON.", "any other key"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contact:
    """A flattened contact: one value for each of `CONTACT_COLUMNS`, and what it holds."""

    values: tuple[Any, ...] = field(repr=False)
    held: frozenset[str]
    emails: tuple[str, ...] = field(repr=False)
    phones: tuple[str, ...] = field(repr=False)
    profiles: tuple[str, ...] = field(repr=False)
    unknown_keys: tuple[str, ...]
    drift: tuple[str, ...]


def select(columns: Sequence[str] | None) -> tuple[Column, ...]:
    """The contact columns to keep, in declared order."""
    if columns is None:
        return CONTACT_COLUMNS
    known = [column.name for column in CONTACT_COLUMNS]
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise ConfigError(f"columns: {unknown} not known; choose from {known}")
    return tuple(column for column in CONTACT_COLUMNS if column.name in columns)


def arrow_schema(*, prefix: str = "eb_", columns: Sequence[str] | None = None) -> pa.Schema:
    """The Arrow schema of what is added, the same for every input."""
    return pa.schema([
        pa.field(prefix + one.name, one.type, one.nullable, {"description": one.description})
        for one in (*STATUS_COLUMNS, *select(columns))
    ])  # fmt: skip


def pandas_dtype(kind: pa.DataType) -> Any:
    """The pandas dtype of a column, such that a column of nulls keeps it; None for lists."""
    import pandas as pd

    if pa.types.is_string(kind):
        return pd.StringDtype("pyarrow")
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    if pa.types.is_timestamp(kind):
        return pd.DatetimeTZDtype("us", "UTC")
    # Lists stay objects: pandas cannot read back a Parquet file in which it noted an Arrow list.
    return None


def enriched_contacts(
    *, prefix: str = "eb_", columns: Sequence[str] | None = None
) -> pandera.DataFrameSchema:
    """The contract of what leaves. Columns of the input pass unchecked."""
    import pandera.pandas as pandera

    declared: dict[str, Any] = {}
    for one in (*STATUS_COLUMNS, *select(columns)):
        checks = [pandera.Check.isin(STATUSES)] if one.name == "status" else []
        declared[prefix + one.name] = pandera.Column(
            pandas_dtype(one.type) or object, checks=checks, nullable=one.nullable,
            description=one.description,
        )  # fmt: skip

    def match_agrees(frame: Any) -> Any:
        status, matched = frame[prefix + "status"], frame[prefix + "matched"]
        known = status.isin(["matched", "not_found"])
        agrees = matched.fillna(False) == (status == "matched")
        return ((matched.notna() == known) & agrees).astype(bool)

    return pandera.DataFrameSchema(
        declared, checks=[pandera.Check(match_agrees, name="match_agrees_with_status")],
        strict=False, name="EnrichedContacts",
    )  # fmt: skip


def markdown_table(*, prefix: str = "eb_") -> str:
    """The columns as the README shows them."""
    lines = ["| column | type | meaning | found at |", "|---|---|---|---|"]
    for one in (*STATUS_COLUMNS, *CONTACT_COLUMNS):
        at = f"`{one.source}`" if one.source else ""
        lines.append(f"| `{prefix}{one.name}` | {_type_name(one)} | {one.description} | {at} |")
    return "\n".join(lines)


def _type_name(column: Column) -> str:
    if pa.types.is_string(column.type):
        return "JSON text" if column.name in ("education", "experiences", "other") else "text"
    if pa.types.is_list(column.type):
        return "list of text" if column.type == _TEXTS else "list of network, url"
    return "timestamp, UTC" if column.type == _MOMENT else "bool"


_JSON_COLUMNS: Final = ("education", "experiences", "other")


def read_contact(raw: bytes) -> Contact:
    """Flatten one contact from its JSON. Its shape never makes it fail.

    Raises:
        ValueError: the bytes are no JSON at all.

    """
    contact, drift = _decode(raw)
    reader = _Reader()
    reader.drift += drift
    if isinstance(contact, list) and len(cast("list[Any]", contact)) == 1:
        contact = cast("list[Any]", contact)[0]
    if isinstance(contact, dict):
        return reader.read(cast("dict[str, Any]", contact))
    reader.drift.append("contact")
    return reader.finish(contact)


def _decode(raw: bytes) -> tuple[Any, list[str]]:
    try:
        return msgspec.json.decode(raw), []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    except RecursionError:
        return raw.decode("utf-8", "replace"), ["too_deep"]
    text = raw.decode("utf-8", "replace")
    try:
        # The standard library takes NaN, lone surrogates and integers of any size.
        value = json.loads(text, parse_int=_integer)
    except RecursionError:
        return text, ["too_deep"]
    return _without_surrogates(value), ["damaged_text"] if _has_surrogates(text, raw) else []


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 400 else digits


def _has_surrogates(text: str, raw: bytes) -> bool:
    return "\ufffd" in text or b"\\ud" in raw.lower()


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isprintable() else value
    if isinstance(value, list):
        return [_without_surrogates(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {_without_surrogates(name): _without_surrogates(one) for name, one in items}
    return value


_NETWORKS: Final = {
    "linkedin": "linkedin_url", "twitter": "twitter_url", "x": "twitter_url",
    "facebook": "facebook_url", "github": "github_url",
}  # fmt: skip
_PLAIN: Final = ("full_name", "first_name", "last_name", "gender")
_EMPLOYMENT: Final = {
    "name": "company_name", "domain": "company_domain", "size": "company_size",
    "industry": "company_industry", "linkedin_url": "company_linkedin_url",
    "profile_pic_url": "photo_url",
}  # fmt: skip


class _Reader:
    """Takes a contact apart: what a column takes is popped, what is left is `other`."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.drift: list[str] = []
        self.unknown: list[str] = []
        self.emails: dict[str, None] = {}
        self.held: set[str] = set()

    def read(self, contact: dict[str, Any]) -> Contact:
        rest = dict(contact)
        for name in _PLAIN:
            self._take(rest, name, name, name)
        self._read_emails(rest)
        self._read_phones(rest)
        self._read_profiles(rest)
        self._inside(rest, "location", self._read_location)
        self._inside(rest, "employment", self._read_employment)
        for name in ("education", "experiences"):
            self._read_json(rest, name)
        self._note_unknown(rest)
        return self.finish(rest)

    def finish(self, other: Any) -> Contact:
        if other not in (None, {}, []):
            self.values["other"] = _dump(other)
        emails = tuple(self.emails)
        self.values["emails"] = list(emails) or None
        if emails:
            self.held.add("email")
        phones = tuple(self.values.get("phones") or ())
        profiles = tuple(one["url"] for one in self.values.get("social_profiles") or () if one["url"])
        if phones:
            self.held.add("phone")
        if profiles:
            self.held.add("social_profile")
        return Contact(
            tuple(self.values.get(column.name) for column in CONTACT_COLUMNS),
            frozenset(self.held), emails, phones, profiles,
            tuple(self.unknown), tuple(self.drift),
        )  # fmt: skip

    def _take(self, source: dict[str, Any], key: str, column: str, path: str) -> None:
        """Move a text from `source` to a column, or leave it there and note the drift."""
        if key not in source:
            return
        value = _as_text(source[key])
        if value is None and source[key] not in (None, ""):
            self.drift.append(path)
        elif value is not None and self.values.get(column) is not None:
            return
        else:
            source.pop(key)
            self.values[column] = value

    def _inside(self, rest: dict[str, Any], key: str, read: Callable[[dict[str, Any]], None]) -> None:
        if key not in rest:
            return
        value = rest[key]
        if isinstance(value, list) and len(cast("list[Any]", value)) == 1:
            value = cast("list[Any]", value)[0]
        if value in (None, {}, [], ""):
            rest.pop(key)
        elif isinstance(value, dict):
            inner = dict(cast("dict[str, Any]", value))
            read(inner)
            if inner:
                rest[key] = inner
            else:
                rest.pop(key)
        else:
            self.drift.append(key)

    def _read_location(self, location: dict[str, Any]) -> None:
        for name in ("city", "region", "country"):
            self._take(location, name, name, f"location.{name}")

    def _read_employment(self, employment: dict[str, Any]) -> None:
        for key, column in _EMPLOYMENT.items():
            self._take(employment, key, column, f"employment.{key}")
        self._take(employment, "website", "company_domain", "employment.website")
        self._inside(employment, "job", self._read_job)

    def _read_job(self, job: dict[str, Any]) -> None:
        self._take(job, "title", "job_title", "employment.job.title")
        levels = job.get("levels")
        if isinstance(levels, list) and len(cast("list[Any]", levels)) == 1:
            job["levels"] = cast("list[Any]", levels)[0]
        elif isinstance(levels, list) and levels and isinstance(levels[0], str):
            # All of them stay in `other`; the column takes the first.
            self.values["job_level"] = levels[0]
            return
        elif levels == []:
            job.pop("levels")
        self._take(job, "levels", "job_level", "employment.job.levels")

    def _read_emails(self, rest: dict[str, Any]) -> None:
        for kind in ("work", "personal"):
            found = self._texts(rest, f"current_{kind}_email", ("email", "address"))
            found += self._texts(rest, f"{kind}_emails", ("email", "address"))
            if found:
                self.values[f"{kind}_email"] = found[0]
                self.held.add(f"{kind}_email")
            self.emails.update(dict.fromkeys(found))
        self.emails.update(dict.fromkeys(self._texts(rest, "emails", ("email", "address"))))

    def _read_phones(self, rest: dict[str, Any]) -> None:
        found = self._texts(rest, "phone_numbers", ("E164", "e164", "number", "phone"))
        phones = list(dict.fromkeys(found))
        self.values["phones"] = phones or None
        self.values["phone"] = phones[0] if phones else None

    def _texts(self, rest: dict[str, Any], key: str, names: Sequence[str]) -> list[str]:
        """The texts in a list of texts or objects; what is no such text stays in `rest`."""
        if key not in rest:
            return []
        found: list[str] = []
        left: list[Any] = []
        for entry in _as_list(rest.pop(key)):
            text, remains = _text_of(entry, names)
            if text:
                found.append(text)
            if remains not in (None, "", {}, []):
                left.append(remains)
                if not text:
                    self.drift.append(key)
        if left:
            rest[key] = left
        return found

    def _read_profiles(self, rest: dict[str, Any]) -> None:
        if "social_profiles" not in rest:
            return
        profiles: list[dict[str, str | None]] = []
        left: list[Any] = []
        for entry in _as_list(rest.pop("social_profiles")):
            network, remains = None, entry
            if isinstance(entry, dict):
                remains = dict(cast("dict[str, Any]", entry))
                network = remains.get("network")
                network = remains.pop("network") if isinstance(network, str) else None
            url, remains = _text_of(remains, ("url",))
            if url or network:
                profiles.append({"network": network, "url": url})
                column = _NETWORKS.get((network or _network_of(url)).lower())
                if column and url and not self.values.get(column):
                    self.values[column] = url
            if remains not in (None, "", {}, []):
                left.append(remains)
                if not (url or network):
                    self.drift.append("social_profiles")
        self.values["social_profiles"] = profiles or None
        if left:
            rest["social_profiles"] = left

    def _read_json(self, rest: dict[str, Any], name: str) -> None:
        value = rest.pop(name, None)
        if value in (None, [], {}, ""):
            return
        self.values[name] = _dump(value)
        if name == "education":
            self.values["school_name"] = next(filter(None, map(_school, _as_list(value))), None)

    def _note_unknown(self, rest: dict[str, Any]) -> None:
        for key, value in rest.items():
            if key in _KNOWN_KEYS:
                if key in ("location", "employment") and isinstance(value, dict):
                    inner = cast("dict[str, Any]", value)
                    self.unknown += [
                        f"{key}.{_safe(name)}" for name in inner if (key, name) not in _KNOWN_INNER
                    ]
            else:
                self.unknown.append(_safe(key))


_KNOWN_INNER: Final = {
    *(("employment", name) for name in (*_EMPLOYMENT, "website", "job", "start_date")),
    *(("location", name) for name in ("city", "region", "country")),
}
_KNOWN_KEYS: Final = {
    *_PLAIN, "current_work_email", "current_personal_email", "work_emails", "personal_emails",
    "emails", "phone_numbers", "social_profiles", "location", "employment", "education",
    "experiences",
}  # fmt: skip


def _safe(key: str) -> str:
    # A key that looks like data may be a person.
    odd = len(key) > 40 or "@" in key or sum(one.isdigit() for one in key) > 6
    return "?" if odd or not key.isprintable() else key


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return None


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _text_of(entry: Any, names: Sequence[str]) -> tuple[str | None, Any]:
    """The text of a list's entry, and what of the entry remains."""
    if isinstance(entry, dict):
        remains = dict(cast("dict[str, Any]", entry))
        for name in names:
            if text := _as_text(remains.get(name)):
                remains.pop(name)
                return text, remains
        return None, {name: one for name, one in remains.items() if one is not None}
    text = _as_text(entry)
    return (text, None) if text else (None, entry)


def _network_of(url: str | None) -> str:
    try:
        host = urlsplit(url if url and "//" in url else f"//{url or ''}").hostname or ""
    except ValueError:
        return ""
    labels = host.split(".")
    return labels[-2] if len(labels) > 1 else ""


def _school(entry: Any) -> str | None:
    if isinstance(entry, dict):
        school = cast("dict[str, Any]", entry).get("school")
        if isinstance(school, dict):
            return _as_text(cast("dict[str, Any]", school).get("name"))
        return _as_text(school)
    return None


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def __getattr__(name: str) -> Any:
    # pandera takes half a second to import; only who asks for the schema pays for it.
    if name == "EnrichedContacts":
        return enriched_contacts()
    raise AttributeError(name)
