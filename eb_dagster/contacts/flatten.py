"""Contacts as Arrow columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.api.envelope import RequiredField
from eb_dagster.contacts.contact import Contact, Employment, Job, Json, Location, PlainContact, Text
from eb_dagster.contacts.schema import CONTACT_COLUMNS, NAME_COLUMNS
from eb_dagster.identifiers.arrays import (
    bytes_array,
    flags_in,
    lists_of,
    number_array,
    numbers_in,
    text_arrays,
    with_gaps,
)
from eb_dagster.identifiers.model import FieldType

Array: TypeAlias = pa.Array
Indices: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]

CONTACT_SCHEMA: Final = pa.schema([(column.name, column.type) for column in CONTACT_COLUMNS])
"""Of the columns of `Flattened`."""
_REQUIRED_COLUMNS: Final = {
    RequiredField.EMAIL: "emails",
    RequiredField.WORK_EMAIL: "work_email",
    RequiredField.PERSONAL_EMAIL: "personal_email",
    RequiredField.PHONE: "phones",
    RequiredField.SOCIAL_PROFILE: "social_profiles",
}
_IDENTIFIER_COLUMNS: Final = {column.field_type: column for column in CONTACT_COLUMNS if column.field_type}


@dataclass(frozen=True, slots=True)
class Flattened:
    """Contacts as columns, a third of their size as objects. What was odd about one stands under its row."""

    columns: pa.RecordBatch = field(repr=False)
    """All of `CONTACT_COLUMNS`; null in rows without a contact."""
    is_vacant: npt.NDArray[np.bool_] = field(repr=False)
    """Rows without a contact."""
    drift: Mapping[int, tuple[str, ...]]
    unknown_keys: Mapping[int, tuple[str, ...]]

    @property
    def fields(self) -> Indices:
        """Which of the API's required fields each has, as the bits of `RequiredField`."""
        held = np.zeros(len(self.is_vacant), dtype=np.int64)
        for required, name in _REQUIRED_COLUMNS.items():
            held[flags_in(self.columns.column(name).is_valid())] |= required.value
        return held

    def texts_of(self, field_type: FieldType) -> tuple[Array, Indices]:
        """Every text of one kind in them, and the row of each."""
        entries = self.columns.column(_IDENTIFIER_COLUMNS[field_type].name)
        rows = numbers_in(pc.list_parent_indices(entries))
        texts = pc.list_flatten(entries)
        if field_type == "social_profile":
            texts = pc.struct_field(texts, "url")
        if not texts.null_count:
            return texts, rows
        is_given = texts.is_valid()
        return texts.filter(is_given), rows[flags_in(is_given)]

    def texts(self, row: int) -> Mapping[FieldType, Sequence[str]]:
        """As of a `Contact`."""
        entries = {
            kind: self.columns.column(column.name)[row].as_py() or ()
            for kind, column in _IDENTIFIER_COLUMNS.items()
        }
        profiles = entries["social_profile"]
        return {
            "social_profile": [profile["url"] for profile in profiles if profile["url"]],
            "email": entries["email"],
            "phone": entries["phone"],
        }

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Flattened:
        """These rows alone, in this order."""
        new_row = {row: index for index, row in enumerate(rows.tolist())}
        return Flattened(
            columns=self.columns.take(number_array(rows.astype(np.int64), pa.int64())),
            is_vacant=self.is_vacant[rows],
            drift={new_row[row]: paths for row, paths in self.drift.items() if row in new_row},
            unknown_keys={new_row[row]: paths for row, paths in self.unknown_keys.items() if row in new_row},
        )

    def slice(self, first: int, end: int) -> Flattened:
        """The rows from the first one to before the end, none of which is copied."""
        rows = range(first, end)
        return Flattened(
            columns=self.columns.slice(first, len(rows)),
            is_vacant=self.is_vacant[first:end],
            drift={row - first: paths for row, paths in self.drift.items() if row in rows},
            unknown_keys={row - first: paths for row, paths in self.unknown_keys.items() if row in rows},
        )

    def with_gaps(self, is_there: npt.NDArray[np.bool_]) -> Flattened:
        """These contacts in the rows where somebody is, in their order; the others are vacant. No text is copied."""
        row = np.flatnonzero(is_there).tolist()
        columns = with_gaps(self.columns.columns, is_there)
        is_vacant = ~is_there
        is_vacant[is_there] = self.is_vacant
        return Flattened(
            columns=pa.RecordBatch.from_arrays(columns, schema=CONTACT_SCHEMA),
            is_vacant=is_vacant,
            drift={row[index]: paths for index, paths in self.drift.items()},
            unknown_keys={row[index]: paths for index, paths in self.unknown_keys.items()},
        )

    def names(self, row: int) -> dict[str, str | None]:
        """What one contact is called."""
        return {name: self.columns.column(name)[row].as_py() for name in NAME_COLUMNS}

    def contents(self, row: int) -> str:
        """All values of one contact as one text, the same for equal contacts, whichever release read them."""
        return repr(tuple(_as_kept(column[row].as_py()) for column in self.columns.columns))


