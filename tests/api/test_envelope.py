import json
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.api import envelope
from eb_dagster.api.envelope import (
    IN_DOUBT,
    MISSED,
    UNREADABLE,
    align,
    encode_form,
    encode_reply,
    made_apart,
    parse_reply,
    tells_of_contacts,
)
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType


def body(*entries: dict) -> bytes:
    return json.dumps({"contacts": list(entries), "records_enriched": 1}).encode()


def aligned(raw: bytes, *asked: str, complete: bool = True) -> tuple[int, ...]:
    places = {value: position for position, value in enumerate(asked)}
    return align(
        parse_reply(raw),
        asked=len(asked),
        find=lambda echo: [places[echo]] if echo in places else [],
        complete=complete,
    ).positions


def test_the_form_is_the_vendors():
    form = parse_qs(encode_form(["email"], ["a@b.example"], required_fields=["phone"]).decode())
    assert json.loads(form["query_list"][0]) == [{"field_type": "email", "value": "a@b.example"}]
    assert json.loads(form["required_fields"][0]) == [{"field_type": "phone"}]


@given(st.lists(st.tuples(st.sampled_from(FIELD_TYPES), st.text(min_size=1)), min_size=1, max_size=5))
def test_the_form_is_encoded_as_the_standard_library_does(asked):
    kinds, values = zip(*asked, ("email", "".join(map(chr, range(128)))), strict=True)
    form = encode_form(kinds, values, required_fields=["phone"])
    questions = zip(kinds, values, strict=True)
    query = json.dumps([{"field_type": kind, "value": value} for kind, value in questions])
    required = json.dumps([{"field_type": "phone"}])
    assert form.decode() == urlencode({"query_list": query, "required_fields": required})


def test_more_than_a_thousand_is_never_encoded():
    kinds: list[FieldType] = ["email"] * 1001
    with pytest.raises(ValueError, match="1000"):
        encode_form(kinds, ["a@b.example"] * 1001, required_fields=[])


def told_apart_one_by_one(kind: FieldType, values: list[str]) -> list[bool]:
    """Of those before it, none may come back as an identifier does, nor it as one of them."""
    apart: list[str] = []
    told: list[bool] = []
    for value in values:
        own = envelope._possible_echoes(kind, value)
        is_apart = not any(
            value == other or value in envelope._possible_echoes(kind, other) or other in own
            for other in apart
        )
        apart += [value] * is_apart
        told.append(is_apart)
    return told


# Few characters, so that many of them are alike.
local_parts = st.text("ab.+é@", min_size=1, max_size=5)
domains = st.sampled_from(["gmail.com", "googlemail.com", "a.b", "ab", "a+b"])
profiles = st.builds("linkedin.com/in/{}".format, st.text("aeé.\u0301", min_size=1, max_size=4))
values_of = {
    "email": st.builds("{}@{}".format, local_parts, domains),
    "phone": st.builds("+{}".format, st.from_regex(r"(549|54|390|39|1)?[12]{3,5}", fullmatch=True)),
    "social_profile": profiles,
}


@pytest.mark.parametrize("kind", FIELD_TYPES)
@given(data=st.data())
def test_what_is_told_apart_in_bulk_is_what_is_told_apart_one_by_one(kind, data):
    values = data.draw(st.lists(values_of[kind], unique=True, max_size=6))
    assert made_apart(kind, values) == told_apart_one_by_one(kind, values)


def test_answers_are_matched_by_echo():
    raw = body({"value": "b", "enriched_contact": {}}, {"value": "a", "enriched_contact": None})
    assert aligned(raw, "a", "b") == (MISSED, 0)


def test_a_missing_answer_is_in_doubt():
    assert aligned(body({"value": "a", "enriched_contact": None}), "a", "b") == (MISSED, IN_DOUBT)


def test_without_an_echo_nothing_is_matched():
    assert aligned(body({"enriched_contact": {}}, {"enriched_contact": None}), "a", "b") == (UNREADABLE,) * 2


