"""The main job, against the sandbox: plan, enrich through Dagster, load, report."""

import dagster as dg
import duckdb
import example_project.defs.resources  # noqa: F401 - sets the sandbox as the default
import pandas as pd
from example_project.definitions import defs
from example_project.defs.assets import DATA, DATABASE, TABLE

from eb_dagster import Enricher, sandbox


def main() -> None:
    with sandbox.running(port=8765, bill=DATA / "sandbox-bill.db") as stand_in:
        with Enricher(
            identifiers={"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"},
            default_region="US",
            max_credits=12_000,
        ) as enricher:
            print(
                f"The plan (nothing is sent):\n{enricher.plan(pd.read_csv(DATA / 'leads.csv', dtype=str))}\n"
            )
        with dg.DagsterInstance.ephemeral() as instance:
            job = defs().resolve_implicit_global_asset_job_def()
            result = job.execute_in_process(instance=instance)
            (made,) = result.asset_materializations_for_node("enriched_contacts")
        print("\nThe report:")
        for name, value in made.metadata.items():
            if name.startswith("exactbuyer/"):
                print(f"  {name.removeprefix('exactbuyer/'):<18} {value.value:g}")
        print(
            f"\nThe sandbox billed {stand_in.credits():,} credits in {stand_in.requests():,} requests; "
            f"charged twice: {stand_in.charged_twice()}"
        )
    print(f"Parquet: {TABLE}\nDuckDB:  {DATABASE}\n")
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        print(
            connection.sql(
                "SELECT LeadId, eb_full_name, eb_job_title, eb_company_name, eb_field_type FROM contacts ORDER BY LeadId LIMIT 5"
            )
        )


if __name__ == "__main__":
    main()
