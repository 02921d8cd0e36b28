"""A flow of Prefect 3: the leads of a warehouse, enriched, and back there as tables. A retry pays for nobody twice."""

import os

from prefect import flow, task

from eb_dagster.warehouse import enrich_query


@task(retries=2, retry_delay_seconds=600)
def enrich() -> dict[str, int]:
    warehouse = os.environ["WAREHOUSE"]
    loaded = enrich_query(
        "SELECT * FROM leads",
        warehouse,
        destination=warehouse,
        dataset="crm",
        key="lead_id",
        max_credits=5_000,
    )
    return dict(loaded.rows)


@flow
def contacts() -> dict[str, int]:
    return enrich()


if __name__ == "__main__":
    contacts()
