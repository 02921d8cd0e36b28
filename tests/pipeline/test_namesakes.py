"""Rows of one name and company: one purchase if they are one person, and otherwise each its own."""

from contextlib import closing

import pandas as pd
import pytest

from eb_dagster import Enricher
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.privacy import forget
from tests.people import COLUMNS, DESK, contact, people


def test_rows_of_one_name_are_one_purchase_if_the_first_one_s_contact_holds_the_second_one_s_address(
    api, named
):
    both = contact("Jane Doe", emails=["jane@corp.example", "jane@home.example"])
    api.knows(both, "jane@corp.example", "jane@home.example")
    found = named(("Jane Doe", "", "jane@corp.example", ""), ("Jane Doe", "", "jane@home.example", ""))
    assert people(found) == ["Jane Doe", "Jane Doe"]
    assert list(found["eb_query"]) == ["jane@corp.example", "jane@home.example"]
    assert list(found["eb_from_ledger"]) == [False, True]
    assert api.credits == 1


def test_two_people_of_one_name_each_get_their_own_contact(api, named):
    api.knows(contact("Wei Zhang", emails=["wei1@corp.example"]), "wei1@corp.example")
    api.knows(contact("Wei Zhang", emails=["wei2@corp.example"]), "wei2@corp.example")
    rows = [("Wei Zhang", "", f"wei{number}@corp.example", "") for number in (1, 2, 3)]
    found = named(*rows)
    assert list(found["eb_query"]) == [row[2] for row in rows]
    assert list(found["eb_status"]) == ["matched", "matched", "not_found"]
    assert [emails[0] for emails in found["eb_emails"][:2]] == ["wei1@corp.example", "wei2@corp.example"]


def test_a_row_with_nothing_of_its_own_takes_the_answer_of_its_name(api, named):
    api.knows(contact("Jane Doe", emails=["jane@corp.example"]), "jane@corp.example", DESK)
    found = named(("Jane Doe", "", "jane@corp.example", ""), ("Jane Doe", "", "", DESK))
    assert people(found) == ["Jane Doe", "Jane Doe"]
    assert api.credits == 1


def test_what_answered_a_row_for_its_name_s_sake_answers_it_in_a_rerun_too(api, named, where):
    api.knows(contact("Jane Doe", profile="linkedin.com/in/jane"), "linkedin.com/in/jane", DESK)
    rows = [("Jane Doe", "linkedin.com/in/jane", "", ""), ("Jane Doe", "", "", DESK)]
    found = named(*rows)
    assert list(found["eb_query"]) == ["linkedin.com/in/jane", DESK]
    with Enricher(
        api_key="key", base_url=api.url, ledger=where, progress=False, person={"name": "name"}
    ) as enricher:
        plan = enricher.plan(pd.DataFrame(rows, columns=COLUMNS))
        assert (plan.requests, plan.credits_at_most) == (0, 0)
    again = named(*rows)
    # Alone, too: by then it is the row of a later table.
    assert people(named(rows[1])) == ["Jane Doe"]
    pd.testing.assert_frame_equal(
        again.drop(columns="eb_from_ledger"), found.drop(columns="eb_from_ledger"), check_exact=True
    )
    assert api.credits == 1
    # Nobody of another name gets her contact by it.
    assert people(named(("Bob Smith", "", "", DESK))) == [None]
    with closing(Ledger(where, endpoint="")) as ledger:
        assert reconcile.check(ledger) == []
        assert forget(ledger, "phone", DESK).contacts == 1
    assert list(named(rows[0])["eb_status"]) == ["suppressed"]


def test_what_a_person_rejected_for_a_row_of_the_name_stays_rejected(api, named, where):
    jane = contact("Jane Doe", profile="linkedin.com/in/jane", phones=[DESK])
    api.knows(jane, "linkedin.com/in/jane")
    other = "jane@home.example"
    rows = [("Jane Doe", "linkedin.com/in/jane", "", ""), ("Jane Doe", "", other, DESK)]
    assert list(named(*rows)["eb_query"]) == ["linkedin.com/in/jane", other]
    assert other not in api.asked
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        assert enricher.reject("email", other) == 1
    # The phone is in her contact, and the name is hers.
    assert list(named(*rows)["eb_query"]) == ["linkedin.com/in/jane", DESK]


def test_a_row_of_the_same_name_with_another_profile_gets_its_own_person(api, named):
    first, second = "linkedin.com/in/john-a", "linkedin.com/in/john-b"
    api.knows(contact("John Smith", profile=first, phones=[DESK]), first)
    api.knows(contact("John Smith", profile=second), second)
    found = named(("John Smith", first, "", ""), ("John Smith", second, "", DESK))
    assert list(found["eb_linkedin_url"]) == [first, second]
    assert api.credits == 2


def test_a_row_of_the_same_name_with_another_address_at_the_company_gets_its_own_person(api, named):
    first, second = "john.smith@corp.example", "john.smith2@corp.example"
    api.knows(contact("John Smith", emails=[first], phones=[DESK]), first)
    api.knows(contact("John Smith", emails=[second]), second)
    found = named(("John Smith", "", first, ""), ("John Smith", "", second, DESK))
    assert [emails[0] for emails in found["eb_emails"]] == [first, second]


@pytest.mark.parametrize("name", ["Bob Jones", ""])
def test_a_row_with_nothing_of_its_own_asks_if_the_contact_of_its_name_is_called_otherwise(name, api, named):
    api.knows(contact(name, profile="linkedin.com/in/bob"), "linkedin.com/in/bob")
    api.knows(contact("Ada Lovelace"), DESK)
    found = named(("Ada Lovelace", "linkedin.com/in/bob", "", ""), ("Ada Lovelace", "", "", DESK))
    assert people(found)[1] == "Ada Lovelace"
    assert set(api.asked) == {"linkedin.com/in/bob", DESK}


def test_any_number_of_rows_of_one_name_come_to_an_end(api, named):
    rows = [("Jane Doe", "", f"jane{number}@corp.example", "") for number in range(12)]
    api.knows(contact("Jane Doe"), "jane7@corp.example")
    found = named(*rows)
    assert list(found["eb_status"]) == ["matched" if number == 7 else "not_found" for number in range(12)]
