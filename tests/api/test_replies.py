"""What becomes of rows by what a reply says."""

import gzip
import json
import warnings
import zlib
from contextlib import closing, contextmanager

import pandas as pd
import pytest

from eb_dagster import Refused
from eb_dagster.api.outcome import judge
from eb_dagster.api.reply import Reply
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.reconcile import check, reread
from tests.vendors import answering, records

ANN, BOB = "ann@firm.example", "bob@firm.example"


def person(name: str) -> dict:
    return {"full_name": name}


def entry(value: object, contact: object, **beside: object) -> dict:
    return {"enriched_contact": contact, "value": value, **beside}


@contextmanager
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def statuses(enricher, api, *emails: str, **settings) -> list[str]:
    with quietly():
        return (
            enricher(api, **settings).enrich_dataframe(pd.DataFrame({"email": emails}))["eb_status"].tolist()
        )


# Whose it is


A, B, MISS = person("Ann"), person("Somebody Else"), None


@pytest.mark.parametrize(
    "said",
    [
        [A, B], [A, B, MISS], [A, B, A], [A, B, B], [MISS, A, B], [A, MISS], [MISS, A], [A, MISS, A],
        [A, A, MISS], [{}, A], [A, A, A, B],
    ],
)  # fmt: skip
def test_two_different_records_under_one_echo_are_nobodys_whatever_follows(enricher, tmp_path, said):
    with answering(lambda asked: records(*(entry(asked[0], contact) for contact in said))) as api:
        assert statuses(enricher, api, ANN) == ["unreadable"]
        # It may have been charged, and is asked no more.
        assert statuses(enricher, api, ANN) == ["unreadable"]
        assert len(api.asked) == 1
    with closing(Ledger(tmp_path / "ledger.db", endpoint=f"{api.url}/v1/bulk-enrich")) as ledger:
        assert ledger.budget.spending().unreadable == 1
        assert reread(ledger).unreadable == 1
        assert check(ledger) == []


@pytest.mark.parametrize(("said", "status"), [([A] * 3, "matched"), ([MISS] * 3, "not_found")])
def test_one_record_several_times_is_one_answer(enricher, said, status):
    with answering(lambda asked: records(*(entry(asked[0], contact) for contact in said))) as api:
        assert statuses(enricher, api, ANN) == [status]


