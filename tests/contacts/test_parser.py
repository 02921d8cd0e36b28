import json

import pytest

from eb_dagster.contacts.flatten import flatten
from eb_dagster.contacts.parser import is_utf8
from eb_dagster.contacts.tolerant_parser import read_contact
from tests.contacts.readings import NAMES, flat, held, left_over, named, read


def test_a_contact_becomes_flat_columns():
    row = flat({
        "full_name": "Ada Alder", "location": {"city": "Brno"}, "phone_numbers": [{"E164": "+1"}],
        "employment": {
            "name": "Larch", "size": 250, "job": {"title": "Buyer", "levels": ["senior"]},
        },
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
    assert row["linkedin_url"] == "linkedin.com/in/a"
    assert (row["school_name"], row["education"]) == ("Here", '[{"school": {"name": "Here"}}]')
    assert row["other"] is None


def test_current_addresses_come_first_and_each_address_comes_once():
    contact = read({
        "emails": ["other@x.example", "work@x.example"], "work_emails": ["old@x.example"],
        "personal_emails": [{"address": "home@x.example"}],
        "current_work_email": "work@x.example", "current_personal_email": "me@x.example",
    })  # fmt: skip
    assert contact.texts["email"] == (
        "work@x.example", "me@x.example", "old@x.example", "home@x.example", "other@x.example",
    )  # fmt: skip
    row = named(contact)
    assert (row["work_email"], row["personal_email"]) == ("work@x.example", "me@x.example")
    assert row["emails"] == list(contact.texts["email"])


@pytest.mark.parametrize(
    ("contact", "fields"),
    [
        ({"work_emails": ["a@x.example"]}, {"email", "work_email"}),
        ({"current_work_email": "a@x.example"}, {"email", "work_email"}),
        ({"personal_emails": ["a@x.example"]}, {"email", "personal_email"}),
        ({"current_personal_email": "a@x.example"}, {"email", "personal_email"}),
        ({"emails": "a@x.example"}, {"email"}),
        ({"phone_numbers": ["+1"]}, {"phone"}),
        ({"social_profiles": ["github.com/a"]}, {"social_profile"}),
        ({"full_name": "Ada", "emails": [], "phone_numbers": None, "work_emails": [""]}, set()),
    ],
)
def test_what_a_contact_holds_is_told(contact, fields):
    assert held(read(contact)) == fields


@pytest.mark.parametrize(
    ("profile", "column"),
    [
        ({"network": "LinkedIn", "url": "u"}, "linkedin_url"),
        ({"network": "x", "url": "u"}, "twitter_url"),
        ({"network": "twitter", "url": "u"}, "twitter_url"),
        ({"network": "facebook", "url": "u"}, "facebook_url"),
        ({"network": "GITHUB", "url": "u"}, "github_url"),
        ({"url": "https://cz.linkedin.com/in/a"}, "linkedin_url"),
        ("x.com/a", "twitter_url"),
        ("https://WWW.GitHub.com/a", "github_url"),
        ("https://linkedin.com.example/in/a", None),
        ("https://[broken", None),
    ],
)
def test_a_profile_is_placed_by_its_network_or_else_by_its_host(profile, column):
    row = flat({"social_profiles": [profile]})
    url = profile if isinstance(profile, str) else profile["url"]
    placed = {name: row[name] for name in NAMES if name.endswith("_url") and row[name]}
    assert placed == ({column: url} if column else {})
    assert [profile["url"] for profile in row["social_profiles"]] == [url]


def test_the_domain_comes_before_the_web_site_and_neither_is_lost():
    both = {"employment": {"website": "www.larch.example", "domain": "larch.example"}}
    assert flat(both)["company_domain"] == "larch.example"
    assert left_over(both) == {"employment": {"website": "www.larch.example"}}
    assert flat({"employment": {"website": "w.example"}})["company_domain"] == "w.example"


def test_the_first_job_level_is_the_level_and_the_rest_is_kept():
    several = {"employment": {"job": {"levels": ["senior", "manager"]}}}
    assert flat(several)["job_level"] == "senior"
    assert left_over(several) == {"employment": {"job": {"levels": ["manager"]}}}
    assert flat({"employment": {"job": {"levels": "owner"}}})["job_level"] == "owner"


def test_json_columns_keep_their_text_as_it_came():
    raw = b'{"experiences":[{"b":1.50,"a":"\\u017d"}],"education":[{"year":1e999}]}'
    row = named(read_contact(raw))
    assert row["experiences"] == '[{"b":1.50,"a":"\\u017d"}]'
    assert row["education"] == '[{"year":1e999}]'


def test_what_is_left_over_is_sorted_so_that_equal_contacts_give_equal_text():
    row = flat(
        {"zeta": 1, "employment": {"start_date": "a", "job": {"start_date": "b"}}, "alpha": {"b": 1, "a": 2}}
    )
    assert row["other"] == (
        '{"alpha":{"a":2,"b":1},"employment":{"job":{"start_date":"b"},"start_date":"a"},"zeta":1}'
    )


def test_an_empty_start_date_is_not_left_over():
    assert flat({"employment": {"start_date": None, "job": {"start_date": ""}}})["other"] is None


def test_equal_contacts_have_the_same_contents_whichever_release_read_them():
    contact = {
        "full_name": "Ada", "emails": ["a@b.example"], "education": [{"school": {"name": "Škola"}}],
        "social_profiles": [{"network": "", "url": "x.com/a"}, {"network": "github", "url": ""}],
    }  # fmt: skip
    reading = read_contact(json.dumps(contact, ensure_ascii=False, separators=(",", ":")).encode())
    # As it is packed into ledgers: another text would make another person of her.
    assert flatten([reading]).contents(0) == (
        "('Ada', None, None, None, None, None, ('a@b.example',), None, None, None, 'x.com/a', None, None, "
        "((None, 'x.com/a'), ('github', None)), None, None, None, None, None, None, None, None, None, None, "
        """None, 'Škola', '[{"school":{"name":"Škola"}}]', None, None)"""
    )


def test_bad_utf_8_is_told_wherever_it_stands():
    reply = '{"contacts": [{"enriched_contact": {"education": [{"school": "Škola"}]}}]}'.encode()
    assert is_utf8(reply)
    assert is_utf8(b"")
    for position in (reply.index(b"\xc5"), len(reply)):
        assert not is_utf8(reply[: position + 1] + b"\xff" + reply[position + 1 :])
