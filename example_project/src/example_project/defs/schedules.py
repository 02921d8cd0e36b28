import dagster as dg

enrich_contacts = dg.define_asset_job("enrich_contacts", selection=dg.AssetSelection.groups("contacts"))
daily_enrichment = dg.ScheduleDefinition(
    name="daily_enrichment", job=enrich_contacts, cron_schedule="0 5 * * *"
)
