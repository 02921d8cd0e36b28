"""One spelling of each e-mail address."""

from __future__ import annotations

import time

import pytest

from eb_dagster.identifiers.canonical import canonical
from tests.identifiers.spellings import spelled, values


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


@pytest.mark.parametrize("text", ["jane@firm.example", " Jane.Doe+x@FIRM.co.uk\n", "a@1.b-c.io"])
def test_plain_addresses_take_the_short_cut(text: str) -> None:
    # Without it this would take seconds, on any machine.
    started = time.thread_time()
    for _ in range(100_000):
        canonical("email", text)
    assert time.thread_time() - started < 1.5
