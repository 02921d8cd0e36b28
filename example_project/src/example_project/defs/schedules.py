import dagster as dg

daily = dg.ScheduleDefinition(
    name="daily_enrichment", target=dg.AssetSelection.all(), cron_schedule="0 5 * * *"
)
