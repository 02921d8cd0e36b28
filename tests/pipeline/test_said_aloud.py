"""What a run says of itself: at its start, in the log, to OpenTelemetry, and when it ends before its rows."""

import gc
import logging
import signal
import subprocess
import sys
import threading
import time
import warnings

import pandas as pd
import pyarrow as pa
import pytest

from eb_dagster import Refused
from eb_dagster.pipeline.html_report import report_page
from eb_dagster.pipeline.progress import Forecast, log_words, shell_words
from eb_dagster.pipeline.report import Report
from eb_dagster.sandbox import Fault


def leads(count: int = 30) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"canary{number}@firm.example" for number in range(count)]})


def test_a_plan_makes_no_ledger_and_the_first_run_warns_of_a_new_one(stand_in, enricher, tmp_path):
    ledger = tmp_path / "folder" / "ledger.db"
    buyer = enricher(stand_in(match_rate=1.0), ledger=ledger, max_credits=40, max_credits_per_day=100)
    assert buyer.plan(leads()).credits_at_most == 30
    assert len(buyer.explain(leads())) == 0
    assert not ledger.parent.exists()
    address, where, caps = buyer.opening.lines
    assert address.startswith("buys from: the sandbox at http://127.0.0.1:")
    assert where == f"ledger: {ledger}"
    assert caps == "credits left: 40 for this run, 100 today"
    assert f"new and empty ({ledger})" in str(buyer.opening.warning)
    with pytest.warns(UserWarning, match=rf"the ledger is new and empty \({ledger}"):
        buyer.enrich_dataframe(leads())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        buyer.enrich_dataframe(leads())
        assert buyer.opening.warning is None
        assert buyer.opening.lines[2] == "credits left: 40 for this run, 70 today"
    assert told == []
    assert buyer.plan(leads()).to_ask == 0


def test_a_run_that_stops_before_its_end_warns(stand_in, enricher):
    api = stand_in(match_rate=1.0, faults=[Fault("reset-after", 2, 2)])
    with pytest.warns(UserWarning, match="max_credits is spent: 20 rows were not asked"):
        enricher(api, max_credits=10).enrich_dataframe(leads())
    with pytest.warns(UserWarning, match="not every row has an answer: 20 rows are in doubt"):
        enricher(api).enrich_dataframe(leads())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = leads(1).assign(email="info@firm.example", other="info@firm.example, canary@firm.example")
        enricher(api, email=["email", "other"]).enrich_dataframe(shared)


def test_a_run_that_failed_tells_one_set_of_numbers(stand_in, enricher):
    api = stand_in(match_rate=1.0, latency=0.3, faults=[Fault("401", 3, 3)])
    buyer = enricher(api, partition_size=10, max_credits_at_risk=10, price=0.5)
    started = time.monotonic()
    with pytest.raises(Refused):
        buyer.enrich_dataframe(leads())
    took = time.monotonic() - started
    report = buyer.report
    assert report.credits_charged == api.credits() == 20
    assert took - 1 < report.seconds < took + 0.1
    facts = dict(report.facts())
    assert facts["bought, and in no table yet"].startswith("20 contacts")
    assert "rows matched" not in facts
    page = report_page(report)
    assert "no table yet" in page
    assert page.count("role='alert'") == 1
    buyer.plan(leads())
    again = enricher(api)
    assert again.plan(leads()).matched_in_ledger == 20
    again.enrich_dataframe(leads())
    assert (again.report.credits_charged, again.report.from_ledger) == (10, 20)


def test_a_stream_that_nobody_reads_on_is_told_in_its_own_report(stand_in, enricher):
    buyer = enricher(stand_in(match_rate=1.0))
    first = buyer.enrich_batches(pa.Table.from_pandas(leads(20_000)))
    first.read_next_batch()
    report = buyer.report
    second = buyer.enrich_batches(pa.Table.from_pandas(leads(30)))
    assert second.read_all().num_rows == 30
    first.close()
    del first
    gc.collect()
    buyer.close()
    assert report.ended_early is not None
    assert report.seconds > 0
    assert buyer.report is not report
    assert buyer.report.ended_early is None


INTERRUPTED = """
import sys, pandas, eb_dagster
frame = pandas.DataFrame({"email": [f"p{number}@firm.example" for number in range(40)]})
enricher = eb_dagster.Enricher(
    api_key="k", base_url=sys.argv[1], ledger=sys.argv[2], partition_size=10, max_credits_at_risk=10,
    requests_per_minute=60_000, progress=lambda report: print(report.replies, flush=True),
)
try:
    enricher.enrich_dataframe(frame)
except KeyboardInterrupt:
    print(enricher.report)
"""


def test_ctrl_c_says_what_was_bought_and_is_in_no_table_yet(stand_in, tmp_path):
    api = stand_in(match_rate=1.0, latency=0.4)
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, api.url, str(tmp_path / "ledger.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout.readline().strip() == "1"
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert "bought, and in no table yet" in out
    assert f"{api.credits()} contacts" in out
    assert "the run ended before its rows, because it was interrupted" in err
    assert "the ledger is new and empty" in err


def test_the_log_and_the_bar_move_before_the_first_reply_and_say_why(stand_in, enricher, caplog, capsys):
    caplog.set_level(logging.INFO, logger="eb_dagster")
    api = stand_in(match_rate=1.0, latency=2.2, faults=[Fault("429", 1, 1)])
    enricher(api, progress=True).enrich_dataframe(leads())
    assert "waiting for 1 request" in capsys.readouterr().err
    lines = [record.getMessage() for record in caplog.records if record.name == "eb_dagster"]
    assert lines[0].startswith("buys from: the sandbox")
    assert any("waiting for 1 request" in line for line in lines)
    assert lines[-1].startswith("1 request answered, 30 of 30 rows, 30 credits")
    assert "sent again: 1 × 429, too many requests" in lines[-1]
    assert "canary" not in caplog.text
    assert len(lines) < 10


def test_words_say_how_long_nothing_came():
    forecast = Forecast(100)
    report = Report(requests=3)
    forecast.note(report, now=10.0)
    assert shell_words(forecast, report, now=10.5) == "0 requests, 0 credits"
    assert shell_words(forecast, report, now=14.0).endswith(", waiting for 3 requests, 4 s")
    report.replies, report.answers, report.credits_charged = 1, 40, 20
    forecast.note(report, now=15.0)
    assert log_words(forecast, report, now=15.2) == "1 request answered, 0 of 100 rows, 20 credits"
    assert "20 credits of 40 asked" in shell_words(forecast, report, now=15.2)


def test_opentelemetry_gets_a_span_and_counts_without_a_person(stand_in, enricher):
    sdk = pytest.importorskip("opentelemetry.sdk")
    assert sdk is not None
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    api = stand_in(match_rate=1.0, faults=[Fault("429", 1, 1), Fault("403", 3, 3)])
    enricher(api).enrich_dataframe(leads())
    with pytest.raises(Refused):
        enricher(api, ledger=api.bill.with_name("other.db")).enrich_dataframe(leads())
    whole, failed = spans.get_finished_spans()
    assert whole.name == "eb_dagster.run"
    assert whole.attributes["eb_dagster.credits_charged"] == 30
    assert whole.attributes["eb_dagster.is_finished"]
    assert [event.name for event in whole.events] == ["sent again"]
    assert not failed.status.is_ok
    assert failed.status.description == "Refused"
    told = reader.get_metrics_data().to_json() + whole.to_json() + failed.to_json()
    assert "eb_dagster.credits" in told
    assert "canary" not in told
    assert threading.active_count() < 20
