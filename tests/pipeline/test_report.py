from collections import Counter

import pandas as pd

from eb_dagster.pipeline.facts import text_table
from eb_dagster.pipeline.report import Report


def leads(count: int) -> pd.DataFrame:
    return pd.DataFrame({
        "linkedin_url": [f"linkedin.com/in/p{number}" if number % 2 else "" for number in range(count)],
        "email": [f"p{number}@firm.example" for number in range(count)],
    })  # fmt: skip


def test_it_counts_what_each_kind_of_identifier_was_asked_and_found(stand_in, enricher):
    buyer = enricher(stand_in(match_rate=0.5))
    enriched = buyer.enrich_dataframe(leads(60))
    report = buyer.report
    missed_profiles = report.answered_by["social_profile"] - report.matched_by["social_profile"]
    assert report.answered_by["social_profile"] == 30
    # Whoever has no profile, and whoever was not found by it.
    assert report.answered_by["email"] == 30 + missed_profiles
    assert report.matched_by.total() == report.matched == enriched["eb_matched"].sum()
    assert 0 < missed_profiles < 30


def test_it_counts_the_rows_that_hold_a_value_in_each_column(stand_in, enricher):
    buyer = enricher(stand_in(), columns=["full_name", "phones"])
    enriched = buyer.enrich_dataframe(leads(40))
    filled = {name: int(enriched[f"eb_{name}"].notna().sum()) for name in ("full_name", "phones")}
    assert dict(buyer.report.filled) == filled
    assert filled["full_name"] > 0


def test_columns_may_be_chosen_by_the_names_that_they_have_in_the_result(stand_in, enricher):
    api = stand_in()
    for prefix, chosen in (("eb_", ["eb_city"]), ("crm_", ["crm_city", "eb_status"]), ("crm_", ["eb_city"])):
        enriched = enricher(api, prefix=prefix, columns=chosen).enrich_dataframe(leads(2))
        assert list(enriched.columns[-2:]) == [f"{prefix}enriched_at", f"{prefix}city"]


def test_it_shows_what_was_bought_while_the_run_goes_on(stand_in, enricher):
    seen: list[tuple[int, int, int]] = []

    def note(report: Report) -> None:
        seen.append((report.replies, report.answers, report.credits_charged))

    buyer = enricher(stand_in(), partition_size=10, progress=note)
    buyer.enrich_dataframe(leads(40)[["email"]])
    assert sorted(seen) == seen
    assert {replies: answers for replies, answers, _ in seen}.items() >= {1: 10, 2: 20, 3: 30, 4: 40}.items()
    assert seen[-1][2] == buyer.report.credits_charged == buyer.report.matched > 0


def test_it_prints_each_step_and_what_it_cost():
    report = Report(
        rows=10, matched=5, not_found=1, credits_charged=4,
        matched_by=Counter(email=5), answered_by=Counter(email=6, phone=1),
    )  # fmt: skip
    lines = dict(line.rsplit("  ", 1) for line in str(report).splitlines())
    shown = {name.strip(): value.strip() for name, value in lines.items()}
    assert shown["by email"] == "5 of 6 rows that asked it"
    assert shown["by phone"] == "0 of 1 row that asked it"
    assert ("cost", "0.20 (4 at 0.05)") in report.facts(price=0.05)
    assert "cost" not in dict(report.facts())
    assert report.to_dict(price=0.05)["cost"] == 0.2


def test_numbers_stand_below_each_other_and_words_after_them():
    table = text_table([("rows", "1,200"), ("requests", "7 to 15"), ("invalid", "0"), ("why", "it was so")])
    assert table.splitlines() == [
        "rows      1,200",
        "requests      7 to 15",
        "invalid       0",
        "why            it was so",
    ]


def test_a_notebook_gets_a_table_that_escapes_what_it_shows():
    shown = Report(stopped="a < b")._repr_html_()
    assert "a &lt; b" in shown
    assert shown.count("<tr>") == shown.count("</tr>") == len(Report(stopped="x").facts())
