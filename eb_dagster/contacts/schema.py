"""One contact → typed flat columns.

The table of columns below is the only place that names them: the Arrow schema, the pandera schema,
the Dagster column schema and the documents' table are all made from it.

Below it, `read_contact` takes a contact apart. Its shape is the vendor's and open: any key may be
missing, null, new or of another type, and none of that loses what was paid for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from eb_dagster.api.envelope import REQUIRED_FIELDS, pack_fields
from eb_dagster.errors import ConfigError, shown_list
from eb_dagster.identifiers.model import FieldType

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

ListsChoice = Literal["list", "json"]

Status = Literal["matched", "not_found", "invalid", "suppressed", "not_asked", "in_doubt", "unreadable"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())
_PROFILES = pa.list_(pa.struct([("network", pa.string()), ("url", pa.string())]))
_MOMENT = pa.timestamp("us", tz="UTC")

# pyarrow-stubs leaves much of it unknown.
compute: Any = pyarrow.compute


@dataclass(frozen=True, slots=True)
class Column:
    """One added column, without the prefix. `source` is where in the contact it is found."""

    name: str
    type: pa.DataType
    description: str
    source: str = ""
    nullable: bool = True


STATUS_COLUMNS: Final[tuple[Column, ...]] = (
    Column("matched", pa.bool_(), "True found, false not found, null when not known."),
    Column("status", _TEXT, f"One of {', '.join(STATUSES)}.", nullable=False),
    Column("field_type", _TEXT, "Kind of the identifier that answered, or was asked last."),
    Column("query", _TEXT, "That identifier in canonical form."),
    Column("from_ledger", pa.bool_(), "Answered without a request in this run.", nullable=False),
    Column("enriched_at", _MOMENT, "When the vendor's answer arrived, in UTC."),
)

AGREES: Final = Column(
    "agrees", pa.bool_(), "Whether the contact has the row's name; null where that cannot be told."
)
"""Beside these, where columns with names are given."""

CONTACT_COLUMNS: Final[tuple[Column, ...]] = (
    Column("full_name", _TEXT, "Full name.", "full_name"),
    Column("first_name", _TEXT, "First name.", "first_name"),
    Column("last_name", _TEXT, "Last name.", "last_name"),
    Column("gender", _TEXT, "Gender as the vendor gives it.", "gender"),
    Column(
        "work_email", _TEXT, "Current work e-mail, else the first one.", "current_work_email, work_emails[]"
    ),
    Column(
        "personal_email",
        _TEXT,
        "Current personal e-mail, else the first one.",
        "current_personal_email, personal_emails[]",
    ),
    Column(
        "emails", _TEXTS, "Every distinct e-mail address, current ones first.", "all of these and emails[]"
    ),
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
)


_NAMES: Final = tuple(column.name for column in CONTACT_COLUMNS)
_AS_THEY_CAME: Final = ("education", "experiences")


class _Unseen(msgspec.Struct, gc=False):
    """Its repr shows no person."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __rich_repr__(self) -> list[Any]:
        return []


# A value for each column. No tuple: Python's collector of cycles would walk through all of them, over and over.
_Values: Final[Callable[..., Any]] = msgspec.defstruct(
    "_Values", [(name, Any) for name in _NAMES], bases=(_Unseen,), frozen=True, gc=False
)


class Contact(msgspec.Struct, frozen=True, gc=False):
    """A flattened contact: by name, one value for each of `CONTACT_COLUMNS`. Its repr shows no person.

    JSON columns that stay as they came are bytes of UTF-8. `fields` are those of the API's required
    fields that it has, packed. `unknown_keys` are the paths of keys that no column knows, without
    values. `drift` are the paths whose value had a type that no column could take; it is in `other`.
    """

    values: Any
    fields: int
    unknown_keys: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()

    @property
    def held(self) -> frozenset[str]:
        """Which of the API's required fields it has."""
        return frozenset(name for name in REQUIRED_FIELDS if self.fields & pack_fields([name]))

    @property
    def texts(self) -> Mapping[FieldType, Sequence[str]]:
        """Who it says it is, by kind: each distinct text as it came, profiles first."""
        mine = self.values
        return {
            "social_profile": [one.url for one in mine.social_profiles or () if one.url],
            "email": mine.emails or (), "phone": mine.phones or (),
        }  # fmt: skip

    @property
    def contents(self) -> str:
        """All values as one text, the same for equal contacts, whichever release read them."""
        mine = self.values
        profiles = mine.social_profiles and tuple((one.network, one.url) for one in mine.social_profiles)
        education, experiences = (one and one.decode() for one in (mine.education, mine.experiences))
        same = msgspec.structs.replace(
            mine, social_profiles=profiles, education=education, experiences=experiences
        )
        return repr(msgspec.structs.astuple(same))

    def __repr__(self) -> str:
        return f"Contact(held={sorted(self.held)}, unknown_keys={self.unknown_keys}, drift={self.drift})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("held", self.held), ("unknown_keys", self.unknown_keys), ("drift", self.drift)]


