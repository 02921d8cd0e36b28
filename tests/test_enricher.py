import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster import (
    ConfigError,
    Enricher,
    InputError,
    LedgerError,
    OutcomeUnknown,
    OverBudget,
    Refused,
    enrich_dataframe,
    sandbox,
)
from eb_dagster.contacts import schema
from eb_dagster.pipeline import run as pipeline_run
from eb_dagster.tables.files import file_source


def leads(count: int = 30) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(count)]})


def fault(kind: str, number: int) -> list[sandbox.Fault]:
    return [sandbox.Fault(kind, number, number)]


def test_a_second_run_sends_nothing(stand_in, enricher):
    api = stand_in()
    first = enricher(api).enrich_dataframe(leads())
    spent = api.credits()
    again = enricher(api)
    second = again.enrich_dataframe(leads())
    assert again.report.requests == 0
    assert api.credits() == spent > 0
    assert second["eb_full_name"].equals(first["eb_full_name"])
    assert second["eb_from_ledger"].all()
    assert not first["eb_from_ledger"].any()


def test_the_input_is_kept_as_it_is(stand_in, enricher):
    frame = leads(5).assign(n=range(5), day=pd.Timestamp("2026-01-01"), kind=pd.Categorical(list("aabbc")))
    frame.index = pd.Index([3, 3, 1, 0, 9], name="odd")
    enriched = enricher(stand_in()).enrich_dataframe(frame)
    pd.testing.assert_frame_equal(enriched[list(frame.columns)], frame, check_flags=False)
    assert list(enriched.columns[4:]) == schema.arrow_schema().names
    assert enriched.attrs["eb_report"]["rows"] == 5


def test_each_row_gets_its_own_contact_though_the_reply_is_in_another_order(stand_in, enricher):
    enriched = enricher(stand_in(faults=fault("shuffled", 1))).enrich_dataframe(leads())
    found = enriched[enriched["eb_matched"].fillna(False)]
    assert len(found) > 5
    assert all(mail in list(mails) for mail, mails in zip(found["email"], found["eb_emails"], strict=True))


def test_the_long_form_is_understood(stand_in, enricher):
    frame = pd.DataFrame(
        {"field_type": ["email", "PHONE", "fax"], "value": ["a@b.example", "+12025550100", "1"]}
    )
    enriched = enricher(stand_in(match_rate=1.0)).enrich_dataframe(frame)
    assert enriched["eb_status"].tolist() == ["matched", "matched", "invalid"]


def test_a_row_asks_its_next_identifier_only_after_a_miss(stand_in, enricher):
    frame = pd.DataFrame(
        {
            "linkedin_url": [f"linkedin.com/in/p{number}" for number in range(40)],
            "email": [f"p{number}@firm.example" for number in range(40)],
        }
    )
    api = stand_in(match_rate=0.5)
    buyer = enricher(api)
    enriched = buyer.enrich_dataframe(frame)
    by = enriched[enriched["eb_matched"].fillna(False)]["eb_field_type"].value_counts()
    assert by["social_profile"] + by["email"] == api.credits() == buyer.report.matched
    assert buyer.report.requests == 2
    assert dict(buyer.report.matched_by) == by.to_dict()


def test_variants_of_one_identifier_are_one_question(stand_in, enricher):
    frame = pd.DataFrame({"email": ["a@firm.example", " A@Firm.Example ", "mailto:a@firm.example"]})
    api = stand_in(match_rate=1.0)
    enriched = enricher(api).enrich_dataframe(frame)
    assert enriched["eb_matched"].all()
    assert api.credits() == 1


