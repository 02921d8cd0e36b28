"""What a person decides about doubt, and what stands of it afterwards."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from eb_dagster import ConfigError, InputError, LedgerError
from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import privacy, reconcile
from eb_dagster.ledger.entries import pack_aliases, pack_outcomes
from eb_dagster.ledger.ledger import Ledger, Limits
from eb_dagster.ledger.replies import apply_reply

ENDPOINT = "http://127.0.0.1:1/v1/bulk-enrich"
PLENTY = Limits(max_credits=None, max_credits_at_risk=20_000)
PEOPLE = [Identifier("email", f"p{number}@firm.example") for number in range(4)]


@pytest.fixture
def ledger(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as it:
        yield it


def reply_to(people, *, found: int, count: int | None) -> bytes:
    contacts = [
        {"value": one.value, "enriched_contact": {"full_name": f"Made-Up {at}"} if at < found else None}
        for at, one in enumerate(people)
    ]
    return json.dumps({"contacts": contacts, "records_enriched": count}).encode()


def asked(ledger: Ledger, *people: Identifier, resend: bool = False) -> Any:
    # Any: there is no request where nothing was granted, and each test knows which it is.
    keys = [ledger.key(one) for one in people]
    run = "another" if resend else "r"
    claim = ledger.claim(keys, run=run, required=0, limits=PLENTY, seen=0, resend=resend)
    return claim.request_id


def answered(ledger: Ledger, positions: list[int], body: bytes = b"raw", *, count: int | None = None) -> int:
    """A request whose reply was read to these outcomes."""
    request_id = asked(ledger, *PEOPLE[: len(positions)])
    ledger.record(request_id, http_status=200, encoding="", complete=True, body=body)
    ledger.apply(
        request_id, outcomes=pack_outcomes(positions, [0] * len(positions)),
        aliases=pack_aliases([], [], [], []), records_enriched=count,
    )  # fmt: skip
    return request_id


def standings(ledger: Ledger) -> list[str | None]:
    keys = [ledger.key(one) for one in PEOPLE]
    return [None if one is None else one.standing for one in ledger.lookup(keys, required=0)[0].of(keys)]


@pytest.mark.parametrize("decision", ["resend", "write-off", "charged"])
def test_reading_again_adds_only_what_was_not_decided(ledger, decision):
    body = reply_to(PEOPLE[:3], found=3, count=3)
    request_id = answered(ledger, [0, IN_DOUBT, UNREADABLE], body)
    reconcile.resolve(ledger, [request_id], decision)
    spent = ledger.spending().credits
    # As an upgrade, or a process that was late, would read it: here all of it.
    apply_reply(ledger, next(ledger.replies([request_id])))
    assert reconcile.reread(ledger).replies == 0
    told = None if decision == "resend" else "decided"
    assert standings(ledger) == ["matched", told, told, None]
    assert (ledger.spending().credits, ledger.spending().at_risk) == (spent, 0)
    assert reconcile.check(ledger) == []


def test_reading_again_leaves_what_a_later_request_asked_again(ledger):
    request_id = answered(ledger, [IN_DOUBT, UNREADABLE], reply_to(PEOPLE[:2], found=2, count=2))
    again = asked(ledger, PEOPLE[0], resend=True)
    assert again is not None
    assert reconcile.reread(ledger).contacts == 1
    assert standings(ledger)[:2] == ["in_flight", "matched"]
    assert ledger.spending().credits == 1
    assert request_id != again


def test_a_late_reply_is_taken_for_what_it_says(ledger):
    request_id = asked(ledger, *PEOPLE[:2])
    ledger.doubt(request_id, http_status=504, note="HTTP 504")
    reconcile.resolve(ledger, [request_id], "charged")
    body = reply_to(PEOPLE[:2], found=1, count=1)
    apply_reply(ledger, ledger.record(request_id, http_status=200, encoding="", complete=True, body=body))
    assert standings(ledger)[:2] == ["matched", "missed"]
    assert ledger.spending().credits == 1
    assert reconcile.check(ledger) == []


@pytest.mark.parametrize(
    ("decision", "told", "cost"), [("resend", None, 0), ("write-off", "decided", 0), ("charged", "decided", 2)]
)  # fmt: skip
def test_a_person_decides_about_what_cannot_be_read_as_about_doubt(ledger, decision, told, cost):
    request_id = answered(ledger, [UNREADABLE, UNREADABLE], b"<html>Sign in</html>")
    (one,) = reconcile.unreadable(ledger)
    assert (one.request, one.at_risk, reconcile.doubts(ledger)) == (request_id, 2, [])
    assert reconcile.resolve(ledger, [request_id], decision) == 2
    assert standings(ledger)[:2] == [told, told]
    spending = ledger.spending()
    assert (spending.credits, spending.unreadable, spending.at_risk) == (cost, 0, 0)
    assert reconcile.unreadable(ledger) == []
    assert reconcile.check(ledger) == []
    with pytest.raises(InputError, match="not in doubt"):
        reconcile.resolve(ledger, [request_id], decision)


@pytest.mark.parametrize(("count", "cost"), [(3, 3), (2, 2), (None, 4), (99, 4)])
def test_what_was_charged_needs_no_count_where_the_reply_says_it(ledger, count, cost):
    request_id = answered(ledger, [0, MISSED, UNREADABLE, IN_DOUBT], count=count)
    reconcile.resolve(ledger, [request_id], "charged")
    assert ledger.spending().credits == min(cost, 3)


@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
@pytest.mark.parametrize("decision", ["write-off", "charged"])
def test_what_is_not_to_be_asked_again_is_not_by_a_run_that_sends_again(ledger, decision, in_doubt):
    request_id = asked(ledger, PEOPLE[0])
    ledger.doubt(request_id, http_status=None, note="reset")
    reconcile.resolve(ledger, [request_id], decision)
    assert asked(ledger, PEOPLE[0], resend=in_doubt == "resend") is None


def test_what_was_charged_may_be_asked_again_knowingly(ledger):
    request_id = asked(ledger, *PEOPLE[:2])
    ledger.doubt(request_id, http_status=None, note="reset")
    with pytest.raises(InputError, match="--charged"):
        reconcile.resolve(ledger, [request_id], "write-off", ask_again=True)
    assert reconcile.resolve(ledger, [request_id], "charged", ask_again=True) == 2
    assert ledger.spending().credits == 2
    assert asked(ledger, *PEOPLE[:2]) is not None
    assert reconcile.check(ledger) == []


@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
def test_a_row_of_what_was_charged_asks_nothing_and_takes_what_another_of_its_own_is_known_for(
    stand_in, enricher, where, in_doubt
):
    from eb_dagster import sandbox

    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("502", 2)])
    enricher(api, ledger=where).enrich_dataframe(pd.DataFrame({"email": ["ann@firm.example"]}))
    frame = pd.DataFrame({
        "social_profile": ["linkedin.com/in/ann-doe", "linkedin.com/in/bob-doe"],
        "email": ["ann@firm.example", "bob@firm.example"],
    })  # fmt: skip
    enricher(api, ledger=where).enrich_dataframe(frame[["social_profile"]])
    with closing(Ledger(where, endpoint="")) as ledger:
        (doubt,) = reconcile.doubts(ledger)
        reconcile.resolve(ledger, [doubt.request], "charged")
    one = enricher(api, ledger=where, in_doubt=in_doubt)
    assert one.enrich_dataframe(frame)["eb_status"].tolist() == ["matched", "in_doubt"]
    assert one.report.requests == 0


# Purging


@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
def test_what_is_in_doubt_outlives_a_purge(ledger, in_doubt):
    request_id = answered(ledger, [0, MISSED, UNREADABLE, IN_DOUBT])
    assert privacy.purge(ledger, older_than=timedelta(microseconds=1)) == 1
    assert standings(ledger) == [None, None, "unreadable", "in_doubt"]
    assert (ledger.spending().at_risk, ledger.spending().unreadable) == (1, 1)
    assert reconcile.check(ledger) == []
    assert privacy.purge(ledger, older_than=timedelta(microseconds=1)) == 0
    assert (asked(ledger, PEOPLE[3], resend=in_doubt == "resend") is None) == (in_doubt == "hold")
    if in_doubt == "hold":
        assert reconcile.resolve(ledger, [request_id], "resend") == 2
        assert standings(ledger) == [None] * 4
    else:
        assert ledger.spending().at_risk == 1
    assert reconcile.check(ledger) == []


def test_what_was_decided_outlives_a_purge(ledger):
    request_id = answered(ledger, [0, IN_DOUBT])
    reconcile.resolve(ledger, [request_id], "charged")
    privacy.purge(ledger, older_than=timedelta(microseconds=1))
    assert standings(ledger)[:2] == [None, "decided"]
    assert ledger.spending().credits == 2
    assert reconcile.check(ledger) == []


def test_who_reads_an_answer_that_was_purged_meanwhile_is_told_so(ledger):
    request_id = answered(ledger, [0])
    known, _ = ledger.lookup([ledger.key(PEOPLE[0])], required=0)
    privacy.purge(ledger, older_than=timedelta(microseconds=1))
    assert known.answering == [request_id]
    with pytest.raises(LedgerError, match="dropped by a purge"):
        next(ledger.replies(known.answering))


# Copies


def test_a_backup_holds_what_was_bought_while_a_run_goes_on(tmp_path):
    path = tmp_path / "l.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as ledger:
        answered(ledger, [0, MISSED])
        with closing(Ledger(path, endpoint=ENDPOINT)) as other, other.transaction():
            # Somebody is writing, and the log was not carried over.
            reconcile.backup(ledger, tmp_path / "copies" / "copy.db")
    copy = tmp_path / "copies" / "copy.db"
    assert [one.name for one in copy.parent.iterdir()] == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(Ledger(copy, endpoint=ENDPOINT)) as restored:
        assert standings(restored)[:2] == ["matched", "missed"]
        assert reconcile.check(restored) == []


@pytest.mark.parametrize("kind", ["a file", "a link to nothing", "the ledger"])
def test_a_backup_replaces_nothing(tmp_path, kind):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        target = tmp_path / ("l.db" if kind == "the ledger" else "copy.db")
        if kind == "a file":
            target.write_text("mine")
        elif kind == "a link to nothing":
            target.symlink_to(tmp_path / "nowhere.db")
        with pytest.raises(ConfigError, match=r"there already|belongs to a database"):
            reconcile.backup(ledger, target)
        assert reconcile.check(ledger) == []
        assert kind != "a file" or target.read_text() == "mine"


def test_a_ledger_in_postgresql_is_copied_by_pg_dump(postgresql, tmp_path):
    with (
        closing(Ledger(postgresql.new_database(), endpoint=ENDPOINT)) as ledger,
        pytest.raises(ConfigError, match="pg_dump"),
    ):
        reconcile.backup(ledger, tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_a_newer_ledger_paid_for_refuses_an_older_copy(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    frame = pd.DataFrame({"email": [one.value for one in PEOPLE]})
    frame[:1].to_parquet(tmp_path / "one.parquet")
    frame.to_parquet(tmp_path / "all.parquet")
    enricher(api).enrich_parquet(tmp_path / "one.parquet", tmp_path / "out.parquet")
    with closing(Ledger(tmp_path / "ledger.db", endpoint="")) as ledger:
        reconcile.backup(ledger, tmp_path / "copy.db")
    enricher(api).enrich_parquet(tmp_path / "all.parquet", tmp_path / "out.parquet")
    with pytest.raises(LedgerError, match="newer copy"):
        enricher(api, ledger=tmp_path / "copy.db").enrich_parquet(
            tmp_path / "all.parquet", tmp_path / "out.parquet"
        )
    assert api.credits() == 4


def test_a_check_finds_counts_that_do_not_add_up(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        answered(ledger, [0, UNREADABLE])
        with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
            connection.execute("UPDATE requests SET unreadable = 0")
            connection.commit()
        assert reconcile.check(ledger) == ["request 1: its identifiers that cannot be read do not add up"]
