"""A DAG of Airflow 3: the leads of a warehouse, enriched, and back there as tables. A retry pays for nobody twice."""

from airflow.sdk import dag, task


@dag(schedule="@daily", catchup=False)
def contacts():
    @task(retries=2)
    def enrich() -> dict[str, int]:
        import os

        from eb_dagster.warehouse import enrich_query

        loaded = enrich_query(
            "SELECT * FROM leads",
            os.environ["WAREHOUSE"],
            destination=os.environ["WAREHOUSE"],
            dataset="crm",
            key="lead_id",
            max_credits=5_000,
        )
        return dict(loaded.rows)

    enrich()


contacts()
