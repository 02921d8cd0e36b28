"""The one table of columns, and every schema that is made from it.

The Arrow schema, the pandera schema, Dagster's column schema, the documents' table and the warehouse's
tables all follow from the table below. How to add a column is told in `docs/how-to/add-a-column.md`. Never
rename a column or change its type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa

from eb_dagster.errors import ConfigError, did_you_mean, shown_list
from eb_dagster.identifiers.model import FieldType

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

ListsChoice = Literal["list", "json"]
Status = Literal["matched", "not_found", "invalid", "suppressed", "not_asked", "in_doubt", "unreadable"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
"""How a row can end."""

_TEXT: Final = pa.string()
_TEXTS: Final = pa.list_(pa.string())
_PROFILES: Final = pa.list_(pa.struct([("network", pa.string()), ("url", pa.string())]))
_TIME: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class EntryField:
    """A field of a list's entries. In JSON entries, its value stands under the first of `keys` that is there."""

    name: str
    description: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the result, without its prefix."""

    name: str
    type: pa.DataType
    description: str
    source: str = ""
    """Where in the contact the value is found."""
    nullable: bool = True
    is_json: bool = False
    """The text is JSON."""
    networks: tuple[str, ...] = ()
    """Names of the social network whose first profile this is."""
    entry_fields: tuple[EntryField, ...] = ()
    """The fields of an entry. A warehouse keeps the entries of such a column in a table of their own."""
    field_type: FieldType | None = None
    """The kind of identifier that the entries are."""


STATUS_COLUMNS: Final = (
    Column("matched", pa.bool_(), "True found, false not found, null when not known."),
    Column("status", _TEXT, f"One of {', '.join(STATUSES)}.", nullable=False),
    Column("field_type", _TEXT, "Kind of the identifier that answered, or was asked last."),
    Column("query", _TEXT, "That identifier in canonical form."),
    Column("from_ledger", pa.bool_(), "Answered without a request in this run.", nullable=False),
    Column("enriched_at", _TIME, "When the vendor's answer arrived, in UTC."),
)

AGREES: Final = Column(
    "agrees", pa.bool_(), "Whether the contact has the row's name; null where that cannot be told."
)
"""Stands beside the status columns if the settings name columns of persons' names."""

_ENTRY_AS_JSON: Final = EntryField("entry", "All that the vendor said, as JSON.")
_START: Final = EntryField("start_date", "Start as the vendor gives it.", ("start_date",))
_END: Final = EntryField("end_date", "End as the vendor gives it.", ("end_date",))

CONTACT_COLUMNS: Final = (
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
        "emails",
        _TEXTS,
        "Every distinct e-mail address, current ones first.",
        "all of these and emails[]",
        entry_fields=(EntryField("email", "E-mail address."),),
        field_type="email",
    ),
    Column("phone", _TEXT, "The first phone number.", "phone_numbers[].E164"),
    Column(
        "phones",
        _TEXTS,
        "Every distinct phone number.",
        "phone_numbers[].E164",
        entry_fields=(EntryField("phone", "Phone number."),),
        field_type="phone",
    ),
    Column("linkedin_url", _TEXT, "LinkedIn profile.", "social_profiles[].url", networks=("linkedin",)),
    Column("twitter_url", _TEXT, "Twitter or X profile.", "social_profiles[].url", networks=("twitter", "x")),
    Column("facebook_url", _TEXT, "Facebook profile.", "social_profiles[].url", networks=("facebook",)),
    Column("github_url", _TEXT, "GitHub profile.", "social_profiles[].url", networks=("github",)),
    Column(
        "social_profiles",
        _PROFILES,
        "Every profile with its network.",
        "social_profiles[]",
        entry_fields=(
            EntryField("network", "Network as the vendor gives it."),
            EntryField("url", "Address of the profile."),
        ),
        field_type="social_profile",
    ),
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
    Column(
        "education",
        _TEXT,
        "Education as JSON.",
        "education[]",
        is_json=True,
        entry_fields=(
            EntryField("school_name", "School.", ("school", "name")),
            EntryField("degree", "Degree.", ("degree", "degrees")),
            _START,
            _END,
            _ENTRY_AS_JSON,
        ),
    ),
    Column(
        "experiences",
        _TEXT,
        "Experiences as JSON.",
        "experiences[]",
        is_json=True,
        entry_fields=(
            EntryField("company_name", "Employer.", ("company", "company_name")),
            EntryField("job_title", "Job title.", ("title", "job_title")),
            _START,
            _END,
            _ENTRY_AS_JSON,
        ),
    ),
    Column("other", _TEXT, "Everything that no column took, as JSON.", "any other key", is_json=True),
)

NAME_COLUMNS: Final = ("full_name", "first_name", "last_name")
"""What a contact is called."""

JOB_COLUMNS: Final = ("job_title", "job_level", "company_name", "company_domain")
"""What makes one job differ from the next."""


