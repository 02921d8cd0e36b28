import re
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser

import pandas as pd
import pytest

from eb_dagster.pipeline.html_report import report_page
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.report import Report

AT = datetime(2026, 3, 12, 9, 14, tzinfo=UTC)


def report(**others) -> Report:
    usual = {
        "rows": 1000, "identifiers": 1500, "matched": 600, "not_found": 300, "not_asked": 50, "in_doubt": 20,
        "invalid": Counter(blank=30), "matched_by": Counter(email=400, social_profile=200),
        "answered_by": Counter(email=700, social_profile=250), "filled": Counter(full_name=600, city=150),
        "credits_charged": 450, "credits_saved": 150, "credits_in_doubt": 20, "requests": 3,
    }  # fmt: skip
    return Report(**{**usual, **others})


def plan(**others) -> Plan:
    usual = {
        "rows": 1000, "identifiers": 1500, "invalid": {}, "suppressed": 0, "folded": 0, "matched_in_ledger": 0,
        "missed_in_ledger": 0, "in_doubt": 0, "unreadable": 0, "to_ask": 900, "to_ask_at_most": 1500, "requests": 1,
        "requests_at_most": 2, "credits_at_most": 970, "max_credits": None, "requests_per_minute": 198.0, "in_flight_at_most": 20,
    }  # fmt: skip
    return Plan(**{**usual, **others})


class Text(HTMLParser):
    """Collects the texts of a page, and checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, _):
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


def texts(page: str) -> list[str]:
    parser = Text()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser.texts


def section(page: str, title: str) -> str:
    return page.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


def test_the_page_shows_what_became_of_the_rows():
    shown = texts(section(report_page(report(), made_at=AT), "What became of the rows"))
    assert "matched: 600 (60.0%)" in shown
    assert "invalid: 30 (3.0%)" in shown
    assert "2026-03-12 09:14 UTC" in texts(report_page(report(), made_at=AT))


def test_a_step_is_measured_by_the_rows_that_asked_it():
    shown = texts(section(report_page(report()), "Match rate by identifier"))
    assert {"email", "57.1% of 700", "social profile", "80.0% of 250"} <= set(shown)


def test_columns_are_measured_by_the_rows_that_were_found():
    shown = texts(section(report_page(report()), "Fill rate by column"))
    assert {"full_name", "100% (600)", "city", "25% (150)"} <= set(shown)


def widths(page: str) -> list[float]:
    return [float(width) for width in re.findall(r"class='found' style='width:([\d.]+)%'", page)]


def test_bars_are_as_long_as_what_they_stand_for():
    full, quarter = widths(section(report_page(report()), "Fill rate by column"))
    assert quarter == pytest.approx(full / 4, abs=0.1)
    email, profile = widths(section(report_page(report()), "Match rate by identifier"))
    assert email == pytest.approx(full * 400 / 700, abs=0.1)
    assert profile == pytest.approx(full * 200 / 250, abs=0.1)


def test_costs_are_in_money_when_there_is_a_price():
    page = report_page(report(), plan=plan(max_credits=800), price=0.5)
    shown = texts(section(page, "Cost and savings"))
    assert {"225.00 (450)", "75.00 (150)", "10.00 (20)", "planned at most", "400.00 (800)"} <= set(shown)
    assert {"450", "150", "20"} <= set(texts(section(report_page(report()), "Cost and savings")))


def test_drift_names_fields_and_nothing_that_might_be_a_person():
    drifted = report(
        drift=Counter({"employment.size": 7, "canary@firm.example": 2, "emails[].Jane Canary": 1}),
        new_fields=Counter({f"field_{index}": index + 1 for index in range(20)}),
    )
    page = report_page(drifted)
    shown = texts(section(page, "Drift"))
    assert {"employment.size", "7", "(a key of another shape)", "3", "field_19", "and 5 more"} <= set(shown)
    assert "canary" not in page.lower()


def test_nothing_is_said_of_what_there_was_not():
    page = report_page(Report())
    for said in (
        "No row was finished.",
        "Nothing was answered.",
        "No contact was found.",
        "None: every field",
    ):
        assert said in page
    texts(page)


def test_why_it_stopped_is_told_and_escaped():
    assert "Stopped early: max_credits &lt; 5: 50 rows were not asked, 20 rows are in doubt." in report_page(
        report(stopped="max_credits < 5")
    )


def test_of_a_run_without_a_table_it_says_what_was_bought_and_nothing_of_rows():
    page = report_page(report(ended_early="it was interrupted"))
    shown = texts(page)
    assert "In no table yet" in shown
    assert any("in no table yet: run again, which costs nothing for it" in text for text in shown)
    assert "What became of the rows" not in shown


def test_the_page_needs_no_script_and_no_network():
    page = report_page(report(), plan=plan(), price=1.0)
    assert "<script" not in page
    assert not re.search(r"(?:src|href|url|@import)\s*[=(]", page)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_a_real_run_puts_no_person_into_it(stand_in, enricher):
    buyer = enricher(stand_in(match_rate=1.0))
    enriched = buyer.enrich_dataframe(
        pd.DataFrame({"email": [f"canary{index}@firm.example" for index in range(20)]})
    )
    page = report_page(buyer.report)
    people = {
        cell for name in ("eb_query", "eb_full_name", "eb_work_email", "eb_phone", "eb_linkedin_url")
        for cell in enriched[name].dropna()
    }  # fmt: skip
    assert len(people) > 40
    assert not [cell for cell in people if cell in page]
