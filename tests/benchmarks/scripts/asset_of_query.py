"""The asset of Dagster whose source is a query of SQLite."""

import sys

import dagster as dg

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset

url, database, enriched_file, ledger, rate = sys.argv[1:]
enriched = build_enriched_contacts_asset(
    name="enriched",
    source=dg.AssetSpec("leads"),
    query="SELECT email FROM leads",
    connection=f"sqlite:///{database}",
    path=enriched_file,
)
resource = ExactBuyerResource(
    base_url=url, ledger=ledger, api_key="no key", requests_per_minute=int(float(rate))
)
if not dg.materialize([enriched], resources={"exactbuyer": resource}).success:
    sys.exit(1)
