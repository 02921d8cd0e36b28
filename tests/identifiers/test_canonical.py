"""What holds for the canonical form of every kind."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.canonical import (
    canonical,
    canonical_column,
    canonical_thoroughly,
    key_form,
    key_forms,
    plain_forms,
)
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType, Identifier
from tests.identifiers.spellings import MEMBER, NEAR_EMAIL, NEAR_PHONE, NEAR_PROFILE, TEXTS, reasons, spelled


@pytest.mark.parametrize("field_type", FIELD_TYPES)
@pytest.mark.parametrize("character", ["\x00", "\x1f", "\x7f", "\x85", "\ud800"])
def test_control_characters_inside_are_refused(field_type: FieldType, character: str) -> None:
    text = {"email": "ja{}ne@x.example", "phone": "+1773{}4749362", "social_profile": "in/ja{}ne"}
    assert spelled(field_type, text[field_type].format(character)) == "(control_characters)"


@pytest.mark.parametrize("text", ["", "  ", "\u00a0\u200b", '""', "<>", "\n\t"])
@pytest.mark.parametrize("field_type", FIELD_TYPES)
def test_nothing_but_wrapping_is_blank(field_type: FieldType, text: str) -> None:
    assert spelled(field_type, text) == "(blank)"
    assert read_cell(field_type, text, default_region=None) == ((), ())


@pytest.mark.parametrize(
    ("field_type", "text", "reason"),
    [
        ("email", "a" * 250 + "@x.example", "email_too_long"),
        ("phone", "+1" + " " * 60 + "7734749362", "phone_too_long"),
        ("social_profile", "x.com/" + "a" * 2048, "profile_too_long"),
    ],
)
def test_what_is_too_long_is_refused(field_type: FieldType, text: str, reason: str) -> None:
    assert spelled(field_type, text) == f"({reason})"
    megabytes = text * 10_000
    started = time.thread_time()
    assert spelled(field_type, megabytes) == f"({reason})"
    assert reasons(field_type, megabytes) == (reason,)
    assert time.thread_time() - started < 0.5


@given(st.sampled_from(FIELD_TYPES), TEXTS, st.sampled_from([None, "US", "DE", "AR", "MX", "IT"]))
@settings(max_examples=1500, deadline=None)
def test_the_canonical_form_is_its_own_canonical_form(
    field_type: FieldType, text: str, region: str | None
) -> None:
    identifier = canonical(field_type, text, default_region=region)
    if isinstance(identifier, Identifier):
        assert canonical(field_type, identifier.value) == identifier
        assert canonical(field_type, identifier.value, default_region=region) == identifier
        assert identifier.value.encode()


@given(st.sampled_from(FIELD_TYPES), TEXTS)
@settings(max_examples=500, deadline=None)
def test_wrapping_changes_nothing(field_type: FieldType, text: str) -> None:
    wrapped = f' "\u200b{text}\u00a0>\n'
    assert canonical(field_type, wrapped) == canonical(field_type, text)


WRAPPED = st.sampled_from(["{}", " {} ", "\t{}\n", "\x1f{}", "<{}>", "mailto:{}", "\u00a0{}", "{}\u2028"])


@settings(max_examples=600)
@given(
    st.one_of(
        st.tuples(st.just("email"), NEAR_EMAIL),
        st.tuples(st.just("phone"), NEAR_PHONE),
        st.tuples(st.just("social_profile"), NEAR_PROFILE),
    ),
    WRAPPED,
    st.sampled_from([None, "US", "DE"]),
)
@example(("social_profile", f"linkedin.com/in/{MEMBER}"), "{}", None)
@example(("social_profile", "linkedin.com/in/me"), "{}", None)
@example(("social_profile", "Facebook.com/profile.php"), "{}", None)
@example(("social_profile", "https://www.X.com/Ada.B_/"), "{}", None)
@example(("email", "a@xn--p1ai.example"), "{}", None)
@example(("email", "a@ab--c.example"), "{}", None)
@example(("email", "a@firm.test"), "{}", None)
@example(("email", "K\u212a@firm.example"), "{}", None)
@example(("email", "a--b@firm.example\u0130"), "{}", None)
@example(("phone", "+17734749362\n"), "{}", None)
def test_the_short_cut_comes_to_what_the_libraries_say(
    kind_and_text: tuple[FieldType, str], wrapped: str, region: str | None
) -> None:
    kind, text = kind_and_text
    text = wrapped.format(text)
    assert canonical(kind, text, default_region=region) == canonical_thoroughly(kind, text, region)


ADDRESS_LIKE = st.text(
    st.sampled_from("abZK\u212a\u0130ß09._+-@@..  \t\r\n\x00\x0b\x1c\u00a0\u2028é\ud800<>\"'"), max_size=24
)


@settings(max_examples=300)
@given(
    st.lists(
        ADDRESS_LIKE
        | st.builds("{}@{}.{}".format, ADDRESS_LIKE, ADDRESS_LIKE, ADDRESS_LIKE)
        | NEAR_EMAIL
        | NEAR_PHONE
        | NEAR_PROFILE
        | st.from_regex(r"\A\+[0-9]{6,15}\Z")
        | st.from_regex(
            r"\A(linkedin\.com/in|facebook\.com|twitter\.com|x\.com|github\.com)/[a-z.A_-]{0,8}\Z"
        ),
        max_size=6,
    )
)
@example(
    ["+442079460000", "+4402079460000", "+15125550100", "+11255501000", "+390612345678", "+5491123456789"]
)
@example(
    ["linkedin.com/in/me", "linkedin.com/in/meg", "linkedin.com/in/acwaa", "twitter.com/home", "x.com/ada"]
)
@pytest.mark.parametrize("kind", FIELD_TYPES)
def test_many_texts_at_once_come_to_what_each_comes_to_alone(kind: FieldType, texts: list[str]) -> None:
    texts = [
        *texts,
        "Ada@Firm.Example",
        " ada@firm.example\n",
        f"ada@{'a' * 64}.example",
        "linkedin.com/in/Ada",
    ]
    assert plain_forms(kind, texts) == [KINDS[kind].plain_form(text) or None for text in texts]
    texts = [text for text in texts if text and "\ud800" not in text]
    alone = [canonical(kind, text) for text in texts]
    column = canonical_column(kind, text_array(texts))
    assert column.to_pylist() == [
        identifier.value if isinstance(identifier, Identifier) else None for identifier in alone
    ]
    values = column.drop_null()
    assert key_forms(kind, values).to_pylist() == [key_form(kind, value) for value in values.to_pylist()]
