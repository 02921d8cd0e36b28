"""Contacts as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eb_dagster.api.envelope import RequiredField
from eb_dagster.contacts.contact import Contact, Employment, Job, Location, PlainContact, Profile, Text
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


def flatten(contacts: Sequence[Contact | None]) -> Flattened:
    """Put contacts side by side, a row each."""
    found = {row: contact for row, contact in enumerate(contacts) if contact is not None}
    columns = pa.RecordBatch.from_arrays(_arrays([*found.values()]), schema=CONTACT_SCHEMA)
    is_vacant = np.array([contact is None for contact in contacts], dtype=np.bool_)
    if is_vacant.any():
        index = np.cumsum(~is_vacant) - 1
        columns = columns.take(number_array(index, pa.int64(), is_null=is_vacant))
    return Flattened(
        columns,
        is_vacant,
        drift={row: contact.drift for row, contact in found.items() if contact.drift},
        unknown_keys={row: contact.unknown_keys for row, contact in found.items() if contact.unknown_keys},
    )


def _arrays(contacts: Sequence[Contact]) -> list[Array]:
    """The contact columns of these rows, in declared order."""
    emails = [contact.emails for contact in contacts]
    phones = [contact.phones for contact in contacts]
    profiles = [contact.profiles for contact in contacts]
    networks, urls = _texts_of_profiles([*chain.from_iterable(profiles)])
    texts = {
        **_texts_of_persons([contact.plain for contact in contacts]),
        "phone": [of_row[0] if of_row else "" for of_row in phones],
        "school_name": [contact.school_name or "" for contact in contacts],
    }
    # All at once, because that is fastest.
    *arrays, email, phone, network, url = text_arrays(
        [*texts.values(), [*chain.from_iterable(emails)], [*chain.from_iterable(phones)], networks, urls]
    )
    profile = pa.StructArray.from_arrays([network, url], ["network", "url"])
    columns = {
        **dict(zip(texts, arrays, strict=True)),
        **_first_of_networks(networks, urls, url, lengths=_lengths(profiles)),
        "emails": _lists(email, _lengths(emails)),
        "phones": _lists(phone, _lengths(phones)),
        "social_profiles": _lists(profile, _lengths(profiles)),
        "education": bytes_array([contact.education for contact in contacts], pa.string()),
        "experiences": bytes_array([contact.experiences for contact in contacts], pa.string()),
        "other": bytes_array([contact.other for contact in contacts], pa.string()),
    }
    return [columns[column.name] for column in CONTACT_COLUMNS]


_NO_LOCATION: Final = Location()
_NO_EMPLOYMENT: Final = Employment()
_NO_JOB: Final = Job()
_Texts: TypeAlias = dict[str, list[str]]
"""Columns of text by name; empty where there is nothing."""


def _texts_of_persons(persons: Sequence[PlainContact]) -> _Texts:
    """The texts that are found in one place of a contact."""
    companies = [person.employment or _NO_EMPLOYMENT for person in persons]
    return {
        **_names(persons),
        "work_email": [person.current_work_email or _first(person.work_emails) for person in persons],
        "personal_email": [
            person.current_personal_email or _first(person.personal_emails) for person in persons
        ],
        **_texts_of_locations([person.location or _NO_LOCATION for person in persons]),
        **_texts_of_jobs([company.job or _NO_JOB for company in companies]),
        **_texts_of_companies(companies),
    }


def _names(persons: Sequence[PlainContact]) -> _Texts:
    return {
        "full_name": [person.full_name or "" for person in persons],
        "first_name": [person.first_name or "" for person in persons],
        "last_name": [person.last_name or "" for person in persons],
        "gender": [person.gender or "" for person in persons],
    }


def _texts_of_locations(locations: Sequence[Location]) -> _Texts:
    return {
        "city": [location.city or "" for location in locations],
        "region": [location.region or "" for location in locations],
        "country": [location.country or "" for location in locations],
    }


def _texts_of_jobs(jobs: Sequence[Job]) -> _Texts:
    return {
        "job_title": [job.title or "" for job in jobs],
        "job_level": [
            _first(levels) if isinstance(levels := job.levels, tuple) else levels or "" for job in jobs
        ],
    }


def _texts_of_companies(companies: Sequence[Employment]) -> _Texts:
    return {
        "company_name": [company.name or "" for company in companies],
        "company_domain": [company.domain or company.website or "" for company in companies],
        "company_size": [
            str(size) if isinstance(size := company.size, int) else size or "" for company in companies
        ],
        "company_industry": [company.industry or "" for company in companies],
        "company_linkedin_url": [company.linkedin_url or "" for company in companies],
        "photo_url": [company.profile_pic_url or "" for company in companies],
    }


def _texts_of_profiles(profiles: Sequence[Profile]) -> tuple[list[str], list[str]]:
    """Networks and addresses."""
    return [profile.network or "" for profile in profiles], [profile.url or "" for profile in profiles]


def _first(texts: Sequence[Text] | None) -> str:
    return next(filter(None, texts), "") if texts else ""


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


def _lengths(lists: Sequence[Sequence[object]]) -> Lengths:
    return np.fromiter(map(len, lists), np.int32, len(lists))


def _lists(entries: Array, lengths: Lengths) -> Array:
    return lists_of(entries, lengths, is_there=lengths > 0)


def as_json(lists: Array | pa.ChunkedArray) -> Array:
    """A column of lists as JSON text."""
    texts = [None if entries is None else msgspec.json.encode(entries) for entries in lists.to_pylist()]
    return bytes_array(texts, pa.string())
