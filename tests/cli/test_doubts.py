"""In doubt, for a person: what to look for on the bill, and deciding one by one."""

import json
import os
from pathlib import Path

import pytest

from eb_dagster.sandbox import Fault
from tests.cli.shell import COMMAND, leads


@pytest.fixture
def doubtful(stand_in, shell):
    """A ledger with 3 credits, then 1, 10 and 20 identifiers in doubt."""
    api = stand_in(match_rate=1.0, faults=[Fault("reset-after", request) for request in (2, 3, 4)])
    leads(3)
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 0
    for count, start in ((1, 100), (10, 200), (20, 300)):
        lines = [f"q{number}@firm.example,{number}" for number in range(start, start + count)]
        Path("leads.csv").write_text("\n".join(["Email,n", *lines, ""]))
        assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 3
    return api


def test_what_to_look_for_on_the_bill_is_said_by_request(doubtful, shell):
    shown = shell(doubtful, "ledger", "show")
    assert shown.out.startswith(f"ledger: {Path.cwd() / 'ledger.db'}\n")
    assert "in doubt: up to 31 credits in 3 requests" in shown.out
    rows = [line.split() for line in shown.out.splitlines() if "≤" in line]
    # Request, asked, at risk, before, after.
    assert [(row[0], *row[3:6], *row[6:8]) for row in rows] == [
        ("2", "1", "1", "3", "≤", "4"), ("3", "10", "10", "3", "≤", "13"), ("4", "20", "20", "3", "≤", "23")
    ]  # fmt: skip
    doubts = json.loads(shell(doubtful, "ledger", "show", "--json").out)["doubts"]
    assert [doubt["credits_before"] for doubt in doubts] == [3, 3, 3]
    listed = shell(doubtful, "ledger", "resolve")
    assert listed.code == 2
    assert "request 2, sent 2" in listed.out
    assert "1 identifier asked, up to 1 credit in doubt" in listed.out
    assert (
        "3 credits before it if nothing else is in doubt; still 3 after it if it was not charged, up to 4"
        in listed.out
    )
    assert "eb-dagster ledger resolve 2 --charged     the bill has it" in listed.out
    assert "request 3" not in shell(doubtful, "ledger", "resolve", "4").out
    # There is no such request, and nothing is said about one.
    assert shell(doubtful, "ledger", "resolve", "99").out.startswith(
        "there is nothing to decide about request 99"
    )
    refused = shell(doubtful, "ledger", "resolve", "99", "--resend")
    assert (refused.code, "there is nothing to decide about request 99" in refused.said) == (2, True)


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own is POSIX")
def test_a_person_is_led_through_them_on_a_terminal(doubtful, shell, tmp_path):
    import pexpect

    words = [*COMMAND[1:], "ledger", "resolve"]
    child = pexpect.spawn(COMMAND[0], words, cwd=str(tmp_path), timeout=30, encoding="utf-8")
    child.expect_exact("1 of 3")
    child.expect_exact("up to 1 credit in doubt")
    child.expect_exact("What does the bill say?")
    child.sendline("n")
    child.expect_exact("done: 1 identifier will be asked again by the next run")
    child.expect_exact("2 of 3")
    child.sendline("c")
    child.expect_exact("How many credits does the bill have for it?")
    child.sendline("11")
    child.expect_exact("not in the range")
    child.sendline("7")
    child.expect_exact("It may be paid for twice [y/N]")
    child.sendline("")
    child.expect_exact("3 of 3")
    # Enter alone decides nothing.
    child.sendline("")
    child.expect_exact("decided about 2 requests; 1 request still open")
    child.expect(pexpect.EOF)
    shown = json.loads(shell(doubtful, "ledger", "show", "--json").out)
    assert [doubt["request"] for doubt in shown["doubts"]] == [4]
    assert sum(month["credits"] for month in shown["months"]) == 10
    assert shell(doubtful, "ledger", "resolve", "4", "--write-off").code == 0
    told = shell(doubtful, "ledger", "resolve")
    assert (told.code, "there is nothing to decide" in told.out) == (0, True)
