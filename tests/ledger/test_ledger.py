"""A request's life."""

import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest

from eb_dagster import ConfigError, Enricher, LedgerError
from eb_dagster.api.envelope import IN_DOUBT, MISSED
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.entries import pack_aliases, pack_outcomes
from eb_dagster.ledger.known_keys import Freshness
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import ENDPOINT, JANE, JOHN, answer, claim, claim_emails, known


def test_a_request_goes_from_intent_to_answer(ledger):
    claimed = claim(ledger, JANE, JOHN)
    assert known(ledger, JANE).standing == "in_flight"
    assert ledger.budget.spending().at_risk == 2
    answer(ledger, claimed.request_id, 0, MISSED)
    assert (known(ledger, JANE).standing, known(ledger, JOHN).standing) == ("matched", "missed")
    spending = ledger.budget.spending(run="r")
    assert (spending.credits, spending.at_risk) == (1, 0)
    assert reconcile.check(ledger) == []


def test_what_was_not_sent_or_refused_is_as_if_it_had_not_been(ledger):
    for state in ("free", "refused"):
        ledger.release(claim(ledger, JANE).request_id, state=state, note="HTTP 429")
        assert known(ledger, JANE) is None
    assert ledger.budget.spending().at_risk == 0


def test_an_applied_reply_that_a_power_cut_undid_is_read_again(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        claimed = claim(ledger, JANE)
        ledger.record(claimed.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    # As the cut leaves it: the reply is there, and what it said is not noted.
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        assert [reply.request_id for reply in ledger.unapplied()] == [claimed.request_id]
        assert ledger.budget.spending().at_risk == 1


def test_a_reply_is_welcome_after_its_request_was_given_up(ledger):
    claimed = claim(ledger, JANE)
    ledger.doubt(claimed.request_id, http_status=504, note="HTTP 504")
    assert known(ledger, JANE).standing == "in_doubt"
    answer(ledger, claimed.request_id, 0)
    assert known(ledger, JANE).standing == "matched"


def test_the_same_reply_twice_is_stored_once_and_another_is_refused(ledger):
    claimed = claim(ledger, JANE)
    for _ in range(2):
        ledger.record(claimed.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    ledger.apply(
        claimed.request_id,
        outcomes=pack_outcomes([0], [0]),
        aliases=pack_aliases([], [], [], []),
        records_enriched=1,
    )
    with pytest.raises(LedgerError, match="answered before"):
        ledger.record(claimed.request_id, http_status=200, encoding="", complete=True, body=b"other")
    assert next(ledger.replies([claimed.request_id])).body == b"raw"


def test_two_ledgers_of_one_database_never_ask_the_same_at_once(ledger, where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as other:
        seen = other.last_request()
        claim(ledger, JANE)
        refused = claim(other, JANE, JOHN, seen=seen)
        assert refused.request_id is None
        assert [known.standing for known in refused.known.values()] == ["in_flight"]


def test_an_endpoint_knows_nothing_of_another(ledger, where):
    answer(ledger, claim(ledger, JANE).request_id, 0)
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert known(other, JANE) is None


def test_resending_marks_only_what_is_sent_again(ledger):
    claimed = claim(ledger, JANE, JOHN)
    ledger.doubt(claimed.request_id, http_status=502, note="HTTP 502")
    limits = Limits(3, 20_000)
    again = claim(ledger, JANE, JOHN, limits=limits, resend=True)
    assert again.granted == 1
    assert known(ledger, JANE).standing == "in_flight"
    assert known(ledger, JOHN).standing == "in_doubt"
    assert ledger.budget.spending().at_risk == 2


def test_asking_again_under_more_conditions_does_not_settle_the_doubt(ledger):
    claimed = claim(ledger, JANE)
    ledger.doubt(claimed.request_id, http_status=None, note="reset")
    again = claim(ledger, JANE, required=1, resend=True)
    answer(ledger, again.request_id, MISSED)
    assert known(ledger, JANE).standing == "in_doubt"
    resent = claim(ledger, JANE, resend=True)
    answer(ledger, resent.request_id, MISSED)
    assert known(ledger, JANE).standing == "missed"


@pytest.mark.parametrize("column", ["asked_keys", "outcomes", "endpoint"])
def test_a_flipped_bit_is_noticed_before_anything_is_bought(tmp_path, column):
    path = tmp_path / "l.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
    with closing(sqlite3.connect(path)) as connection:
        (value,) = connection.execute(f"SELECT {column} FROM requests").fetchone()
        flipped = value[:-1] + ("x" if isinstance(value, str) else bytes([value[-1] ^ 1]))
        connection.execute(f"UPDATE requests SET {column} = ?", [flipped])
        connection.commit()
    with closing(Ledger(path, endpoint=ENDPOINT)) as ledger:
        with pytest.raises(LedgerError, match="damaged"):
            known(ledger, JANE)
        assert reconcile.check(ledger)


def test_a_row_that_went_missing_is_noticed(tmp_path):
    path = tmp_path / "l.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as ledger:
        for person in (JANE, JOHN):
            answer(ledger, claim(ledger, person).request_id, 0)
    for gone in (2, 1):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM requests WHERE id = ?", [gone])
            connection.commit()
        with closing(Ledger(path, endpoint=ENDPOINT)) as ledger, pytest.raises(LedgerError, match="missing"):
            known(ledger, JANE)


def test_a_clock_that_runs_years_ahead_buys_nothing(tmp_path):
    settings = {"api_key": "k", "base_url": "http://127.0.0.1:1", "ledger": tmp_path / "l.db"}
    long_ago = time.time() - 3 * 366 * 86_400
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT, clock=lambda: long_ago)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
    with pytest.raises(LedgerError, match="clock"):
        Enricher(**settings, max_age=timedelta(days=90))
    assert list((tmp_path / "l.db-owners").iterdir()) == []
    Enricher(**settings).close()


def test_an_outcome_in_doubt_inside_an_applied_reply_is_held(ledger):
    answer(ledger, claim(ledger, JANE, JOHN).request_id, 0, IN_DOUBT)
    assert known(ledger, JOHN).standing == "in_doubt"
    assert ledger.budget.spending().in_doubt == 1


def test_nothing_is_bought_on_a_clock_that_is_a_day_behind_the_ledger(where):
    now = [1_790_000_000.0]
    with closing(Ledger(where, endpoint=ENDPOINT, clock=lambda: now[0])) as ledger:
        claim(ledger, JANE)
        now[0] -= 7_200
        assert claim(ledger, JOHN).granted == 1
        now[0] -= 90_000
        late = Identifier("email", "late@firm.example")
        with pytest.raises(ConfigError, match="a day behind"):
            claim(ledger, late)
        assert claim(ledger, late, accept_clock=True).granted == 1
        # The newest is told by the same clock from now on.
        assert claim(ledger, Identifier("email", "later@firm.example")).granted == 1


def test_a_raw_reply_is_written_with_a_sync_and_nothing_less(ledger):
    from sqlalchemy import event

    asking, full = ("PRAGMA synchronous", 2) if ledger.file else ("SHOW synchronous_commit", "on")
    levels: list[object] = []

    def note(_connection, cursor, statement, *_more) -> None:
        if statement.startswith("INSERT INTO replies"):
            levels.append(cursor.connection.execute(asking).fetchone()[0])

    event.listen(ledger.database.engine, "before_cursor_execute", note)
    claimed = claim(ledger, JANE)
    ledger.record(claimed.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    assert levels == [full]


def test_a_contact_that_is_too_old_is_no_news_to_a_claim_and_one_of_this_run_is(ledger):
    answer(ledger, claim(ledger, JANE).request_id, 0)
    old = Freshness(contacts_since=time.time() + 60, aged_up_to=1)
    again = claim(ledger, JANE, seen=0, freshness=old)
    assert again.granted == 1
    answer(ledger, again.request_id, 0)
    # By the clock it is as old as the first.
    told = claim(ledger, JANE, seen=0, freshness=old)
    assert (told.granted, [known.request_id for known in told.known.values()]) == (0, [2])


def test_an_older_copy_in_place_of_what_was_read_is_noticed(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        claim_emails(ledger, "a@firm.example")
        with pytest.raises(LedgerError, match="damaged or missing"):
            claim_emails(ledger, "b@firm.example", seen=7)
