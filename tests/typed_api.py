"""Calls as users write them, read by mypy and pyright and never run.

A call that must not pass ends with `# error:` and the word that the checker's message must hold.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import assert_type

import pandas as pd
import pyarrow as pa

import eb_dagster
from eb_dagster import errors

frame = pd.DataFrame({"Mail": ["ada@firm.example"], "Cell": ["+49 170 5550145"]})


def tell(report: eb_dagster.Report) -> None:
    assert_type(report.credits_charged, int)


def buy() -> None:
    with eb_dagster.Enricher(
        identifiers={"email": ["Mail", "Mail 2"], "phone": "Cell"},
        person={"name": "Name"},
        default_region="DE",
        max_credits=5_000,
        over_budget="refuse",
        max_age=timedelta(days=30),
        aliases=["email"],
        columns=["job_title"],
        lists="json",
        progress=tell,
    ) as enricher:
        assert_type(enricher, eb_dagster.Enricher)
        assert_type(enricher.plan(frame), eb_dagster.Plan)
        assert_type(enricher.enrich_dataframe(frame), pd.DataFrame)
        assert_type(enricher.report, eb_dagster.Report)
        assert_type(enricher.suppress([("email", "ada@firm.example")]), int)
        reader = enricher.enrich_batches(pa.table({"email": ["ada@firm.example"]}))
        assert_type(reader, pa.RecordBatchReader)
        enricher.enrich_parquet("leads.parquet", "enriched.parquet")

    eb_dagster.Enricher(max_credit=5_000)  # error: max_credit
    eb_dagster.Enricher(max_credits="5000")  # error: max_credits
    eb_dagster.Enricher(over_budget="halt")  # error: over_budget
    eb_dagster.Enricher(max_age=30)  # error: max_age
    eb_dagster.Enricher(lists="text")  # error: lists
    eb_dagster.Enricher("my-key")  # error: positional
    assert_type(eb_dagster.enrich_dataframe(frame, max_credits=5), pd.DataFrame)
    eb_dagster.enrich_dataframe(frame, max_credit=5)  # error: enrich_dataframe
    by_kind = eb_dagster.enrich_dataframe(frame, email="Mail", phone=["Cell"], max_credits=500, price=0.05)
    assert_type(by_kind, pd.DataFrame)
    column = pd.Series(["ada@firm.example"])
    assert_type(eb_dagster.enrich_dataframe(column, kind="email"), pd.DataFrame)
    assert_type(eb_dagster.enrich_dataframe(["ada@firm.example"], kind="email"), pd.DataFrame)
    eb_dagster.Enricher(social_profile="LinkedIn", required_fields="work_email")
    eb_dagster.Enricher(emial="Mail")  # error: emial
    eb_dagster.Enricher(email=3)  # error: email
    enricher.plan(frame["Mail"], kind="mail")  # error: mail
    assert_type(enricher.report.to_frame(), pd.DataFrame)
    enricher.report.save("report.html")
    enricher.suppress([("mail", "ada@firm.example")])  # error: mail
    enricher.forgets("email", "ada@firm.example")  # error: forgets


def read_errors() -> Iterator[str]:
    try:
        buy()
    except eb_dagster.Refused as refused:
        assert_type(refused.status, int)
    except errors.EnrichError as error:
        yield str(error)
    except eb_dagster.Refusal:  # error: Refusal
        pass


def build_assets() -> None:
    eb_dagster.build_enriched_contacts_asset(
        name="enriched_contacts",
        source="leads",
        path="enriched.parquet",
        identifiers={"email": "Mail"},
        max_credits=5_000,
    )
    eb_dagster.build_enriched_contacts_asset(source="leads", path=None, max_credit=5)  # error: max_credit
    eb_dagster.build_enriched_contacts_asset(path=None)  # error: source