def test_an_identifier_inside_a_bought_contact_answers_for_it(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    first = enricher(api).enrich_dataframe(leads(1))
    inside = pd.DataFrame({"linkedin_url": [first["eb_linkedin_url"].iloc[0]]})
    assert enricher(api).enrich_dataframe(inside)["eb_from_ledger"].tolist() == [True]
    assert api.credits() == 1
    enricher(api, aliases=()).enrich_dataframe(inside)
    assert api.credits() == 2


def test_the_plan_sends_nothing_and_prints(stand_in, enricher):
    api = stand_in()
    plan = enricher(api).plan(leads())
    assert (plan.to_ask, plan.requests, plan.credits_at_most) == (30, 1, 30)
    assert "30" in str(plan)
    assert "<table" in plan._repr_html_()
    assert api.requests() == 0


def test_the_cap_holds_and_is_used_up(stand_in, enricher):
    api = stand_in()
    buyer = enricher(api, max_credits=10, partition_size=5)
    enriched = buyer.enrich_dataframe(leads())
    assert api.credits() == buyer.report.credits_charged == 10
    assert (enriched["eb_status"] == "not_asked").any()
    assert enriched.loc[enriched["eb_status"] == "not_asked", "eb_matched"].isna().all()


def test_the_cap_holds_with_many_senders(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    for cap in range(1, 60, 7):
        buyer = enricher(api, max_credits=cap, partition_size=3, base_url=api.url)
        before = api.credits()
        buyer.enrich_dataframe(pd.DataFrame({"email": [f"c{cap}n{n}@firm.example" for n in range(90)]}))
        assert api.credits() - before == cap


def test_over_budget_refuses_before_anything_is_sent(stand_in, enricher):
    api = stand_in()
    with pytest.raises(OverBudget, match="30 credits"):
        enricher(api, max_credits=29, over_budget="refuse").enrich_dataframe(leads())
    assert api.requests() == 0


@pytest.mark.parametrize("kind", ["408", "500-after", "502", "503", "504", "reset-after"])
def test_what_may_have_been_paid_for_is_in_doubt_and_not_sent_again(stand_in, enricher, kind):
    api = stand_in(faults=fault(kind, 1))
    enriched = enricher(api).enrich_dataframe(leads())
    assert set(enriched["eb_status"]) == {"in_doubt"}
    assert enriched["eb_matched"].isna().all()
    again = enricher(api)
    assert set(again.enrich_dataframe(leads())["eb_status"]) == {"in_doubt"}
    assert again.report.requests == 0
    assert api.charged_twice() == 0


def test_what_is_in_doubt_is_sent_again_by_choice(stand_in, enricher):
    api = stand_in(faults=fault("500-after", 1))
    enricher(api).enrich_dataframe(leads())
    enriched = enricher(api, in_doubt="resend").enrich_dataframe(leads())
    assert set(enriched["eb_status"]) <= {"matched", "not_found"}
    buyer = enricher(api)
    buyer.enrich_dataframe(leads())
    assert buyer.report.requests == 0
    assert buyer.report.in_doubt == 0


def test_too_much_in_doubt_stops_the_run(stand_in, enricher):
    api = stand_in(faults=fault("502", 1))
    with pytest.raises(OutcomeUnknown, match="10 credits"):
        enricher(api, partition_size=10, max_credits_at_risk=10).enrich_dataframe(leads())
    assert api.requests() == 1


@pytest.mark.parametrize("kind", ["html", "no-echo"])
def test_a_reply_that_cannot_be_read_is_kept_and_stops_the_sending(stand_in, enricher, kind):
    api = stand_in(faults=fault(kind, 1))
    buyer = enricher(api, partition_size=10, max_credits_at_risk=10)
    with pytest.warns(UserWarning, match="could not be read"):
        enriched = buyer.enrich_dataframe(leads())
    assert enriched["eb_status"].value_counts().to_dict() == {"not_asked": 20, "unreadable": 10}
    again = enricher(api)
    assert again.enrich_dataframe(leads())["eb_status"].value_counts()["unreadable"] == 10
    assert api.charged_twice() == 0


def test_whole_records_of_a_broken_reply_are_saved(stand_in, enricher):
    api = stand_in(faults=fault("truncated", 1))
    with pytest.warns(UserWarning, match="broke off"):
        enriched = enricher(api).enrich_dataframe(leads())
    counts = enriched["eb_status"].value_counts()
    assert counts["matched"] >= 5
    assert counts["in_doubt"] >= 5
    assert enricher(api).plan(leads()).to_ask == 0


def test_a_429_is_waited_out(stand_in, enricher):
    api = stand_in(faults=fault("429", 1))
    buyer = enricher(api)
    buyer.enrich_dataframe(leads())
    assert buyer.report.refusals == 1
    assert buyer.report.credits_charged == api.credits() > 0


def test_a_refusal_keeps_what_was_bought(stand_in, enricher):
    api = stand_in(faults=fault("403", 2))
    with pytest.raises(Refused, match="top up") as refused:
        enricher(api, partition_size=10, max_credits_at_risk=10).enrich_dataframe(leads())
    assert refused.value.status == 403
    enriched = enricher(api).enrich_dataframe(leads())
    assert enriched["eb_from_ledger"].sum() == 10
    assert api.charged_twice() == 0


def test_required_fields_decide_what_the_ledger_can_answer(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    strict = enricher(api, required_fields=["personal_email"]).enrich_dataframe(leads())
    misses = int((strict["eb_status"] == "not_found").sum())
    assert 0 < misses < 30
    stricter = enricher(api, required_fields=["personal_email", "phone"])
    plan = stricter.plan(leads())
    assert plan.missed_in_ledger == misses
    loose = enricher(api)
    loose.enrich_dataframe(leads())
    assert loose.report.credits_charged == misses
    assert api.charged_twice() == 0


def test_only_a_chosen_age_buys_again(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    enricher(api).enrich_dataframe(leads(3))
    enricher(api, max_age=timedelta(days=1)).enrich_dataframe(leads(3))
    assert api.credits() == 3
    time.sleep(0.01)
    enricher(api, max_age=timedelta(microseconds=1)).enrich_dataframe(leads(3))
    assert api.credits() == 6


def test_a_refresh_without_budget_keeps_what_was_bought_under_any_identifier(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    first = enricher(api).enrich_dataframe(leads(3))
    # Opaque ids are not compared with the names in contacts, so they contradict nobody.
    ids = [f"linkedin.com/in/ACoAABcdEfghIjklMnopQrstUvwxYz0123{number}" for number in range(3)]
    frame = leads(3).assign(linkedin_url=ids)
    buyer = enricher(api, max_age=timedelta(microseconds=1), max_credits=0)
    enriched = buyer.enrich_dataframe(frame)
    assert enriched["eb_status"].tolist() == ["matched"] * 3
    assert enriched["eb_full_name"].equals(first["eb_full_name"])
    assert enriched["eb_field_type"].tolist() == ["email"] * 3
    assert buyer.report.requests == 0


def test_suppressed_people_are_never_sent(stand_in, enricher):
    from eb_dagster.identifiers.model import Identifier

    api = stand_in()
    buyer = enricher(api)
    buyer._ledger.suppression.add([Identifier("email", "p1@firm.example")])
    assert buyer.enrich_dataframe(leads(3))["eb_status"].tolist()[1] == "suppressed"


def test_an_empty_frame_has_all_columns_and_costs_nothing(stand_in, enricher):
    api = stand_in()
    enriched = enricher(api).enrich_dataframe(leads(0))
    assert list(enriched.columns) == ["email", *schema.arrow_schema().names]
    assert api.requests() == 0


@pytest.mark.parametrize("lists", ["list", "json"])
def test_who_wants_no_contact_columns_gets_the_status_columns_alone(stand_in, enricher, lists):
    api = stand_in()
    enriched = enricher(api, columns=[], lists=lists).enrich_dataframe(leads(3))
    assert list(enriched.columns) == ["email", *schema.arrow_schema(columns=[]).names]
    assert api.requests() == 1


def test_blank_and_broken_cells_are_invalid_with_a_reason(stand_in, enricher):
    buyer = enricher(stand_in())
    enriched = buyer.enrich_dataframe(pd.DataFrame({"email": [None, " ", "no address"]}))
    assert set(enriched["eb_status"]) == {"invalid"}
    assert dict(buyer.report.invalid) == {"blank": 2, "email_syntax": 1}


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"name": ["x"]}),
        pd.DataFrame({"phone": [17734749362]}),
        pd.DataFrame({"email": ["a@b.example"], "eb_status": ["x"]}),
    ],
)
def test_a_wrong_frame_is_an_input_error(stand_in, enricher, frame):
    api = stand_in()
    with pytest.raises(InputError) as error:
        enricher(api).enrich_dataframe(frame)
    assert "17734749362" not in repr(error.value) + str(error.value.__cause__) + str(error.value.__context__)
    assert api.requests() == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"required_fields": ["fax"]}, {"partition_size": 1001}, {"partition_size": 0},
        {"base_url": "http://api.example"}, {"base_url": "https://u:p@api.example"},
        {"base_url": "ftp://api.example"}, {"api_key": ""}, {"columns": ["nonsense"]},
        {"over_budget": "x"}, {"in_doubt": "x"}, {"default_region": "UK"}, {"aliases": ["fax"]},
        {"max_age": 3}, {"timeout": 0}, {"requests_per_minute": -1}, {"prefix": None}, {"columns": 3},
        {"identifiers": "email"}, {"identifiers": ["email"]}, {"identifiers": {"email": None}},
        {"ledger": ""}, {"progress": "x"},
    ],
)  # fmt: skip
def test_a_wrong_setting_is_a_config_error(tmp_path, monkeypatch, setting):
    monkeypatch.delenv("EXACTBUYER_API_KEY", raising=False)
    settings: dict[str, Any] = {"api_key": "k", "ledger": tmp_path / "l.db", **setting}
    with pytest.raises(ConfigError):
        Enricher(**settings)


