"""What one cell offers: the cases from the field, and more of each kind."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster.identifiers.canonical import key_form
from eb_dagster.identifiers.cells import read_cell
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType
from tests.identifiers.spellings import NEAR, TEXTS, reasons, values

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases" / "cells.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']} {case['cell']}")
def test_a_case_from_the_field_offers_what_it_should(case: dict) -> None:
    identifiers, reasons = read_cell(case["kind"], case["cell"], default_region=case["region"])
    assert [identifier.value for identifier in identifiers] == case["expected"]
    assert identifiers or reasons


@pytest.mark.parametrize(
    "cell",
    [
        "jane; doe@firm.example", "jane|doe@firm.example", "jane\ndoe@firm.example", "jane, doe@firm.example",
        "jane\tdoe@firm.example", "jane\u00a0doe@firm.example", "jane\u3000doe@firm.example", "jane、doe@firm.example",
        "jane&nbsp;doe@firm.example", "jane<br>doe@firm.example", "jane.doe smith@firm.example",
        "jane - doe@firm.example", "jane / doe@firm.example", "jane or doe@firm.example", "jane (x) doe@firm.example",
        "jane(dot)doe@firm.example", '"jane" doe@firm.example', '"jane doe"@firm.example', 'jane."van doe"@firm.example',
        "<jane> doe@firm.example", "jane <doe@firm.example", "Work jane@firm.example", "na doe@firm.example",
        "mailto:jane,doe@firm.example", "mailto:jane%20doe@firm.example", "jane:doe@firm.example",
        '["jane", "doe@firm.example"]', "{jane,doe@firm.example}", "['jane', 'doe@firm.example']",
        "a@x.example; jane doe@firm.example", "a@x.example, jane, doe@firm.example", "a@x.example jane @firm.example",
        "jane@ firm.example", "jane @firm.example", "jane@firm .example", "jane@firm. example", "jane@firm,example",
        "jane@firm.co m", "jane@firm.com;br", "www.jane@firm.com;br", "jane@firm.com; br", "jane@firm.com\nbr", "jane@firm.com|.br",
        "jane@firm.com -de", "jane@firm.com (.br)", "jane@firm.com, br", "jane@firm.com br; a@x.example",
        "jane@fi rm.example", "jane@firm.example Bo <bo@x.example>", '=CONCATENATE("jane.","doe@firm.example")',
        '=A1&"@firm.example"', "o&foo;brien@firm.example", "jane &lt;at&gt; firm.example",
    ],
)  # fmt: skip
def test_half_of_a_broken_address_is_nobody(cell: str) -> None:
    identifiers, reasons = read_cell("email", cell, default_region=None)
    assert identifiers == ()
    assert reasons


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Jane (jane@x.example)", ["jane@x.example"]),
        ("Work: jane@x.example", ["jane@x.example"]),
        ("Home: jane@x.example Work: j@y.example", ["jane@x.example", "j@y.example"]),
        ("Work:jane@x.example", ["jane@x.example"]),
        ("E-Mail: jane@x.example; Privat: j@y.example", ["jane@x.example", "j@y.example"]),
        ("jane@x.example (work)", ["jane@x.example"]),
        ("jane@x.example(work), j@y.example (home)", ["jane@x.example", "j@y.example"]),
        ("(work) jane@x.example", ["jane@x.example"]),
        ('"Doe, Jane" <jane@x.example>; "Bo; B." <b@y.example>', ["jane@x.example", "b@y.example"]),
        ("Doe, Jane <jane@x.example>", ["jane@x.example"]),
        ("a@x.example, Bo <b@y.example>", ["a@x.example", "b@y.example"]),
        ("Ann <a@x.example> Bo <b@y.example>", ["a@x.example", "b@y.example"]),
        ('"a@x.example" <a@x.example>', ["a@x.example"]),
        ("<mailto:a@x.example>", ["a@x.example"]),
        ("a@x.example or b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example & b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example / b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example - b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example:::b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example<br/>b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example&#59;b@y.example", ["a@x.example", "b@y.example"]),
        ("a@x.example，b@y.example｜c@z.example", ["a@x.example", "b@y.example", "c@z.example"]),
        ("ａｄａ＠ｘ．ｅｘａｍｐｌｅ", ["ada@x.example"]),
        ("mailto:a@x.example,", ["a@x.example"]),
        ("a@x.example, +49 170 5550145", ["a@x.example"]),
        ("-; a@x.example; N/A", ["a@x.example"]),
        ("a@x.example, null", ["a@x.example"]),
        ("n/a\na@x.example\ntbd", ["a@x.example"]),
        ("a@x.example; no email", ["a@x.example"]),
        ("a@x.example; nobody; ", ["a@x.example"]),
        ("a@x.example; firm.example", ["a@x.example"]),
        ("https://firm.example/x; a@x.example", ["a@x.example"]),
        ("a@x.example; bo@firm; c@z.example", ["a@x.example", "c@z.example"]),
        ("o&amp;#39;brien@x.example", ["o'brien@x.example"]),
        ("&lt;a@x.example&gt;", ["a@x.example"]),
        ("a&#64;x.example", ["a@x.example"]),
        ("a&commat;x&period;example", ["a@x.example"]),
        ('="a@x.example; b@y.example"', ["a@x.example", "b@y.example"]),
        ('=+"a@x.example"', ["a@x.example"]),
        ('+"a@x.example"', ["a@x.example"]),
        ('=hyperlink("mailto:a@x.example?subject=hi";"Ada")', ["a@x.example"]),
        ('=HYPERLINK("mailto:a@x.example")', ["a@x.example"]),
        ('@HYPERLINK("mailto:a@x.example","Ada")', ["a@x.example"]),
        ('+HYPERLINK("mailto:a@x.example","Ada")', ["a@x.example"]),
        ('=LIEN_HYPERTEXTE("mailto:a@x.example";"Ada ""A""")', ["a@x.example"]),
        ('=HYPERLINK("https://crm.example/1","a@x.example")', ["a@x.example"]),
        ('=HYPERLINK("mailto:a@x.example",A2)', ["a@x.example"]),
        ("'=\"a@x.example\"", ["a@x.example"]),
        ("'=HYPERLINK(\"mailto:a@x.example\",\"Ada\")", ["a@x.example"]),
        ("[Ada](mailto:a@x.example)", ["a@x.example"]),
        ("[a@x.example](mailto:a@x.example), [Bo](mailto:b@y.example)", ["a@x.example", "b@y.example"]),
        ("[a@x.example](https://crm.example/1)", ["a@x.example"]),
        ('<a href="mailto:a@x.example" class="m">Ada</a>', ["a@x.example"]),
        ("<p>a@x.example</p>", ["a@x.example"]),
        ("[a@x.example]", ["a@x.example"]),
        ("[a@x.example, b@y.example]", ["a@x.example", "b@y.example"]),
        ('["a\\u0040x.example", null]', ["a@x.example"]),
        ("[\"o'brien@x.example\", 'b@y.example']", ["o'brien@x.example", "b@y.example"]),
        ('{"a@x.example",b@y.example}', ["a@x.example", "b@y.example"]),
        ("[]", []),
        ("{}", []),
        ("X500:/o=Firm/ou=Group (FY)/cn=a;SMTP:a@x.example", ["a@x.example"]),
        ("sip:s@x.example;SMTP:a@x.example;smtp:b@x.example", ["a@x.example", "b@x.example"]),
        ("X400:C=US;A= ;P=Firm;O=Exchange;S=Doe;G=Jane;;smtp:a@x.example", ["a@x.example"]),
        ("MAILTO:///a@x.example", ["a@x.example"]),
        ("www.ada@x.example", ["www.ada@x.example"]),
        ("\x00a@x.example\x1f", ["a@x.example"]),
        ("a@x.example;\x1fb@y.example", ["a@x.example", "b@y.example"]),
        ("“a@x.example”; ‘b@y.example’", ["a@x.example", "b@y.example"]),
    ],
)  # fmt: skip
def test_a_whole_address_is_found_in_its_company(cell: str, expected: list[str]) -> None:
    assert values("email", cell) == expected


