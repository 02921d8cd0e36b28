import dagster as dg

from eb_dagster import LaunchConfig
from example_project.paths import export

enrich_contacts = dg.define_asset_job("enrich_contacts", selection=dg.AssetSelection.groups("contacts"))

daily_enrichment = dg.ScheduleDefinition(
    name="daily_enrichment", job=enrich_contacts, cron_schedule="0 5 * * *"
)

# Each month the oldest contacts are bought again, as many as the budget allows: a third of them or so,
# because those of last month are not three months old.
monthly_refresh = dg.ScheduleDefinition(
    name="monthly_refresh",
    job=enrich_contacts,
    cron_schedule="0 6 1 * *",
    run_config=dg.RunConfig(ops={"enriched_contacts": LaunchConfig(max_age_days=90, max_credits=2_000)}),
)


@dg.sensor(job=enrich_contacts, minimum_interval_seconds=60)
def new_leads(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Enrich when the CRM's export has changed. Only leads that the ledger does not know are asked."""
    file = export("leads.csv").stat()
    version = f"{file.st_mtime_ns}-{file.st_size}"
    if version == context.cursor:
        return dg.SkipReason("the CRM's export is the one that was enriched last")
    context.update_cursor(version)
    return dg.RunRequest(run_key=version)