def test_a_ledger_that_is_named_and_empty_is_not_the_one_in_the_data_folder(monkeypatch):
    monkeypatch.setenv("EB_DAGSTER_LEDGER", "")
    with pytest.raises(ConfigError, match="EB_DAGSTER_LEDGER is empty"):
        Enricher(api_key="k")


def test_a_parquet_file_is_streamed_into_another(stand_in, enricher, tmp_path):
    api = stand_in()
    leads(9_000).to_parquet(tmp_path / "leads.parquet", index=False)
    report = enricher(api).enrich_parquet(tmp_path / "leads.parquet", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == report.rows == 9_000
    assert table["email"].to_pylist() == leads(9_000)["email"].tolist()
    assert api.requests() == 9


@pytest.mark.parametrize(
    "target",
    [
        "leads.parquet",
        "folder/../leads.parquet",
        "link.parquet",
        "hard.parquet",
        "ledger.db",
        "ledger.db-wal",
    ],
)
def test_a_table_is_never_written_over_its_source_or_the_ledger(stand_in, enricher, tmp_path, target):
    api = stand_in()
    leads(3).to_parquet(tmp_path / "leads.parquet", index=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.parquet").symlink_to("leads.parquet")
    (tmp_path / "hard.parquet").hardlink_to(tmp_path / "leads.parquet")
    buyer = enricher(api, ledger=tmp_path / "ledger.db")
    with pytest.raises(ConfigError, match="it is the "):
        buyer.enrich_parquet(tmp_path / "leads.parquet", tmp_path / target)
    assert len(pd.read_parquet(tmp_path / "leads.parquet")) == 3
    assert api.requests() == 0


@pytest.mark.parametrize("at_risk", [10, 30])
def test_full_partitions_are_sent_although_the_window_holds_less_than_the_table(
    stand_in, enricher, monkeypatch, at_risk
):
    monkeypatch.setattr(pipeline_run, "BLOCK_ROWS", 40)
    monkeypatch.setattr(pipeline_run, "WINDOW_ROWS", 100)
    api, table = stand_in(), leads(600)
    is_new = table.index % 5 == 0
    enricher(api).enrich_dataframe(table[~is_new])
    buyer = enricher(api, partition_size=10, max_credits_at_risk=at_risk)
    buyer.enrich_dataframe(table)
    assert buyer.report.requests == is_new.sum() / 10


def test_more_rows_are_open_for_whoever_lets_more_be_in_flight(stand_in, enricher, monkeypatch):
    for name, rows in (("BLOCK_ROWS", 10), ("WINDOW_ROWS", 20), ("_IN_FLIGHT_IN_WINDOW", 20)):
        monkeypatch.setattr(pipeline_run, name, rows)
    seen = []
    buyer = enricher(
        stand_in(latency=1.0), partition_size=10, max_credits_at_risk=60,
        progress=lambda report: seen.append((report.requests, report.replies)),
    )  # fmt: skip
    buyer.enrich_dataframe(leads(200))
    assert seen[0] == (6, 1)


def test_rows_that_are_known_leave_in_larger_blocks_and_all_in_their_order(stand_in, enricher, monkeypatch):
    monkeypatch.setattr(pipeline_run, "BLOCK_ROWS", 20)
    monkeypatch.setattr(pipeline_run, "WINDOW_ROWS", 60)
    api, table = stand_in(), leads(130)
    before = enricher(api).enrich_dataframe(table.drop(index=[45, 46, 125]))
    rows = pa.Table.from_pandas(table, preserve_index=False)
    batches = list(enricher(api, partition_size=2).enrich_batches(rows))
    # Those with somebody to ask leave in smaller ones.
    assert [batch.num_rows for batch in batches] == [40, 20, 20, 40, 10]
    after = pa.Table.from_batches(batches).to_pandas()
    assert after["email"].tolist() == table["email"].tolist()
    told, known = ((frame["eb_status"], frame["eb_full_name"].fillna("")) for frame in (after, before))
    for told_again, told_before in zip(told, known, strict=True):
        assert told_again.drop(index=[45, 46, 125]).tolist() == told_before.tolist()


def test_batches_go_in_and_a_reader_comes_out(stand_in, enricher):
    reader = enricher(stand_in()).enrich_batches(pa.Table.from_pandas(leads(), preserve_index=False))
    assert reader.read_all().num_rows == 30


def test_a_table_whose_ledger_is_gone_is_refused(stand_in, enricher, tmp_path):
    api = stand_in()
    leads().to_parquet(tmp_path / "leads.parquet", index=False)
    enricher(api).enrich_parquet(tmp_path / "leads.parquet", tmp_path / "out.parquet")
    with pytest.raises(LedgerError, match="paid for"):
        enricher(api, ledger=tmp_path / "new.db").enrich_parquet(
            tmp_path / "leads.parquet", tmp_path / "out.parquet"
        )


def test_the_one_line_form_reads_the_environment(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("EXACTBUYER_API_KEY", "k")
    monkeypatch.setenv("EXACTBUYER_BASE_URL", stand_in().url)
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "env.db"))
    assert len(enrich_dataframe(leads(), progress=False)) == 30
    assert (tmp_path / "env.db").exists()


_VICTIM = """
import sys, pandas as pd
from eb_dagster import enrich_dataframe
frame = pd.DataFrame({"email": [f"p{n}@firm.example" for n in range(200)]})
enrich_dataframe(frame, api_key="k", base_url=sys.argv[1], ledger=sys.argv[2], partition_size=10,
                 requests_per_minute=6000, progress=False)
"""


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.07, 0.11])
def test_a_killed_run_is_finished_by_the_next_one(stand_in, enricher, tmp_path, delay):
    api = stand_in(latency=0.02)
    victim = subprocess.Popen([sys.executable, "-c", _VICTIM, api.url, str(tmp_path / "ledger.db")])
    while not api.requests():
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    time.sleep(0.2)
    buyer = enricher(api)
    enriched = buyer.enrich_dataframe(leads(200))
    assert api.charged_twice() == 0
    answered = int((enriched["eb_status"] == "matched").sum())
    in_doubt = int((enriched["eb_status"] == "in_doubt").sum())
    assert answered <= api.credits() <= answered + in_doubt
    again = enricher(api)
    again.enrich_dataframe(leads(200))
    assert again.report.requests == 0


