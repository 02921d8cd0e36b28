"""Tells Slack or sends an e-mail when a run failed, or one of its checks did: a cap is spent, rows are in doubt.

Switch the two sensors on under Automation. For Slack, set SLACK_WEBHOOK_URL to the webhook of a channel. For e-mail,
set ALERT_EMAIL to the address, and ALERT_SMTP to the server that takes it, as host:port. Without either, what would
be told is in the sensor's log. It holds names and counts, and no person.
"""

import json
import os
import smtplib
import urllib.request
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage

import dagster as dg

WATCHED = ("not_asked", "in_doubt", "unreadable", "credits_in_doubt")
SPENT = ("credits_charged", "cost")


def events(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> Iterator[dg.DagsterEvent]:
    for record in instance.all_logs(run_id, of_type=kind):
        if record.dagster_event is not None:
            yield record.dagster_event


def figures(instance: dg.DagsterInstance, run_id: str) -> Counter[str]:
    """What the run says of itself on its assets' pages, added up. A run that failed says it in an observation."""
    told = [
        *(
            event.step_materialization_data.materialization
            for event in events(instance, run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
        ),
        *(
            event.asset_observation_data.asset_observation
            for event in events(instance, run_id, dg.DagsterEventType.ASSET_OBSERVATION)
        ),
    ]
    counts: Counter[str] = Counter()
    for each in told:
        named = {name: each.metadata.get(f"exactbuyer/{name}") for name in (*WATCHED, *SPENT)}
        counts.update({name: value.value for name, value in named.items() if value is not None})
    return counts


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The checks that failed, each with its reason."""
    evaluations = (
        event.asset_check_evaluation_data
        for event in events(instance, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    )
    return [
        f"{each.asset_key.to_user_string()}, {each.check_name}: {each.description}"
        for each in evaluations
        if not each.passed
    ]


def message(run: dg.DagsterRun, counts: Counter[str], checks: list[str], *, failed: bool) -> str | None:
    """What to tell; nothing of a run that did all it should."""
    has_open_rows = any(counts[name] for name in WATCHED)
    if not (failed or has_open_rows or checks):
        return None
    what = "failed" if failed else "left rows open" if has_open_rows else "failed a check"
    told = ", ".join(f"{name.replace('_', ' ')}: {count:g}" for name, count in counts.items())
    return "\n".join([f"{run.job_name} {what} (run {run.run_id[:8]}). {told}".strip(), *checks])


def tell_slack(url: str, text: str) -> None:
    request = urllib.request.Request(
        url, data=json.dumps({"text": text}).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        pass


def send_email(server: str, address: str, text: str) -> None:
    email = EmailMessage()
    email["From"] = email["To"] = address
    email["Subject"] = text.partition(" (run")[0]
    email.set_content(text)
    host, _, port = server.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=30) as smtp:
        smtp.send_message(email)


def tell(context: dg.RunStatusSensorContext, *, failed: bool) -> None:
    run, instance = context.dagster_run, context.instance
    counts, checks = figures(instance, run.run_id), failed_checks(instance, run.run_id)
    text = message(run, counts, checks, failed=failed)
    if text is None:
        return
    channel, address = os.environ.get("SLACK_WEBHOOK_URL"), os.environ.get("ALERT_EMAIL")
    if channel:
        tell_slack(channel, text)
    if address:
        send_email(os.environ.get("ALERT_SMTP", "localhost"), address, text)
    if not (channel or address):
        context.log.warning(text)


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.SUCCESS)
def alert_on_open_rows(context: dg.RunStatusSensorContext) -> None:
    tell(context, failed=False)


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.FAILURE)
def alert_on_failure(context: dg.RunStatusSensorContext) -> None:
    tell(context, failed=True)
