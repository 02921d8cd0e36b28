"""What a run is said to come to, against what it comes to; and the bar of `Enricher` itself."""

from __future__ import annotations

import dataclasses
import importlib

import pandas as pd
import pytest

from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.progress import Forecast
from eb_dagster.pipeline.report import Report


def plan(first: int, further: int = 0) -> Plan:
    """Rows that ask one identifier first, and some of them one more."""
    asked = {"to_ask": first, "to_ask_at_most": first + further, "identifiers": first + further}
    none = dict.fromkeys((field.name for field in dataclasses.fields(Plan)), 0)
    return Plan(**{**none, **asked, "rows": first, "invalid": {}, "max_credits": None})


def run(forecast: Forecast, *, partitions: int, latency: float, until: int, block: int = 4_096) -> float:
    """A run of full partitions at 198 a minute, up to an answer. Returns that moment."""
    pace, report = 60 / 198, Report()
    for number in range(until):
        now = 100 + latency + number * pace
        report.answers = 1000 * (number + 1)
        report.credits_charged = 700 * (number + 1)
        whole = 1000 * partitions
        report.rows = whole if number + 1 == partitions else report.answers // block * block
        forecast.note(report, now=now)
    return now


@pytest.mark.parametrize("latency", [0.5, 2, 5, 10, 60])
@pytest.mark.parametrize("partitions", [40, 1_000])
def test_after_ten_partitions_time_and_cost_are_told_to_within_a_fifth(partitions, latency):
    for its_plan in (plan(1000 * partitions), None):
        forecast = Forecast(1000 * partitions, its_plan)
        now = run(forecast, partitions=partitions, latency=latency, until=12)
        left = (partitions - 12) * 60 / 198
        assert forecast.seconds_left(now=now) == pytest.approx(left, rel=0.2)
        assert forecast.credits_in_all() == pytest.approx(700 * partitions, rel=0.2)


def test_a_wait_for_an_answer_is_taken_off_what_is_left():
    forecast = Forecast(100_000, plan(100_000))
    now = run(forecast, partitions=100, latency=5, until=20)
    soon, later = forecast.seconds_left(now=now), forecast.seconds_left(now=now + 3)
    assert soon is not None
    assert later is not None
    assert soon - later == pytest.approx(3)
    assert forecast.seconds_left(now=now + 1000) == 0


def test_what_the_ledger_answered_at_once_does_not_count_as_pace_for_long():
    forecast, report = Forecast(400_000), Report()
    for block in range(40):
        report.rows = 4_096 * (block + 1)
        forecast.note(report, now=100 + block / 100)
    began = report.rows
    for number in range(70):
        report.rows = began + 1000 * (number + 1)
        report.credits_charged = 700 * (number + 1)
        forecast.note(report, now=105 + number * 60 / 198)
    now = 105 + 69 * 60 / 198
    assert forecast.seconds_left(now=now) == pytest.approx((400_000 - report.rows) / 1000 * 60 / 198, rel=0.2)


def test_misses_lead_to_further_questions():
    # Three in ten of the first 20,000 ask once more.
    forecast = Forecast(20_000, plan(20_000, 20_000))
    report = Report(answers=13_000, credits_charged=9_100)
    assert forecast.share(report) == pytest.approx(13 / 26)


def test_a_cap_ends_the_run_before_its_rows_do():
    for its_plan in (plan(100_000), None):
        forecast = Forecast(100_000, its_plan, max_credits=14_000)
        now = run(forecast, partitions=100, latency=1, until=10)
        assert forecast.seconds_left(now=now) == pytest.approx(10 * 60 / 198, rel=0.2)
        assert forecast.credits_in_all() == 14_000


def test_nothing_is_said_before_there_is_a_pace():
    forecast = Forecast(10, plan(10))
    assert forecast.words(now=1.0) == ""
    forecast.note(Report(answers=5, credits_charged=3), now=2.0)
    assert (forecast.words(now=3.0), forecast.seconds_left(now=3.0)) == ("", None)


def test_words_name_both():
    forecast = Forecast(1_000_000, plan(1_000_000))
    now = run(forecast, partitions=1000, latency=1, until=10)
    assert forecast.words(now=now) == ", about 5 min left and 700,000 credits in all"


def test_the_share_is_one_at_most_whatever_a_vendor_counts():
    assert Forecast(100).share(Report(rows=205)) == 1.0
    assert 0 < Forecast(20, plan(20, 20)).share(Report(answers=5, credits_charged=10)) <= 1


def test_a_table_without_rows_is_done():
    assert Forecast(0).share(Report()) == 1.0


# The bar; in a notebook: tests/test_notebook.py


def enrich(stand_in, enricher, progress) -> None:
    leads = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(30)]})
    enricher(stand_in(match_rate=1.0), progress=progress).enrich_dataframe(leads)


def test_a_bar_counts_rows_and_shows_requests_and_matches(stand_in, enricher, capsys):
    enrich(stand_in, enricher, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Enriching: 100%" in shown.err
    assert "30/30" in shown.err
    assert "requests=1, credits=30, matched=30" in shown.err
    assert "firm.example" not in shown.err


def test_a_log_has_none(stand_in, enricher, capsys):
    enrich(stand_in, enricher, progress=None)
    assert capsys.readouterr().err == ""


def test_a_program_that_runs_notebooks_has_none(stand_in, enricher, capsys):
    importlib.import_module("ipykernel.kernelapp")
    enrich(stand_in, enricher, progress=None)
    assert capsys.readouterr().err == ""
