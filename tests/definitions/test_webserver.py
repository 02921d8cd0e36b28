"""The real product: `dg dev` with the example project against a sandbox, driven as its pages do it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import requests
import yaml

from eb_dagster import sandbox
from tests.browser import browser, program

# One `dg dev`, and what is done there, for all.
pytestmark = pytest.mark.xdist_group("webserver")

PROJECT = Path(__file__).parents[2] / "example_project"
KEY = "canary-key-9876"
ROWS = 1_500
# A partition is 1000 identifiers; the second request is refused.
REFUSED = sandbox.Fault("403", 2, 2)

LAUNCH = """mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
CONFIG = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { runConfigYaml } } }"
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
METADATA = """
  label description ... on FloatMetadataEntry { floatValue } ... on IntMetadataEntry { intValue intRepr }
  ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr } ... on UrlMetadataEntry { url }
  ... on TableSchemaMetadataEntry { schema { columns { name type description } } }
  ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { columnName } } }
"""
ASSET = f"""query ($key: AssetKeyInput!) {{ assetOrError(assetKey: $key) {{ ... on Asset {{
  assetMaterializations(limit: 9) {{ runId metadataEntries {{ {METADATA} }} }}
  assetObservations(limit: 9) {{ runId description metadataEntries {{ {METADATA} }} }}
  definition {{ description opNames metadataEntries {{ {METADATA} }} }}
}} }} }}"""
CHECKS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks { name blocking description
    executionForLatestMaterialization { status evaluation { severity success description } } } } }
} } }"""
RESOURCE = """query ($s: ResourceSelector!) { topLevelResourceDetailsOrError(resourceSelector: $s) {
  ... on ResourceDetails { description configuredValues { key value type } configFields { name description } }
} }"""
EVENTS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection {
  events { __typename ... on MessageEvent { message level eventType }
  ... on ExecutionStepFailureEvent { error { message stack } failureMetadata { metadataEntries { label description } } } }
} } }"""
LAUNCHPAD = """query ($selector: PipelineSelector!) { runConfigSchemaOrError(selector: $selector) {
  ... on RunConfigSchema { rootDefaultYaml allConfigTypes { key description ... on CompositeConfigType {
    fields { name description } } } } } }"""


class Server:
    """What the pages ask and say."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.said: list[str] = []

    def ask(self, query: str, **variables):
        reply = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        )
        self.said.append(reply.text)
        answer = reply.json()
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    def launch(self, *assets: str, **config) -> str:
        ops = {"ops": {"enriched_contacts": {"config": config}}} if config else {}
        job = {
            **SELECTOR,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets],
        }
        answer = self.ask(
            LAUNCH, params={"selector": job, "runConfigData": json.dumps(ops), "mode": "default"}
        )
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def wait(self, run: str) -> str:
        for _ in range(600):
            status = self.ask(STATUS, id=run)["status"]
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            time.sleep(0.2)
        raise AssertionError(f"the run is still {status}")

    def wait_for_another(self, before: set[str]) -> str:
        """The run of a materialization that was not there before."""
        for _ in range(300):
            made = self.ask(ASSET, key=KEYED)["assetMaterializations"]
            if new := {event["runId"] for event in made} - before:
                return new.pop()
            time.sleep(0.2)
        raise AssertionError("no run materialized the asset")

    def figures(self, kind: str, run: str) -> list[dict]:
        """The metadata of the asset's events of a run, as the page shows them."""
        events = self.ask(ASSET, key=KEYED)[kind]
        return [
            {"description": event.get("description")}
            | {entry["label"]: entry for entry in event["metadataEntries"]}
            for event in events
            if event["runId"] == run
        ]