def without_tag(value: str) -> str:
    local, _, domain = value.partition("@")
    return f"{local.partition('+')[0]}@{domain}"


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        (without_tag, ["email", "ann+b@firm.example", ANN]),
        (without_tag, ["email", ANN, "ann+b@firm.example"]),
        (lambda value: value.replace(".", "", value.count(".") - 1), ["email", "a.nn@firm.example", ANN]),
        (lambda value: "+" + value[-10:], ["phone", "+14930123456", "+4930123456"]),
        (lambda value: value[-10:], ["phone", "+14930123456", "+4930123456"]),
        (lambda value: value.replace("+549", "+54"), ["phone", "+5491123456789", "+541123456789"]),
        (
            lambda value: value.replace("é", "e"),
            ["social_profile", "linkedin.com/in/andré-doe", "linkedin.com/in/andre-doe"],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_collapsed", [False, True])
def test_an_echo_that_was_made_into_another_questions_gives_nobody_a_strangers_contact(
    enricher, made, asked, is_collapsed
):
    kind, *values = asked

    def reply(asked: list[str]) -> dict:
        entries = [entry(made(value), person(f"of {value}")) for value in asked]
        return records(*(entries[:1] if is_collapsed else entries))

    with answering(reply) as api, quietly():
        told = enricher(api).enrich_dataframe(pd.DataFrame({kind: values}))
    found = told["eb_status"] == "matched"
    assert told["eb_full_name"][found].tolist() == [f"of {value}" for value in told[kind][found]]
    assert set(told["eb_status"][~found]) <= {"in_doubt", "unreadable"}


def test_many_tags_of_one_mailbox_share_a_request(enricher):
    emails = [f"ann+{number}@firm.example" for number in range(50)]
    with answering(lambda asked: records(*(entry(email, person(email)) for email in asked))) as api:
        assert statuses(enricher, api, *emails, ANN) == ["matched"] * 51
        # Both are under way at once, so either may arrive first.
        assert sorted(map(len, api.asked)) == [1, 50]


def test_an_echo_of_another_question_than_the_one_in_its_place_is_no_proof(enricher):
    # As many records as questions; Bob's place holds an echo of Ann, whose own record speaks of nobody.
    def reply(asked: list[str]) -> dict:
        return records(entry("zoe@firm.example", person("Zoe")), entry(asked[0], person("Bob")))

    with answering(reply) as api:
        assert statuses(enricher, api, ANN, BOB) == ["unreadable", "unreadable"]


def test_records_in_another_order_are_matched_though_some_are_missing(enricher):
    emails = [f"lead{number}@firm.example" for number in range(6)]

    def reply(asked: list[str]) -> dict:
        return records(*(entry(email, person(email)) for email in [*asked[3:], *asked[:2]]))

    with answering(reply) as api:
        found = ["matched", "matched", "in_doubt", "matched", "matched", "matched"]
        assert statuses(enricher, api, *emails) == found


@pytest.mark.parametrize(
    "echo", [17734749362, 17734749362.0, "17734749362", "+1 773-474-9362", "tel:+17734749362"]
)
def test_a_phone_is_known_by_its_number_however_it_is_echoed(enricher, echo):
    with answering(lambda _: records(entry(echo, A))) as api, quietly():
        told = enricher(api).enrich_dataframe(pd.DataFrame({"phone": ["+17734749362"]}))
    assert told["eb_full_name"].tolist() == ["Ann"]


@pytest.mark.parametrize(
    "echo", [True, 1e400, 0.5, [ANN], {"email": ANN}, None, 7734749362, "7734749362", ""]
)
def test_what_is_no_echo_proves_nothing(enricher, echo):
    with answering(lambda _: records(entry(echo, A))) as api, quietly():
        told = enricher(api).enrich_dataframe(pd.DataFrame({"phone": ["+17734749362"]}))
    assert set(told["eb_status"]) <= {"unreadable", "in_doubt"}


# Errors in place of answers


ERRORS = [
    {"error": "upstream timed out"}, {"error": {"code": 7}}, {"errors": ["rate limited"]}, {"error": True},
    {"status": "failed"}, {"status": "rate_limited"}, {"status": 500}, {"status": "timeout"}, {"success": False},
    {"message": "internal server error"}, {"detail": "try again later"}, {"error_code": 17}, {"Error": "x"},
    {"errorMessage": "provider unavailable"}, {"exception": "KeyError"}, {"failed": True}, {"ok": False},
    {"error": "", "status": "error"},
]  # fmt: skip
NO_ERRORS = [
    {"error": None}, {"error": ""}, {"errors": []}, {"error": {}}, {"error": False}, {"status": "ok"},
    {"status": "not_found"}, {"status": 200}, {"status": 404}, {"message": "No contact found"}, {"success": True},
    {"message": "The contact could not be found."}, {"score": 0}, {"field_type": "email"}, {"default": "x"},
    {"failover": "eu"}, {"status": None}, {"error": "none"},
]  # fmt: skip


@pytest.mark.parametrize("beside", ERRORS, ids=json.dumps)
@pytest.mark.parametrize("contact", [None, {}, "absent"], ids=["null", "empty", "absent"])
def test_an_entry_with_an_error_is_no_miss_and_is_asked_by_the_next_run(enricher, tmp_path, beside, contact):
    is_healthy = False

    def reply(asked: list[str]) -> dict:
        if is_healthy:
            return records(*(entry(value, A) for value in asked))
        failed = entry(asked[0], contact, **beside)
        if contact == "absent":
            del failed["enriched_contact"]
        return records(failed)

    frame = pd.DataFrame({"email": [ANN], "phone": ["+17734749362"]})
    with answering(reply) as api:
        first = enricher(api, identifiers={"email": "email", "phone": "phone"})
        with pytest.warns(UserWarning, match="an error in place of 1 answer,"):
            assert first.enrich_dataframe(frame)["eb_status"].tolist() == ["not_asked"]
        # The row stops there: nothing further of it is asked.
        assert api.asked == [[ANN]]
        assert (first.report.credits_charged, first.report.credits_in_doubt) == (0, 0)
        is_healthy = True
        second = enricher(api, identifiers={"email": "email", "phone": "phone"})
        assert second.enrich_dataframe(frame)["eb_status"].tolist() == ["matched"]
        assert api.asked == [[ANN], [ANN]]
    with closing(Ledger(tmp_path / "ledger.db", endpoint=f"{api.url}/v1/bulk-enrich")) as ledger:
        spent = ledger.budget.spending()
        assert (spent.credits, spent.at_risk, spent.unreadable) == (1, 0, 0)
        assert check(ledger) == []


@pytest.mark.parametrize("beside", NO_ERRORS, ids=json.dumps)
def test_a_miss_with_something_harmless_beside_it_is_a_miss(enricher, beside):
    with answering(lambda asked: records(entry(asked[0], None, **beside))) as api:
        assert statuses(enricher, api, ANN) == ["not_found"]


@pytest.mark.parametrize("beside", ERRORS, ids=json.dumps)
def test_a_contact_with_an_error_beside_it_was_paid_for_and_is_kept(enricher, beside):
    with answering(lambda asked: records(entry(asked[0], A, **beside))) as api:
        assert statuses(enricher, api, ANN) == ["matched"]


@pytest.mark.parametrize("count", [2, 2.0, "2", 10**30])
def test_errors_are_in_doubt_where_more_are_counted_than_there_are_contacts(enricher, count):
    def reply(asked: list[str]) -> dict:
        return records(entry(asked[0], A), entry(asked[1], None, error="late"), count=count)

    with answering(reply) as api:
        assert statuses(enricher, api, ANN, BOB) == ["matched", "in_doubt"]
        assert statuses(enricher, api, ANN, BOB) == ["matched", "in_doubt"]
        assert len(api.asked) == 1


@pytest.mark.parametrize("beside", [{"error": "provider down"}, {"success": False}, {"status": "partial"}])
def test_nobody_is_missed_by_a_reply_that_failed_as_a_whole(enricher, beside):
    def reply(asked: list[str]) -> dict:
        return records(entry(asked[0], A), *(entry(value, None) for value in asked[1:]), **beside)

    with answering(reply) as api:
        assert statuses(enricher, api, ANN, BOB) == ["matched", "not_asked"]


@pytest.mark.parametrize(
    "body",
    [
        {"error": "down"}, {"contacts": None, "error": "down"}, {"contacts": [], "error": "down"},
        {"contacts": [], "error": "down", "records_enriched": 0}, {"message": "down"},
    ],
)  # fmt: skip
def test_an_error_without_any_record_may_have_been_charged_and_is_not_asked_again(enricher, body):
    with answering(lambda _: body) as api:
        first = statuses(enricher, api, ANN)
        assert set(first) <= {"unreadable", "in_doubt"}
        assert statuses(enricher, api, ANN) == first
        assert len(api.asked) == 1


def test_an_old_contact_is_kept_where_asking_again_failed(enricher):
    said = [entry(ANN, A), entry(ANN, None, error="down")]
    with answering(lambda _: records(said.pop(0))) as api:
        assert statuses(enricher, api, ANN) == ["matched"]
        assert statuses(enricher, api, ANN, max_age=pd.Timedelta(1, "us").to_pytimedelta()) == ["matched"]
        assert len(api.asked) == 2


def test_a_refusal_that_names_each_identifier_is_a_refusal(enricher):
    def reply(asked: list[str]) -> dict:
        return records(*(entry(value, None, error="insufficient credits") for value in asked))

    with answering(reply, status=403) as api:
        with pytest.raises(Refused, match="top up"):
            statuses(enricher, api, ANN, BOB)
        assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (json.dumps(records(entry(ANN, None, error="no credits"))), "refused"),
        (json.dumps(records(entry(ANN, None, error="no credits"), count=1)), "answered"),
        (json.dumps(records(entry(ANN, None, error="no credits"), entry(BOB, A))), "answered"),
        (json.dumps(records(entry(ANN, None))), "answered"),
        (json.dumps(records(entry(ANN, None, error="no credits"), count="1")), "answered"),
        ('{"error": "no credits", "records_enriched": 3}', "doubt"),
        ('{"error": "no credits", "contacts": [{"enriched_contact": {"full_na', "doubt"),
        ('{"error": "no credits"}', "refused"),
    ],
)
def test_a_refusal_that_speaks_of_contacts_is_not_taken_as_free(body, verdict):
    reply = Reply(403, body.encode(), "", complete=True, request_left=True, retry_after=None)
    assert judge(reply) == verdict


