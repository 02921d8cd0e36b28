import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing
from datetime import timedelta
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from eb_dagster import ConfigError, Enricher, InputError, LedgerError
from eb_dagster.api.envelope import IN_DOUBT, MISSED, UNREADABLE
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import privacy, reconcile
from eb_dagster.ledger.connection import network_file_system
from eb_dagster.ledger.entries import pack_aliases, pack_outcomes
from eb_dagster.ledger.ledger import Ledger, Limits
from eb_dagster.ledger.lookup import Freshness
from eb_dagster.ledger.process_locks import DatabaseOwner

ENDPOINT = "http://127.0.0.1:1/v1/bulk-enrich"
PLENTY = Limits(max_credits=None, max_credits_at_risk=20_000)
JANE, JOHN = Identifier("email", "jane@firm.example"), Identifier("email", "john@firm.example")


@pytest.fixture
def ledger(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as it:
        yield it


def claim(ledger: Ledger, *identifiers: Identifier, run: str = "r", limits: Limits = PLENTY, **more) -> Any:
    # Any: a claim has no request where nothing was granted, and each test knows which it is.
    keys = [ledger.key(one) for one in identifiers]
    seen = more.pop("seen") if "seen" in more else ledger.last_request()
    return ledger.claim(keys, run=run, required=more.pop("required", 0), limits=limits, seen=seen, **more)


def known(ledger: Ledger, identifier: Identifier, *, required: int = 0) -> Any:
    key = ledger.key(identifier)
    return ledger.lookup([key], required=required, alias_keys=[key])[0].get(key)


HOLDS_EMAIL = 1


def aliases_of(ledger: Ledger, *identifiers: Identifier, person: int):
    count = len(identifiers)
    return pack_aliases(
        [ledger.key(one) for one in identifiers], [0] * count, [HOLDS_EMAIL] * count, [person] * count
    )


def answer(ledger: Ledger, request_id: int, *positions: int, aliases=None) -> None:
    ledger.record(request_id, http_status=200, encoding="", complete=True, body=b"raw")
    ledger.apply(
        request_id, outcomes=pack_outcomes(positions, [HOLDS_EMAIL] * len(positions)),
        aliases=pack_aliases([], [], [], []) if aliases is None else aliases, records_enriched=1,
    )  # fmt: skip


def no_session_is_left(url: str, *, but: int = 0) -> bool:
    """Whether all sessions on a database end (`but` so many), within the moment that the server takes for it."""
    import psycopg

    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + 10
    with psycopg.connect(url, autocommit=True) as connection:
        while len(connection.execute(query).fetchall()) > but:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def test_a_request_goes_from_intent_to_answer(ledger):
    one = claim(ledger, JANE, JOHN)
    assert known(ledger, JANE).standing == "in_flight"
    assert ledger.spending().at_risk == 2
    answer(ledger, one.request_id, 0, MISSED)
    assert (known(ledger, JANE).standing, known(ledger, JOHN).standing) == ("matched", "missed")
    spending = ledger.spending(run="r")
    assert (spending.credits, spending.at_risk) == (1, 0)
    assert reconcile.check(ledger) == []


def test_what_was_not_sent_or_refused_is_as_if_it_had_not_been(ledger):
    for state in ("free", "refused"):
        ledger.release(claim(ledger, JANE).request_id, state=state, note="HTTP 429")
        assert known(ledger, JANE) is None
    assert ledger.spending().at_risk == 0


def test_only_what_can_be_told_again_from_a_durable_reply_is_committed_without_a_sync(ledger):
    one = "PRAGMA synchronous" if ledger.file is not None else "SHOW synchronous_commit"

    def promised(**more) -> str:
        with ledger.transaction(**more) as connection:
            return str(connection.exec_driver_sql(one).scalar())

    assert [promised(), promised(is_durable=False), promised()] in (["2", "1", "2"], ["on", "off", "on"])


def test_an_applied_reply_that_a_power_cut_undid_is_read_again(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        one = claim(ledger, JANE)
        ledger.record(one.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    # As the cut leaves it: the reply is there, and what it said is not noted.
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        assert [reply.request_id for reply in ledger.unapplied()] == [one.request_id]
        assert ledger.spending().at_risk == 1


def test_a_reply_is_welcome_after_its_request_was_given_up(ledger):
    one = claim(ledger, JANE)
    ledger.doubt(one.request_id, http_status=504, note="HTTP 504")
    assert known(ledger, JANE).standing == "in_doubt"
    answer(ledger, one.request_id, 0)
    assert known(ledger, JANE).standing == "matched"


def test_the_same_reply_twice_is_stored_once_and_another_is_refused(ledger):
    one = claim(ledger, JANE)
    for _ in range(2):
        ledger.record(one.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    ledger.apply(
        one.request_id,
        outcomes=pack_outcomes([0], [0]),
        aliases=pack_aliases([], [], [], []),
        records_enriched=1,
    )
    with pytest.raises(LedgerError, match="answered before"):
        ledger.record(one.request_id, http_status=200, encoding="", complete=True, body=b"other")
    assert next(ledger.replies([one.request_id])).body == b"raw"


def test_two_ledgers_of_one_database_never_ask_the_same_at_once(ledger, where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as other:
        seen = other.last_request()
        claim(ledger, JANE)
        refused = claim(other, JANE, JOHN, seen=seen)
        assert refused.request_id is None
        assert [one.standing for one in refused.known.values()] == ["in_flight"]


@pytest.mark.parametrize(
    ("one", "hashed"),
    [
        (JANE, "email\0jane@firm.example"),
        (Identifier("phone", "+17734749362"), "phone\0+17734749362"),
        (Identifier("social_profile", "linkedin.com/in/jane"), "social_profile\0linkedin.com/in/jane"),
    ],
)
def test_what_is_bought_is_kept_under_the_same_key_for_ever(where, one, hashed):
    # With any other, whatever ledgers hold is forgotten, and bought again.
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        for endpoint, key in (ENDPOINT, ledger.key(one)), ("", ledger.key_at("", one)):
            text = f"{endpoint}\0{hashed}".encode()
            assert key == hashlib.blake2b(text, key=ledger._secret, digest_size=16).digest()
        assert ledger.keys([one]) == ledger.keys_of(one.field_type, [one.value]) == [ledger.key(one)]
        secret = ledger._secret
    with closing(Ledger(where, endpoint=ENDPOINT)) as again:
        assert again._secret == secret
        assert len(secret) >= 16


def test_an_endpoint_knows_nothing_of_another(ledger, where):
    answer(ledger, claim(ledger, JANE).request_id, 0)
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert known(other, JANE) is None


def test_an_alias_of_one_person_answers_and_one_of_two_does_not(ledger):
    first, second = claim(ledger, JANE), claim(ledger, JOHN)
    shared, own = Identifier("email", "info@firm.example"), Identifier("email", "j@home.example")
    answer(ledger, first.request_id, 0, aliases=aliases_of(ledger, own, shared, person=1))
    assert known(ledger, shared).is_alias
    answer(ledger, second.request_id, 0, aliases=aliases_of(ledger, shared, person=2))
    assert known(ledger, own).is_alias
    assert known(ledger, shared) is None


@pytest.mark.parametrize(
    ("limits", "short_of"),
    [
        (Limits(3, 20_000), "credits"),
        (Limits(None, 3), "risk"),
        (Limits(None, 20_000, max_credits_per_day=3), "day"),
        (Limits(None, 20_000, max_credits_per_month=3), "month"),
    ],
)
def test_a_claim_stays_inside_each_limit(ledger, limits, short_of):
    people = [Identifier("email", f"p{n}@firm.example") for n in range(5)]
    assert claim(ledger, *people, limits=limits).granted == 3
    more = claim(ledger, JANE, limits=limits)
    assert (more.granted, more.short_of) == (0, short_of)


def test_the_caps_of_the_ledger_hold_for_every_run_until_the_day_is_over(where):
    now = [1_790_000_000.0]
    with closing(Ledger(where, endpoint=ENDPOINT, clock=lambda: now[0])) as ledger:
        ledger.set_cap("day", 2)
        assert claim(ledger, JANE, JOHN, run="a").granted == 2
        assert claim(ledger, Identifier("email", "x@firm.example"), run="b").short_of == "day"
        # A clock that is put back opens no new day.
        now[0] -= 400 * 86_400
        back = claim(ledger, Identifier("email", "x@firm.example"), run="b", accept_clock=True)
        assert back.short_of == "day"
        now[0] += 401 * 86_400
        assert claim(ledger, Identifier("email", "x@firm.example"), run="b").granted == 1
        ledger.set_cap("day", None)
        assert ledger.caps() == {"day": None, "month": None}


@pytest.mark.parametrize("limits", [{"max_credits_per_day": 2}, {"max_credits_per_month": 2}])
def test_a_cap_counts_what_was_spent_at_its_own_endpoint(ledger, where, limits):
    limits = Limits(None, 20_000, **limits)
    assert claim(ledger, JANE, JOHN, limits=limits).granted == 2
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert claim(other, JANE, JOHN, Identifier("email", "x@firm.example"), limits=limits).granted == 2


def test_who_is_suppressed_is_so_at_every_endpoint(ledger, where):
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert ledger.suppress([JANE]) == 1
        assert other.suppressed([JANE, JOHN]) == {JANE}
        assert other.unsuppress([JANE, JOHN]) == 1
        assert ledger.suppressed([JANE, JOHN]) == set()


def test_many_threads_stay_inside_the_cap_together(ledger):
    limits, granted = Limits(50, 20_000), []

    def ask(thread: int) -> None:
        for number in range(10):
            people = [Identifier("email", f"t{thread}n{number}k{k}@firm.example") for k in range(3)]
            granted.append(claim(ledger, *people, limits=limits).granted)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 50


def test_resending_marks_only_what_is_sent_again(ledger):
    one = claim(ledger, JANE, JOHN)
    ledger.doubt(one.request_id, http_status=502, note="HTTP 502")
    limits = Limits(3, 20_000)
    again = claim(ledger, JANE, JOHN, limits=limits, resend=True)
    assert again.granted == 1
    assert known(ledger, JANE).standing == "in_flight"
    assert known(ledger, JOHN).standing == "in_doubt"


def test_asking_again_under_more_conditions_does_not_settle_the_doubt(ledger):
    one = claim(ledger, JANE)
    ledger.doubt(one.request_id, http_status=None, note="reset")
    again = claim(ledger, JANE, required=1, resend=True)
    answer(ledger, again.request_id, MISSED)
    assert known(ledger, JANE).standing == "in_doubt"
    settled = claim(ledger, JANE, resend=True)
    answer(ledger, settled.request_id, MISSED)
    assert known(ledger, JANE).standing == "missed"


@pytest.mark.parametrize(
    ("decision", "standing", "spent"), [("resend", None, 0), ("write-off", "decided", 0), ("charged", "decided", 2)]
)  # fmt: skip
def test_a_person_decides_what_becomes_of_doubt(ledger, decision, standing, spent):
    one = claim(ledger, JANE, JOHN)
    ledger.doubt(one.request_id, http_status=502, note="HTTP 502")
    (doubt,) = reconcile.doubts(ledger)
    assert (doubt.request, doubt.at_risk, doubt.reason) == (one.request_id, 2, "HTTP 502")
    assert reconcile.resolve(ledger, [one.request_id], decision) == 2
    assert reconcile.doubts(ledger) == []
    after = known(ledger, JANE)
    assert (after.standing if after else None) == standing
    assert (ledger.spending().credits, ledger.spending().at_risk) == (spent, 0)
    assert reconcile.check(ledger) == []
    with pytest.raises(InputError, match="not in doubt"):
        reconcile.resolve(ledger, [one.request_id], decision)


def test_a_bill_may_say_that_only_a_part_was_charged(ledger):
    one = claim(ledger, JANE, JOHN)
    ledger.doubt(one.request_id, http_status=None, note="reset")
    with pytest.raises(InputError, match="2 identifiers in doubt, not 3"):
        reconcile.resolve(ledger, [one.request_id], "charged", credits=3)
    reconcile.resolve(ledger, [one.request_id], "charged", credits=1)
    assert ledger.spending().credits == 1


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


def test_slots_are_spaced_evenly_over_all_who_share_the_ledger(ledger, where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as other:
        waits = [one.reserve_slot(interval=10.0) for one in (ledger, other, ledger, other)]
        assert waits == pytest.approx([0, 10, 20, 30], abs=2.0)
        other.postpone_slots(seconds=100.0)
        assert ledger.reserve_slot(interval=10.0) == pytest.approx(100, abs=2.0)


_OTHER = """
import sys, time
from eb_dagster.ledger.lookup import Freshness
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.ledger import Ledger, Limits
ledger = Ledger(sys.argv[1], endpoint=sys.argv[2])
key = ledger.key(Identifier("email", "jane@firm.example"))
ledger.claim([key], run="x", required=0, limits=Limits(None, 100), seen=0)
print("claimed", flush=True)
time.sleep(60)
"""


def test_a_dead_owners_claim_is_in_doubt_and_a_living_ones_is_not(ledger, where):
    other = subprocess.Popen([sys.executable, "-c", _OTHER, where, ENDPOINT], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"claimed\n"
    assert ledger.recover() == 0
    assert known(ledger, JANE).standing == "in_flight"
    other.kill()
    other.wait()
    other.stdout.close()
    deadline = time.monotonic() + 10
    while not ledger.recover() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert known(ledger, JANE).standing == "in_doubt"


def test_an_owner_whose_session_ends_at_any_time_holds_on_again(postgresql):
    import sqlalchemy as sa
    from sqlalchemy.exc import OperationalError

    url = sa.make_url(postgresql.new_database()).set(drivername="postgresql+psycopg")

    class Unlucky(DatabaseOwner):
        def hold(self) -> None:
            super().hold()
            postgresql.kill_sessions(url.database)
            assert no_session_is_left(postgresql.url(url.database))

    owner = Unlucky(url)
    with pytest.raises(OperationalError):
        owner.is_gone("0" * 32)
    DatabaseOwner.hold(owner)
    other = DatabaseOwner(url)
    assert not other.is_gone(owner.name)
    owner.leave()
    assert no_session_is_left(postgresql.url(url.database), but=1)
    assert other.is_gone(owner.name)
    other.leave()


def test_a_claim_on_a_database_that_is_gone_says_so(own_postgresql):
    ledger = Ledger(own_postgresql.new_database(), endpoint=ENDPOINT)
    own_postgresql.down()
    try:
        with pytest.raises(LedgerError, match="database failed"):
            claim(ledger, JANE, seen=0)
    finally:
        own_postgresql.up()
    assert claim(ledger, JANE).granted == 1
    ledger.close()


def test_a_newer_ledger_is_refused(ledger, where):
    import sqlalchemy as sa

    from eb_dagster.ledger import connection as database

    with ledger.transaction() as connection:
        connection.execute(
            sa.update(database.meta).where(database.meta.c.name == "schema_version").values(value=b"99")
        )
    with pytest.raises(LedgerError, match="upgrade"):
        Ledger(where, endpoint=ENDPOINT)


def test_an_older_ledger_is_upgraded_and_remembers(tmp_path):
    path = tmp_path / "old.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as new:
        answer(new, claim(new, JANE, JOHN).request_id, 0, UNREADABLE)
        new.doubt(claim(new, Identifier("email", "x@firm.example")).request_id, http_status=502, note="")
    with closing(sqlite3.connect(path)) as connection:
        # As version 1 laid them.
        connection.executescript(
            """
            DROP TABLE published;
            DROP INDEX requests_at_risk; DROP INDEX requests_of_run; DROP INDEX requests_by_day;
            ALTER TABLE requests ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;
            UPDATE requests SET in_doubt = at_risk;
            ALTER TABLE requests DROP COLUMN at_risk;
            ALTER TABLE requests DROP COLUMN keys_checksum;
            ALTER TABLE requests DROP COLUMN outcomes_checksum;
            ALTER TABLE replies DROP COLUMN checksum;
            CREATE INDEX ix_requests_run ON requests (run);
            DELETE FROM meta WHERE name = 'secret_checksum';
            UPDATE meta SET value = CAST('1' AS BLOB) WHERE name = 'schema_version';
            """
        )
        connection.commit()
    for _ in range(2):
        with closing(Ledger(path, endpoint=ENDPOINT)) as upgraded:
            assert known(upgraded, JANE).standing == "matched"
            assert upgraded.spending().in_doubt == 1
            assert next(upgraded.replies([1])).body == b"raw"
            assert reconcile.check(upgraded) == []


def test_postgresql_that_may_forget_is_refused(postgresql):
    import psycopg

    url = postgresql.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    with pytest.raises(LedgerError, match="synchronous_commit") as error:
        Ledger(url, endpoint=ENDPOINT)
    assert no_session_is_left(url)
    # Until here, it holds on to whatever was open when it was raised.
    assert error.tb is not None


def test_a_ledger_that_cannot_be_opened_is_let_go(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger, ledger.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE requests RENAME TO mislaid")
    with pytest.raises(LedgerError, match="database failed") as error:
        Ledger(where, endpoint=ENDPOINT)
    if where.startswith("postgresql"):
        assert no_session_is_left(where)
    else:
        assert not list(Path(f"{where}-owners").iterdir())
    assert error.tb is not None


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


def test_replies_come_in_the_order_that_they_are_asked_for_and_one_that_is_gone_is_named(ledger):
    people = [Identifier("email", f"p{at}@firm.example") for at in range(20)]
    requests = [claim(ledger, one).request_id for one in people]
    for request_id in requests:
        ledger.record(request_id, http_status=200, encoding="", complete=True, body=b"reply %d" % request_id)
    wanted = [*reversed(requests), *requests[3:12], requests[3]]
    assert [one.body for one in ledger.replies(wanted)] == [b"reply %d" % one for one in wanted]
    with ledger.transaction() as connection:
        connection.exec_driver_sql(f"DELETE FROM replies WHERE request_id = {requests[11]}")
    left = ledger.replies(requests)
    assert [next(left).request_id for _ in range(11)] == requests[:11]
    with pytest.raises(LedgerError, match=f"request {requests[11]} is gone"):
        next(left)


def test_a_reply_whose_encoding_changed_is_noticed(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
        with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
            connection.execute("UPDATE replies SET encoding = 'gzip'")
            connection.commit()
        with pytest.raises(LedgerError, match="damaged"):
            next(ledger.replies([1]))


def test_a_reply_that_cannot_be_decoded_is_in_no_message(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
        with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
            connection.execute("UPDATE replies SET body = CAST(? AS TEXT)", (b"canary person \xff",))
            connection.commit()
        with pytest.raises(LedgerError, match="cannot be read") as error:
            next(ledger.replies([1]))
    assert "canary" not in "".join(traceback.format_exception(error.value))


def test_a_row_that_went_missing_is_noticed(tmp_path):
    path = tmp_path / "l.db"
    with closing(Ledger(path, endpoint=ENDPOINT)) as ledger:
        for one in (JANE, JOHN):
            answer(ledger, claim(ledger, one).request_id, 0)
    for gone in (2, 1):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM requests WHERE id = ?", [gone])
            connection.commit()
        with closing(Ledger(path, endpoint=ENDPOINT)) as ledger, pytest.raises(LedgerError, match="missing"):
            known(ledger, JANE)


def test_a_ledger_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "l.db"
    Ledger(path, endpoint=ENDPOINT).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(LedgerError, match="chmod 600"):
        Ledger(path, endpoint=ENDPOINT)


def test_a_link_to_a_ledger_is_the_ledger(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "l.db")
    with (
        closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger,
        closing(Ledger(tmp_path / "link.db", endpoint=ENDPOINT)) as same,
    ):
        claim(ledger, JANE)
        assert same.recover() == 0
        assert known(same, JANE).standing == "in_flight"


def test_a_second_hard_link_is_refused(tmp_path):
    Ledger(tmp_path / "l.db", endpoint=ENDPOINT).close()
    os.link(tmp_path / "l.db", tmp_path / "other.db")
    with pytest.raises(LedgerError, match="hard link"):
        Ledger(tmp_path / "l.db", endpoint=ENDPOINT)


def test_new_folders_are_their_owners_only(tmp_path):
    Ledger(tmp_path / "a" / "b" / "l.db", endpoint=ENDPOINT).close()
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "l.db-owners"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_network_file_system_is_told_by_the_mount_the_path_is_on(tmp_path):
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:44 / /mnt/team\\040share rw shared:5 - nfs4 server:/x rw\n"
        "41 40 0:45 / /mnt/team\\040share/local rw - xfs /dev/sdb rw\n"
    )
    root = type(tmp_path)("/")
    assert network_file_system(root / "mnt" / "team share" / "l.db", mounts) == "nfs4"
    assert network_file_system(root / "mnt" / "team share" / "local" / "l.db", mounts) is None
    assert network_file_system(root / "home" / "l.db", mounts) is None
    assert network_file_system(root / "home" / "l.db", "") is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (r"\\server\team share\ledger.db", "a Windows share"),
        (r"\\?\UNC\server\team\ledger.db", "a Windows share"),
        (r"\\wsl$\Ubuntu\home\ada\ledger.db", "a Windows share"),
        (r"C:\data\ledger.db", None),
        (r"\\?\C:\data\ledger.db", None),
    ],
)
def test_a_share_of_windows_is_told_by_its_name(path, kind):
    assert network_file_system(PureWindowsPath(path), "") == kind


@pytest.mark.parametrize("text", ["mysql://x/y", "sqlite://", "nonsense://"])
def test_what_is_no_ledger_is_refused(text):
    with pytest.raises(LedgerError):
        Ledger(text, endpoint=ENDPOINT)


def test_a_password_in_the_url_is_in_no_message():
    with pytest.raises(LedgerError) as error:
        Ledger("postgresql://u:canary-secret@127.0.0.1:9/x", endpoint=ENDPOINT)
    assert "canary-secret" not in f"{error.value!r} {error.value.__cause__!r} {error.value.__context__!r}"


def test_replies_are_encrypted_if_the_environment_names_a_key(where, monkeypatch):
    import base64

    monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(bytes(range(32))).decode())
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
        assert next(ledger.replies([1])).body == b"raw"
        with ledger.reading() as connection:
            row = connection.exec_driver_sql("SELECT body, encoding FROM replies").one()
        assert b"raw" not in bytes(row.body)
        assert row.encoding.startswith("aes256gcm:")


def test_purging_drops_people_and_keeps_receipts(ledger):
    answer(ledger, claim(ledger, JANE).request_id, 0)
    assert privacy.purge(ledger, older_than=timedelta(days=1)) == 0
    time.sleep(0.01)
    assert privacy.purge(ledger, older_than=timedelta(0)) == 1
    assert known(ledger, JANE) is None
    assert ledger.spending().credits == 1
    assert reconcile.check(ledger) == []


def test_many_may_open_a_new_ledger_at_once(tmp_path):
    failed: list[Exception] = []

    def open_one(path, gate) -> None:
        gate.wait()
        try:
            Ledger(path, endpoint=ENDPOINT).close()
        except Exception as error:
            failed.append(error)

    for at in range(30):
        gate = threading.Barrier(8)
        several = [threading.Thread(target=open_one, args=(tmp_path / f"{at}.db", gate)) for _ in range(8)]
        for one in several:
            one.start()
        for one in several:
            one.join()
    assert failed == []


def test_a_table_that_is_gone_is_told_at_once_and_not_waited_for(ledger):
    one = claim(ledger, JANE)
    with ledger.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE replies RENAME TO other")
    started = time.monotonic()
    with pytest.raises(LedgerError):
        ledger.record(one.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    assert time.monotonic() - started < 30


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
    assert ledger.spending().in_doubt == 1


@pytest.mark.parametrize("back", [1_800.0, 7_200.0, 365 * 86_400.0])
def test_a_clock_that_is_put_back_holds_up_no_request(tmp_path, back):
    now = [1_790_000_000.0]
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT, clock=lambda: now[0])) as ledger:
        ledger.reserve_slot(interval=1.0)
        now[0] -= back
        assert [ledger.reserve_slot(interval=1.0) for _ in range(3)] == pytest.approx([1, 2, 3])
        # What a Retry-After asked is waited for all the same, and no longer.
        ledger.postpone_slots(seconds=100.0)
        now[0] -= back
        assert ledger.reserve_slot(interval=1.0) == pytest.approx(100)
        now[0] += 2 * back
        assert ledger.reserve_slot(interval=1.0) == 0


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

    statements: list[str] = []
    event.listen(ledger._engine, "before_cursor_execute", lambda *told: statements.append(str(told[2])))
    one = claim(ledger, JANE)
    ledger.record(one.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    (stored,) = [at for at, text in enumerate(statements) if text.startswith("INSERT INTO replies")]
    levels = [text for text in statements[:stored] if "synchronous" in text]
    assert levels[-1].endswith("synchronous = FULL" if ledger.file else "synchronous_commit = on")


def test_what_is_at_risk_at_one_endpoint_bounds_no_other(ledger, where):
    limits = Limits(None, 2)
    one = claim(ledger, JANE, JOHN, limits=limits)
    ledger.doubt(one.request_id, http_status=502, note="HTTP 502")
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert claim(other, JANE, JOHN, limits=limits).granted == 2
        assert claim(other, Identifier("email", "x@firm.example"), limits=limits).short_of == "risk"


def test_a_contact_that_is_too_old_is_no_news_to_a_claim_and_one_of_this_run_is(ledger):
    answer(ledger, claim(ledger, JANE).request_id, 0)
    old = Freshness(contacts_since=time.time() + 60, aged_up_to=1)
    again = claim(ledger, JANE, seen=0, freshness=old)
    assert again.granted == 1
    answer(ledger, again.request_id, 0)
    # By the clock it is as old as the first.
    told = claim(ledger, JANE, seen=0, freshness=old)
    assert (told.granted, [one.request_id for one in told.known.values()]) == (0, [2])
