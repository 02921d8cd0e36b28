"""The sandbox does what the vendor documents, and bills as the vendor does."""

import gzip
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from eb_dagster import sandbox
from tests.sandbox.client import ask, emails, form, get, rows

SAMPLES = Path(__file__).parents[1] / "vendor_samples"
SAMPLE_VALUES = ["linkedin.com/in/edankrolewicz", "+1-773-474-9362", "edan@exactbuyer.com"]


def test_the_reply_follows_the_order_of_the_request_and_echoes_what_was_sent(start):
    query = [
        {"field_type": "phone", "value": "+1-773-555-0199"},
        *emails(50),
        {"field_type": "social_profile", "value": "linkedin.com/in/žofie-🦡"},
    ]
    reply = ask(start(), query)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json"
    body = reply.json()
    assert [entry["value"] for entry in body["contacts"]] == [identifier["value"] for identifier in query]
    assert all(set(entry) == {"enriched_contact", "value"} for entry in body["contacts"])
    found = sum(entry["enriched_contact"] is not None for entry in body["contacts"])
    assert body["records_enriched"] == found
    assert 0 < found < len(query)


def test_a_credit_is_charged_for_each_record_found_and_none_for_the_rest(start):
    api = start()
    body = ask(api, emails(100)).json()
    found = [("email", entry["value"]) for entry in body["contacts"] if entry["enriched_contact"]]
    assert rows(api, "SELECT field_type, value FROM charges ORDER BY id") == found
    assert rows(api, "SELECT asked, enriched, status FROM requests") == [(100, len(found), 200)]
    assert api.credits() == body["records_enriched"] == len(found)


def test_the_same_identifier_is_charged_again(start):
    api = start(match_rate=1.0)
    ask(api, emails(3))
    assert (api.credits(), api.charged_twice()) == (3, 0)
    ask(api, emails(2))
    assert (api.requests(), api.credits(), api.charged_twice()) == (2, 5, 2)


def test_the_same_identifier_twice_in_one_request_is_charged_twice(start):
    api = start(match_rate=1.0)
    assert ask(api, emails(1) * 2).json()["records_enriched"] == 2
    assert (api.credits(), api.charged_twice()) == (2, 1)


def test_the_same_value_as_another_type_is_another_identifier(start):
    api = start(match_rate=1.0)
    ask(api, [{"field_type": kind, "value": "+12025550100"} for kind in ("phone", "social_profile")])
    assert (api.credits(), api.charged_twice()) == (2, 0)


def test_multipart_is_read_as_well(start):
    parts = {name: (None, text) for name, text in form(emails(3), []).items()}
    reply = ask(start(match_rate=1.0), None, data=None, files=parts)
    assert reply.json()["records_enriched"] == 3


@pytest.mark.parametrize("required", [None, []])
def test_required_fields_may_be_absent_or_empty(start, required):
    assert ask(start(match_rate=1.0), emails(2), required).json()["records_enriched"] == 2


def test_a_record_without_a_required_field_is_null_and_free(start):
    api = start(match_rate=1.0)
    plain = ask(api, emails(300)).json()["contacts"]
    wanted = [{"field_type": "work_email"}, {"field_type": "phone"}]
    strict = ask(api, emails(300), wanted).json()
    assert 0 < strict["records_enriched"] < 300
    assert api.credits() == 300 + strict["records_enriched"]
    for before, after in zip(plain, strict["contacts"], strict=True):
        person = before["enriched_contact"]
        holds = bool(person.get("current_work_email") or person.get("work_emails"))
        holds = holds and bool(person.get("phone_numbers"))
        assert after["enriched_contact"] == (person if holds else None)


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "invalid"}])
def test_a_key_that_is_missing_or_invalid_is_a_401(start, headers):
    api = start(match_rate=1.0)
    reply = ask(api, emails(1), headers=headers)
    assert reply.status_code == 401
    assert "API key" in reply.json()["error"]
    assert api.credits() == 0


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"query_list": ""},
        {"query_list": "not json"},
        {"query_list": "[" * 100_000},
        form({}),
        form([]),
        form(["a@b.example"]),
        form([{"field_type": "email"}]),
        form([{"field_type": "work_email", "value": "a@b.example"}]),
        form([{"field_type": "Email", "value": "a@b.example"}]),
        form([{"field_type": ["email"], "value": "a@b.example"}]),
        form([{"field_type": "email", "value": None}]),
        form([{"field_type": "phone", "value": 12025550100}]),
        form([{"field_type": "email", "value": ""}]),
        form([{"field_type": "email", "value": "\ud800"}]),
        form([{"field_type": "email", "value": "a@b.example", "name": "more"}]),
        form(emails(1), {}),
        form(emails(1), ["email"]),
        form(emails(1), [{"field_type": "linkedin"}]),
        form(emails(1), [{"field_type": None}]),
        form(emails(1001)),
    ],
)
def test_a_malformed_request_is_a_400_and_free(start, data):
    api = start(match_rate=1.0)
    reply = ask(api, None, data=data)
    assert reply.status_code == 400
    assert set(reply.json()) == {"error"}
    assert (api.requests(), api.credits()) == (1, 0)


