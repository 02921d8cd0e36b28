"""What a person decides about doubt, and what stands of it afterwards."""

import json
import sqlite3
from contextlib import closing

import pandas as pd
import pytest

from eb_dagster import ConfigError, InputError, LedgerError
from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import apply_reply
from tests.ledger.steps import ENDPOINT, JANE, JOHN, PEOPLE, answer, answered, asked, claim, known, standings


@pytest.mark.parametrize(
    ("decision", "standing", "spent"), [("resend", None, 0), ("write-off", "decided", 0), ("charged", "decided", 2)]
)  # fmt: skip
def test_a_person_decides_what_becomes_of_doubt(ledger, decision, standing, spent):
    claimed = claim(ledger, JANE, JOHN)
    ledger.doubt(claimed.request_id, http_status=502, note="HTTP 502")
    (doubt,) = reconcile.doubts(ledger)
    assert (doubt.request, doubt.at_risk, doubt.reason) == (claimed.request_id, 2, "HTTP 502")
    assert reconcile.resolve(ledger, [claimed.request_id], decision) == 2
    assert reconcile.doubts(ledger) == []
    after = known(ledger, JANE)
    assert (after.standing if after else None) == standing
    assert (ledger.budget.spending().credits, ledger.budget.spending().at_risk) == (spent, 0)
    assert reconcile.check(ledger) == []
    with pytest.raises(InputError, match="nothing to decide"):
        reconcile.resolve(ledger, [claimed.request_id], decision)


def test_a_bill_may_say_that_only_a_part_was_charged(ledger):
    claimed = claim(ledger, JANE, JOHN)
    ledger.doubt(claimed.request_id, http_status=None, note="reset")
    with pytest.raises(InputError, match="2 identifiers in doubt, not 3"):
        reconcile.resolve(ledger, [claimed.request_id], "charged", credits=3)
    reconcile.resolve(ledger, [claimed.request_id], "charged", credits=1)
    assert ledger.budget.spending().credits == 1


def test_the_receipts_name_nobody_and_add_up(ledger, tmp_path):
    import pyarrow.parquet as pq

    answer(ledger, claim(ledger, JANE, JOHN).request_id, 0, MISSED)
    ledger.doubt(
        claim(ledger, Identifier("email", "x@firm.example")).request_id, http_status=500, note="HTTP 500"
    )
    assert reconcile.export(ledger, tmp_path / "receipts.parquet") == 2
    table = pq.read_table(tmp_path / "receipts.parquet")
    assert table.schema.names == reconcile.RECEIPTS.names
    assert table["credits"].to_pylist() == [1, 0]
    assert table["at_risk"].to_pylist() == [0, 1]
    assert b"firm.example" not in (tmp_path / "receipts.parquet").read_bytes()
    (month,) = reconcile.months(ledger)
    assert (month.requests, month.asked, month.credits, month.in_doubt) == (2, 3, 1, 1)


def reply_to(people, *, found: int, count: int | None) -> bytes:
    contacts = [
        {
            "value": person.value,
            "enriched_contact": {"full_name": f"Made-Up {index}"} if index < found else None,
        }
        for index, person in enumerate(people)
    ]
    return json.dumps({"contacts": contacts, "records_enriched": count}).encode()


@pytest.mark.parametrize("decision", ["resend", "write-off", "charged"])
def test_reading_again_adds_only_what_was_not_decided(ledger, decision):
    body = reply_to(PEOPLE[:3], found=3, count=3)
    request_id = answered(ledger, [0, IN_DOUBT, UNREADABLE], body)
    reconcile.resolve(ledger, [request_id], decision)
    spent = ledger.budget.spending().credits
    # As an upgrade, or a process that was late, would read it: here all of it.
    apply_reply(ledger, next(ledger.replies([request_id])))
    assert reconcile.reread(ledger).replies == 0
    told = None if decision == "resend" else "decided"
    assert standings(ledger) == ["matched", told, told, None]
    assert (ledger.budget.spending().credits, ledger.budget.spending().at_risk) == (spent, 0)
    assert reconcile.check(ledger) == []


def test_reading_again_leaves_what_a_later_request_asked_again(ledger):
    request_id = answered(ledger, [IN_DOUBT, UNREADABLE], reply_to(PEOPLE[:2], found=2, count=2))
    again = asked(ledger, PEOPLE[0], resend=True)
    assert again is not None
    assert reconcile.reread(ledger).contacts == 1
    assert standings(ledger)[:2] == ["in_flight", "matched"]
    assert ledger.budget.spending().credits == 1
    assert request_id != again


def test_a_late_reply_is_taken_for_what_it_says(ledger):
    request_id = asked(ledger, *PEOPLE[:2])
    ledger.doubt(request_id, http_status=504, note="HTTP 504")
    reconcile.resolve(ledger, [request_id], "charged")
    body = reply_to(PEOPLE[:2], found=1, count=1)
    apply_reply(ledger, ledger.record(request_id, http_status=200, encoding="", complete=True, body=body))
    assert standings(ledger)[:2] == ["matched", "missed"]
    assert ledger.budget.spending().credits == 1
    assert reconcile.check(ledger) == []


@pytest.mark.parametrize(
    ("decision", "told", "cost"), [("resend", None, 0), ("write-off", "decided", 0), ("charged", "decided", 2)]
)  # fmt: skip
def test_a_person_decides_about_what_cannot_be_read_as_about_doubt(ledger, decision, told, cost):
    request_id = answered(ledger, [UNREADABLE, UNREADABLE], b"<html>Sign in</html>")
    (unreadable,) = reconcile.unreadable(ledger)
    assert (unreadable.request, unreadable.at_risk, reconcile.doubts(ledger)) == (request_id, 2, [])
    assert reconcile.resolve(ledger, [request_id], decision) == 2
    assert standings(ledger)[:2] == [told, told]
    spending = ledger.budget.spending()
    assert (spending.credits, spending.unreadable, spending.at_risk) == (cost, 0, 0)
    assert reconcile.unreadable(ledger) == []
    assert reconcile.check(ledger) == []
    with pytest.raises(InputError, match="nothing to decide"):
        reconcile.resolve(ledger, [request_id], decision)


@pytest.mark.parametrize(("count", "cost"), [(3, 3), (2, 2), (None, 4), (99, 4)])
def test_what_was_charged_needs_no_count_where_the_reply_says_it(ledger, count, cost):
    request_id = answered(ledger, [0, MISSED, UNREADABLE, IN_DOUBT], count=count)
    reconcile.resolve(ledger, [request_id], "charged")
    assert ledger.budget.spending().credits == min(cost, 3)


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
    assert ledger.budget.spending().credits == 2
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
    buyer = enricher(api, ledger=where, in_doubt=in_doubt)
    assert buyer.enrich_dataframe(frame)["eb_status"].tolist() == ["matched", "in_doubt"]
    assert buyer.report.requests == 0


def test_a_backup_holds_what_was_bought_while_a_run_goes_on(tmp_path):
    path = tmp_path / "l.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as ledger:
        answered(ledger, [0, MISSED])
        with closing(Ledger(path, endpoint=ENDPOINT)) as other, other.database.transaction():
            # Somebody is writing, and the log was not carried over.
            reconcile.backup(ledger, tmp_path / "copies" / "copy.db")
    copy = tmp_path / "copies" / "copy.db"
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]
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
    frame = pd.DataFrame({"email": [person.value for person in PEOPLE]})
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
        assert reconcile.check(ledger) == [
            "request 1: its identifiers that cannot be read do not add up",
            "what was spent is counted wrongly (counters that differ: 3)",
        ]
