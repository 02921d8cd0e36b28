import os
from pathlib import Path

import dagster as dg

from eb_dagster import ExactBuyerResource

# The sandbox is the example's default: `eb-dagster sandbox` listens there and takes any key.
os.environ.setdefault("EXACTBUYER_API_KEY", "sandbox")
os.environ.setdefault("EXACTBUYER_BASE_URL", "http://127.0.0.1:8765")
os.environ.setdefault("EB_DAGSTER_LEDGER", str(Path(__file__).parents[3] / "data" / "ledger.db"))


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(
        resources={
            "exactbuyer": ExactBuyerResource(
                api_key=dg.EnvVar("EXACTBUYER_API_KEY"),
                base_url=dg.EnvVar("EXACTBUYER_BASE_URL"),
                ledger=dg.EnvVar("EB_DAGSTER_LEDGER"),
            )
        }
    )