def select(columns: Sequence[str] | None, *, prefix: str = "eb_") -> tuple[Column, ...]:
    """The contact columns to keep, in declared order. They may be named as they are called in the result."""
    if columns is None:
        return CONTACT_COLUMNS
    known = [column.name for column in CONTACT_COLUMNS]
    # They may also be named as the documents name them.
    names = [name if name in known else name.removeprefix(prefix).removeprefix("eb_") for name in columns]
    _check_known(names, known)
    return tuple(column for column in CONTACT_COLUMNS if column.name in names)


def _check_known(names: Sequence[str], known: Sequence[str]) -> None:
    accepted = {*known, *(column.name for column in STATUS_COLUMNS)}
    unknown = [name for name in names if name not in accepted]
    if unknown:
        meant = did_you_mean(unknown, known)
        raise ConfigError(f"columns: {shown_list(unknown)} not known; choose from {known}{meant}")


def added_columns(
    *, prefix: str = "eb_", columns: Sequence[str] | None = None, with_agrees: bool = False
) -> tuple[Column, ...]:
    """The columns that an enrichment adds to a table; `with_agrees` if persons' names are compared."""
    status = (*STATUS_COLUMNS, AGREES) if with_agrees else STATUS_COLUMNS
    return (*status, *select(columns, prefix=prefix))


def arrow_schema(
    *,
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
    lists: ListsChoice = "list",
    with_agrees: bool = False,
) -> pa.Schema:
    """The Arrow schema of the added columns, the same for every input."""
    return pa.schema([
        pa.field(
            prefix + column.name,
            _written_type(column, lists),
            column.nullable,
            {"description": column.description},
        )
        for column in added_columns(prefix=prefix, columns=columns, with_agrees=with_agrees)
    ])  # fmt: skip


def _written_type(column: Column, lists: ListsChoice) -> pa.DataType:
    return _TEXT if lists == "json" and pa.types.is_list(column.type) else column.type


def pandas_dtype(type_: pa.DataType) -> Any:
    """The pandas dtype of a column, such that a column of nulls keeps it; None for lists."""
    import pandas as pd

    if pa.types.is_string(type_):
        return pd.StringDtype("pyarrow")
    if pa.types.is_boolean(type_):
        return pd.BooleanDtype()
    if pa.types.is_timestamp(type_):
        return pd.DatetimeTZDtype("us", "UTC")
    # Lists stay objects: pandas cannot read back a Parquet file in which it noted an Arrow list.
    return None


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The added columns for pandas. Lists are Python's own: databases and text know no numpy arrays."""
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    frame = table.drop_columns(lists).to_pandas(types_mapper=pandas_dtype)
    for name in lists:
        frame[name] = np.fromiter(table[name].to_pylist(), dtype=object, count=table.num_rows)
    return frame[table.column_names]


def enriched_contacts(
    *,
    prefix: str = "eb_",
    columns: Sequence[str] | None = None,
    lists: ListsChoice = "list",
    with_agrees: bool = False,
) -> pandera.DataFrameSchema:
    """The contract of the result. Columns of the input pass unchecked."""
    import pandera.pandas as pandera

    # pandera leaves the parameters of its checks partly untyped.
    check: Any = pandera.Check
    declared = {
        prefix + column.name: pandera.Column(
            pandas_dtype(_written_type(column, lists)),
            checks=[check.isin(STATUSES)] if column.name == "status" else [],
            nullable=column.nullable,
            description=column.description,
        )
        for column in added_columns(prefix=prefix, columns=columns, with_agrees=with_agrees)
    }

    def match_agrees(frame: pd.DataFrame) -> bool:
        status, matched = frame[prefix + "status"], frame[prefix + "matched"]
        is_known = status.isin(["matched", "not_found"])
        agrees = matched.fillna(False) == (status == "matched")
        # One bool for the whole frame: told row by row, pandera prints whole rows, so people.
        return bool(((matched.notna() == is_known) & agrees).all())

    agreement = check(match_agrees, name="match_agrees_with_status", error=_DISAGREEMENT)
    return pandera.DataFrameSchema(declared, checks=[agreement], strict=False, name="EnrichedContacts")


_DISAGREEMENT: Final = "matched must be true where status is matched, false where not_found, else null"


def markdown_table(*, prefix: str = "eb_") -> str:
    """The columns as the documents show them."""
    lines = ["| column | type | meaning | found at |", "|---|---|---|---|"]
    for column in added_columns(with_agrees=True):
        source = f"`{column.source}`" if column.source else ""
        name, description = f"`{prefix}{column.name}`", column.description
        lines.append(f"| {name} | {_type_name(column)} | {description} | {source} |")
    return "\n".join(lines)


def _type_name(column: Column) -> str:
    if column.is_json:
        return "JSON text"
    if column.type == _PROFILES:
        return f"list of {', '.join(field.name for field in column.entry_fields)}"
    return _TYPE_NAMES[column.type]


_TYPE_NAMES: Final[dict[pa.DataType, str]] = {
    _TEXT: "text",
    _TEXTS: "list of text",
    _TIME: "timestamp, UTC",
    pa.bool_(): "bool",
}


@cache
def _default_contract() -> pandera.DataFrameSchema:
    return enriched_contacts()


def __getattr__(name: str) -> Any:
    # pandera takes half a second to import; only who asks for the schema pays for it.
    if name == "EnrichedContacts":
        return _default_contract()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
