"""A job that shows what the leads would cost, and buys nothing: its plan is on the asset's page."""

import dagster as dg

from eb_dagster import LaunchConfig

plan_contacts = dg.define_asset_job(
    "plan_contacts",
    selection=dg.AssetSelection.assets("leads", "enriched_contacts"),
    config=dg.RunConfig(ops={"enriched_contacts": LaunchConfig(dry_run=True)}),
)