@pytest.mark.parametrize(
    "cell",
    [
        "linkedin.com/in/jane doe", "linkedin.com/in/jane,doe", "linkedin.com/in/jane; doe", "linkedin.com/in/jane\ndoe",
        "linkedin.com/in/jane | doe", "https://www.linkedin.com/in/jane doe https://x.com/jane",
        "linkedin.com/in/jane, doe, x.com/jane", "www.linked in.com/in/jane", "https://linked in.com/in/jane",
        "https://www.linkedin.com /in/jane", "https://xing.com/profile/Jane _Doe", "[\"linkedin.com/in/jane\", \"doe\"]",
        "Ada in/jane", "linkedin.com/in/jane Bo <linkedin.com/in/bo>",
    ],
)  # fmt: skip
def test_half_of_a_broken_profile_is_nobody(cell: str) -> None:
    identifiers, reasons = read_cell("social_profile", cell, default_region=None)
    assert identifiers == ()
    assert reasons


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Ada <linkedin.com/in/ada>; Bo (linkedin.com/in/bo)", ["linkedin.com/in/ada", "linkedin.com/in/bo"]),
        ("LinkedIn: linkedin.com/in/ada", ["linkedin.com/in/ada"]),
        ("LinkedIn:linkedin.com/in/ada; X: x.com/ada", ["linkedin.com/in/ada", "twitter.com/ada"]),
        ("See https://www.linkedin.com/in/ada.", ["linkedin.com/in/ada"]),
        ("linkedin.com/in/ada (LinkedIn), x.com/ada (X)", ["linkedin.com/in/ada", "twitter.com/ada"]),
        ("linkedin.com/in/ada / x.com/ada", ["linkedin.com/in/ada", "twitter.com/ada"]),
        ("linkedin.com/in/ada or x.com/ada", ["linkedin.com/in/ada", "twitter.com/ada"]),
        ("linkedin.com/in/ada; n/a; -", ["linkedin.com/in/ada"]),
        ("linkedin.com/in/ada; ada@x.example", ["linkedin.com/in/ada"]),
        ("linkedin.com/in/ada; firm.example", ["linkedin.com/in/ada"]),
        ("linkedin.com/in/ada&amp;trk=x", ["linkedin.com/in/ada"]),
        ("[Ada](https://www.linkedin.com/in/ada), [X](https://x.com/ada)", ["linkedin.com/in/ada", "twitter.com/ada"]),
        ('<a href="https://www.linkedin.com/in/ada">Ada</a>', ["linkedin.com/in/ada"]),
        ("{https://www.linkedin.com/in/ada,x.com/ada}", ["linkedin.com/in/ada", "twitter.com/ada"]),
        ("https://www.linkedin.com/in/jane%2C-mba", ["linkedin.com/in/jane,-mba"]),
        ("linkedin.com/in/jane,-mba", ["linkedin.com/in/jane,-mba"]),
        ("=HYPERLINK(\"https://www.linkedin.com/in/ada\";\"Ada\")", ["linkedin.com/in/ada"]),
    ],
)  # fmt: skip
def test_a_whole_profile_is_found_in_its_company(cell: str, expected: list[str]) -> None:
    assert values("social_profile", cell) == expected


