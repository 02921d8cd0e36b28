"""No history of tables lets a phone that is shared, or a role's mailbox, answer a row that has another identifier."""

import tempfile
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster import Enricher
from tests.people import contact, vendor

PEOPLE = range(3)
DESK, ROLE = "+12025550100", "info@corp.example"
PROFILES = [f"linkedin.com/in/p{number}" for number in PEOPLE]
EMAILS = [f"p{number}@corp{number}.example" for number in PEOPLE]
# Whom a row is about, and which of profile, e-mail, desk phone and role mailbox it offers.
ROWS = st.tuples(st.sampled_from(PEOPLE), *[st.booleans()] * 4)
HISTORIES = st.lists(st.lists(ROWS, min_size=1, max_size=5), min_size=1, max_size=4)
# By person, whether the vendor knows the profile, and the e-mail; then whom it gives for the desk and for the role.
KNOWLEDGE = st.tuples(
    st.tuples(*[st.tuples(st.booleans(), st.booleans())] * 3), *[st.none() | st.sampled_from(PEOPLE)] * 2
)


def are_two(first_person, other) -> bool:
    """Whether two rows are about two people, as far as their identifiers tell."""
    (first, has_profile, has_email, *_), (second, also_profile, also_email, *_) = first_person, other
    comparable = (has_profile and also_profile) or (has_email and also_email)
    return bool(comparable) and first != second


@pytest.fixture(scope="module")
def api():
    with vendor() as running:
        yield running


@settings(max_examples=25)
@given(HISTORIES, KNOWLEDGE, st.booleans())
def test_what_is_shared_or_weak_answers_no_row_that_has_another(api, history, knowledge, as_streams):
    own, of_desk, of_role = knowledge
    people = [
        contact(f"p{number}", profile=PROFILES[number], emails=[EMAILS[number], ROLE], phones=[DESK])
        for number in PEOPLE
    ]
    api.answers, seen = {}, []
    for number, (knows_profile, knows_email) in enumerate(own):
        api.knows(people[number], *[PROFILES[number]] * knows_profile, *[EMAILS[number]] * knows_email)
    for value, number in ((DESK, of_desk), (ROLE, of_role)):
        if number is not None:
            api.knows(people[number], value)
    with tempfile.TemporaryDirectory() as folder:
        for rows in history:
            # A stream knows what it has read; of a table read whole, later rows count for the first.
            for load in [[row] for row in rows] if as_streams else [rows]:
                seen += load
                is_shared = any(are_two(*pair) for pair in combinations([row for row in seen if row[3]], 2))
                was_asked = api.asked[DESK]
                check(enrich(api, Path(folder), load), load, own, is_shared=is_shared)
                assert not is_shared or api.asked[DESK] == was_asked


def enrich(api, folder: Path, rows) -> pd.DataFrame:
    offered = [
        {
            "social_profile": PROFILES[number] if profile else None, "email": EMAILS[number] if email else None,
            "phone": DESK if desk else None, "e-mail 2": ROLE if role else None,
        }
        for number, profile, email, desk, role in rows
    ]  # fmt: skip
    with Enricher(
        api_key="key", base_url=api.url, ledger=folder / "ledger.db", requests_per_minute=600_000, progress=False,
        identifiers={"social_profile": "social_profile", "email": ["email", "e-mail 2"], "phone": "phone"},
    ) as enricher:  # fmt: skip
        return enricher.enrich_dataframe(pd.DataFrame(offered, dtype=object))


def check(found: pd.DataFrame, rows, own, *, is_shared: bool) -> None:
    for answer, (number, profile, email, desk, role) in zip(found.to_dict("records"), rows, strict=True):
        if answer["eb_status"] != "matched":
            continue
        if answer["eb_query"] == ROLE:
            assert role
            assert (profile, email, desk) == (False, False, False)
        elif answer["eb_query"] == DESK:
            assert not is_shared
            # All of its own were asked first, and missed.
            assert (profile and own[number][0], email and own[number][1]) == (False, False)
        else:
            assert answer["eb_full_name"] == f"p{number}"
