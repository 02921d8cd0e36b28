"""The sandbox breaks in the ways it is told to."""

import re
import socket
import threading
import time
from typing import Any

import pytest
import requests

from eb_dagster import sandbox
from eb_dagster.sandbox import FAULTS, Fault
from tests.sandbox.client import ask, connect, emails, raw_request, rows, wait_for

FREE = {"400": 400, "401": 401, "403": 403, "413": 413, "429": 429, "500-before": 500}
CHARGED = {"408": 408, "500-after": 500, "502": 502, "503": 503, "504": 504}


@pytest.mark.parametrize("kind", FREE)
def test_a_refusal_is_free(start, kind):
    api = start(match_rate=1.0, faults=[Fault(kind, 1)])
    assert ask(api, emails(2)).status_code == FREE[kind]
    assert api.credits() == 0
    assert ask(api, emails(2)).status_code == 200
    assert api.credits() == 2


@pytest.mark.parametrize("kind", CHARGED)
def test_a_failure_after_processing_is_charged(start, kind):
    api = start(match_rate=1.0, faults=[Fault(kind, 1)])
    reply = ask(api, emails(2))
    assert reply.status_code == CHARGED[kind]
    assert reply.headers["Content-Type"].startswith("text/html")
    assert api.credits() == 2


def test_a_made_429_is_the_same_page_as_a_real_one(start, tmp_path):
    made = ask(start(requests_per_minute=1, faults=[Fault("429", 1)]), emails(1))
    api = start(requests_per_minute=1, bill=tmp_path / "other.db")
    ask(api, emails(1))
    real = ask(api, emails(1))
    assert (made.status_code, made.text, made.headers["Content-Type"]) == (
        real.status_code,
        real.text,
        real.headers["Content-Type"],
    )


def test_reset_after_charges_and_resets_the_connection(start):
    api = start(match_rate=1.0, faults=[Fault("reset-after", 1)])
    with connect(api) as connection:
        connection.sendall(raw_request(emails(2)))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert api.credits() == 2
    assert rows(api, "SELECT asked, enriched, status FROM requests") == [(2, 2, None)]


def handler_count() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_no_reply_charges_and_waits_until_the_client_leaves(start):
    api = start(match_rate=1.0, faults=[Fault("no-reply", 1)])
    wait_for(lambda: handler_count() == 0)
    with connect(api) as connection:
        connection.sendall(raw_request(emails(2)))
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert handler_count() == 1
        assert api.credits() == 2
    wait_for(lambda: handler_count() == 0)


def test_a_request_without_a_reply_does_not_delay_the_end(tmp_path):
    faults = [Fault("no-reply", 1)]
    with sandbox.running(bill=tmp_path / "bill.db", match_rate=1.0, faults=faults) as api:
        connection = connect(api)
        connection.sendall(raw_request(emails(2)))
        wait_for(lambda: api.credits() == 2)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_a_truncated_reply_promises_more_than_comes(start):
    api = start(match_rate=1.0, faults=[Fault("truncated", 1)])
    with connect(api) as connection:
        connection.sendall(raw_request(emails(2)))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    promised = re.search(rb"Content-Length: (\d+)", head)
    assert promised is not None
    assert 0 < len(body) < int(promised[1])
    assert head.startswith(b"HTTP/1.1 200 ")
    assert api.credits() == 2


def test_a_request_that_arrives_in_part_is_free(start):
    api = start(match_rate=1.0)
    with connect(api) as connection:
        connection.sendall(raw_request(emails(2))[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in connection.recv(65536)
    assert api.credits() == 0


def test_invalid_json_is_complete_and_not_json(start):
    api = start(match_rate=1.0, faults=[Fault("invalid-json", 1)])
    reply = ask(api, emails(20))
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        reply.json()
    assert api.credits() == 20


def test_html_is_a_sign_in_page(start):
    api = start(match_rate=1.0, faults=[Fault("html", 1)])
    reply = ask(api, emails(2))
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "Sign in" in reply.text
    assert api.credits() == 2


def right_and_wrong(start: Any, kind: str, count: int = 7) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The entries of a reply without the fault, and the whole reply with it."""
    api = start(match_rate=1.0, faults=[Fault(kind, 2)])
    right, wrong = (ask(api, emails(count), [{"field_type": "email"}]) for _ in range(2))
    assert wrong.status_code == 200
    assert api.credits() == 2 * count
    return right.json()["contacts"], wrong.json()


def test_shuffled_is_another_order(start):
    right, wrong = right_and_wrong(start, "shuffled")
    assert wrong["contacts"] != right
    assert sorted(wrong["contacts"], key=str) == sorted(right, key=str)


def test_missing_drops_every_third_entry(start):
    right, wrong = right_and_wrong(start, "missing")
    assert wrong["contacts"] == [right[index] for index in (0, 1, 3, 4, 6)]


def test_extra_adds_somebody_never_asked_for(start):
    right, wrong = right_and_wrong(start, "extra")
    assert wrong["contacts"][:-1] == right
    assert wrong["contacts"][-1]["value"] not in [entry["value"] for entry in right]
    assert wrong["contacts"][-1]["enriched_contact"]["full_name"]


def test_no_echo_leaves_the_value_out(start):
    right, wrong = right_and_wrong(start, "no-echo")
    assert wrong["contacts"] == [{"enriched_contact": entry["enriched_contact"]} for entry in right]


def test_upper_echo_is_in_capitals(start):
    right, wrong = right_and_wrong(start, "upper-echo")
    expected = [entry["value"].upper() for entry in right]
    assert [entry["value"] for entry in wrong["contacts"]] == expected


def test_wrong_count_is_not_the_number_of_records(start):
    right, wrong = right_and_wrong(start, "wrong-count")
    assert wrong["contacts"] == right
    assert wrong["records_enriched"] != len(right)


def test_missing_required_sends_and_charges_what_was_not_wanted(start):
    _, wrong = right_and_wrong(start, "missing-required")
    assert wrong["records_enriched"] == 7
    for entry in wrong["contacts"]:
        assert entry["enriched_contact"]["full_name"]
        assert "emails" not in entry["enriched_contact"]


def test_a_fault_affects_the_requests_it_names(start):
    faults = [Fault.parse("503@2-3"), Fault.parse("500-before@5")]
    api = start(match_rate=1.0, faults=faults)
    statuses = [ask(api, emails(1)).status_code for _ in range(6)]
    assert statuses == [200, 503, 503, 200, 500, 200]
    assert api.credits() == 5


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_can_be_parsed(kind):
    assert Fault.parse(f"{kind}@3") == Fault(kind, 3)
    assert Fault.parse(f"{kind}@3-12") == Fault(kind, 3, 12)


@pytest.mark.parametrize(
    "text", ["", "502", "502@", "502@0", "502@3-2", "502@1-", "fire@1", "502@x", "502@²"]
)
def test_a_text_that_is_no_fault_is_refused(text):
    with pytest.raises(ValueError, match="fault"):
        Fault.parse(text)