class _OutOfThreads(ThreadPoolExecutor):
    """As Python's own does where no thread can be started: the task is queued, then it raises."""

    def submit(self, *task, **more):
        super().submit(*task, **more)
        raise RuntimeError("can't start new thread")


def test_what_a_pool_has_queued_although_it_raised_is_not_bought_again(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    pools = []

    def run_out_of_threads(report) -> None:
        if report.replies and not pools:
            (run,) = buyer._runs
            sender = run.purchase._sender
            pools.append(sender._pool)
            sender._pool = _OutOfThreads(1)
            requests.append(report.requests)

    requests: list[int] = []
    buyer = enricher(api, partition_size=10, max_credits_at_risk=10, progress=run_out_of_threads)
    with pytest.raises(RuntimeError, match="new thread"):
        buyer.enrich_dataframe(leads())
    pools[0].shutdown()
    buyer.close()
    # On a busy machine, more than one reply may have come before anybody was told of the first.
    assert api.requests() == requests[0] + 1
    enricher(api).enrich_dataframe(leads())
    assert api.charged_twice() == 0


def test_two_processes_on_one_ledger_pay_once(stand_in, tmp_path):
    api = stand_in(latency=0.02)
    command = [sys.executable, "-c", _VICTIM, api.url, str(tmp_path / "ledger.db")]
    both = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in both] == [0, 0, 0]
    assert api.charged_twice() == 0


