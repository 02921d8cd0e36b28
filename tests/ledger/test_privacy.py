"""How people are named, and what a purge drops."""

import time
from datetime import timedelta

import pytest

from eb_dagster import InputError, LedgerError
from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE
from eb_dagster.ledger import privacy, reconcile
from tests.ledger import steps
from tests.ledger.people import JANE, JOHN, leads
from tests.ledger.steps import PEOPLE, answer, answered, asked, claim, known, standings


def test_purging_drops_people_and_keeps_receipts(ledger):
    answer(ledger, claim(ledger, steps.JANE).request_id, 0)
    assert privacy.purge(ledger, older_than=timedelta(days=1)) == 0
    time.sleep(0.01)
    assert privacy.purge(ledger, older_than=timedelta(0)) == 1
    assert known(ledger, steps.JANE) is None
    assert ledger.budget.spending().credits == 1
    assert reconcile.check(ledger) == []


def test_nobody_is_forgotten_by_what_is_no_identifier(bought):
    _, start, _ = bought
    with pytest.raises(InputError, match="email_syntax") as error:
        start().forget("email", "canary no address")
    assert "canary" not in str(error.value)


def test_nobody_is_suppressed_if_one_of_the_texts_is_no_identifier(bought):
    _, start, _ = bought
    buyer = start()
    with pytest.raises(InputError, match="1 \\(at 2, counted from 1\\)"):
        buyer.suppress([("email", JANE), ("email", "canary no address")])
    assert buyer.enrich_dataframe(leads(JANE))["eb_status"].tolist() == ["matched"]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (
            "social_profile",
            "0170/5550145",
            "A phone number without a country code\\? Then add --kind phone and --region",
        ),
        ("phone", "0170 5550145", "the phone number has no country code; add --region"),
        ("email", "jane at firm", "this is no email \\(email_syntax\\); check the spelling"),
    ],
)
def test_forgetting_what_is_nobody_says_what_may_be_missing(bought, kind, text, words):
    _, start, _ = bought
    with pytest.raises(InputError, match=words) as told:
        start().forget(kind, text)
    assert text not in str(told.value)


def test_forgetting_a_number_with_two_readings_asks_for_the_country_code(bought):
    _, start, _ = bought
    with pytest.raises(InputError, match="may begin with a country code or not; write it with \\+"):
        start(default_region="DE").forget("phone", "491705550149")


def test_whoever_is_taken_off_the_list_is_asked_again(stand_in, enricher, where):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, ledger=where)
    assert buyer.suppress([("email", f"{JANE}; {JOHN}")]) == 2
    assert buyer.unsuppress([("email", JANE.upper()), ("email", "nobody@firm.example")]) == 1
    assert buyer.unsuppress([("email", JANE)]) == 0
    assert buyer.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["matched", "suppressed"]


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda buyer: buyer.suppress([("canary@firm.example", "email")]), "swapped: give the kind first"),
        (lambda buyer: buyer.forget("canary@firm.example", "email"), "swapped: give the kind first"),
        (lambda buyer: buyer.suppress([("mail", "canary@firm.example")]), "no such kind of identifier; choose"),
        (lambda buyer: buyer.suppress("canary@firm.example"), "a list of pairs"),
        (lambda buyer: buyer.suppress(["canary@firm.example"]), "a list of pairs"),
        (lambda buyer: buyer.suppress(("email", "canary@firm.example")), "a list of pairs"),
        (lambda buyer: buyer.suppress({"email": "canary@firm.example"}), "a list of pairs"),
        (lambda buyer: buyer.suppress([("email", None)]), "of type NoneType, not text"),
        (lambda buyer: buyer.forget("email", 17), "of type int, not text"),
        (lambda buyer: buyer.unsuppress([("email", "canary")]), "1 \\(at 1, counted from 1\\).*Nothing was changed"),
    ],
)  # fmt: skip
def test_who_is_given_in_another_shape_is_told_so(bought, do, words):
    _, start, _ = bought
    with pytest.raises(InputError, match=words) as told:
        do(start())
    assert "canary" not in str(told.value)


@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
def test_what_is_in_doubt_outlives_a_purge(ledger, in_doubt):
    request_id = answered(ledger, [0, MISSED, UNREADABLE, IN_DOUBT])
    assert privacy.purge(ledger, older_than=timedelta(microseconds=1)) == 1
    assert standings(ledger) == [None, None, "unreadable", "in_doubt"]
    assert (ledger.budget.spending().at_risk, ledger.budget.spending().unreadable) == (1, 1)
    assert reconcile.check(ledger) == []
    assert privacy.purge(ledger, older_than=timedelta(microseconds=1)) == 0
    assert (asked(ledger, PEOPLE[3], resend=in_doubt == "resend") is None) == (in_doubt == "hold")
    if in_doubt == "hold":
        assert reconcile.resolve(ledger, [request_id], "resend") == 2
        assert standings(ledger) == [None] * 4
    else:
        assert ledger.budget.spending().at_risk == 1
    assert reconcile.check(ledger) == []


def test_what_was_decided_outlives_a_purge(ledger):
    request_id = answered(ledger, [0, IN_DOUBT])
    reconcile.resolve(ledger, [request_id], "charged")
    privacy.purge(ledger, older_than=timedelta(microseconds=1))
    assert standings(ledger)[:2] == [None, "decided"]
    assert ledger.budget.spending().credits == 2
    assert reconcile.check(ledger) == []


def test_who_reads_an_answer_that_was_purged_meanwhile_is_told_so(ledger):
    request_id = answered(ledger, [0])
    known, _ = ledger.lookup([ledger.key(PEOPLE[0])], required=0)
    privacy.purge(ledger, older_than=timedelta(microseconds=1))
    assert known.answering == [request_id]
    with pytest.raises(LedgerError, match="dropped by a purge"):
        next(ledger.replies(known.answering))
