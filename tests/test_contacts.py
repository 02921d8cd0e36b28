import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster import contacts
from eb_dagster.contacts import CONTACT_COLUMNS, read_contact


def flat(contact: object) -> dict:
    values = read_contact(json.dumps(contact).encode()).values
    return dict(zip([column.name for column in CONTACT_COLUMNS], values, strict=True))


def test_a_contact_becomes_flat_columns():
    row = flat({
        "full_name": "Ada Alder", "location": {"city": "Brno"}, "phone_numbers": [{"E164": "+1"}],
        "employment": {"name": "Larch", "size": 250, "job": {"title": "Buyer", "levels": ["senior"]}},
        "social_profiles": [{"network": "linkedin", "url": "linkedin.com/in/a"}],
        "education": [{"school": {"name": "Here"}}], "work_emails": ["a@b.example"],
    })  # fmt: skip
    assert row["full_name"] == "Ada Alder"
    assert row["company_size"] == "250"
    assert (row["job_title"], row["job_level"], row["city"]) == ("Buyer", "senior", "Brno")
    assert (row["phone"], row["work_email"], row["emails"]) == (
        "+1",
        "a@b.example",
        ["a@b.example"],
    )
    assert (row["linkedin_url"], row["school_name"], row["other"]) == (
        "linkedin.com/in/a",
        "Here",
        None,
    )


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
_key = st.sampled_from([
    "full_name", "emails", "work_emails", "phone_numbers", "social_profiles", "location", "employment",
    "education", "experiences", "current_work_email", "new",
])  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(_key, _json, max_size=5))
def test_nothing_that_was_paid_for_is_lost(contact):
    row = read_contact(json.dumps(contact).encode()).values
    kept = json.dumps(row) + "".join(value for value in row if isinstance(value, str))
    for leaf in _leaves(contact):
        assert json.dumps(leaf).strip('"') in kept or str(leaf) in kept


def _leaves(value):
    if isinstance(value, dict):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


@pytest.mark.parametrize(
    "raw",
    [
        b'"text"',
        b"[]",
        b"7",
        b'{"a": NaN}',
        b'{"full_name": "\\ud800"}',
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_no_shape_makes_it_fail(raw):
    assert len(read_contact(raw).values) == len(CONTACT_COLUMNS)


def test_an_unexpected_type_goes_to_other_and_is_counted():
    one = read_contact(b'{"full_name": {"first": "Ada"}, "foo": 1}')
    assert one.drift == ("full_name",)
    assert one.unknown_keys == ("foo",)
    assert json.loads(one.values[-1]) == {"full_name": {"first": "Ada"}, "foo": 1}


def test_a_table_of_nulls_has_the_same_schema():
    table = contacts.arrow_schema().empty_table().to_pandas(types_mapper=contacts.pandas_dtype)
    assert isinstance(contacts.EnrichedContacts.validate(table), pd.DataFrame)


def test_the_readme_has_the_columns():
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    assert contacts.markdown_table() in readme
