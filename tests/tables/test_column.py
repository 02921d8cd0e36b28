"""What a person types into Python: a Series, a list, a path, a misspelt word, and the kinds as keywords."""

import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import eb_dagster
from eb_dagster import ConfigError, InputError

MAILS = ["ada@firm.example", None, "not an address"]
STATUSES = ["matched", "invalid", "invalid"]


def misspelt(name: str, column: str) -> Any:
    """Keywords that no type checker would pass."""
    return {name: column}


def test_a_column_alone_is_enriched_if_its_kind_is_told(stand_in, enricher):
    buyer = enricher(stand_in(match_rate=1.0))
    named = pd.Series(MAILS, index=[7, 8, 9], name="Mail")
    enriched = buyer.enrich_dataframe(named, kind="email")
    assert enriched.index.tolist() == [7, 8, 9]
    assert enriched["Mail"].tolist() == named.tolist()
    assert enriched["eb_status"].tolist() == STATUSES
    for column, kind in (
        (pd.Series(MAILS, name="Email"), None),
        (pd.Series(MAILS), "email"),
        (MAILS, "email"),
        (tuple(MAILS), "email"),
        (pd.Index(MAILS, name="email"), None),
        (np.array(MAILS, dtype=object), "email"),
    ):
        again = buyer.enrich_dataframe(column, kind=kind)
        assert again["eb_status"].tolist() == STATUSES
        assert again.columns[0].lower() == "email"
    from_polars = buyer.enrich_dataframe(pl.Series("email", MAILS))
    assert isinstance(from_polars, pl.DataFrame)
    assert from_polars["eb_status"].to_list() == STATUSES
    assert buyer.enrich_dataframe(pa.array(MAILS), kind="email")["eb_status"].to_pylist() == STATUSES
    assert buyer.plan(MAILS, kind="email").rows == 3
    assert buyer.explain(pa.chunked_array([MAILS]), kind="email").column_names == ["row", "column", "reason"]


def test_what_a_column_holds_is_never_guessed(stand_in, enricher):
    buyer = enricher(stand_in())
    for column in (MAILS, pd.Series(MAILS), pd.Series(MAILS, name="Mail"), pl.Series("Mail", MAILS)):
        with pytest.raises(InputError, match='kind="email", kind="phone" or kind="social_profile"'):
            buyer.enrich_dataframe(column)
    with pytest.raises(ConfigError, match="Did you mean 'social_profile'"):
        buyer.enrich_dataframe(MAILS, kind="linkedin")
    with pytest.raises(ConfigError, match="kind is for a Series or a list"):
        buyer.enrich_dataframe(pd.DataFrame({"email": MAILS}), kind="email")


def test_what_is_no_table_is_told_how_to_become_one(stand_in, enricher, tmp_path):
    buyer = enricher(stand_in())
    for given, cure in (
        ("leads.csv", "pandas.read_csv"),
        (tmp_path / "leads.parquet", "enrich_parquet"),
        ({"email": MAILS}, "pandas.DataFrame"),
        ([{"email": "canary@firm.example"}], "pandas.DataFrame"),
        ([1, 2], "the list holds int beside text"),
    ):
        for take in (buyer.enrich_dataframe, buyer.plan, buyer.explain):
            with pytest.raises(InputError, match=re.escape(cure)) as told:
                take(given)
            assert "canary" not in str(told.value)


def test_kinds_as_keywords_are_asked_in_the_order_given(stand_in, enricher):
    frame = pd.DataFrame({"Mail": ["ada@firm.example"], "Profile": ["linkedin.com/in/ada-example"]})
    api = stand_in(match_rate=1.0)
    by_mail = enricher(api, email="Mail", social_profile=["Profile"]).enrich_dataframe(frame)
    assert by_mail["eb_field_type"].tolist() == ["email"]
    by_profile = enricher(api, social_profile="Profile", email="Mail", phone=None, aliases=())
    assert by_profile.enrich_dataframe(frame)["eb_field_type"].tolist() == ["social_profile"]
    with pytest.raises(ConfigError, match="identifiers and email both name columns"):
        enricher(api, email="Mail", identifiers={"email": "Mail"})
    with pytest.raises(TypeError, match="there is no setting 'emial'; did you mean email"):
        eb_dagster.enrich_dataframe(frame, **misspelt("emial", "Mail"))
    with pytest.raises(TypeError, match="did you mean social_profile"):
        eb_dagster.enrich_dataframe(frame, **misspelt("linkedin", "Profile"))


def test_a_misspelt_word_is_told_with_the_right_one(stand_in, enricher):
    frame = pd.DataFrame({"Work E-Mail": MAILS, "Cell": ["1", "2", "3"]})
    api = stand_in()
    for settings, meant in (
        ({"email": "work email"}, "'Work E-Mail'"),
        ({"identifiers": {"mail": "Cell"}}, "'email'"),
        ({"required_fields": "work_mail"}, "'work_email'"),
        ({"columns": ["job_tittle"]}, "'job_title'"),
        ({"over_budget": "refused"}, "'refuse'"),
        ({"aliases": ["emails"]}, "'email'"),
    ):
        with pytest.raises((ConfigError, InputError), match=re.escape(f"id you mean {meant}?")):
            enricher(api, **settings).enrich_dataframe(frame)
    # A header that is not there has people in its place.
    with pytest.raises(InputError) as told:
        enricher(api, email="ada@firm").plan(pd.DataFrame({"ada@firm.example": ["x"]}))
    assert "ada@" not in str(told.value)


def test_numbers_in_place_of_phones_are_told_with_the_cure(stand_in, enricher):
    frame = pd.DataFrame({"Cell": [491705550145.0, None]})
    buyer = enricher(stand_in(), phone="Cell")
    for table in (frame, pa.table({"Cell": [491705550145]})):
        with pytest.raises(InputError, match=re.escape("pandas.read_csv(…, dtype={'Cell': str})")):
            buyer.enrich_dataframe(table)


def test_the_price_shows_costs_in_money_and_a_single_field_may_be_required(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, price=0.5, required_fields="work_email", email="Mail")
    frame = pd.DataFrame({"Mail": [f"p{number}@firm.example" for number in range(4)]})
    plan = buyer.plan(frame)
    assert dict(plan.facts())["costs at most"] == "2.00 (4 at 0.5)"
    assert plan.to_frame()["cost_at_most"].tolist() == [2.0]
    buyer.enrich_dataframe(frame)
    report = buyer.report
    assert report.cost == report.credits_charged * 0.5 > 0
    row = report.to_frame()
    assert len(row) == 1
    assert row["cost"].item() == report.cost
    assert row["matched_by.email"].item() == report.matched
    page = tmp_path / "report.html"
    report.save(page, plan=plan)
    report.save(page)
    assert f"{report.cost:,.2f}" in page.read_text("utf-8")
    (tmp_path / "table.html").write_text("somebody's")
    for name in ("table.html", "report.csv"):
        with pytest.raises(InputError):
            report.save(tmp_path / name)
    with pytest.raises(ConfigError, match="what one credit costs"):
        enricher(api, price=-1)
