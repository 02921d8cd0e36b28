"""One spelling of each phone number."""

from __future__ import annotations

import pandas as pd
import pytest

from eb_dagster.errors import ConfigError
from eb_dagster.identifiers.canonical import canonical, canonical_thoroughly
from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.model import Identifier
from eb_dagster.identifiers.phone import check_region
from eb_dagster.identifiers.rows import read_rows
from tests.identifiers.spellings import CALLING_CODES, spelled, values

PHONE = Layout("wide", (("phone", "phone"),))


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
        # As they are written in these countries, and with a calling code that nothing else can be.
        ("4792345678", "US", "+14792345678"),
        ("51987654321", "BR", "+5551987654321"),
        ("9512345678", "IN", "+919512345678"),
        ("687123456", "ES", "+34687123456"),
        ("1705550149", "DE", "+491705550149"),
        ("(0491) 705550149", "DE", "+49491705550149"),
        ("0049 170 5550149", "DE", "+491705550149"),
        ("12025550123", "US", "+12025550123"),
        ("442071234567", "GB", "+442071234567"),
        ("393401234567", "IT", "+393401234567"),
        ("4951234567", "RU", "+74951234567"),
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
        # Of Germany with its calling code, or of a town in Germany; of Austria, or of another town.
        ("491705550149", "DE", "phone_two_readings"),
        ("49 170 5550149", "DE", "phone_two_readings"),
        ("491705550149 ext. 7", "DE", "phone_two_readings"),
        ("436641234567", "DE", "phone_two_readings"),
        ("351912345678", "DE", "phone_two_readings"),
        ("491705550149.0", "AT", "phone_two_readings"),
        ("491705550149", "IT", "phone_two_readings"),
        ("491705550149", "CN", "phone_two_readings"),
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


def test_the_short_cut_knows_every_numbering_plan() -> None:
    taken = 0
    for code in CALLING_CODES:
        for length in range(3, 16):
            for national in (
                "23456789012345678",
                "80123456789012345",
                "19876543210987654",
                "00123456789012345",
            ):
                text = f"+{code}{national[:length]}"
                identifier = canonical("phone", text)
                assert identifier == canonical_thoroughly("phone", text, None), text
                taken += identifier == Identifier("phone", text)
    assert taken > 1000
