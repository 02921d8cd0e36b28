"""What a text or a cell comes to, and texts that are nearly values."""

from __future__ import annotations

import phonenumbers
from hypothesis import strategies as st

from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.model import FieldType, Identifier


def spelled(field_type: FieldType, text: str, region: str | None = None) -> str:
    identifier = canonical(field_type, text, default_region=region)
    return identifier.value if isinstance(identifier, Identifier) else f"({identifier})"


def values(field_type: FieldType, cell: str | None, region: str | None = None) -> list[str]:
    found, _ = read_cell(field_type, cell, default_region=region)
    return [identifier.value for identifier in found]


def reasons(field_type: FieldType, cell: str | None, region: str | None = None) -> tuple[str, ...]:
    return read_cell(field_type, cell, default_region=region)[1]


MEMBER = "ACoAABcdEfghIjklMnopQrstUvwxYz01234"
CALLING_CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
LOCAL = st.text("aZ09._+-'é ", max_size=8)
DOMAIN = st.lists(st.text("aZ09-é", min_size=1, max_size=5), min_size=1, max_size=3).map(".".join)
LAST_LABEL = st.sampled_from(
    ["com", "example", "local", "test", "c", "x1", "xn--p1ai", "COM", "arpa", "", "invalid"]
)
NEAR_EMAIL = st.one_of(
    st.tuples(LOCAL, DOMAIN, LAST_LABEL).map(lambda parts: f"{parts[0]}@{parts[1]}.{parts[2]}"),
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
NEAR_PROFILE = st.builds(
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
    | st.sampled_from(["me", "ME", MEMBER, "acoaab", "_", "-", "_a_", "a.", ".a", "x" * 300]),
    st.sampled_from(["", "/", "//", "?a=1", "#b", "/detail", " "]),
)
NEAR_PHONE = st.one_of(
    st.builds(
        lambda code, rest: f"+{code}{rest}",
        st.sampled_from(CALLING_CODES),
        st.text("0123456789", max_size=15),
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
NEAR = {"email": NEAR_EMAIL, "phone": NEAR_PHONE, "social_profile": NEAR_PROFILE}
