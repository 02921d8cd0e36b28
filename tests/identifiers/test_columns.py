"""Which columns are found, and which are suggested."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.identifiers.columns import Layout, find_layout, suggest
from eb_dagster.identifiers.rows import read_rows


@pytest.mark.parametrize(
    ("available", "names"),
    [
        (["id", "phone", "email", "linkedin_url"], ("linkedin_url", "email", "phone")),
        (["Email", " PHONE ", "LinkedIn_URL"], ("LinkedIn_URL", "Email", " PHONE ")),
        (["linkedin_url", "social_profile"], ("social_profile", "linkedin_url")),
        (["email"], ("email",)),
        (["value", "email"], ("email",)),
        (["email", "value", "field_type"], ("field_type", "value")),
    ],
)
def test_columns_are_recognized_by_name(available: list[str], names: tuple[str, ...]) -> None:
    assert find_layout(available, None).names == names


def test_named_columns_are_asked_in_the_order_given() -> None:
    layout = find_layout(["A", "B", "C", "email"], {"phone": "C", "email": ["B", "A"]})
    assert layout == Layout("wide", (("phone", "C"), ("email", "B"), ("email", "A")))


def test_a_table_without_identifiers_says_what_there_is() -> None:
    with pytest.raises(InputError, match="'id', 'name'"):
        find_layout(["id", "name"], None)
    with pytest.raises(InputError, match="no columns at all"):
        find_layout([], None)


def test_a_wide_table_is_not_listed_in_full() -> None:
    with pytest.raises(InputError, match="and 70 more") as caught:
        find_layout([f"c{i}" for i in range(100)], None)
    assert "c30" not in str(caught.value)


LINKEDIN_EXPORT = {
    "First Name": ["Ada", "Bo"],
    "URL": ["https://www.linkedin.com/in/ada-example", "https://www.linkedin.com/in/bo-muster"],
    "Email Address": ["", "bo@firm.example"],
    "Company": ["Firm", "https://firm.example/about"],
}


GOOGLE_EXPORT = {
    "E-mail 1 - Label": ["* Work"],
    "E-mail 1 - Value": ["ada@firm.example ::: a@home.example"],
    "Phone 1 - Label": ["Mobile"],
    "Phone 1 - Value": ["(773) 474-9362 ::: 773-474-9363"],
    "Website 1 - Value": ["linkedin.com/in/ada-example ::: https://x.com/ada"],
}


OF_EVERY_KIND = {
    "Contact": ["ada@firm.example", "n/a", "bo@firm.example"],
    "Reach": ["+49 30 901820"],
    "Web": ["https://firm.example/about"],
    "Record ID": ["90154731842"],
    "Account Owner": ["boss@firm.example"],
    "Mobile": ["yes", "no"],
    "Email": ["no address at all"],
}


@pytest.mark.parametrize(
    ("table", "suggested"),
    [
        (LINKEDIN_EXPORT, {"social_profile": ["URL"], "email": ["Email Address"]}),
        (
            GOOGLE_EXPORT,
            {
                "social_profile": ["Website 1 - Value"],
                "email": ["E-mail 1 - Value"],
                "phone": ["Phone 1 - Value"],
            },
        ),
        (OF_EVERY_KIND, {"email": ["Contact", "Email"], "phone": ["Reach"]}),
    ],
)
def test_columns_are_suggested_by_what_their_first_rows_hold(
    table: dict[str, list[str]], suggested: dict[str, list[str]]
) -> None:
    assert suggest(list(table), table) == suggested


def test_columns_are_suggested_by_their_names_alone() -> None:
    assert suggest(list(LINKEDIN_EXPORT)) == {"email": ["Email Address"]}
    assert suggest(list(GOOGLE_EXPORT)) == {"email": ["E-mail 1 - Value"], "phone": ["Phone 1 - Value"]}


@pytest.mark.parametrize(
    "name",
    ["E-mail 1 - Label", "Email Confidence", "E-mail Display Name", "Email Type", "Assistant's Phone",
     "LinkedIn Headline", "Company Phone", "Email Hash", "Primary Email Catch-all Status"],
)  # fmt: skip
def test_what_is_only_about_an_identifier_is_not_suggested(name: str) -> None:
    assert suggest([name]) == {}


def test_an_error_suggests_columns_by_their_first_rows() -> None:
    with pytest.raises(InputError, match="'URL'"):
        find_layout(["Name", "URL"], None, samples={"URL": ["linkedin.com/in/ada"]})


def test_a_named_column_that_is_not_there_is_a_fault_of_the_table() -> None:
    with pytest.raises(InputError, match="no column 'Mail'; there are 'Email'"):
        find_layout(["Email"], {"email": "Mail"})


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "no column"),
        ({"email": []}, "no column"),
        ({"fax": "Fax"}, "'fax' is no kind of identifier"),
        ({"email": "E", "phone": "E"}, "twice: 'E'"),
        ({"email": ["E", "E"]}, "twice: 'E'"),
    ],
)
def test_a_wrong_mapping_is_a_fault_of_the_settings(chosen: dict[Any, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_layout(["E"], chosen)


EMAIL = Layout("wide", (("email", "email"),))


def test_two_columns_of_one_name_are_refused_only_if_they_are_used() -> None:
    with pytest.raises(InputError, match="more than one column is called 'email'"):
        find_layout(["email", "email"], None)
    with pytest.raises(InputError, match="more than one"):
        read_rows(pd.DataFrame([["", ""]], columns=["email", "email"]), EMAIL, default_region=None)
    assert find_layout(["id", "id", "email"], None).names == ("email",)


def test_column_names_that_are_people_are_not_told():
    with pytest.raises(InputError) as error:
        find_layout(["id", "canary@firm.example", "+17734749362", "linkedin.com/in/canary"], None)
    assert "is the header missing?" in str(error.value)
    assert "canary" not in str(error.value)
    assert "773" not in str(error.value)