_WHO: Final[dict[FieldType, int]] = {
    "email": _NAMES.index("emails"),
    "phone": _NAMES.index("phones"),
    "social_profile": _NAMES.index("social_profiles"),
}
_NOBODY: Final = (None,) * len(_NAMES)
_ROWS_TURNED_AT_ONCE: Final = 128


def select(columns: Sequence[str] | None, *, prefix: str = "eb_") -> tuple[Column, ...]:
    """The contact columns to keep, in declared order. They may be named as they are called in the result."""
    if columns is None:
        return CONTACT_COLUMNS
    known = [column.name for column in CONTACT_COLUMNS]
    always = {column.name for column in STATUS_COLUMNS}
    # They may also be named as the documents name them.
    names = [name if name in known else name.removeprefix(prefix).removeprefix("eb_") for name in columns]
    unknown = [name for name in names if name not in known and name not in always]
    if unknown:
        raise ConfigError(f"columns: {shown_list(unknown)} not known; choose from {known}")
    return tuple(column for column in CONTACT_COLUMNS if column.name in names)


def added_columns(
    *, prefix: str = "eb_", columns: Sequence[str] | None = None, with_agrees: bool = False
) -> tuple[Column, ...]:
    """What is added to a table; `with_agrees` where columns with names are given."""
    status = (*STATUS_COLUMNS, AGREES) if with_agrees else STATUS_COLUMNS
    return (*status, *select(columns, prefix=prefix))


def arrow_schema(
    *,
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
    lists: ListsChoice = "list",
    with_agrees: bool = False,
) -> pa.Schema:
    """The Arrow schema of what is added, the same for every input."""
    return pa.schema([
        pa.field(prefix + one.name, _type_of(one, lists), one.nullable, {"description": one.description})
        for one in added_columns(prefix=prefix, columns=columns, with_agrees=with_agrees)
    ])  # fmt: skip


def _type_of(column: Column, lists: ListsChoice) -> pa.DataType:
    return _TEXT if lists == "json" and pa.types.is_list(column.type) else column.type


def as_json(lists: pa.Array[Any]) -> pa.Array[Any]:
    """A column of lists as JSON text."""
    texts = [None if one is None else msgspec.json.encode(one).decode() for one in lists.to_pylist()]
    return pa.array(texts, type=_TEXT)


def contact_arrays(contacts: Sequence[Contact | None]) -> list[pa.Array[Any]]:
    """The contact columns of these rows, in declared order; null in rows without a contact."""
    # Lists: Arrow reads them a quarter faster than tuples.
    values: list[list[Any]] = [[] for _ in _NAMES]
    # Some at a time: so many tuples side by side are what Python's collector of cycles wakes up for.
    for start in range(0, len(contacts), _ROWS_TURNED_AT_ONCE):
        some = contacts[start : start + _ROWS_TURNED_AT_ONCE]
        rows = [_NOBODY if one is None else msgspec.structs.astuple(one.values) for one in some]
        for column, more in zip(values, zip(*rows, strict=True), strict=True):
            column += more
    return [_array(one, column) for one, column in zip(CONTACT_COLUMNS, values, strict=True)]


def _array(column: Column, values: Sequence[Any]) -> pa.Array[Any]:
    if column.type == _PROFILES:
        return _profile_array(values)
    if column.name in _AS_THEY_CAME:
        # UTF-8 already: Arrow need not look at it again.
        as_bytes = cast("Any", pa.array(values, type=pa.binary()))
        return as_bytes.view(_TEXT)
    return pa.array(values, type=column.type)


