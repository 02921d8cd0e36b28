"""What counts as one person's address, and which tables are understood."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.errors
import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.identifiers import model
from eb_dagster.identifiers.model import (
    FIELD_TYPES,
    Candidates,
    FieldType,
    Identifier,
    Layout,
    canonical,
    canonical_thoroughly,
    canonical_values,
    check_region,
    find_layout,
    key_form,
    read_batch,
    read_cell,
    read_rows,
    schema,
    suggest,
)

PACKAGE = Path(model.__file__).parents[1]
CANARIES = ("canary@secret.example", "+17735550199", "linkedin.com/in/canary", "5550199")
_MEMBER = "ACoAABcdEfghIjklMnopQrstUvwxYz01234"
EMAIL = Layout("wide", (("email", "email"),))
PHONE = Layout("wide", (("phone", "phone"),))
WIDE = Layout("wide", (("social_profile", "linkedin_url"), ("email", "email"), ("phone", "phone")))
LONG = Layout("long", ())


def spelled(field_type: FieldType, text: str, region: str | None = None) -> str:
    one = canonical(field_type, text, default_region=region)
    return one.value if isinstance(one, Identifier) else f"({one})"


def values(field_type: FieldType, cell: str | None, region: str | None = None) -> list[str]:
    found, _ = read_cell(field_type, cell, default_region=region)
    return [one.value for one in found]


def against(field_type: FieldType, cell: str | None, region: str | None = None) -> tuple[str, ...]:
    return read_cell(field_type, cell, default_region=region)[1]


# ---- e-mail -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "jane@firm.example",
        "  Jane@Firm.EXAMPLE\t",
        "\u00a0jane@firm.example\u200b",
        "\ufeffjane@firm.example",
        '"jane@firm.example"',
        "'jane@firm.example'",
        "“jane@firm.example”",
        "<jane@firm.example>",
        "mailto:jane@firm.example",
        "MAILTO:jane@firm.example?subject=hi&cc=boss@firm.example",
        "<mailto:jane@firm.example?subject=hi>",
        "mailto:jane%40firm.example",
        "mailto:%6aane@firm.example",
        "jane@firm.example.",
    ],
)
def test_spellings_of_one_email_are_one(text: str) -> None:
    assert spelled("email", text) == "jane@firm.example"
    assert values("email", text) == ["jane@firm.example"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Jane@München.example", "jane@xn--mnchen-3ya.example"),
        ("jane@xn--mnchen-3ya.example", "jane@xn--mnchen-3ya.example"),
        ("jane@MU\u0308NCHEN.example", "jane@xn--mnchen-3ya.example"),
        ("RENE\u0301@firm.example", "ren\u00e9@firm.example"),
        ("o'brien+news@firm.example", "o'brien+news@firm.example"),
        ("jane%x@firm.example", "jane%x@firm.example"),
        ("jane@firm.test", "jane@firm.test"),
        ("jane@firm.local", "jane@firm.local"),
        ("jane@firm.invalid", "jane@firm.invalid"),
        ("jane@example.com", "jane@example.com"),
    ],
)
def test_an_email_has_one_spelling(text: str, value: str) -> None:
    assert spelled("email", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "n/a",
        "jane",
        "jane@",
        "@firm.example",
        "jane@localhost",
        "jane@test",
        "jane@.local",
        "jane@firm",
        "jane@[192.0.2.1]",
        "jane@[IPv6:2001:db8::1]",
        "jane@192.0.2.1",
        '"jane doe"@firm.example',
        '"jane"@firm.example',
        "jane doe@firm.example",
        "jane..doe@firm.example",
        "jane@firm..example",
        "jane@-firm.example",
        "jane@@firm.example",
        "ja\u200bne@firm.example",
        "jos\ufffd@firm.example",
        "mailto:jos%E9@firm.example",
        "Jane <jane@firm.example>",
        "https://firm.example/jane",
    ],
)
def test_what_is_no_email_is_never_asked(text: str) -> None:
    assert spelled("email", text) == "(email_syntax)"


# ---- phone --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("+1-773-474-9362", None),
        ("+17734749362", None),
        ("\u202a+1 773 474 9362\u202c", None),
        ("＋１７７３４７４９３６２", None),
        ("tel:+1-773-474-9362", None),
        ("TEL:+1-773-474-9362;ext=5", None),
        ("tel:773-474-9362;phone-context=+1", None),
        ("tel:%2B17734749362", None),
        ("'+1 773 474 9362", None),
        ("+1 773 474 9362 ext. 12", None),
        ("+1 773 474 9362 x12", None),
        ("+1\t773 474 9362", None),
        ("Tel.: +1 773 474 9362", None),
        ("+1 773 474 9362 (office)", None),
        ("(773) 474-9362 cell", "US"),
        ("+17734749362.0", None),
        ("17734749362.0", "US"),
        ("17734749362", "US"),
        ("(773) 474 9362", "US"),
        ("(773) 474 9362", "us"),
        ("001 773 474 9362", "DE"),
        ("011 1 773 474 9362", "US"),
    ],
)
def test_spellings_of_one_phone_are_one(text: str, region: str | None) -> None:
    assert spelled("phone", text, region) == "+17734749362"
    assert values("phone", text, region) == ["+17734749362"]


@pytest.mark.parametrize(
    ("text", "region", "value"),
    [
        ("011 49 30 1234567", "US", "+49301234567"),
        ("030/1234567", "DE", "+49301234567"),
        ("+44 (0)20 7946 0958", None, "+442079460958"),
        ("+39 06 1234 5678", None, "+390612345678"),
        ("+1 555 010 0000", None, "+15550100000"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("1 800 FLOWERS", "US", "+18003569377"),
        ("+49 30 1234567 Büro", None, "+49301234567"),
    ],
)
def test_a_phone_has_one_spelling(text: str, region: str | None, value: str) -> None:
    assert spelled("phone", text, region) == value


@pytest.mark.parametrize(
    ("text", "region", "reason"),
    [
        ("773 474 9362", None, "phone_no_region"),
        ("17734749362", None, "phone_no_region"),
        ("001 773 474 9362", None, "phone_no_region"),
        ("+999 123 4567", None, "phone_syntax"),
        ("+1 773", None, "phone_not_possible"),
        ("474 9362", "US", "phone_not_possible"),
        ("+1 773 474 9362 000", None, "phone_not_possible"),
        ("1.77347E+10", "US", "phone_spreadsheet_number"),
        ("1,77347E+10", "DE", "phone_spreadsheet_number"),
        ("4.91512e11", "DE", "phone_spreadsheet_number"),
        ("1E10", "US", "phone_spreadsheet_number"),
        ("n/a", "US", "phone_syntax"),
        ("none", "US", "phone_syntax"),
        ("-", "US", "phone_syntax"),
        ("unknown", None, "phone_syntax"),
        ("FLOWERS", "US", "phone_syntax"),
        ("773-474-XXXX", "US", "phone_syntax"),
        ("+49 30 1234***", None, "phone_syntax"),
        ("+49 30 1234-home", None, "phone_syntax"),
        ("+49 30 123 home", None, "phone_syntax"),
        ("3f2a9bc01d", "US", "phone_syntax"),
        ("jane7734749362@firm.example", "US", "phone_syntax"),
        ("linkedin.com/in/jane-7734749362", "US", "phone_syntax"),
        ("+1 773 474\n9362", None, "phone_syntax"),
    ],
)
def test_what_is_no_phone_is_never_asked(text: str, region: str | None, reason: str) -> None:
    assert spelled("phone", text, region) == f"({reason})"


@pytest.mark.parametrize(("region", "known"), [("US", "US"), ("de", "DE"), (" gb ", "GB")])
def test_a_region_is_a_two_letter_country(region: str, known: str) -> None:
    assert check_region(region) == known


@pytest.mark.parametrize("region", ["", "U", "USA", "XX", "001", "+1", "Germany"])
def test_another_region_is_a_fault_of_the_settings(region: str) -> None:
    with pytest.raises(ConfigError, match="two-letter"):
        check_region(region)
    with pytest.raises(ConfigError):
        read_rows(pd.DataFrame({"phone": [None]}), PHONE, default_region=region)


def test_the_united_kingdom_is_gb() -> None:
    with pytest.raises(ConfigError, match="GB"):
        check_region("UK")


# ---- profile ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "linkedin.com/in/jane-doe",
        "https://www.linkedin.com/in/jane-doe/",
        "http://linkedin.com/in/jane-doe",
        "HTTPS://WWW.LinkedIn.com/in/Jane-Doe",
        "https://https://www.linkedin.com/in/jane-doe",
        "//www.linkedin.com/in/jane-doe",
        "www.linkedin.com/in/jane-doe//",
        "de.linkedin.com/in/jane-doe",
        "uk.linkedin.com/in/jane-doe",
        "https://m.linkedin.com/in/jane-doe",
        "linkedin.com./in/jane-doe",
        "linkedin.com/in/jane-doe?trk=people&utm_source=x",
        "linkedin.com/in/jane-doe/?originalSubdomain=de#about",
        "linkedin.com/in/jane-doe#top",
        "de.linkedin.com/in/jane-doe/en",
        "linkedin.com/in/jane-doe/en-US/",
        "linkedin.com/in/jane-doe/details/experience/",
        "linkedin.com/in/jane-doe/overlay/contact-info/",
        "linkedin.com/mwlite/in/jane-doe",
        "linkedin.com/mwlite/profile/in/jane-doe",
        "linkedin.com/comm/in/jane-doe",
        "linkedin.com/in/jane%2Ddoe",
        "in/jane-doe",
        "/in/jane-doe",
        "/in/Jane-Doe/",
        '"<https://www.linkedin.com/in/jane-doe>"',
        "\u200blinkedin.com/in/jane-doe\u00a0",
    ],
)
def test_spellings_of_one_profile_are_one(text: str) -> None:
    assert spelled("social_profile", text) == "linkedin.com/in/jane-doe"
    assert values("social_profile", text) == ["linkedin.com/in/jane-doe"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("linkedin.com/in/ren%C3%A9-roy", "linkedin.com/in/ren\u00e9-roy"),
        ("linkedin.com/in/REN%C3%89-roy", "linkedin.com/in/ren\u00e9-roy"),
        ("linkedin.com/in/rene\u0301-roy", "linkedin.com/in/ren\u00e9-roy"),
        (f"linkedin.com/in/{_MEMBER}", f"linkedin.com/in/{_MEMBER}"),
        ("linkedin.com/pub/Jane-Doe/1A/2b/3c/de", "linkedin.com/pub/jane-doe/1a/2b/3c"),
        ("https://www.Twitter.com/JaneDoe/?lang=en", "twitter.com/janedoe"),
        ("x.com/JaneDoe", "twitter.com/janedoe"),
        ("https://GitHub.com/JaneDoe#readme", "github.com/janedoe"),
        ("https://facebook.com/jane.doe", "facebook.com/jane.doe"),
        ("facebook.com/profile.php?id=100012345&ref=x", "facebook.com/100012345"),
        ("notfacebook.com/profile.php", "notfacebook.com/profile.php"),
        ("https://medium.com/@jane", "medium.com/@jane"),
        ("https://firm.example/team/Jane%20Doe", "firm.example/team/Jane%20Doe"),
    ],
)
def test_a_profile_has_one_spelling(text: str, value: str) -> None:
    assert spelled("social_profile", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "https://www.linkedin.com/company/firm",
        "linkedin.com/school/firm",
        "linkedin.com/jobs/view/1",
        "linkedin.com/posts/jane-doe_activity-1",
        "linkedin.com/groups/1",
        "linkedin.com/feed/",
        "linkedin.com/feed/update/urn:li:activity:1",
        "linkedin.com/sales/lead/ACwAAA,NAME_SEARCH",
        "linkedin.com/pub/dir/Jane/Doe",
        "linkedin.com/profile/view?id=1",
        "linkedin.com/in/me",
        "business.linkedin.com/in/jane-doe",
    ],
)
def test_a_linkedin_page_that_is_no_person_is_never_asked(text: str) -> None:
    assert spelled("social_profile", text) == "(profile_not_a_person)"


@pytest.mark.parametrize(
    "text",
    [
        "n/a",
        "none",
        "jane-doe",
        "3.5/5",
        "linkedin.com",
        "linkedin.com/",
        "linkedin.com/in/",
        "linkedin.com/in/-",
        "linkedin.com/in/jane doe",
        "linkedin.com/in/jane%20doe",
        "linkedin.com/in/jane%2Fdoe",
        "linkedin.com/in/jane%00",
        "linkedin.com/in/100%2525",
        "linkedin.com/in/jos%E9",
        "linkedin.com/pub/jane-doe",
        "jane@firm.example",
        "mailto:jane@firm.example",
        "jane:secret@x.com/jane",
        "x.com:8080/jane",
        "ftp://x.com/jane",
        "x.com",
        "https://x.com/",
        "localhost/jane",
        "facebook.com/profile.php",
        "http://[::1/jane",
    ],
)
def test_what_is_no_profile_is_never_asked(text: str) -> None:
    assert spelled("social_profile", text) == "(profile_syntax)"


# ---- every kind ---------------------------------------------------------------------------------


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
    assert against(field_type, megabytes) == (reason,)
    assert time.thread_time() - started < 0.5


# What is nearly a value

_CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
_local = st.text("aZ09._+-'é ", max_size=8)
_domain = st.lists(st.text("aZ09-é", min_size=1, max_size=5), min_size=1, max_size=3).map(".".join)
_last = st.sampled_from(
    ["com", "example", "local", "test", "c", "x1", "xn--p1ai", "COM", "arpa", "", "invalid"]
)
_near_email = st.one_of(
    st.tuples(_local, _domain, _last).map(lambda parts: f"{parts[0]}@{parts[1]}.{parts[2]}"),
    st.from_regex(r"[a-zA-Z0-9._+-]{1,6}@[a-z0-9.-]{1,12}\.[a-z]{1,6}", fullmatch=True),
    st.integers(48, 70).map(lambda size: "a" * size + "@firm.example"),
    st.integers(60, 66).map(lambda size: f"a@{'b' * size}.example"),
    st.integers(170, 260).map(lambda size: f"a@{('bcd.' * size)[:size]}e.example"),
    st.builds(
        "{}@{}".format,
        st.text("aB.+-", min_size=1, max_size=6),
        st.sampled_from(
            ["gmail.com", "GoogleMail.com", "googlemail.com.", "outlook.com", "pm.me", "yahoo.com"]
        ),
    ),
)
_near_profile = st.builds(
    lambda start, host, path, slug, end: start + host + path + slug + end,
    st.sampled_from(["", "https://", "http://www.", "HTTPS://", "www.", "//", "https://cz."]),
    st.sampled_from(
        [
            "linkedin.com",
            "LinkedIn.com",
            "linkedin.co",
            "X.com",
            "twitter.com",
            "facebook.com",
            "github.com",
            "instagram.com",
            "tiktok.com",
            "xing.com",
            "youtube.com",
        ]
    ),
    st.sampled_from(
        ["/in/", "/IN/", "/pub/", "/in//", "/", "/profile.php", "/Search", "/share", "/p/", "/@"]
    ),
    st.text("aZ0_-é%.", max_size=6)
    | st.sampled_from(["me", "ME", _MEMBER, "acoaab", "_", "-", "_a_", "a.", ".a", "x" * 300]),
    st.sampled_from(["", "/", "//", "?a=1", "#b", "/detail", " "]),
)
_near_phone = st.one_of(
    st.builds(
        lambda code, rest: f"+{code}{rest}", st.sampled_from(_CODES), st.text("0123456789", max_size=15)
    ),
    st.text("+0123456789 x", max_size=18),
    st.from_regex(r"\+[0-9]{5,17}\n?", fullmatch=True),
)

PIECES = st.sampled_from(
    [
        *"aZé@./-_%:?#+ 0159xXİßΣ'\"<>&=;,|",
        "\u0301", "\u200b", "\u212a", "\ufe0f", "％", "。", "jane", "firm", ".example", ".local", "xn--",
        "mailto:", "tel:", "https://", "www.", "linkedin.com", "/in/", "/pub/", "m.", "%25", "%2F", "%C3",
        "%A9", "773", "474", "9362", "+1", "+49", "+54", "+52", "+39", "00", "(0)", "ext", "ACoAAA", "x.com/",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=14).map("".join),
    st.lists(PIECES, max_size=5).map(lambda some: f"{''.join(some)}@firm.example"),
    st.lists(PIECES, max_size=5).map(lambda some: f"linkedin.com/in/{''.join(some)}"),
    st.lists(PIECES, max_size=5).map(lambda some: f"x.com/{''.join(some)}"),
    st.from_regex(r"\A\+?[0-9 ()-]{6,18}\Z"),
)


@given(st.sampled_from(FIELD_TYPES), TEXTS, st.sampled_from([None, "US", "DE", "AR", "MX", "IT"]))
@settings(max_examples=1500, deadline=None)
def test_the_canonical_form_is_its_own_canonical_form(
    field_type: FieldType, text: str, region: str | None
) -> None:
    one = canonical(field_type, text, default_region=region)
    if isinstance(one, Identifier):
        assert canonical(field_type, one.value) == one
        assert canonical(field_type, one.value, default_region=region) == one
        assert one.value.encode()


@given(st.sampled_from(FIELD_TYPES), TEXTS)
@settings(max_examples=500, deadline=None)
def test_wrapping_changes_nothing(field_type: FieldType, text: str) -> None:
    wrapped = f' "\u200b{text}\u00a0>\n'
    assert canonical(field_type, wrapped) == canonical(field_type, text)


@pytest.mark.parametrize("field_type", FIELD_TYPES)
@pytest.mark.parametrize(
    "unit",
    [
        " ",
        ",",
        "a,",
        "<",
        "mailto:",
        "/",
        "https://",
        "a.",
        "\u0315\u0300",
        "@",
        "a@b ",
        "+1 ",
        "&amp;",
        "&#39;",
        "(",
        "()",
        "[",
        "[]",
        "[a](",
        '"',
        '"a",',
        "'",
        "{",
        "<a ",
        "<a href=x ",
        '="',
        '=HYPERLINK("',
        "=HYPERLINK( ",
        ";",
        "|",
        "\n",
        "a\n",
        " / ",
        ":::",
        " or ",
        "a: ",
        "1 or ",
        "a b ",
        "a@b.example,",
        "in/a ",
        "linkedin.com/in/a,",
        "x.com/a ",
        "0 / ",
        "1,",
        "12 / 3 ",
        "x500:",
        "?a=",
        "&a=",
        "google.com/url?q=",
        "%2F",
        "urldefense.com/v3/__",
    ],
)
def test_no_cell_takes_long(field_type: FieldType, unit: str) -> None:
    cells = [unit * (8192 // len(unit)), "a@b.example " + unit * (8179 // len(unit)) + "]"]
    # Of this thread alone, and the quicker of two: the machine may be busy, and Python may collect its garbage.
    seconds = [0.0, 0.0]
    for turn in range(2):
        started = time.thread_time()
        for cell in cells:
            read_cell(field_type, cell, default_region="US")
        seconds[turn] = time.thread_time() - started
    assert min(seconds) < 0.5


@given(st.sampled_from(FIELD_TYPES), st.data())
@settings(max_examples=600, deadline=None)
def test_a_column_reads_as_its_cells_do(field_type: FieldType, data: st.DataObject) -> None:
    near = {"email": _near_email, "phone": _near_phone, "social_profile": _near_profile}[field_type]
    texts = data.draw(st.lists(near | TEXTS, max_size=4))
    # In the order of the cell, and in a table of one column.
    alone = [read_cell(field_type, text, default_region="US") for text in texts]
    batch = pa.record_batch({"column": pa.array([*texts, None], pa.string())})
    rows = read_batch(batch, Layout("wide", ((field_type, "column"),)), default_region="US")[:-1]
    assert [(row.identifiers, tuple(one for one in row.reasons if one != "blank")) for row in rows] == alone


@given(st.sampled_from(FIELD_TYPES), st.data())
@settings(max_examples=600, deadline=None)
def test_of_a_cells_identifiers_each_is_a_cell_of_its_own(field_type: FieldType, data: st.DataObject) -> None:
    near = {"email": _near_email, "phone": _near_phone, "social_profile": _near_profile}[field_type]
    some = data.draw(st.lists(near | TEXTS, max_size=4))
    cell = data.draw(st.sampled_from([";", ",", " ", "\n", " ::: ", ""])).join(some)
    for one in read_cell(field_type, cell, default_region="DE")[0]:
        assert read_cell(field_type, one.value, default_region="DE")[0] == (one,)
        assert key_form(field_type, key_form(field_type, one.value)) == key_form(field_type, one.value)


def test_an_identifier_does_not_print_its_value() -> None:
    one = canonical("email", CANARIES[0])
    assert "canary" not in repr(one)
    assert "canary" not in repr(Candidates((one,) if isinstance(one, Identifier) else (), ()))


# ---- one cell -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "a@x.example; b@y.example",
        "a@x.example,b@y.example",
        "a@x.example\nb@y.example",
        "a@x.example\r\n\r\nb@y.example",
        "a@x.example | b@y.example",
        "a@x.example b@y.example",
        "a@x.example;;b@y.example;a@x.example;",
        "Ann <a@x.example>, Bo <b@y.example>",
        "<a@x.example><b@y.example>",
        '"Doe, Ann" <a@x.example>; "Bo" <mailto:b@y.example>',
        "mailto:a@x.example,b%40y.example?subject=hi&cc=c@z.example",
    ],
)
def test_a_cell_may_hold_several_emails(cell: str) -> None:
    assert values("email", cell) == ["a@x.example", "b@y.example"]
    assert against("email", cell) == ()


def test_a_name_before_an_address_in_brackets_is_no_fault() -> None:
    assert values("email", "Jane van Doe <Jane@x.example>") == ["jane@x.example"]
    assert against("email", "Jane van Doe <Jane@x.example>") == ()
    assert against("email", "Jane van Doe <jane at x>") == ("email_syntax",)


def test_invalid_parts_only_give_reasons() -> None:
    assert values("email", "n/a; b@y.example; nobody") == ["b@y.example"]
    assert against("email", "n/a; b@y.example; nobody") == ("email_syntax",)
    assert against("phone", "773 474 9362; n/a") == ("phone_no_region", "phone_syntax")


@pytest.mark.parametrize("between", [";", "; ", ",", "|", "\n", " / ", " or ", " OR "])
def test_a_cell_may_hold_several_phones(between: str) -> None:
    cell = f"+1 773 474 9362{between}+49 30 1234567"
    assert values("phone", cell) == ["+17734749362", "+49301234567"]


@pytest.mark.parametrize("between", [";", "; ", ",", ", ", "|", "\n", " "])
def test_a_cell_may_hold_several_profiles(between: str) -> None:
    cell = f"linkedin.com/in/jane{between}https://x.com/jane"
    assert values("social_profile", cell) == ["linkedin.com/in/jane", "twitter.com/jane"]


@pytest.mark.parametrize("cell", ["linkedin.com/in/jane doe", "linkedin.com/in/jane,doe phd"])
def test_half_of_a_broken_profile_is_not_taken_for_another_person(cell: str) -> None:
    assert values("social_profile", cell) == []
    assert against("social_profile", cell) == ("profile_syntax",)


# ---- finding the columns ------------------------------------------------------------------------


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


def test_two_columns_of_one_name_are_refused_only_if_they_are_used() -> None:
    with pytest.raises(InputError, match="more than one column is called 'email'"):
        find_layout(["email", "email"], None)
    with pytest.raises(InputError, match="more than one"):
        read_rows(pd.DataFrame([["", ""]], columns=["email", "email"]), EMAIL, default_region=None)
    assert find_layout(["id", "id", "email"], None).names == ("email",)


def test_a_frame_without_the_column_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'email'"):
        read_rows(pd.DataFrame({"phone": [None]}), EMAIL, default_region=None)


# ---- reading a table ----------------------------------------------------------------------------


def test_a_wide_row_offers_its_identifiers_in_order_without_repeats() -> None:
    frame = pd.DataFrame(
        {
            "email": ["A@x.example; b@x.example", None, "nobody", ""],
            "phone": ["+1 773 474 9362", "773 474 9362", "n/a", None],
            "linkedin_url": ["in/jane", np.nan, "linkedin.com/feed", " "],
        }
    )
    first, second, third, fourth = read_rows(frame, WIDE, default_region=None)
    assert [one.value for one in first.identifiers] == [
        "linkedin.com/in/jane",
        "a@x.example",
        "b@x.example",
        "+17734749362",
    ]
    assert first.reasons == ()
    assert second == Candidates((), ("phone_no_region",))
    assert third == Candidates((), ("profile_not_a_person", "email_syntax", "phone_syntax"))
    assert fourth == Candidates((), ("blank",))


def test_one_address_in_two_columns_is_asked_once() -> None:
    layout = find_layout(["work", "home"], {"email": ["work", "home"]})
    frame = pd.DataFrame({"work": ["a@x.example"], "home": ["A@X.example, b@x.example"]})
    (row,) = read_rows(frame, layout, default_region=None)
    assert [one.value for one in row.identifiers] == ["a@x.example", "b@x.example"]


def test_a_long_table_is_read_by_its_field_types() -> None:
    frame = pd.DataFrame(
        {
            "field_type": ["email", " PHONE ", "Social_Profile", "fax", None, None, "email"],
            "value": ["A@x.example", "773 474 9362", "in/jane", "1", "a@x.example", "", None],
        }
    )
    rows = read_rows(frame, LONG, default_region="US")
    assert [[one.value for one in row.identifiers] for row in rows[:3]] == [
        ["a@x.example"],
        ["+17734749362"],
        ["linkedin.com/in/jane"],
    ]
    assert [row.reasons[0] for row in rows[3:]] == ["field_type", "field_type", "blank", "blank"]


def test_an_empty_table_has_no_rows() -> None:
    assert read_rows(pd.DataFrame({"email": []}), EMAIL, default_region=None) == []


TEXT_DTYPES = [
    "object", "string", "string[pyarrow]", "category",
    pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.large_string()),
    pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
]  # fmt: skip
if int(pd.__version__.partition(".")[0]) >= 3:
    # pandas 2 makes the text "None" of a blank in the first, and does not know the second.
    TEXT_DTYPES += ["str", pd.ArrowDtype(pa.string_view())]


@pytest.mark.parametrize("dtype", TEXT_DTYPES, ids=str)
def test_every_text_dtype_is_read(dtype: Any) -> None:
    column = pd.Series(pa.array(["a@x.example", None, "a@x.example"]).to_pandas(), dtype=dtype)
    frame = pd.DataFrame({"email": column})
    first, second, third = read_rows(frame, EMAIL, default_region=None)
    assert [one.value for one in first.identifiers] == ["a@x.example"]
    assert second.reasons == ("blank",)
    assert third == first


FIRST, SECOND, THIRD = "a@x.example", "B@x.example", "c@x.example"
BLANKS = [None, np.nan, pd.NaT, pd.NA]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([[FIRST, *BLANKS, SECOND], [THIRD], [], None]),
        pd.Series([(FIRST, SECOND), (THIRD, *BLANKS), (), pd.NaT]),
        pd.Series([np.array([FIRST, SECOND]), np.array([THIRD, None]), np.array([]), np.nan]),
        pd.Series([{SECOND, FIRST}, frozenset([THIRD]), set(), pd.NA]),
        pd.Series([[FIRST, SECOND], THIRD, pd.NaT, ""], dtype=object),
        pd.Series([[FIRST, SECOND], [THIRD], [None], None], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
    ],
    ids=["lists", "tuples", "arrays", "sets", "lists and texts", "arrow"],
)
def test_each_element_of_a_list_is_read_like_a_cell(column: pd.Series) -> None:
    rows = read_rows(pd.DataFrame({"email": column}), EMAIL, default_region=None)
    assert [sorted(one.value for one in row.identifiers) for row in rows] == [
        ["a@x.example", "b@x.example"], ["c@x.example"], [], [],
    ]  # fmt: skip
    assert rows[2].reasons == rows[3].reasons == ("blank",)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 2),
        pa.list_view(pa.string()), pa.large_list_view(pa.string_view()), pa.list_(pa.string_view()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("start", [0, 2])
def test_an_arrow_list_is_read_element_by_element(kind: pa.DataType, start: int) -> None:
    cells = [["x@x.example", None], None, [FIRST, SECOND], None, [THIRD, None]]
    batch = pa.record_batch({"email": pa.array(cells, kind)}).slice(start)
    rows = read_batch(batch, EMAIL, default_region=None)
    assert [[one.value for one in row.identifiers] for row in rows] == [
        ["x@x.example"], [], ["a@x.example", "b@x.example"], [], ["c@x.example"],
    ][start:]  # fmt: skip


def test_a_list_says_why_the_rest_of_it_is_of_no_use() -> None:
    cells = [["no address", FIRST, "a@x.example; d@x.example", " "]]
    (row,) = read_batch(pa.record_batch({"email": cells}), EMAIL, default_region=None)
    assert [one.value for one in row.identifiers] == ["a@x.example", "d@x.example"]
    assert row.reasons == ("email_syntax",)


def test_the_long_form_may_hold_lists_of_one_kind() -> None:
    frame = pd.DataFrame(
        {"field_type": ["email", "fax", None, ["email"]], "value": [[FIRST, "?"], ["1"], [], "1"]}
    )
    rows = read_rows(frame, LONG, default_region=None)
    assert [one.value for one in rows[0].identifiers] == ["a@x.example"]
    assert [row.reasons for row in rows] == [("email_syntax",), ("field_type",), ("blank",), ("field_type",)]


def test_a_full_dictionary_with_a_null_is_read() -> None:
    texts = [f"p{number}@x.example" for number in range(128)]
    full = pa.DictionaryArray.from_arrays(pa.array([*range(128), None], pa.int8()), pa.array(texts))
    (*rows, blank) = read_batch(pa.record_batch({"email": full}), EMAIL, default_region=None)
    assert [row.identifiers[0].value for row in rows] == texts
    assert blank.reasons == ("blank",)


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 4]), pa.array([FIRST, None, SECOND])),
        pa.array([FIRST, None, SECOND, SECOND], pa.json_()),
        pa.array([FIRST, None, SECOND, SECOND]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_encoded_text_is_text(column: pa.Array) -> None:
    rows = read_batch(pa.record_batch({"email": column}).slice(1), EMAIL, default_region=None)
    assert [[one.value for one in row.identifiers] for row in rows] == [[], ["b@x.example"], ["b@x.example"]]


def test_sparse_text_is_text() -> None:
    cells = pd.arrays.SparseArray(np.array([FIRST, None, SECOND], dtype=object))
    rows = read_rows(pd.DataFrame({"email": cells}), EMAIL, default_region=None)
    assert [[one.value for one in row.identifiers] for row in rows] == [["a@x.example"], [], ["b@x.example"]]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.nan, np.nan]),
        pd.Series([None, None], dtype=object),
        pd.Series([pd.NA, None], dtype=object),
        pd.Series([pd.NA, None], dtype="Int64"),
        pd.Series([pd.NaT, pd.NaT]),
        pd.Series([None, None], dtype="string"),
        pd.Series([None, None], dtype="category"),
        pd.Series([None, None], dtype=pd.ArrowDtype(pa.null())),
        pd.Series([None, None], dtype=pd.ArrowDtype(pa.int64())),
        pd.Series([None, np.nan, pd.NA, pd.NaT, "", "  "], dtype=object),
        pd.Series([[], [None], [np.nan, pd.NaT, " "]]),
        pd.Series([None, [None]], dtype=pd.ArrowDtype(pa.list_(pa.null()))),
        pd.Series(pd.arrays.SparseArray([np.nan, np.nan])),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_column_of_nulls_is_blank_whatever_its_dtype(column: pd.Series) -> None:
    rows = read_rows(pd.DataFrame({"email": column}), EMAIL, default_region=None)
    assert rows == [Candidates((), ("blank",))] * len(column)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pd.Series([5550199, 5550199]), "phone: 2 of 2 values are numbers, not text"),
        (pd.Series([5550199.0, np.nan]), "phone: 1 of 2 values are numbers"),
        (pd.Series([5550199, None], dtype="Int64"), "phone: 1 of 2 values are numbers"),
        (pd.Series([5550199, None], dtype=pd.ArrowDtype(pa.int64())), "1 of 2 values are numbers"),
        (pd.Series([Decimal(5550199)], dtype=object), "1 of 1 values are numbers"),
        (pd.Series(["+17735550199", 5550199, None], dtype=object), "1 of 3 values are numbers"),
        (pd.Series([b"+17735550199"], dtype=object), "1 of 1 values are bytes"),
        (pd.Series([b"+17735550199"], dtype=pd.ArrowDtype(pa.binary())), "1 values are bytes"),
        (pd.Series([{"n": "+17735550199"}, ["5550199"]], dtype=object), "1 of 2 values are objects"),
        (pd.Series([["+17735550199", 5550199], None]), "1 of 2 values are lists of numbers"),
        (pd.Series([[["5550199"]]]), "1 of 1 values are lists of lists"),
        (pd.Series([np.array([5550199])]), "lists of numbers"),
        (
            pd.Series([[{"n": "5550199"}]], dtype=pd.ArrowDtype(pa.list_(pa.struct([("n", pa.string())])))),
            "lists",
        ),
        (pd.Series(pd.arrays.SparseArray([5550199.0, np.nan])), "1 of 2 values are numbers"),
        (pd.Series([5550199j]), "1 of 1 values are numbers"),
        (pd.Series([5550199 * 2**70]), "1 of 1 values are numbers"),
        (pd.Series(pd.to_timedelta([5550199])), "1 of 1 values are objects"),
        (pd.Series(pd.period_range("2024-01-01", periods=1)), "1 of 1 values are objects"),
        (pd.Series([True, False]), "2 of 2 values are booleans"),
        (pd.Series(pd.to_datetime(["2024-01-01"])), "1 of 1 values are dates"),
        (pd.Series([5550199, 1, 1], dtype="category"), "3 of 3 values are numbers"),
    ],
)
def test_values_that_are_not_text_are_counted_and_never_shown(column: pd.Series, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_rows(pd.DataFrame({"phone": column}), PHONE, default_region=None)
    assert "dtype=str" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not any(canary in repr(caught.value) + str(caught.value) for canary in CANARIES)


def test_each_faulty_column_is_named() -> None:
    frame = pd.DataFrame({"email": [1, 2], "phone": ["x", 3], "linkedin_url": ["in/jane", None]})
    with pytest.raises(InputError, match=r"email: 2 of 2 .*; phone: 1 of 2 ") as caught:
        read_rows(frame, WIDE, default_region=None)
    assert "linkedin_url" not in str(caught.value)


def test_the_schema_itself_reports_no_values() -> None:
    frame = pd.DataFrame({"field_type": ["phone"], "value": [5550199]})
    for lazy in (True, False):
        with pytest.raises((pandera.errors.SchemaErrors, pandera.errors.SchemaError)) as caught:
            model.ContactIdentifiers.validate(frame, lazy=lazy)
        assert "5550199" not in str(caught.value) + repr(caught.value)
        assert "is_text" in str(caught.value)


def test_the_schema_of_the_long_form_is_public() -> None:
    assert list(model.ContactIdentifiers.columns) == ["field_type", "value"]
    assert list(schema(WIDE.names).columns) == ["linkedin_url", "email", "phone"]
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = getattr(model, "nothing_like_it")  # noqa: B009 - no type checker has to know it


def test_reading_leaves_the_frame_alone() -> None:
    frame = pd.DataFrame({"email": ["A@x.example", None], "other": [1, 2]}, index=[7, 7])
    before = frame.copy(deep=True)
    read_rows(frame, EMAIL, default_region=None)
    pd.testing.assert_frame_equal(frame, before)


def test_importing_the_module_imports_neither_pandera_nor_dagster() -> None:
    # In the package itself other files may; so the module is loaded from its own file.
    code = (
        "import sys, types;"
        f"package = types.ModuleType('eb_dagster'); package.__path__ = [{str(PACKAGE)!r}];"
        "sys.modules['eb_dagster'] = package; import eb_dagster.identifiers.model;"
        "sys.exit(bool({'dagster', 'pandera', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_million_blank_rows_are_quick() -> None:
    blank = pd.DataFrame({"email": [""] * 1_000_000, "phone": None, "linkedin_url": np.nan})
    read_rows(blank[:1], WIDE, default_region=None)
    started = time.process_time()
    rows = read_rows(blank, WIDE, default_region=None)
    assert time.process_time() - started < 5
    assert rows[-1].reasons == ("blank",)


def test_repeated_cells_are_read_once() -> None:
    frame = pd.DataFrame({"email": ["jane@firm.example"] * 300_000})
    started = time.process_time()
    rows = read_rows(frame, EMAIL, default_region=None)
    assert time.process_time() - started < 5
    assert rows[0].identifiers[0] is rows[-1].identifiers[0]


# The short cut for plain values, against the libraries

_wrapped = st.sampled_from(["{}", " {} ", "\t{}\n", "\x1f{}", "<{}>", "mailto:{}", "\u00a0{}", "{}\u2028"])


@settings(max_examples=600)
@given(
    st.one_of(
        st.tuples(st.just("email"), _near_email),
        st.tuples(st.just("phone"), _near_phone),
        st.tuples(st.just("social_profile"), _near_profile),
    ),
    _wrapped,
    st.sampled_from([None, "US", "DE"]),
)
@example(("social_profile", f"linkedin.com/in/{_MEMBER}"), "{}", None)
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


def test_the_short_cut_knows_every_numbering_plan() -> None:
    taken = 0
    for code in _CODES:
        for length in range(3, 16):
            for national in (
                "23456789012345678",
                "80123456789012345",
                "19876543210987654",
                "00123456789012345",
            ):
                text = f"+{code}{national[:length]}"
                one = canonical("phone", text)
                assert one == canonical_thoroughly("phone", text, None), text
                taken += one == Identifier("phone", text)
    assert taken > 1000


@pytest.mark.parametrize("text", ["jane@firm.example", " Jane.Doe+x@FIRM.co.uk\n", "a@1.b-c.io"])
def test_plain_addresses_take_the_short_cut(text: str) -> None:
    # Without it this would take seconds, on any machine.
    started = time.thread_time()
    for _ in range(100_000):
        canonical("email", text)
    assert time.thread_time() - started < 1.5


# Arrow tables


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_an_arrow_table_reads_as_the_same_dataframe_does(kind: pa.DataType) -> None:
    texts = ["A@x.example", None, "", "a@x.example", "no address", "b@x.example; c@x.example"]
    batch = pa.record_batch({"email": pa.array(texts).cast(kind), "phone": pa.nulls(len(texts))})
    layout = Layout("wide", (("email", "email"), ("phone", "phone")))
    rows = read_batch(batch, layout, default_region=None)
    assert rows == read_rows(pd.DataFrame({"email": texts, "phone": None}), layout, default_region=None)
    assert rows[0] == rows[3]


def test_an_arrow_table_in_the_long_form_is_read() -> None:
    table = {"field_type": ["email", "PHONE", None, "fax"], "value": ["A@x.example", "+17734749362", "", "1"]}
    rows = read_batch(pa.record_batch(table), LONG, default_region=None)
    assert rows == read_rows(pd.DataFrame(table), LONG, default_region=None)


def test_a_slice_of_a_dictionary_is_read() -> None:
    column = pa.array(["a@x.example", "b@x.example", None, "b@x.example"]).dictionary_encode()
    rows = read_batch(pa.record_batch({"email": column}).slice(1), EMAIL, default_region=None)
    assert [[one.value for one in row.identifiers] for row in rows] == [["b@x.example"], [], ["b@x.example"]]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([5550199, None]), "phone: 1 of 2 values are numbers, not text"),
        (pa.array([5550199.5]), "numbers"),
        (pa.array([True]), "booleans"),
        (pa.array([b"5550199"]), "bytes"),
        (pa.array([date(2024, 1, 1)]), "dates"),
        (pa.array([{"number": "5550199"}]), "objects"),
        (pa.array([[5550199]]), "1 of 1 values are lists of numbers"),
        (pa.array([[["5550199"]]]), "lists of lists"),
        (pa.array([5550199], pa.decimal256(60)), "numbers"),
        (pa.array([b"5550199"], pa.binary_view()), "bytes"),
        (pa.array([b"5550199 is 16 by"], pa.uuid()), "bytes"),
        (pa.array([5550199], pa.duration("s")), "objects"),
        (pa.array([5550199]).dictionary_encode(), "numbers"),
    ],
    ids=lambda case: str(getattr(case, "type", case)),
)
def test_arrow_values_that_are_not_text_are_counted_and_never_shown(column: pa.Array, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_batch(pa.record_batch({"phone": column}), PHONE, default_region=None)
    assert "5550199" not in str(caught.value)


def test_an_arrow_table_without_the_column_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'email'"):
        read_batch(pa.record_batch({"phone": ["1"]}), EMAIL, default_region=None)


def test_a_million_blank_arrow_rows_are_quick() -> None:
    blank = pa.DictionaryArray.from_arrays(pa.nulls(1_000_000, pa.int8()), pa.array([], pa.string()))
    for column in (blank, pa.array([""] * 1_000_000).dictionary_encode(), pa.nulls(1_000_000)):
        started = time.process_time()
        rows = read_batch(pa.record_batch({"email": column}), EMAIL, default_region=None)
        assert time.process_time() - started < 2
        assert rows[-1].reasons == ("blank",)


def test_column_names_that_are_people_are_not_told():
    with pytest.raises(InputError) as error:
        find_layout(["id", "canary@firm.example", "+17734749362", "linkedin.com/in/canary"], None)
    assert "is the header missing?" in str(error.value)
    assert "canary" not in str(error.value)
    assert "773" not in str(error.value)


ADDRESS_LIKE = st.text(
    st.sampled_from("abZK\u212a\u0130ß09._+-@@..  \t\r\n\x00\x0b\x1c\u00a0\u2028é\ud800<>\"'"), max_size=24
)


@given(
    st.lists(
        ADDRESS_LIKE | st.builds("{}@{}.{}".format, ADDRESS_LIKE, ADDRESS_LIKE, ADDRESS_LIKE), max_size=6
    )
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
    alone = [canonical(kind, text) for text in texts]
    assert canonical_values(kind, texts) == [
        one.value if isinstance(one, Identifier) else None for one in alone
    ]
