"""What buying does beside other processes."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from eb_dagster import ConfigError, LedgerError, sandbox
from eb_dagster.api.outcome import judge
from eb_dagster.api.reply import Reply
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.identifiers.offers import offers_of
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import apply_reply
from eb_dagster.pipeline import purchase, run, sender
from eb_dagster.pipeline.offers import KeyedOffers
from eb_dagster.pipeline.purchase import Purchase
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.rows import State
from eb_dagster.pipeline.window import Rows, Window

OTHER_PROCESS = """
import json, os, sys
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.ledger import Ledger

where, endpoint = sys.argv[1:]
ledger = Ledger(where, endpoint=endpoint)
key = ledger.key(Identifier("email", "jane@firm.example"))
claim = ledger.claim([key], run="other", required=0, limits=Limits(None, 10), seen=ledger.last_request())
print("asked", flush=True)
sys.stdin.readline()
contact = {"value": "jane@firm.example", "enriched_contact": {"full_name": "Jane Made-Up"}}
body = json.dumps({"contacts": [contact], "records_enriched": 1}).encode()
ledger.record(claim.request_id, http_status=200, encoding="", complete=True, body=body)
# Killed before it noted what the reply says.
os._exit(9)
"""


def test_a_request_that_waits_for_its_moment_when_the_run_stops_is_never_sent(
    stand_in, enricher, tmp_path, monkeypatch
):
    # Claimed long before its moment, so that there is time to stop in between.
    monkeypatch.setattr(purchase, "_LEAD_SECONDS", 60.0)
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, partition_size=1, requests_per_minute=20)
    frame = pd.DataFrame({"email": ["jane@firm.example", "john@firm.example"]})
    told: list[pd.DataFrame] = []
    Ledger(tmp_path / "ledger.db", endpoint="").close()
    thread = threading.Thread(target=lambda: told.append(buyer.enrich_dataframe(frame)), daemon=True)
    thread.start()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:

        def states() -> list[str]:
            return [state for (state,) in connection.execute("SELECT state FROM requests ORDER BY id")]

        while states() != ["applied", "intent"]:
            time.sleep(0.01)
        buyer._runs[0].purchase._stop.set()
        thread.join(60)
        assert states() == ["applied", "free"]
    assert told[0]["eb_status"].tolist() == ["matched", "not_asked"]
    assert api.requests() == buyer.report.requests == 1


def test_what_a_failed_run_had_in_flight_is_in_doubt_for_the_next_run_of_the_same_process(
    stand_in, enricher, tmp_path
):
    api = stand_in()
    buyer = enricher(api)
    frame = pd.DataFrame({"email": ["jane@firm.example"]})

    def rename(before: str, after: str) -> None:
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")

    Ledger(tmp_path / "ledger.db", endpoint="").close()
    rename("replies", "elsewhere")
    with pytest.raises(LedgerError):
        buyer.enrich_dataframe(frame)
    rename("elsewhere", "replies")
    assert buyer.enrich_dataframe(frame)["eb_status"].tolist() == ["in_doubt"]
    assert api.requests() == 1


def test_a_reply_of_a_process_that_died_before_reading_it_is_read_by_who_waits_for_it(
    stand_in, enricher, where
):
    api = stand_in()
    waiting = enricher(api, ledger=where)
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(where), f"{api.url}/v1/bulk-enrich"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with other:
        assert other.stdout.readline() == "asked\n"
        told: list[pd.DataFrame] = []
        frame = pd.DataFrame({"email": ["jane@firm.example"]})
        thread = threading.Thread(target=lambda: told.append(waiting.enrich_dataframe(frame)), daemon=True)
        thread.start()
        time.sleep(1)
        assert not told
        other.stdin.write("\n")
        other.stdin.flush()
        thread.join(60)
    assert [frame["eb_full_name"].tolist() for frame in told] == [["Jane Made-Up"]]
    assert api.requests() == 0


def test_an_identifier_that_another_process_had_is_asked_once_though_its_first_row_has_left(
    stand_in, enricher, tmp_path, monkeypatch
):
    # Both purchases wait for Jane's profile; the row of the first has left with its e-mail by then.
    monkeypatch.setattr(run, "BLOCK_ROWS", 1)
    monkeypatch.setattr(run, "WINDOW_ROWS", 1)
    api = stand_in(match_rate=1.0)
    buyer = enricher(api)
    buyer.enrich_dataframe(pd.DataFrame({"email": ["jane@firm.example"]}))
    profile = Identifier("social_profile", "linkedin.com/in/jane-doe")
    with closing(Ledger(tmp_path / "ledger.db", endpoint=f"{api.url}/v1/bulk-enrich")) as other:
        claim = other.claim(
            [other.key(profile)], run="other", required=0, limits=Limits(None, 10), seen=other.last_request()
        )
        request_id = claim.request_id
        assert request_id is not None
        released = threading.Timer(1.0, lambda: other.release(request_id, state="free", note="HTTP 429"))
        released.start()
        told = buyer.enrich_dataframe(
            pd.DataFrame({"email": ["jane@firm.example", None], "social_profile": [profile.value] * 2}),
        )
        released.join()
    assert told["eb_status"].tolist() == ["matched", "matched"]
    assert api.credits() == 2
    assert api.charged_twice() == 0
    assert buyer.report.answers == 1


def test_a_person_bought_since_the_look_up_is_not_asked_under_another_identifier(
    stand_in, enricher, monkeypatch
):
    # The last rows are looked up with the others, and taken in when the block that bought them has left.
    monkeypatch.setattr(run, "BLOCK_ROWS", 10)
    monkeypatch.setattr(run, "WINDOW_ROWS", 20)
    api = stand_in(match_rate=1.0)
    known, new = ([f"{name}{number}@firm.example" for number in range(10)] for name in ("known", "new"))
    enricher(api).enrich_dataframe(pd.DataFrame({"email": known}))
    emails = known + new + 8 * known + new
    phones = [None] * (len(emails) - 10) + [f"+1202555{1000 + number}" for number in range(10)]
    buyer = enricher(api, identifiers={"phone": "phone", "email": "email"})
    told = buyer.enrich_dataframe(pd.DataFrame({"phone": phones, "email": emails}))
    assert told["eb_field_type"].tolist() == ["email"] * len(emails)
    assert buyer.report.requests == 1
    assert api.credits() == 20


@pytest.mark.parametrize("bought", [("ann@firm.example", "bob@firm.example"), ("bob@firm.example", None)])
@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
def test_what_a_run_left_in_doubt_is_not_sent_again_by_the_same_run(
    stand_in, enricher, monkeypatch, bought, in_doubt
):
    # The last row of Ann is taken in when the block of the first has left.
    monkeypatch.setattr(run, "BLOCK_ROWS", 1)
    monkeypatch.setattr(run, "WINDOW_ROWS", 2)
    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("500-after", 2)])
    enricher(api).enrich_dataframe(pd.DataFrame({"email": ["bob@firm.example"]}))
    ann, blank = ("ann@firm.example", None), (None, None)
    rows = [ann, blank, bought, ("dan@firm.example", None), ann, blank]
    settings = {"in_doubt": in_doubt, "partition_size": 1, "identifiers": {"email": ["email", "email_2"]}}
    buyer = enricher(api, **settings, max_credits_at_risk=2)
    told = buyer.enrich_dataframe(pd.DataFrame(rows, columns=["email", "email_2"]))
    assert told["eb_status"].tolist() == ["in_doubt", "invalid", "matched", "matched", "in_doubt", "invalid"]
    assert (api.credits(), api.charged_twice()) == (3, 0)
    # Another run sends it again, if that is what was chosen.
    again = enricher(api, **settings).enrich_dataframe(pd.DataFrame([ann], columns=["email", "email_2"]))
    assert again["eb_status"].tolist() == ["matched" if in_doubt == "resend" else "in_doubt"]
    assert api.charged_twice() == (in_doubt == "resend")


@pytest.mark.parametrize("told_by", ["look-up", "claim"])
def test_an_old_contact_that_was_asked_again_and_missed_since_the_look_up_is_kept(
    stand_in, enricher, tmp_path, told_by
):
    api, jane = stand_in(match_rate=1.0), Identifier("email", "jane@firm.example")
    buyer = enricher(api, max_age=timedelta(microseconds=1))
    buyer.enrich_dataframe(pd.DataFrame({"email": [jane.value]}))
    with closing(Ledger(tmp_path / "ledger.db", endpoint=f"{api.url}/v1/bulk-enrich")) as ledger:
        (key,), window = ledger.keys([jane]), Window()
        buying = Purchase(
            settings=buyer._settings, ledger=ledger, client=buyer._client, window=window, report=Report()
        )
        keyed = KeyedOffers(offers_of([Candidates((jane,), ())]), ledger)
        lookup = buying.look_up(keyed)
        claim = ledger.claim([key], run="other", required=0, limits=Limits(None, 10), seen=1)
        assert claim.request_id is not None
        body = json.dumps({"contacts": [{"value": jane.value, "enriched_contact": None}]}).encode()
        apply_reply(
            ledger,
            ledger.record(claim.request_id, http_status=200, encoding="", complete=True, body=body),
        )
        block = buying.take_in(Rows(keyed, lookup, keyed.offers))
        table = window.slots.table[block.new_slots]
        assert (table["state"].tolist(), table["has_old"].tolist()) == ([State.OPEN], [True])
        if told_by == "look-up":
            buying.catch_up(block, lookup)
        else:
            window.start(block)
            while window.slots.table["state"][block.new_slots] != State.MATCHED:
                buying.step(all_rows_in=True)
        table = window.slots.table[block.new_slots]
        assert (table["state"].tolist(), table["request_id"].tolist()) == ([State.MATCHED], [1])
        assert api.requests() == 1
        buying.finish()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429])
@pytest.mark.parametrize(
    "body", [b'{"error": "no", "records_enriched": 2}', b'{"contacts": [{"enriched_contact": {"full_na']
)
def test_a_refusal_that_speaks_of_contacts_is_in_doubt_if_the_request_left(status, body):
    def verdict(text: bytes, *, left: bool) -> str:
        reply = Reply(
            status=status, body=text, encoding="", complete=True, request_left=left, retry_after=None
        )
        return judge(reply)

    assert verdict(body, left=True) == "doubt"
    free = "busy" if status == 429 else "refused"
    assert (verdict(body, left=False), verdict(b'{"records_enriched": 0}', left=True)) == (free, free)


# Clocks


@pytest.fixture
def clock(monkeypatch):
    """Put the clock of who buys forward or back by so many seconds; the API beside it has its own."""
    off = [0.0]
    here = SimpleNamespace(**{**vars(time), "time": lambda: time.time() + off[0]})
    for module in (purchase, sender):
        monkeypatch.setattr(module, "time", here)
    # The ledger asks the clock that there was when it was imported.
    monkeypatch.setitem(Ledger.__init__.__kwdefaults__, "clock", here.time)

    def put(seconds: float) -> None:
        off[0] = seconds

    return put


FORTY = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(40)]})


@pytest.mark.parametrize(
    "settings",
    [{"max_age": timedelta(days=90)}, {"retry_misses_after": timedelta(days=90)}, {"max_credits_per_day": 40},
     {"max_credits_per_month": 40}, {}],
)  # fmt: skip
@pytest.mark.parametrize("ahead", [400 * 86_400, -7_200])
def test_after_its_first_reply_nothing_is_bought_on_a_wrong_clock(stand_in, enricher, clock, settings, ahead):
    api = stand_in(match_rate=1.0)
    clock(ahead)
    buyer = enricher(api, partition_size=5, **settings)
    if not settings:
        buyer.enrich_dataframe(FORTY)
        assert api.credits() == 40
        return
    with pytest.raises(ConfigError, match=r"clock is .* the API's"):
        buyer.enrich_dataframe(FORTY)
    assert (api.requests(), api.credits()) == (1, 5)
    enricher(api, partition_size=5, accept_clock=True, **settings).enrich_dataframe(FORTY)
    assert (api.credits(), api.charged_twice()) == (40, 0)


def test_a_cap_that_was_given_to_the_ledger_is_told_by_a_right_clock_too(stand_in, enricher, clock, where):
    api = stand_in(match_rate=1.0)
    with closing(Ledger(where, endpoint="")) as ledger:
        ledger.budget.set_cap("day", 40)
    clock(86_400)
    with pytest.raises(ConfigError, match="1,440 minutes ahead"):
        enricher(api, ledger=where, partition_size=5).enrich_dataframe(FORTY)
    assert api.requests() == 1


@pytest.mark.parametrize("off", [540, -540])
def test_a_clock_that_is_a_few_minutes_off_is_good_enough(stand_in, enricher, clock, off):
    clock(off)
    api = stand_in(match_rate=1.0)
    enricher(api, max_age=timedelta(days=90), partition_size=5).enrich_dataframe(FORTY)
    assert api.credits() == 40


@pytest.mark.parametrize("back", [1_800, 7_200])
@pytest.mark.timeout(60)
def test_a_clock_that_is_put_back_in_mid_run_buys_nobody_twice_and_waits_for_nothing(
    stand_in, enricher, clock, monkeypatch, back
):
    # Each row is looked up again when those before it have left.
    monkeypatch.setattr(run, "BLOCK_ROWS", 1)
    monkeypatch.setattr(run, "WINDOW_ROWS", 1)
    api = stand_in(match_rate=1.0)
    buyer = enricher(
        api, partition_size=1, max_age=timedelta(minutes=1), accept_clock=True,
        progress=lambda report: clock(-back if report.answers >= 20 else 0),
    )  # fmt: skip
    buyer.enrich_dataframe(pd.concat([FORTY, FORTY]))
    assert (api.credits(), api.charged_twice()) == (40, 0)