@pytest.mark.parametrize(
    ("cell", "region"),
    [
        ("+49 30 1234, 567", None), ("+49 30 1234; 567", None), ("+49 30 1234\n567", None), ("+49 30\n901820", "DE"),
        ("+49 170 555\n0145", "DE"), ("030, 901820", "DE"), ("+49, 30 901820", "DE"), ("+49 30 901820, -21", None), ("+49 30 901820 / 21", None),
        ("+49 30 901820/21", None), ("030 9018, 20", "DE"), ("030 1234, 56789", "DE"), ("+1 773 474\n9362", "US"),
        ("(773), 474-9362", "US"), ('["+49 30", "901820"]', "DE"), ("+49 30 1234 | 5678", None),
    ],
)  # fmt: skip
def test_half_of_a_broken_number_is_nobody(cell: str, region: str | None) -> None:
    identifiers, reasons = read_cell("phone", cell, default_region=region)
    assert identifiers == ()
    assert reasons


@pytest.mark.parametrize(
    ("cell", "region", "expected"),
    [
        ("0170 / 5550145", "DE", ["+491705550145"]),
        ("+49 (170) / 5550145", None, ["+491705550145"]),
        ("+1 773 474 9362, ext. 12", None, ["+17734749362"]),
        ("(773) 474-9362; x12", "US", ["+17734749362"]),
        ("773-474-9362, 773-474-9363", "US", ["+17734749362", "+17734749363"]),
        ("0170 5550145, 030 901820", "DE", ["+491705550145", "+4930901820"]),
        ("+49 30 901820 +49 170 5550145", None, ["+4930901820", "+491705550145"]),
        ("+49 30 901820 oder +49 170 5550145", None, ["+4930901820", "+491705550145"]),
        ("+49 30 901820；+49 170 5550145", None, ["+4930901820", "+491705550145"]),
        ("+49 30 901820; n/a", None, ["+4930901820"]),
        ("Mobil: +49 170 5550145; Büro: +49 30 901820", None, ["+491705550145", "+4930901820"]),
        ("+1 773; +49 30 901820", None, ["+4930901820"]),
        ("=7734749362", "US", ["+17734749362"]),
        ("=+17734749362", None, ["+17734749362"]),
        ("'=+17734749362", None, ["+17734749362"]),
        ("['+17734749362', '+17734749363']", None, ["+17734749362", "+17734749363"]),
        ("[Call](tel:+17734749362)", None, ["+17734749362"]),
        ('=HYPERLINK("tel:+17734749362","call")', None, ["+17734749362"]),
        ("\x00+17734749362\x00", None, ["+17734749362"]),
    ],
)
def test_a_whole_number_is_found_in_its_company(cell: str, region: str | None, expected: list[str]) -> None:
    assert values("phone", cell, region) == expected


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
def test_of_a_cells_identifiers_each_is_a_cell_of_its_own(field_type: FieldType, data: st.DataObject) -> None:
    near = NEAR[field_type]
    some = data.draw(st.lists(near | TEXTS, max_size=4))
    cell = data.draw(st.sampled_from([";", ",", " ", "\n", " ::: ", ""])).join(some)
    for identifier in read_cell(field_type, cell, default_region="DE")[0]:
        assert read_cell(field_type, identifier.value, default_region="DE")[0] == (identifier,)
        assert key_form(field_type, key_form(field_type, identifier.value)) == key_form(
            field_type, identifier.value
        )


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
    assert reasons("email", cell) == ()


def test_a_name_before_an_address_in_brackets_is_no_fault() -> None:
    assert values("email", "Jane van Doe <Jane@x.example>") == ["jane@x.example"]
    assert reasons("email", "Jane van Doe <Jane@x.example>") == ()
    assert reasons("email", "Jane van Doe <jane at x>") == ("email_syntax",)


def test_invalid_parts_only_give_reasons() -> None:
    assert values("email", "n/a; b@y.example; nobody") == ["b@y.example"]
    assert reasons("email", "n/a; b@y.example; nobody") == ("email_syntax",)
    assert reasons("phone", "773 474 9362; n/a") == ("phone_no_region", "phone_syntax")


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
    assert reasons("social_profile", cell) == ("profile_syntax",)