def test_no_person_and_no_key_is_in_ledger_index_or_names(stand_in, enricher, tmp_path):
    import sqlite3

    enricher(stand_in()).enrich_dataframe(leads())
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        index = repr(connection.execute("SELECT * FROM requests").fetchall())
        meta = repr(connection.execute("SELECT * FROM meta").fetchall())
    connection.close()
    assert "firm.example" not in index + meta
    assert "canary-key" not in index + meta
    assert b"canary-key" not in Path(tmp_path / "ledger.db").read_bytes()
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0


def test_a_value_at_the_end_that_is_no_text_is_found_before_anything_is_sent(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    phones = pd.Series([None] * 40_000 + [4915112345678], dtype=object)
    leads = pd.DataFrame({"email": [f"p{n}@firm.example" for n in range(40_001)], "phone": phones})
    with pytest.raises(InputError, match=r"'phone': 1 of 40,001 values are numbers.*Nothing was sent"):
        enricher(api).enrich_dataframe(leads)
    assert api.requests() == 0


GMAIL = ["b.o.b@gmail.com", "Bob+news@googlemail.com", "ann@firm.example"]


def test_two_spellings_of_one_mailbox_are_one_question_and_the_first_is_asked(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    enriched = enricher(api).enrich_dataframe(pd.DataFrame({"email": GMAIL}))
    assert enriched["eb_status"].tolist() == ["matched"] * 3
    assert enriched["eb_query"].tolist() == ["b.o.b@gmail.com", "b.o.b@gmail.com", "ann@firm.example"]
    assert api.credits() == 2
    again = enricher(api)
    assert again.plan(pd.DataFrame({"email": GMAIL})).identifiers == 2
    known = again.enrich_dataframe(pd.DataFrame({"email": ["bo.b@gmail.com", *GMAIL]}))
    assert again.report.requests == 0
    assert known["eb_full_name"].tolist()[:3] == [enriched["eb_full_name"][0]] * 3
    assert known["eb_query"].tolist()[:3] == ["bo.b@gmail.com"] * 3


# What has to be rewritten, or stands in a later column, is read after what need not.
FIRST_SPELLED = [
    {"email": ["Ada.B+x@gmail.com", "a.d.a.b@gmail.com"]},
    {"email": ["Ada.B+x@gmail.com, a.d.a.b@gmail.com", "a.d.a.b@gmail.com"]},
    {"email": ["x y", "Ada.B+x@gmail.com", "a.d.a.b@gmail.com"]},
    {"email": [None, "a.d.a.b@gmail.com"], "second": ["Ada.B+x@gmail.com", None]},
    {"email": ["Ada.B+x@gmail.com", None], "second": ["a.d.a.b@gmail.com", "adab@gmail.com"]},
    {"field_type": ["email"] * 2, "value": ["Ada.B+x@gmail.com", "a.d.a.b@gmail.com"]},
    {"email": [["Ada.B+x@gmail.com", "a.d.a.b@gmail.com"], ["a.d.a.b@gmail.com"]]},
]


@pytest.mark.parametrize("columns", FIRST_SPELLED)
@pytest.mark.parametrize("door", ["pandas", "Arrow", "batches", "Parquet"])
def test_of_several_spellings_that_of_the_first_row_is_asked(stand_in, enricher, tmp_path, columns, door):
    api = stand_in(match_rate=1.0)
    asked = {"email": ["email", "second"]} if "second" in columns else None
    buyer = enricher(api, identifiers=asked)
    table = pa.table(columns)
    match door:
        case "pandas":
            buyer.enrich_dataframe(pd.DataFrame(columns))
        case "Arrow":
            buyer.enrich_dataframe(table)
        case "batches":
            buyer.enrich_batches(table.to_batches(max_chunksize=1)).read_all()
        case _:
            pq.write_table(table, tmp_path / "leads.parquet")
            buyer.enrich_parquet(tmp_path / "leads.parquet", tmp_path / "out.parquet")
    assert api.charges() == [("email", "ada.b@gmail.com")]


def test_of_several_spellings_in_a_csv_that_of_the_first_row_is_asked(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    (tmp_path / "leads.csv").write_text("email\nAda.B+x@gmail.com\na.d.a.b@gmail.com\n")
    enricher(api).enrich_batches(file_source(tmp_path / "leads.csv")).read_all()
    assert api.charges() == [("email", "ada.b@gmail.com")]


def test_rows_that_spell_one_mailbox_in_two_ways_wait_for_one_answer(stand_in, enricher):
    frame = pd.DataFrame(
        {
            "linkedin_url": ["linkedin.com/in/nobody-1", None, "https://m.facebook.com/Bo.b", "fb.com/bob"],
            "email": [GMAIL[0], GMAIL[1], None, "x@firm.example"],
        }
    )
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, aliases=())
    enriched = buyer.enrich_dataframe(frame)
    assert enriched["eb_status"].tolist() == ["matched"] * 4
    assert enriched["eb_query"].tolist()[2:] == ["facebook.com/bo.b"] * 2
    assert buyer.report.matched == 4
    assert api.charged_twice() == 0


def test_who_is_suppressed_is_so_in_every_spelling_of_the_mailbox(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api)
    buyer.suppress([("email", "bob@gmail.com")])
    enriched = buyer.enrich_dataframe(pd.DataFrame({"email": [*GMAIL, "facebook.com/bob"]}))
    assert enriched["eb_status"].tolist() == ["suppressed", "suppressed", "matched", "invalid"]