@dataclass(frozen=True, slots=True)
class Flattened:
    """Contacts as columns, a third of their size as objects. What was odd about one stands under its row."""

    columns: pa.RecordBatch = field(repr=False)
    """All of `CONTACT_COLUMNS`; null in rows without a contact."""
    is_vacant: npt.NDArray[np.bool_] = field(repr=False)
    """Rows without a contact."""
    drift: Mapping[int, tuple[str, ...]]
    unknown_keys: Mapping[int, tuple[str, ...]]

    def texts_of(self, field_type: FieldType) -> tuple[list[str], list[int]]:
        """Every text of one kind in them, and the row of each."""
        columns = cast("Any", self.columns)
        entries = columns.column(_WHO[field_type])
        rows = compute.list_parent_indices(entries)
        texts = entries.flatten()
        if field_type == "social_profile":
            texts = compute.struct_field(texts, "url")
        found = compute.not_equal(texts, "")
        texts, rows = (compute.filter(one, found) for one in (texts, rows))
        return texts.to_pylist(), rows.to_pylist()

    def texts(self, row: int) -> Mapping[FieldType, Sequence[str]]:
        """As of a `Contact`."""
        columns = cast("Any", self.columns)
        emails, phones, profiles = (columns.column(at)[row].as_py() or () for at in _WHO.values())
        return {
            "social_profile": [one["url"] for one in profiles if one["url"]],
            "email": emails, "phone": phones,
        }  # fmt: skip

    def names(self, row: int) -> dict[str, str | None]:
        """What one contact is called."""
        columns = cast("Any", self.columns)
        return {name: columns.column(name)[row].as_py() for name in ("full_name", "first_name", "last_name")}


def flatten(contacts: Sequence[Contact | None]) -> Flattened:
    """Put contacts side by side, a row each."""
    return Flattened(
        cast("Any", pa.RecordBatch).from_arrays(contact_arrays(contacts), names=list(_NAMES)),
        np.fromiter((one is None for one in contacts), dtype=np.bool_, count=len(contacts)),
        {at: one.drift for at, one in enumerate(contacts) if one is not None and one.drift},
        {at: one.unknown_keys for at, one in enumerate(contacts) if one is not None and one.unknown_keys},
    )


def _profile_array(rows: Sequence[Sequence[_Profile] | None]) -> pa.Array[Any]:
    # Four times as fast as handing them to Arrow one by one.
    starts: list[int | None] = []
    profiles: list[_Profile] = []
    for row in rows:
        if row is None:
            starts.append(None)
        else:
            starts.append(len(profiles))
            profiles += row
    starts.append(len(profiles))
    networks = pa.array([one.network for one in profiles], type=pa.string())
    urls = pa.array([one.url for one in profiles], type=pa.string())
    entries = cast("Any", pa.StructArray).from_arrays([networks, urls], ["network", "url"])
    return cast("Any", pa.ListArray).from_arrays(pa.array(starts, type=pa.int32()), entries)


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


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The added columns for pandas. Lists are Python's own: databases and text know no numpy arrays."""
    columns: Any = table
    lists = [one.name for one in columns.schema if pa.types.is_list(one.type)]
    frame = columns.drop_columns(lists).to_pandas(types_mapper=pandas_dtype)
    for name in lists:
        frame[name] = np.fromiter(columns[name].to_pylist(), dtype=object, count=table.num_rows)
    return frame[table.column_names]


def enriched_contacts(
    *,
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
    lists: ListsChoice = "list",
    with_agrees: bool = False,
) -> pandera.DataFrameSchema:
    """The contract of what leaves. Columns of the input pass unchecked."""
    import pandera.pandas as pandera

    # pandera leaves the parameters of its checks partly untyped.
    check = cast("Any", pandera).Check
    declared: dict[str, Any] = {
        prefix + one.name: pandera.Column(
            pandas_dtype(_type_of(one, lists)),
            checks=[check.isin(STATUSES)] if one.name == "status" else [],
            nullable=one.nullable,
            description=one.description,
        )
        for one in added_columns(prefix=prefix, columns=columns, with_agrees=with_agrees)
    }

    def match_agrees(frame: Any) -> bool:
        status, matched = frame[prefix + "status"], frame[prefix + "matched"]
        known = status.isin(["matched", "not_found"])
        agrees = matched.fillna(False) == (status == "matched")
        # One bool for the whole: told row by row, pandera prints whole rows, so people.
        return bool(((matched.notna() == known) & agrees).all())

    agreement = check(match_agrees, name="match_agrees_with_status", error=_DISAGREEMENT)
    return pandera.DataFrameSchema(declared, checks=[agreement], strict=False, name="EnrichedContacts")


_DISAGREEMENT: Final = "matched must be true where status is matched, false where not_found, else null"


def markdown_table(*, prefix: str = "eb_") -> str:
    """The columns as the documents show them."""
    lines = ["| column | type | meaning | found at |", "|---|---|---|---|"]
    for one in added_columns(with_agrees=True):
        at = f"`{one.source}`" if one.source else ""
        lines.append(f"| `{prefix}{one.name}` | {_type_name(one)} | {one.description} | {at} |")
    return "\n".join(lines)


def _type_name(column: Column) -> str:
    if pa.types.is_string(column.type):
        return "JSON text" if column.name in ("education", "experiences", "other") else "text"
    if pa.types.is_list(column.type):
        return "list of text" if column.type == _TEXTS else "list of network, url"
    return "timestamp, UTC" if column.type == _MOMENT else "bool"