def _as_kept(value: object) -> object:
    """A value as ledgers know its text: it tells whether two contacts are one person's."""
    if isinstance(value, list):
        return tuple(map(_as_kept, cast("list[object]", value)))
    if isinstance(value, dict):
        return tuple(cast("dict[str, object]", value).values())
    return value


def flatten(contacts: Iterable[Contact | None]) -> Flattened:
    """Put contacts side by side, a row each. Each is looked at once, and may go before the next one comes."""
    gathered = _Gathered()
    is_there: list[bool] = []
    drift: dict[int, tuple[str, ...]] = {}
    unknown_keys: dict[int, tuple[str, ...]] = {}
    for row, contact in enumerate(contacts):
        is_there.append(contact is not None)
        if contact is None:
            continue
        gathered.add(contact)
        if contact.drift:
            drift[row] = contact.drift
        if contact.unknown_keys:
            unknown_keys[row] = contact.unknown_keys
    arrays, has_contact = gathered.arrays(), np.array(is_there, dtype=np.bool_)
    if not has_contact.all():
        arrays = with_gaps(arrays, has_contact)
    columns = pa.RecordBatch.from_arrays(arrays, schema=CONTACT_SCHEMA)
    return Flattened(columns, ~has_contact, drift, unknown_keys)


class _Gathered:
    """The values of contacts, in lists that become columns."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, ...]] = []
        self._emails, self._emails_of_each = _Texts(), _Counts()
        self._phones, self._phones_of_each = _Texts(), _Counts()
        self._networks, self._urls, self._profiles_of_each = _Texts(), _Texts(), _Counts()
        self._education: list[Json] = []
        self._experiences: list[Json] = []
        self._other: list[Json] = []

    def add(self, contact: Contact) -> None:
        emails, phones, profiles = contact.emails, contact.phones, contact.profiles
        self._emails += emails
        self._emails_of_each.append(len(emails))
        self._phones += phones
        self._phones_of_each.append(len(phones))
        for profile in profiles:
            self._networks.append(profile.network or "")
            self._urls.append(profile.url or "")
        self._profiles_of_each.append(len(profiles))
        self._texts.append(_texts_of(contact, phones[0] if phones else ""))
        self._education.append(contact.education)
        self._experiences.append(contact.experiences)
        self._other.append(contact.other)

    def arrays(self) -> list[Array]:
        """The contact columns, in declared order."""
        texts = [*zip(*self._texts, strict=True)] or [()] * len(_TEXT_COLUMNS)
        # All at once, because that is fastest.
        *arrays, email, phone, network, url = text_arrays(
            [*texts, self._emails, self._phones, self._networks, self._urls]
        )
        profile = pa.StructArray.from_arrays([network, url], ["network", "url"])
        profiles_of_each = _lengths(self._profiles_of_each)
        columns = {
            **dict(zip(_TEXT_COLUMNS, arrays, strict=True)),
            **_first_of_networks(self._networks, self._urls, url, lengths=profiles_of_each),
            "emails": _lists(email, _lengths(self._emails_of_each)),
            "phones": _lists(phone, _lengths(self._phones_of_each)),
            "social_profiles": _lists(profile, profiles_of_each),
            "education": bytes_array(self._education, pa.string()),
            "experiences": bytes_array(self._experiences, pa.string()),
            "other": bytes_array(self._other, pa.string()),
        }
        return [columns[column.name] for column in CONTACT_COLUMNS]


_Texts: TypeAlias = list[str]
"""Empty where there is nothing."""
_Counts: TypeAlias = list[int]

_NO_LOCATION: Final = Location()
_NO_EMPLOYMENT: Final = Employment()
_NO_JOB: Final = Job()
_TEXT_COLUMNS: Final = (
    "full_name",
    "first_name",
    "last_name",
    "gender",
    "work_email",
    "personal_email",
    "city",
    "region",
    "country",
    "phone",
    "job_title",
    "job_level",
    "company_name",
    "company_domain",
    "company_size",
    "company_industry",
    "company_linkedin_url",
    "photo_url",
    "school_name",
)


def _texts_of(contact: Contact, phone: str) -> tuple[str, ...]:
    """What is found in one place of a contact, in the order of `_TEXT_COLUMNS`; empty where there is nothing."""
    person = contact.plain
    return (
        *_texts_of_person(person, person.location or _NO_LOCATION),
        phone,
        *_texts_of_company(company := person.employment or _NO_EMPLOYMENT, company.job or _NO_JOB),
        contact.school_name or "",
    )


def _texts_of_person(person: PlainContact, location: Location) -> tuple[str, ...]:
    return (
        person.full_name or "",
        person.first_name or "",
        person.last_name or "",
        person.gender or "",
        person.current_work_email or _first(person.work_emails),
        person.current_personal_email or _first(person.personal_emails),
        location.city or "",
        location.region or "",
        location.country or "",
    )


def _texts_of_company(company: Employment, job: Job) -> tuple[str, ...]:
    size, levels = company.size, job.levels
    return (
        job.title or "",
        levels if isinstance(levels, str) else _first(levels),
        company.name or "",
        company.domain or company.website or "",
        str(size) if isinstance(size, int) else size or "",
        company.industry or "",
        company.linkedin_url or "",
        company.profile_pic_url or "",
    )


def _first(texts: Sequence[Text] | None) -> str:
    for text in texts or ():
        if text:
            return text
    return ""


_NETWORK_COLUMNS: Final = [column for column in CONTACT_COLUMNS if column.networks]
_COLUMN_OF_NETWORK: Final = {
    network: index for index, column in enumerate(_NETWORK_COLUMNS) for network in column.networks
}
_NO_COLUMN: Final = -1


def _first_of_networks(
    networks: Sequence[str], urls: Sequence[str], url: Array, *, lengths: Lengths
) -> dict[str, Array]:
    """The columns of single networks: the first address that each row has there.

    `networks` and `urls` are those of all rows, and `url` holds the urls once more; `lengths` says how many are in
    each row.
    """
    known = {network: _COLUMN_OF_NETWORK.get(network.lower(), _NO_COLUMN) for network in set(networks)}
    columns = [
        known[network] if network and url else _COLUMN_OF_NETWORK.get(_network_of_host(url), _NO_COLUMN)
        for network, url in zip(networks, urls, strict=True)
    ]
    row = np.repeat(np.arange(len(lengths)), lengths)
    first = np.full((len(_NETWORK_COLUMNS) + 1, len(lengths)), -1)
    # Backwards: of several values for one place, the last one stays. What has no column goes to the last row.
    first[np.array(columns[::-1], dtype=np.intp), row[::-1]] = np.arange(len(columns))[::-1]
    return {
        declared.name: url.take(number_array(index, pa.int64(), is_null=index < 0))
        for declared, index in zip(_NETWORK_COLUMNS, first, strict=False)
    }


def _network_of_host(url: str) -> str:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""
    # Country and mobile sub-domains are the same network.
    *_, name, top = ["", "", *host.split(".")]
    return name if top == "com" else ""


def _lengths(counts: _Counts) -> Lengths:
    return np.array(counts, dtype=np.int32)


def _lists(entries: Array, lengths: Lengths) -> Array:
    return lists_of(entries, lengths, is_there=lengths > 0)


def as_json(lists: Array | pa.ChunkedArray) -> Array:
    """A column of lists as JSON text."""
    texts = [None if entries is None else msgspec.json.encode(entries) for entries in lists.to_pylist()]
    return bytes_array(texts, pa.string())
