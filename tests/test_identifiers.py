import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.identifiers import Identifier, canonical, find_layout, read_cell, read_rows


@pytest.mark.parametrize(
    ("kind", "text", "region", "value"),
    [
        (
            "social_profile",
            "https://www.linkedin.com/in/Jane-Doe/?trk=x",
            None,
            "linkedin.com/in/jane-doe",
        ),
        ("social_profile", "linkedin.com/in/jane-doe", None, "linkedin.com/in/jane-doe"),
        ("social_profile", "de.linkedin.com/in/jane-doe/en", None, "linkedin.com/in/jane-doe"),
        ("social_profile", "linkedin.com/in/j%C3%BCrgen", None, "linkedin.com/in/jürgen"),
        ("social_profile", "HTTPS://GitHub.com/Jane/", None, "github.com/Jane"),
        ("phone", "+1-773-474-9362", None, "+17734749362"),
        ("phone", "(773) 474 9362", "US", "+17734749362"),
        ("phone", "001 773 474 9362", "DE", "+17734749362"),
        ("phone", "＋１ ７７３ ４７４ ９３６２", None, "+17734749362"),
        ("phone", "tel:+1-773-474-9362", None, "+17734749362"),
        ("email", " Jane@Firm.Example ", None, "jane@firm.example"),
        ("email", "mailto:Jane@firm.example?subject=Hi", None, "jane@firm.example"),
        ("email", "jane@BÜCHER.example", None, "jane@xn--bcher-kva.example"),
    ],
)
def test_variants_have_one_spelling(kind, text, region, value):
    assert canonical(kind, text, default_region=region) == Identifier(kind, value)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("email", "jane", "email_syntax"),
        ("email", "a\0b@firm.example", "control_characters"),
        ("email", "x" * 10**6, "email_too_long"),
        ("phone", "773 474 9362", "phone_no_region"),
        ("phone", "1.77347E+10", "phone_spreadsheet_number"),
        ("phone", "n/a", "phone_syntax"),
        ("phone", "+1 202 555", "phone_not_possible"),
        ("social_profile", "linkedin.com/company/x", "profile_not_a_person"),
        ("social_profile", "jane@firm.example", "profile_syntax"),
    ],
)
def test_what_is_none_has_a_reason(kind, text, reason):
    assert canonical(kind, text) == reason


def test_several_addresses_in_one_cell_are_all_candidates():
    found, reasons = read_cell("email", "nope@; A@x.example, b@y.example", default_region=None)
    assert [one.value for one in found] == ["a@x.example", "b@y.example"]
    assert reasons == ("email_syntax",)


def test_a_name_around_an_address_is_no_address():
    found, reasons = read_cell("email", "Jane Doe <jane@x.example>", default_region=None)
    assert [one.value for one in found] == ["jane@x.example"]
    assert reasons == ()


@settings(deadline=None)
@given(st.sampled_from(["email", "phone", "social_profile"]), st.text(max_size=40))
def test_canonical_is_idempotent(kind, text):
    texts = [text, f"{text}@firm.example", f"linkedin.com/in/{text}", f"+1202{text}"]
    for one in (canonical(kind, each) for each in texts):
        if isinstance(one, Identifier):
            assert canonical(kind, one.value) == one


def test_columns_are_found_whatever_their_case():
    layout = find_layout(["Phone", "EMAIL", "LinkedIn_URL", "x"], None)
    assert layout.columns == (
        ("social_profile", "LinkedIn_URL"),
        ("email", "EMAIL"),
        ("phone", "Phone"),
    )


def test_unknown_kinds_and_missing_columns_are_named():
    with pytest.raises(ConfigError, match="fax"):
        find_layout(["a"], {"fax": "a"})
    with pytest.raises(InputError, match="'Mail'.*'a'"):
        find_layout(["a"], {"email": "Mail"})


def test_numbers_are_refused_by_count_and_never_by_value():
    frame = pd.DataFrame({"phone": [4242424242, 4242424243]})
    with pytest.raises(InputError, match="phone: 2 of 2 values are numbers") as error:
        read_rows(frame, find_layout(["phone"], None), default_region=None)
    assert "42424242" not in f"{error.value} {error.value.__cause__} {error.value.__context__}"


@pytest.mark.parametrize("dtype", ["object", "string", "str", "category"])
def test_every_kind_of_text_is_taken(dtype):
    frame = pd.DataFrame({"email": pd.Series(["a@b.example", None], dtype=dtype)})
    rows = read_rows(frame, find_layout(["email"], None), default_region=None)
    assert [len(row.identifiers) for row in rows] == [1, 0]


def test_a_repr_shows_no_person():
    assert "jane" not in repr(canonical("email", "jane@firm.example"))