# How it is packed


def several_members(*parts: bytes) -> bytes:
    return b"".join(gzip.compress(part) for part in parts)


TEXT = json.dumps(
    records(*(entry(f"lead{number}@firm.example", person(f"P{number}")) for number in range(40)))
).encode()
THIRDS = [TEXT[: len(TEXT) // 3], TEXT[len(TEXT) // 3 : -len(TEXT) // 3], TEXT[-len(TEXT) // 3 :]]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (several_members(*THIRDS), "gzip"),
        (several_members(b"", *THIRDS, b""), "gzip"),
        (several_members(*(bytes([byte]) for byte in TEXT)), "x-gzip"),
        (several_members(*THIRDS) + bytes(700), "gzip"),
        (several_members(THIRDS[0]) + bytes(5) + several_members(*THIRDS[1:]), "gzip"),
        (several_members(TEXT) + b"<!-- behind -->", "gzip"),
        (b"".join(map(zlib.compress, THIRDS)), "deflate"),
        (several_members(several_members(*THIRDS)), "gzip, gzip"),
    ],
    ids=["three", "empty ones", "one a byte", "padded", "padded between", "garbage", "zlib", "twice"],
)
def test_all_members_of_a_packed_reply_are_read(enricher, body, encoding):
    emails = [f"lead{number}@firm.example" for number in range(40)]
    with answering(lambda _: body, headers={"Content-Encoding": encoding}) as api:
        assert statuses(enricher, api, *emails) == ["matched"] * 40
