"""The main job, against the sandbox: plan, enrich through Dagster, load, report."""

import contextlib
import os
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import dagster as dg
import pandas as pd

import example_project.defs.resources  # noqa: F401 - sets the sandbox as the default
from eb_dagster import Enricher, sandbox
from example_project import warehouse
from example_project.definitions import defs
from example_project.defs.assets import IDENTIFIERS, MAX_CREDITS
from example_project.paths import DATA, TABLE, WAREHOUSE, export

FIVE_ROWS = """
    SELECT lead_id, eb_full_name AS name, eb_job_title AS title, eb_company_name AS company,
           eb_field_type AS found_by
    FROM contacts ORDER BY lead_id LIMIT 5
"""


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    # The ledger remembers an answer by the API's address, so a second run needs the same port.
    port = urlsplit(os.environ["EXACTBUYER_BASE_URL"]).port or 0
    with _stand_in(port) as stand_in:
        os.environ["EXACTBUYER_BASE_URL"] = stand_in.url
        show_plan()
        show_report(run_the_job())
        print(
            f"\nThe sandbox billed {stand_in.credits():,} credits in {stand_in.requests():,} requests so far; "
            f"charged twice: {stand_in.charged_twice()}"
        )
    # An address in a cloud may hold a password.
    shown = WAREHOUSE.rpartition("@")[2]
    print(f"Parquet:   {TABLE}\nWarehouse: {shown}, schema {warehouse.SCHEMA}\n")
    print(warehouse.ask(FIVE_ROWS).to_string(index=False))


@contextlib.contextmanager
def _stand_in(port: int) -> Iterator[sandbox.Sandbox]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(sandbox.running(port=port, bill=DATA / "sandbox-bill.db"))
        except OSError as error:
            sys.exit(f"{error.strerror}, as in EXACTBUYER_BASE_URL=http://127.0.0.1:{port + 1}")
        yield running


def show_plan() -> None:
    with Enricher(identifiers=IDENTIFIERS, default_region="US", max_credits=MAX_CREDITS) as enricher:
        plan = enricher.plan(pd.read_csv(export("leads.csv"), dtype=str))
    print(f"The plan (nothing is sent):\n{plan}\n")


def run_the_job() -> dg.AssetMaterialization:
    job = defs().resolve_job_def("enrich_contacts")
    info = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=info)
        (made,) = result.asset_materializations_for_node("enriched_contacts")
    return made


def show_report(made: dg.AssetMaterialization) -> None:
    print("\nThe report:")
    for name, value in made.metadata.items():
        if isinstance(value.value, int | float):
            print(f"  {name.partition('/')[2]:<26} {value.value:>10,.6g}")


if __name__ == "__main__":
    main()
