import os

import dagster as dg

from eb_dagster import ExactBuyerResource
from example_project.paths import LEDGER

# The sandbox is the example's default: `eb-dagster sandbox` listens there and takes any key.
os.environ.setdefault("EXACTBUYER_API_KEY", "sandbox")
os.environ.setdefault("EXACTBUYER_BASE_URL", "http://127.0.0.1:8765")
os.environ.setdefault("EB_DAGSTER_LEDGER", str(LEDGER))


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(
        # A process for each step would take longer to start than these steps take.
        executor=dg.in_process_executor,
        resources={
            "exactbuyer": ExactBuyerResource(
                api_key=dg.EnvVar("EXACTBUYER_API_KEY"),
                base_url=dg.EnvVar("EXACTBUYER_BASE_URL"),
                ledger=dg.EnvVar("EB_DAGSTER_LEDGER"),
            )
        },
    )