@cache
def _default_contract() -> pandera.DataFrameSchema:
    return enriched_contacts()


def __getattr__(name: str) -> Any:
    # pandera takes half a second to import; only who asks for the schema pays for it.
    if name == "EnrichedContacts":
        return _default_contract()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Reading a contact


def is_utf8(body: bytes) -> bool:
    """Whether all of it is UTF-8: then so is each contact in it, and need not be looked at for that."""
    offsets = pa.array([0, len(body)], type=pa.int32()).buffers()[1]
    try:
        cast("Any", pa.StringArray).from_buffers(1, offsets, pa.py_buffer(body)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def read_contact(raw: bytes | msgspec.Raw, *, is_text: bool = False) -> Contact:
    """Flatten one contact from its JSON, which may be known to be UTF-8. Its shape never makes it fail.

    Raises `ValueError` only if the bytes are no JSON at all.
    """
    try:
        try:
            return _read_plain(_decode_plain(raw), is_text=is_text)
        except msgspec.ValidationError:
            return _read_plain(_decode_open(raw), new=_new_sections(raw), is_text=is_text)
    # A shape that is not the plain one, or JSON that only a lenient reader takes.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NotPlainError):
        return read_odd_contact(bytes(raw))


def read_odd_contact(raw: bytes) -> Contact:
    """Flatten a contact of any shape: what `read_contact` does, at a fifth of the speed."""
    try:
        try:
            return _Reader(_dump).read(_decode_sections(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            value, damage = _decode_damaged(raw)
        reader = _Reader(_dump_damaged)
        reader.drift.update(damage)
        return reader.read(value)
    except RecursionError:
        reader = _Reader(_dump)
        reader.drift["too_deep"] = None
        reader.values["other"] = raw.decode("utf-8", "replace")
        return reader.finish()


# What a column is made of, by key
_PLAIN: Final = {name: name for name in ("full_name", "first_name", "last_name", "gender")}
_LOCATION: Final = {name: name for name in ("city", "region", "country")}
_EMPLOYMENT: Final = {
    "name": "company_name",
    "domain": "company_domain",
    "website": "company_domain",
    "size": "company_size",
    "industry": "company_industry",
    "linkedin_url": "company_linkedin_url",
    "profile_pic_url": "photo_url",
}
_JOB: Final = {"title": "job_title"}
_EMAIL_KEYS: Final = ("email", "address")
_PHONE_KEYS: Final = ("E164", "e164", "number", "phone")
_PROFILE_KEYS: Final = ("network", "url")

# Keys that are no news, whether or not a column takes them.
_CONTACT_KEYS: Final = frozenset({
    *_PLAIN, "current_work_email", "current_personal_email", "work_emails", "personal_emails",
    "emails", "phone_numbers", "social_profiles", "location", "employment", "education",
    "experiences",
})  # fmt: skip
_LOCATION_KEYS: Final = frozenset(_LOCATION)
_EMPLOYMENT_KEYS: Final = frozenset({*_EMPLOYMENT, "job", "start_date"})
_JOB_KEYS: Final = frozenset({*_JOB, "levels", "start_date"})

_NETWORKS: Final = {
    "linkedin": "linkedin_url",
    "twitter": "twitter_url",
    "x": "twitter_url",
    "facebook": "facebook_url",
    "github": "github_url",
}
_HOSTS: Final = {f"{network}.com": column for network, column in _NETWORKS.items()}


class _Reader:
    """Takes a contact apart: what a column takes is removed, and what is left is `other`."""

    __slots__ = ("_dump", "drift", "held", "unknown", "values")

    def __init__(self, dump: Callable[..., str]) -> None:
        self.values: dict[str, Any] = {}
        self.held: set[str] = set()
        # Dicts, so that each path is told once and in the order of reading.
        self.unknown: dict[str, None] = {}
        self.drift: dict[str, None] = {}
        self._dump = dump

    def read(self, value: Any) -> Contact:
        contact = _only_entry(value)
        if isinstance(contact, dict):
            rest = cast("dict[str, Any]", contact)
            self._read_object(rest)
            if rest:
                self.values["other"] = self._dump(rest, is_sorted=True)
        elif value is not None:
            self.drift["contact"] = None
            self.values["other"] = None if _is_empty(value) else self._dump(value)
        return self.finish()

    def finish(self) -> Contact:
        return Contact(
            _Values(*map(self.values.get, _NAMES)),
            pack_fields(self.held),
            tuple(self.unknown),
            tuple(self.drift),
        )

    def _read_object(self, contact: dict[str, Any]) -> None:
        self._take_texts(contact, _PLAIN, "")
        self._read_emails(contact)
        self._read_phones(contact)
        self._read_profiles(contact)
        self._enter(contact, "location", "location", self._read_location)
        self._enter(contact, "employment", "employment", self._read_employment)
        self._take_json(contact, "education")
        self._take_json(contact, "experiences")
        self._note_unknown(contact, _CONTACT_KEYS, "")

    def _read_location(self, location: dict[str, Any]) -> None:
        self._take_texts(location, _LOCATION, "location.")
        self._note_unknown(location, _LOCATION_KEYS, "location.")

    def _read_employment(self, employment: dict[str, Any]) -> None:
        self._take_texts(employment, _EMPLOYMENT, "employment.")
        self._enter(employment, "job", "employment.job", self._read_job)
        self._note_unknown(employment, _EMPLOYMENT_KEYS, "employment.")

    def _read_job(self, job: dict[str, Any]) -> None:
        self._take_texts(job, _JOB, "employment.job.")
        self._take_level(job)
        self._note_unknown(job, _JOB_KEYS, "employment.job.")

    def _take_level(self, job: dict[str, Any]) -> None:
        levels = job.pop("levels", None)
        left: list[Any] = []
        for level in _as_list(levels):
            text = _as_text(level)
            if text and "job_level" not in self.values:
                self.values["job_level"] = text
            elif not _is_empty(level):
                left.append(level)
                if text is None:
                    self.drift["employment.job.levels"] = None
        if left:
            job["levels"] = left if isinstance(levels, list) else left[0]

    def _read_emails(self, contact: dict[str, Any]) -> None:
        take = self._take_list
        current_work = take(contact, "current_work_email", _EMAIL_KEYS)
        current_personal = take(contact, "current_personal_email", _EMAIL_KEYS)
        work = current_work + take(contact, "work_emails", _EMAIL_KEYS)
        personal = current_personal + take(contact, "personal_emails", _EMAIL_KEYS)
        if work:
            self.values["work_email"] = work[0]
            self.held.add("work_email")
        if personal:
            self.values["personal_email"] = personal[0]
            self.held.add("personal_email")
        several = take(contact, "emails", _EMAIL_KEYS)
        found = _distinct([*current_work, *current_personal, *work, *personal, *several])
        if found:
            self.values["emails"] = found
            self.held.add("email")

    def _read_phones(self, contact: dict[str, Any]) -> None:
        found = _distinct(self._take_list(contact, "phone_numbers", _PHONE_KEYS))
        if found:
            self.values["phones"] = found
            self.values["phone"] = found[0]
            self.held.add("phone")

    def _read_profiles(self, contact: dict[str, Any]) -> None:
        given = contact.pop("social_profiles", None)
        profiles: list[_Profile] = []
        left: list[Any] = []
        for entry in _as_list(given):
            network, url, is_all = self._profile_in(entry)
            if network or url:
                profiles.append(_Profile(network, url))
                self._place_profile(network, url)
            if not is_all:
                left.append(entry)
        if profiles:
            self.values["social_profiles"] = tuple(profiles)
            self.held.add("social_profile")
        if left:
            contact["social_profiles"] = left if isinstance(given, list) else left[0]

    def _profile_in(self, entry: Any) -> tuple[str | None, str | None, bool]:
        """Network and URL of an entry, and whether that is all it holds."""
        if not isinstance(entry, dict):
            text, is_all = self._text_in(entry, "social_profiles", ())
            return None, text, is_all
        profile = cast("dict[str, Any]", entry)
        network, url = profile.get("network"), profile.get("url")
        if len(profile) == 2 and type(network) is str and type(url) is str:
            # Nearly every entry; the rest below comes to the same, slower.
            return network or None, url or None, True
        network, url = _as_text(network), _as_text(url)
        is_all = not self._has_more(profile, "social_profiles", _PROFILE_KEYS)
        for name, text in (("network", network), ("url", url)):
            if text is None and not _is_empty(profile.get(name)):
                self.drift["social_profiles"] = None
                is_all = False
        return network or None, url or None, is_all

    def _place_profile(self, network: str | None, url: str | None) -> None:
        column = _NETWORKS.get(network.lower()) if network else _column_of_host(url)
        if column and url:
            self.values.setdefault(column, url)

    def _take_texts(self, source: dict[str, Any], columns: dict[str, str], path: str) -> None:
        """Move texts from `source` to their columns; what is no text stays and is drift."""
        for key, column in columns.items():
            value = source.get(key)
            text = value if type(value) is str else _as_text(value)
            if text:
                # A second source of one column that says something else is left for `other`.
                if self.values.setdefault(column, text) == text:
                    del source[key]
            elif _is_empty(value):
                source.pop(key, None)
            else:
                self.drift[path + key] = None

    def _take_list(self, source: dict[str, Any], key: str, names: Sequence[str]) -> list[str]:
        """The texts in a list of texts or objects; an entry that holds more stays in `source`.

        Such an entry stays whole, because what it says is about the text in it.
        """
        given = source.pop(key, None)
        if given is None:
            return []
        found: list[str] = []
        left: list[Any] = []
        for entry in _as_list(given):
            text, is_all = self._text_in(entry, key, names)
            if text:
                found.append(text)
            if not is_all:
                left.append(entry)
        if left:
            source[key] = left if isinstance(given, list) else left[0]
        return found

    def _text_in(self, entry: Any, path: str, names: Sequence[str]) -> tuple[str | None, bool]:
        """The text of a list's entry, and whether that is all it holds."""
        if type(entry) is str:
            return entry or None, True
        if isinstance(entry, dict) and names:
            holder = cast("dict[str, Any]", entry)
            if len(holder) == 1 and type(text := holder.get(names[0])) is str:
                # Nearly every entry; the rest below comes to the same, slower.
                return text or None, True
            is_all = not self._has_more(holder, path, names)
            texts = [_as_text(holder[name]) for name in names if not _is_empty(holder.get(name))]
            found = _distinct([text for text in texts if text])
            if None in texts or not (found or is_all):
                self.drift[path] = None
            return (found[0] if found else None), is_all and None not in texts and len(found) < 2
        text = _as_text(entry)
        if text is None and not _is_empty(entry):
            self.drift[path] = None
            return None, False
        return text, True

    def _has_more(self, entry: dict[str, Any], path: str, names: Sequence[str]) -> bool:
        more = False
        for name, value in entry.items():
            if name not in names:
                self.unknown[f"{path}[].{_key_name(name)}"] = None
                more = more or not _is_empty(value)
        return more

    def _enter(
        self, source: dict[str, Any], key: str, path: str, read: Callable[[dict[str, Any]], None]
    ) -> None:
        """Read an object inside, also if it comes as the only entry of a list."""
        value = source.get(key)
        inner = _only_entry(value)
        if isinstance(inner, dict):
            section = cast("dict[str, Any]", inner)
            read(section)
            if not section:
                del source[key]
        elif _is_empty(inner):
            source.pop(key, None)
        else:
            self.drift[path] = None

    def _take_json(self, contact: dict[str, Any], name: str) -> None:
        value = contact.get(name)
        if isinstance(value, _Listed):
            self.values[name] = value.text
            if name == "education":
                self.values["school_name"] = value.school
            del contact[name]
        elif _is_empty(value):
            contact.pop(name, None)
        elif isinstance(value, list | dict | str):
            entries = _as_list(contact.pop(name))
            self.values[name] = self._dump(entries).encode()
            if name == "education":
                schools = map(_school_name, entries)
                self.values["school_name"] = next(filter(None, schools), None)
        else:
            self.drift[name] = None

    def _note_unknown(self, source: dict[str, Any], known: frozenset[str], path: str) -> None:
        for key, value in list(source.items()):
            if key not in known:
                self.unknown[path + _key_name(key)] = None
            if _is_empty(value):
                del source[key]


_FIELD_NAME: Final = re.compile(r"[\w$-]{1,40}", re.ASCII)


def _key_name(key: str) -> str:
    # A key that does not look like the name of a field may be a person.
    is_field = _FIELD_NAME.fullmatch(key) and sum(map(str.isdigit, key)) <= 6
    return key if is_field else "?"


def _is_empty(value: Any) -> bool:
    # By type first: 0 and false are values.
    return value is None or (isinstance(value, str | list | dict) and not value)


def _as_text(value: Any) -> str | None:
    """The value as text if that loses nothing, else None."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _only_entry(value: Any) -> Any:
    entries = _as_list(value)
    return entries[0] if len(entries) == 1 else value


def _distinct(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _column_of_host(url: str | None) -> str | None:
    try:
        host = urlsplit(url if url and "//" in url else f"//{url or ''}").hostname or ""
    except ValueError:
        return None
    # Country and mobile sub-domains are the same network.
    return _HOSTS.get(".".join(host.split(".")[-2:]))


def _school_name(entry: Any) -> str | None:
    school = cast("dict[str, Any]", entry).get("school") if isinstance(entry, dict) else None
    name = cast("dict[str, Any]", school).get("name") if isinstance(school, dict) else school
    return _as_text(name)


def _dump(value: Any, *, is_sorted: bool = False) -> str:
    return msgspec.json.encode(value, order="sorted" if is_sorted else None).decode()


# The plain shape: what `_Reader` would come to, for contacts that are as the vendor's mostly are

_Text: TypeAlias = str | None


class _Phone(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    number: _Text = msgspec.field(default=None, name="E164")


class _Profile(_Unseen, gc=False, forbid_unknown_fields=True):
    """Finished in place by `_read_plain`, which is the only one that has it then."""

    network: _Text = None
    url: _Text = None


class _Location(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    city: _Text = None
    region: _Text = None
    country: _Text = None


class _Job(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    title: _Text = None
    levels: list[_Text] | _Text = None
    start_date: _Text = None


class _Employment(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: _Text = None
    domain: _Text = None
    website: _Text = None
    size: int | _Text = None
    industry: _Text = None
    linkedin_url: _Text = None
    profile_pic_url: _Text = None
    start_date: _Text = None
    job: _Job | None = None


_ABSENT: Final = msgspec.Raw(b"null")


class _Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    full_name: _Text = None
    first_name: _Text = None
    last_name: _Text = None
    gender: _Text = None
    current_work_email: _Text = None
    current_personal_email: _Text = None
    work_emails: list[_Text] | None = None
    personal_emails: list[_Text] | None = None
    emails: list[_Text] | None = None
    phone_numbers: list[_Phone] | None = None
    social_profiles: list[_Profile] | None = None
    location: _Location | None = None
    employment: _Employment | None = None
    education: msgspec.Raw = _ABSENT
    experiences: msgspec.Raw = _ABSENT


class _Open(_Plain, gc=False, forbid_unknown_fields=False):
    """The plain shape, but for keys at the top that are not known."""


class _NotPlainError(Exception):
    """The types are plain, and what they hold is not."""


_NO_KEYS: Final[Mapping[str, Any]] = MappingProxyType({})
_decode_plain = msgspec.json.Decoder(_Plain).decode
_decode_open = msgspec.json.Decoder(_Open).decode
_NOWHERE: Final = _Location()
_UNEMPLOYED: Final = _Employment()
_NO_JOB: Final = _Job()


# One function, and long: taken apart into five, it is a quarter slower.
def _read_plain(  # noqa: C901
    one: _Plain, *, new: Mapping[str, Any] = _NO_KEYS, is_text: bool = False
) -> Contact:
    fields = 0
    work, personal = one.current_work_email, one.current_personal_email
    found: dict[str, None] = {}
    if work:
        found[work] = None
    if personal:
        found[personal] = None
    for address in one.work_emails or ():
        if address:
            found[address] = None
            work = work or address
    for address in one.personal_emails or ():
        if address:
            found[address] = None
            personal = personal or address
    for address in one.emails or ():
        if address:
            found[address] = None
    emails = None
    if found:
        emails = tuple(found)
        fields = 1 | (2 if work else 0) | (4 if personal else 0)

    phones = phone = None
    if one.phone_numbers:
        phones = tuple({entry.number: None for entry in one.phone_numbers if entry.number}) or None
        if phones:
            phone = phones[0]
            fields |= 8

    profiles: list[_Profile] = []
    linkedin = twitter = facebook = github = None
    for profile in one.social_profiles or ():
        network, url = profile.network, profile.url
        if url:
            column = _NETWORKS.get(network.lower()) if network else _column_of_host(url)
            if column == "linkedin_url":
                linkedin = linkedin or url
            elif column == "twitter_url":
                twitter = twitter or url
            elif column == "facebook_url":
                facebook = facebook or url
            elif column == "github_url":
                github = github or url
            profile.network = network or None
            profiles.append(profile)
        elif network:
            profile.url = None
            profiles.append(profile)

    place = one.location or _NOWHERE
    employer = one.employment or _UNEMPLOYED
    job = employer.job or _NO_JOB
    levels, more = job.levels, None
    if type(levels) is not list:
        level = levels
    elif len(levels) == 1:
        level = levels[0]
    else:
        level, *more = [entry for entry in levels if entry] or (None,)
    size = employer.size
    other = None
    if employer.start_date or employer.website or job.start_date or more or new:
        other = _plain_rest(employer, job, more, new)

    education = school = experiences = None
    if one.education is not _ABSENT and (education := _plain_list(one.education, is_text=is_text)):
        school = _first_school(one.education)
    if one.experiences is not _ABSENT:
        experiences = _plain_list(one.experiences, is_text=is_text)
    values = _Values(
        one.full_name or None, one.first_name or None, one.last_name or None, one.gender or None,
        work or None, personal or None, emails, phone, phones,
        linkedin, twitter, facebook, github, tuple(profiles) or None,
        place.city or None, place.region or None, place.country or None,
        job.title or None, level or None,
        employer.name or None, employer.domain or employer.website or None,
        str(size) if type(size) is int else size or None, employer.industry or None,
        employer.linkedin_url or None, employer.profile_pic_url or None,
        school, education, experiences, other,
    )  # fmt: skip
    unknown = tuple(dict.fromkeys(map(_key_name, new))) if new else ()
    return Contact(values, fields | 16 if profiles else fields, unknown)


def _plain_rest(
    employer: _Employment, job: _Job, levels: Sequence[_Text] | None, new: Mapping[str, Any]
) -> str | None:
    """What no column takes, as JSON whose keys are sorted."""
    of_job: dict[str, Any] = {}
    if levels:
        of_job["levels"] = levels
    if job.start_date:
        of_job["start_date"] = job.start_date
    of_employer: dict[str, Any] = {"job": of_job} if of_job else {}
    if employer.start_date:
        of_employer["start_date"] = employer.start_date
    if employer.website and employer.domain and employer.website != employer.domain:
        of_employer["website"] = employer.website
    left = {"employment": of_employer} if of_employer else {}
    if new:
        left |= {name: value for name, value in new.items() if not _is_empty(value)}
    return _dump(left, is_sorted=bool(new)) if left else None


def _new_sections(raw: bytes | msgspec.Raw) -> dict[str, Any]:
    return {
        name: msgspec.json.decode(section)
        for name, section in _decode_raw_sections(raw).items()
        if name not in _CONTACT_KEYS
    }


# Lists that stay JSON


class _Named(msgspec.Struct, gc=False):
    name: _Text = None


class _School(msgspec.Struct, gc=False):
    school: _Named | _Text = None


_decode_schools = msgspec.json.Decoder(list[_School]).decode
_decode_raw_sections = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _plain_list(raw: msgspec.Raw, *, is_text: bool = False) -> bytes | None:
    """A list of objects as its JSON came; msgspec has seen that it is JSON, but for its UTF-8."""
    text = bytes(raw)
    if text.startswith(b'[{"'):
        if not is_text:
            text.decode()
        return text
    if text in (b"[]", b"null"):
        return None
    raise _NotPlainError


def _first_school(raw: msgspec.Raw) -> str | None:
    for entry in _decode_schools(raw):
        school = entry.school
        if name := school.name if isinstance(school, _Named) else school:
            return name
    return None


class _Listed(msgspec.Struct, gc=False):
    """A list of objects that becomes a column as it came."""

    text: bytes
    school: str | None


def _decode_sections(raw: bytes) -> Any:
    try:
        sections = _decode_raw_sections(raw)
    except msgspec.ValidationError:
        return msgspec.json.decode(raw)
    return {
        name: _as_listed(name, section)
        if name in ("education", "experiences")
        else msgspec.json.decode(section)
        for name, section in sections.items()
    }


def _as_listed(name: str, raw: msgspec.Raw) -> Any:
    try:
        text = _plain_list(raw)
        school = None if text is None or name != "education" else _first_school(raw)
    except (_NotPlainError, msgspec.ValidationError):
        return msgspec.json.decode(raw)
    return None if text is None else _Listed(text, school)


# JSON that only a lenient reader takes

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_LONGEST_INTEGER: Final = 400


def _decode_damaged(raw: bytes) -> tuple[Any, dict[str, None]]:
    """Decode what the standard library takes: NaN, lone surrogates, numbers of any size."""
    damage: dict[str, None] = {}
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        damage["damaged_text"] = None

    def mended(escape: re.Match[str]) -> str:
        if escape["lone"] is None:
            return escape[0]
        # Neither UTF-8 nor Arrow has a lone surrogate.
        damage["damaged_text"] = None
        return r"\ufffd"

    def not_finite(name: str) -> float:
        damage["not_finite"] = None
        return float(name)

    decoder = json.JSONDecoder(
        strict=False, parse_int=_integer, parse_float=_decimal, parse_constant=not_finite
    )
    try:
        return decoder.decode(_ESCAPE.sub(mended, text)), damage
    except ValueError:
        # Its own error carries the whole text.
        raise ValueError("the contact is not JSON") from None


def _integer(digits: str) -> int | str:
    # Python refuses to read or write integers of more digits than its own limit.
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


def _decimal(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def _dump_damaged(value: Any, *, is_sorted: bool = False) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), sort_keys=is_sorted)


def _finite(value: Any) -> Any:
    """The value with the text "NaN" or "Infinity" for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, list):
        return [_finite(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in cast("dict[str, Any]", value).items()}
    return value