KEYED = {"path": ["enriched_contacts"]}
SELECTOR = {"repositoryLocationName": "example-project", "repositoryName": "__repository__"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """`dg dev`, and the sandbox that the example talks to."""
    folder = tmp_path_factory.mktemp("product")
    data, home = folder / "data", folder / "home"
    data.mkdir()
    home.mkdir()
    # Runs start at once, not when the daemon next looks at its queue.
    (home / "dagster.yaml").write_text(
        "telemetry:\n  enabled: false\n"
        "run_coordinator:\n  module: dagster.core.run_coordinator\n  class: DefaultRunCoordinator\n"
    )
    leads = pd.DataFrame({
        "LeadId": [f"L{number}" for number in range(ROWS)], "LinkedIn": None, "Phone": None,
        "Email": [f"canary{number}@firm.example" for number in range(ROWS)],
    })  # fmt: skip
    leads.to_csv(data / "leads.csv", index=False)
    port = free_port()
    with sandbox.running(bill=folder / "bill.db", requests_per_minute=100_000, faults=[REFUSED]) as api:
        environment = {
            **os.environ, "EXAMPLE_DATA": str(data), "EXACTBUYER_BASE_URL": api.url, "EXACTBUYER_API_KEY": KEY,
            "EB_DAGSTER_LEDGER": str(folder / "ledger.db"), "DAGSTER_HOME": str(home), "HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        words = [str(Path(sys.executable).with_name("dg")), "dev", "--host", "127.0.0.1", "--port", str(port)]
        with (folder / "dev.log").open("w") as log, subprocess.Popen(
            words, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process:  # fmt: skip
            try:
                server = Server(f"http://127.0.0.1:{port}")
                wait_until_up(server, process, folder / "dev.log")
                yield server, api, data, folder
            finally:
                stop(process)


def wait_until_up(server: Server, process: subprocess.Popen, log: Path) -> None:
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(requests.ConnectionError):
            nodes = server.ask(query).get("nodes")
            if nodes:
                SELECTOR["repositoryLocationName"] = nodes[0]["location"]["name"]
                SELECTOR["repositoryName"] = nodes[0]["name"]
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def stop(process: subprocess.Popen) -> None:
    # It has children of its own, all of them in the group that was started for it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def story(product):
    """A dry run, a run that is refused in its middle, the run after it, and a table that is loaded."""
    server, api, _, _ = product
    runs, bills = {}, {}
    for name, assets, config, ends in [
        ("dry", ["leads", "enriched_contacts"], {"dry_run": True}, "SUCCESS"),
        ("refused", ["leads", "enriched_contacts"], {}, "FAILURE"),
        ("finished", ["enriched_contacts", "job_changes", "contacts"], {}, "SUCCESS"),
    ]:
        runs[name] = server.launch(*assets, **config)
        status = server.wait(runs[name])
        assert status == ends, server.ask(EVENTS, id=runs[name])
        bills[name] = api.credits()
    return runs, bills


@pytest.fixture(scope="module")
def prefilled(product, story):  # noqa: ARG001 - it comes after the story
    """What the launchpad prefills, and a run that was launched with it."""
    server, _, _, _ = product
    selector = {**SELECTOR, "pipelineName": "enrich_contacts"}
    config = yaml.safe_load(server.ask(LAUNCHPAD, selector=selector)["rootDefaultYaml"])
    params = {"selector": selector, "runConfigData": json.dumps(config), "mode": "default"}
    launched = server.ask(LAUNCH, params=params)["run"]["runId"]
    assert server.wait(launched) == "SUCCESS", server.ask(EVENTS, id=launched)
    return config, launched


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A tab of one browser."""
    if program() is None:
        pytest.skip("there is no Chromium here")
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def test_a_dry_run_shows_the_plan_and_costs_nothing(product, story):
    server, _, _, _ = product
    runs, bills = story
    (plan,) = server.figures("assetObservations", runs["dry"])
    assert bills["dry"] == 0
    assert plan["exactbuyer/plan_credits_at_most"]["intValue"] == ROWS
    assert "| credits at most |" in plan["exactbuyer/plan"]["mdStr"]
    assert server.figures("assetMaterializations", runs["dry"]) == []


def test_a_refused_run_shows_what_it_spent_and_what_it_costs_to_finish(product, story):
    server, _, _, _ = product
    runs, bills = story
    (spent,) = server.figures("assetObservations", runs["refused"])
    assert spent["exactbuyer/credits_charged"]["intValue"] == bills["refused"] > 0
    assert spent["exactbuyer/input_rows"]["intValue"] == ROWS
    assert spent["exactbuyer/remaining_identifiers"]["intValue"] == ROWS - 1000
    assert spent["exactbuyer/credits_to_finish_at_most"]["intValue"] == ROWS - 1000
    failures = [
        event["error"] for event in server.ask(EVENTS, id=runs["refused"])["events"] if event.get("error")
    ]
    assert any("insufficient credits; top up" in error["message"] for error in failures)


def test_the_run_after_it_pays_only_for_the_rest(product, story):
    _, api, _, _ = product
    _, bills = story
    assert 0 < bills["finished"] - bills["refused"] <= ROWS - 1000
    assert api.charged_twice() == 0


def test_the_page_shows_figures_schema_lineage_and_fill_rates(product, story):
    server, _, _, _ = product
    runs, bills = story
    (made,) = server.figures("assetMaterializations", runs["finished"])
    assert made["dagster/row_count"]["intValue"] == ROWS
    assert made["exactbuyer/credits_charged"]["intValue"] == bills["finished"] - bills["refused"]
    assert 0 < made["exactbuyer/match_rate"]["floatValue"] < 1
    columns = {column["name"]: column for column in made["dagster/column_schema"]["schema"]["columns"]}
    assert columns["eb_job_title"]["description"] == "Current job title."
    assert columns["LeadId"]["type"]
    lineage = {
        column["columnName"]: column["columnDeps"] for column in made["dagster/column_lineage"]["lineage"]
    }
    assert {dependency["columnName"] for dependency in lineage["eb_job_title"]} == {
        "LinkedIn",
        "Email",
        "Phone",
    }
    assert "| eb_full_name |" in made["exactbuyer/fill_rates"]["mdStr"]
    # Longer ones hide behind a click.
    assert all(len(made[f"exactbuyer/{name}"]["mdStr"]) < 1000 for name in ("picture", "found_by"))


def test_figures_are_numbers_which_the_page_plots(product, story):
    server, _, _, _ = product
    runs, _ = story
    (made,) = server.figures("assetMaterializations", runs["finished"])
    numbers = {
        name for name, entry in made.items() if entry and ("intValue" in entry or "floatValue" in entry)
    }
    assert {f"exactbuyer/{name}" for name in ("match_rate", "credits_charged", "seconds")} <= numbers
    # More of them than this, and those that move are not found among those that do not.
    assert len(numbers) < 20


def test_each_figure_is_a_number_of_one_kind_in_every_materialization(product, story, prefilled):
    server, _, _, _ = product
    runs, _ = story
    _, again = prefilled
    kinds = [
        {
            name: "int" if "intValue" in entry else "float"
            for name, entry in made.items()
            if name.startswith("exactbuyer/") and ("intValue" in entry or "floatValue" in entry)
        }
        for run in (runs["finished"], again)
        for made in server.figures("assetMaterializations", run)
    ]
    assert len(kinds) == 2
    assert kinds[0] == kinds[1]
    assert kinds[0]["exactbuyer/match_rate"] == "float"
    assert kinds[0]["exactbuyer/credits_charged"] == "int"


def test_every_check_has_a_verdict(product, story):  # noqa: ARG001
    server, _, _, _ = product
    checks = server.ask(CHECKS, key=KEYED)["assetChecksOrError"]["checks"]
    found = {
        check["name"]: check["executionForLatestMaterialization"]["evaluation"]["success"] for check in checks
    }
    wanted = (
        "everything_asked",
        "match_rate",
        "match_rate_history",
        "nothing_in_doubt",
        "one_row_each",
        "schema_drift",
    )
    assert found == dict.fromkeys(wanted, True)


def test_the_resource_page_masks_the_key(product):
    server, _, _, _ = product
    details = server.ask(RESOURCE, s={**SELECTOR, "resourceName": "exactbuyer"})
    values = {entry["key"]: entry for entry in details["configuredValues"]}
    assert (values["api_key"]["type"], values["api_key"]["value"]) == ("ENV_VAR", "EXACTBUYER_API_KEY")
    assert {field["name"] for field in details["configFields"] if field["description"]} >= {
        "api_key",
        "ledger",
        "base_url",
    }


def test_the_launchpad_offers_budget_dry_run_and_age_alone(product):
    server, _, _, _ = product
    selector = {**SELECTOR, "pipelineName": "enrich_contacts"}
    schema = server.ask(LAUNCHPAD, selector=selector)
    offered = [
        {field["name"] for field in type_["fields"]}
        for type_ in schema["allConfigTypes"]
        if "dry_run" in {field["name"] for field in type_.get("fields", ())}
    ]
    assert offered == [{"max_credits", "dry_run", "max_age_days"}]


def test_a_browser_launches_the_asset_and_shows_what_came_of_it(product, story, page):
    server, api, _, _ = product
    runs, bills = story
    asset = f"{server.url}/assets/enriched_contacts"
    page.open(f"{asset}?view=overview")
    shown = page.wait_for("eb_job_title", "Current job title.", "leads")
    page.click("Materialize")
    before = {event["runId"] for event in server.ask(ASSET, key=KEYED)["assetMaterializations"]}
    launched = server.wait_for_another(before)
    assert server.wait(launched) == "SUCCESS"
    page.open(f"{asset}?view=overview")
    page.click("Plots")
    shown += page.wait_for("exactbuyer/credits_charged", "exactbuyer/match_rate")
    page.wait_until("[...document.querySelectorAll('canvas')].length > 10", "plots")
    page.open(f"{asset}?view=events")
    shown += page.wait_for(launched[:8], "exactbuyer/credits_charged", "exactbuyer/match_rate")
    page.open(f"{asset}?view=checks")
    shown += page.wait_for("match_rate", "nothing_in_doubt", "one_row_each", "schema_drift")
    page.open(
        f"{server.url}/locations/{SELECTOR['repositoryName']}@{SELECTOR['repositoryLocationName']}/resources/exactbuyer"
    )
    shown += page.wait_for("api_key", "EXACTBUYER_API_KEY")
    assert api.credits() == bills["finished"]
    assert KEY not in shown
    assert not re.search(r"canary\d+@", shown)
    assert launched not in runs.values()


def test_what_the_launchpad_prefills_runs_with_the_real_settings(product, story, prefilled):
    _, api, _, _ = product
    _, bills = story
    config, _ = prefilled
    resource = config["resources"]["exactbuyer"]["config"]
    assert (resource["api_key"], resource["ledger"]) == ("********", "********")
    # Another key would be refused, and another ledger would buy everything again.
    assert api.credits() == bills["finished"]


def test_a_browser_launches_what_the_launchpad_prefills(product, story, page):
    server, api, _, _ = product
    _, bills = story
    before = {event["runId"] for event in server.ask(ASSET, key=KEYED)["assetMaterializations"]}
    where = f"{SELECTOR['repositoryName']}@{SELECTOR['repositoryLocationName']}"
    page.open(f"{server.url}/locations/{where}/jobs/enrich_contacts")
    page.click("Materialize all", with_shift=True)
    shown = page.wait_for('api_key: "********"', 'ledger: "********"')
    page.click("Materialize")
    launched = server.wait_for_another(before)
    assert server.wait(launched) == "SUCCESS", server.ask(EVENTS, id=launched)
    sent = yaml.safe_load(server.ask(CONFIG, id=launched)["runConfigYaml"])
    assert sent["resources"]["exactbuyer"]["config"]["api_key"] == "********"
    assert api.credits() == bills["finished"]
    assert KEY not in shown


def test_neither_key_nor_people_are_in_answers_or_logs(product, story):
    server, _, data, folder = product
    runs, _ = story
    for run in runs.values():
        server.ask(EVENTS, id=run)
    people = pd.read_parquet(
        data / "enriched_contacts.parquet", columns=["eb_full_name", "eb_work_email", "eb_phone"]
    )
    known = {text for name in people for text in people[name].dropna().head(200)}
    stored = [
        file for file in (folder / "home").rglob("*") if file.is_file() and "storage/leads" not in str(file)
    ]
    texts = [
        *server.said,
        (folder / "dev.log").read_text(),
        *(file.read_bytes().decode("latin-1") for file in stored),
    ]
    assert sum(map(len, texts)) > 10_000
    for text in texts:
        assert KEY not in text
        assert not re.search(r"canary\d+@", text)
        assert not {value for value in known if len(value) > 6 and value in text}