@pytest.mark.parametrize("value", [None, True, False, 0.5, ["a"], {"a": "a"}])
def test_what_is_neither_text_nor_a_whole_number_is_no_echo(value):
    assert aligned(body({"value": value, "enriched_contact": {}}), "a") == (UNREADABLE,)


def test_two_different_contacts_for_one_question_are_nobodys():
    raw = body({"value": "a", "enriched_contact": {"x": 1}}, {"value": "a", "enriched_contact": {"x": 2}})
    assert aligned(raw, "a") == (UNREADABLE,)


def test_an_echo_that_may_mean_two_questions_proves_neither():
    parsed = parse_reply(
        body({"value": "ab", "enriched_contact": {}}, {"value": "c", "enriched_contact": {}})
    )
    readings = {"ab": [0, 1], "c": [2]}
    assert align(parsed, asked=3, find=readings.__getitem__, complete=True).positions == (
        *[UNREADABLE] * 2,
        1,
    )


def test_whole_records_of_a_torn_reply_are_read():
    raw = body(*({"value": str(n), "enriched_contact": {"n": n}} for n in range(9)))
    found = aligned(raw[: len(raw) // 2], *map(str, range(9)), complete=False)
    assert found[0] == 0
    assert found[-1] == IN_DOUBT


def test_what_stands_inside_a_contact_that_broke_off_is_no_record():
    raw = b'{"contacts": [{"enriched_contact": {"emails": [{"value": "a"}, {"value": "b"}], "full_na'
    assert aligned(raw, "a", "b", complete=False) == (IN_DOUBT,) * 2


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b'{"contacts": null}']
)
def test_rubbish_is_unreadable(raw):
    assert aligned(raw, "a") == (UNREADABLE,)


def test_a_nan_does_not_spoil_the_reply():
    raw = b'{"contacts": [{"value": "a", "enriched_contact": {"x": NaN}}], "records_enriched": 1}'
    assert aligned(raw, "a") == (0,)
    # It was read to its end.
    assert aligned(raw, "a", "b") == (0, IN_DOUBT)
    assert parse_reply(raw).records_enriched == 1


@pytest.mark.parametrize(
    ("contact", "answer"),
    [
        ("null", MISSED), ("false", MISSED), ("0", MISSED), ('""', MISSED), ("[]", MISSED), (" [] ", MISSED),
        ("{}", 0), ("[{}]", 0), ("true", 0), ('{"x": 0}', 0),
    ],
)  # fmt: skip
def test_nobody_may_be_said_in_several_ways(contact, answer):
    assert aligned(b'{"contacts": [{"value": "a", "enriched_contact": %s}]}' % contact.encode(), "a") == (
        answer,
    )


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"error": "insufficient credits"}', False),
        (b'{"error": "insufficient credits", "contacts": [], "records_enriched": 0}', False),
        (b"<html><title>403</title></html>", False),
        (b'{"error": "insufficient credits", "records_enriched" : 12}', True),
        (b'{"records_enriched": "7"', True),
        (b'{"contacts": [{"enriched_contact": {"full_na', True),
    ],
)
def test_a_refusal_may_tell_that_somebody_was_enriched(raw: bytes, told: bool):
    assert tells_of_contacts(raw) is told


def test_a_rewritten_reply_says_the_same():
    raw = body(
        {"value": "a", "enriched_contact": {"x": 1}}, {"value": "b", "enriched_contact": None},
        {"value": "c", "enriched_contact": None, "error": "down"}, {"value": "d"}, {"enriched_contact": {}},
    )  # fmt: skip
    parsed = parse_reply(raw)
    again = parse_reply(encode_reply(parsed.records, parsed.records_enriched))
    assert [bytes(record.contact or b"").replace(b" ", b"") for record in again.records] == [
        bytes(record.contact or b"").replace(b" ", b"") for record in parsed.records
    ]
    assert [(record.echo, record.readable, record.failed) for record in again.records] == [
        (record.echo, record.readable, record.failed) for record in parsed.records
    ]
