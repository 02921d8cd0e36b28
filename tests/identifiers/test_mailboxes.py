"""Several spellings of one mailbox, by each provider's own rule."""

import pytest

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.canonical import canonical_column, identifiers_in, key_form, key_forms
from eb_dagster.identifiers.mailboxes import PROVIDERS


@pytest.mark.parametrize(
    ("text", "asked", "key"),
    [
        ("Bob+News@Gmail.com", "bob@gmail.com", "bob@gmail.com"),
        ("b.o.b@googlemail.com", "b.o.b@gmail.com", "bob@gmail.com"),
        ("b.o.b+x+y@gmail.com", "b.o.b@gmail.com", "bob@gmail.com"),
        ("bob+@gmail.com", "bob@gmail.com", "bob@gmail.com"),
        ("+x@gmail.com", "+x@gmail.com", "+x@gmail.com"),
        ("bob+news@hotmail.co.uk", "bob@hotmail.co.uk", "bob@hotmail.co.uk"),
        ("bob+news@live.nl", "bob@live.nl", "bob@live.nl"),
        ("bob+news@me.com", "bob@me.com", "bob@me.com"),
        ("bob+news@fastmail.fm", "bob@fastmail.fm", "bob@fastmail.fm"),
        ("bob+news@pm.me", "bob@pm.me", "bob@pm.me"),
        ("b.o.b@outlook.com", "b.o.b@outlook.com", "b.o.b@outlook.com"),
        ("bob+news@yahoo.com", "bob+news@yahoo.com", "bob+news@yahoo.com"),
        ("bob-news@yahoo.com", "bob-news@yahoo.com", "bob-news@yahoo.com"),
        ("bob+news@notgmail.com", "bob+news@notgmail.com", "bob+news@notgmail.com"),
        ("b.o.b@sub.gmail.com", "b.o.b@sub.gmail.com", "b.o.b@sub.gmail.com"),
        ("b.o.b@gmail.com.br", "b.o.b@gmail.com.br", "b.o.b@gmail.com.br"),
    ],
)
def test_an_address_is_asked_without_its_tag_and_remembered_without_its_dots(
    text: str, asked: str, key: str
) -> None:
    # Alone and in bulk, plainly and by way of the libraries.
    assert canonical_column("email", text_array([text, f'"{text}"'])).to_pylist() == [asked, asked]
    assert key_form("email", asked) == key
    assert key_forms("email", text_array([asked, "a@x.example"])).to_pylist() == [key, "a@x.example"]


def test_of_a_contacts_spellings_the_first_is_kept() -> None:
    found = identifiers_in({"email": ["b.ob@gmail.com", "bo.b+x@gmail.com", "ann@x.example"]})
    assert [identifier.value for identifier in found] == ["b.ob@gmail.com", "ann@x.example"]


def test_each_provider_names_its_source_and_has_its_domains_alone() -> None:
    domains = [domain for provider in PROVIDERS for domain in provider.domains]
    assert len(domains) == len(set(domains))
    assert all(provider.source.startswith("https://") for provider in PROVIDERS)
