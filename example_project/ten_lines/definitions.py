"""The ten lines that matter: a table of leads in a warehouse, enriched, and back there as tables."""

from pathlib import Path

import dagster as dg

from eb_dagster import ExactBuyerResource, build_contact_tables_asset, build_enriched_contacts_asset

TABLE = Path(__file__).parent / "data" / "enriched_contacts.parquet"
ENV = dg.EnvVar

leads = dg.AssetSpec("leads", description="A table that dbt, dlt, Fivetran or SQL makes.")
enriched_contacts = build_enriched_contacts_asset(
    name="enriched_contacts", source=leads, path=TABLE, max_credits=500,
    query="SELECT * FROM leads", connection=ENV("WAREHOUSE"), identifiers={"email": "email"},
)  # fmt: skip
contacts = build_contact_tables_asset(path=TABLE, destination=ENV("WAREHOUSE"), dataset="crm", key="id")
exactbuyer = ExactBuyerResource(
    api_key=ENV("EXACTBUYER_API_KEY"), ledger=ENV("EB_DAGSTER_LEDGER"), base_url=ENV("EXACTBUYER_BASE_URL")
)
defs = dg.Definitions([leads, enriched_contacts, contacts], resources={"exactbuyer": exactbuyer})
