"""Tells a channel of Slack when a run failed, or ended with rows that were not asked or are in doubt.

Switch the two sensors on under Automation, and set SLACK_WEBHOOK_URL to the webhook of a channel. Without it, what
would be told is in the sensor's log. For e-mail, Dagster has `dg.make_email_on_run_failure_sensor`.
"""

import json
import os
import urllib.request

import dagster as dg

ASSET = dg.AssetKey("enriched_contacts")
WATCHED = ("not_asked", "in_doubt", "unreadable", "credits_in_doubt")
SPENT = ("credits_charged", "cost")


def figures(instance: dg.DagsterInstance, run_id: str) -> dict[str, float]:
    """What the run says of itself on the asset's page, in counts: no person is in it."""
    records = instance.fetch_materializations(ASSET, limit=20).records
    for record in records:
        if record.run_id == run_id and record.asset_materialization:
            metadata = record.asset_materialization.metadata
            named = {name: metadata.get(f"exactbuyer/{name}") for name in (*WATCHED, *SPENT)}
            return {name: float(value.value) for name, value in named.items() if value is not None}
    return {}


def message(run: dg.DagsterRun, counted: dict[str, float], *, failed: bool) -> str | None:
    """What to tell; nothing of a run that did all it should."""
    open_rows = {name: count for name, count in counted.items() if name in WATCHED and count}
    if not failed and not open_rows:
        return None
    what = "failed" if failed else "left rows open"
    told = ", ".join(f"{name.replace('_', ' ')}: {count:g}" for name, count in counted.items())
    return f"{run.job_name} {what} (run {run.run_id[:8]}). {told}".strip()


def tell(context: dg.RunStatusSensorContext, *, failed: bool) -> None:
    text = message(context.dagster_run, figures(context.instance, context.dagster_run.run_id), failed=failed)
    if text is None:
        return
    url = os.environ.get("SLACK_WEBHOOK_URL", "")
    if not url:
        context.log.warning(text)
        return
    request = urllib.request.Request(
        url, data=json.dumps({"text": text}).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        context.log.info("told the channel")


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.SUCCESS)
def alert_on_open_rows(context: dg.RunStatusSensorContext) -> None:
    tell(context, failed=False)


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.FAILURE)
def alert_on_failure(context: dg.RunStatusSensorContext) -> None:
    tell(context, failed=True)