def test_a_body_that_is_json_is_a_400(start):
    assert ask(start(), None, data=None, json={"query_list": emails(1)}).status_code == 400


def test_a_thousand_long_values_fit_in_either_form(start):
    api = start(match_rate=1.0)
    query = [
        {"field_type": "social_profile", "value": f"linkedin.com/in/{'ž' * 120}{n}"} for n in range(1000)
    ]
    parts = {name: (None, text) for name, text in form(query).items()}
    assert ask(api, query).json()["records_enriched"] == 1000
    assert ask(api, None, data=None, files=parts).json()["records_enriched"] == 1000


def test_the_429_page_is_the_vendors_and_the_handler_does_not_run(start):
    api = start(match_rate=1.0, requests_per_minute=200)
    statuses = [ask(api, emails(1)).status_code for _ in range(200)]
    refused = ask(api, emails(1))
    # The window opens at the first hit, so all of these fall into it.
    assert statuses == [200] * 200
    assert refused.status_code == 429
    assert refused.headers["Content-Type"].startswith("text/html")
    assert "<title>429 Too Many Requests</title>" in refused.text
    assert "<p>200 per 1 minute</p>" in refused.text
    assert "Retry-After" not in refused.headers
    assert (api.requests(), api.credits()) == (200, 200)
    assert get(f"{api.url}/charges.json").status_code == 200


def test_a_retry_after_is_sent_if_it_is_set(start):
    api = start(requests_per_minute=1, retry_after="7")
    assert "Retry-After" not in ask(api, emails(1)).headers
    assert ask(api, emails(1)).headers["Retry-After"] == "7"


def test_credits_are_charged_all_or_nothing(start):
    api = start(match_rate=1.0, credits=5)
    assert ask(api, emails(3)).status_code == 200
    refused = ask(api, emails(3))
    assert refused.status_code == 403
    assert "credits" in refused.json()["error"]
    assert api.credits() == 3
    assert ask(api, emails(2)).status_code == 200
    assert api.credits() == 5
    assert [status for (status,) in rows(api, "SELECT status FROM requests")] == [200, 403, 200]


def test_misses_cost_nothing_even_without_credits(start):
    reply = ask(start(match_rate=0.0, credits=0), emails(3))
    assert (reply.status_code, reply.json()["records_enriched"]) == (200, 0)


def test_what_was_charged_before_a_restart_counts_against_the_credits(tmp_path):
    settings: dict[str, Any] = {"bill": tmp_path / "bill.db", "match_rate": 1.0}
    with sandbox.running(credits=3, **settings) as api:
        assert ask(api, emails(3)).status_code == 200
    with sandbox.running(credits=5, **settings) as api:
        assert ask(api, emails(3)).status_code == 403
        assert ask(api, emails(2)).status_code == 200


def test_many_threads_never_spend_more_than_there_is(start):
    api = start(match_rate=1.0, credits=20)
    threads = [threading.Thread(target=ask, args=(api, emails(3))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(status for (status,) in rows(api, "SELECT status FROM requests"))
    assert statuses == [200] * 6 + [403] * 6
    assert api.credits() == 18


def test_the_reply_is_gzip_for_a_client_that_accepts_it(start):
    api = start(match_rate=1.0)
    plain = ask(api, emails(5), headers={"X-API-Key": "any", "Accept-Encoding": "identity"})
    small = ask(api, emails(5), headers={"X-API-Key": "any", "Accept-Encoding": "gzip"}, stream=True)
    refused = ask(api, emails(5), headers={"X-API-Key": "any", "Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in refused.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.raw.read()) == plain.content


@pytest.mark.parametrize(
    ("program", "sample"),
    [(sys.executable, "bulk_enrich.py"), ("curl", "bulk_enrich.sh"), ("node", "bulk_enrich.js")],
)
def test_the_vendors_own_sample_works(start, program, sample):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    api = start(match_rate=1.0)
    command = "sh" if sample.endswith(".sh") else program
    directories = {str(Path(found).parent) for found in map(shutil.which, (program, "sh")) if found}
    ran = subprocess.run(
        [command, SAMPLES / sample],
        env={"PATH": ":".join(sorted(directories)), "EXACTBUYER_BASE_URL": api.url, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    body = json.loads(ran.stdout)
    assert [entry["value"] for entry in body["contacts"]] == SAMPLE_VALUES
    assert body["contacts"][2]["enriched_contact"]["full_name"]
    assert body["records_enriched"] == api.credits() >= 1
