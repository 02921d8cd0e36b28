import json

import dagster as dg
import pandas as pd
import pytest
from click.testing import CliRunner
from dagster_graphql.cli import ui as graphql

from eb_dagster import ConfigError, ExactBuyerResource

KEY = "canary-key-5678"
FROM_ENVIRONMENT = {"api_key": {"env": "SOME_KEY"}, "ledger": {"env": "SOME_LEDGER"}}


@pytest.fixture
def resource(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("SOME_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SOME_LEDGER", str(tmp_path / "ledger.db"))
    return ExactBuyerResource(
        api_key=dg.EnvVar("SOME_KEY"), base_url=dg.EnvVar("SOME_URL"), ledger=dg.EnvVar("SOME_LEDGER")
    )


def run_with(resource, launched):
    seen = []

    @dg.op(required_resource_keys={"exactbuyer"})
    def look(context):
        seen.append(context.resources.exactbuyer)

    @dg.job(resource_defs={"exactbuyer": resource})
    def looking():
        look()

    config = {"resources": {"exactbuyer": {"config": launched}}} if launched else {}
    looking.execute_in_process(run_config=config)
    return seen[0]


def test_its_repr_shows_no_key(resource):
    assert KEY not in repr(resource)
    assert KEY not in repr(resource.process_config_and_initialize())
    assert KEY not in repr(ExactBuyerResource(api_key=KEY, ledger="l.db", proxy=f"http://me:{KEY}@h:1"))


def test_a_ledger_has_to_be_named():
    with pytest.raises(ValueError, match="ledger"):
        ExactBuyerResource(api_key=KEY)


def test_it_works_outside_a_run(resource):
    with resource.enricher(max_credits=3) as one, resource.process_config_and_initialize().enricher() as two:
        assert one.report.rows == two.report.rows == 0


def test_a_variable_that_is_not_set_is_named(resource, monkeypatch):
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(Exception, match="SOME_KEY"):
        resource.enricher()


def test_a_run_reads_the_environment_when_it_starts(resource, monkeypatch):
    monkeypatch.setenv("SOME_URL", "http://127.0.0.1:10")
    assert run_with(resource, {}).base_url == "http://127.0.0.1:10"


@pytest.mark.parametrize("name", ["api_key", "base_url", "ledger", "proxy", "ca_bundle"])
def test_nobody_sets_key_address_ledger_or_proxy_at_launch(resource, name):
    launched = {**FROM_ENVIRONMENT, "base_url": {"env": "SOME_URL"}, name: "https://elsewhere.example"}
    with pytest.raises(dg.DagsterError) as caught:
        run_with(resource, launched)
    assert isinstance(caught.value.__cause__, ConfigError)
    assert name in str(caught.value.__cause__)
    assert "elsewhere" not in str(caught.value.__cause__)


def test_nobody_falls_back_on_the_default_address_at_launch(resource):
    with pytest.raises(dg.DagsterError) as caught:
        run_with(resource, FROM_ENVIRONMENT)
    assert "base_url" in str(caught.value.__cause__)


def test_it_carries_the_budgets_of_day_and_month(stand_in, tmp_path):
    api = stand_in()
    resource = ExactBuyerResource(
        api_key=KEY, base_url=api.url, ledger=str(tmp_path / "l.db"), requests_per_minute=60_000,
        max_credits_per_day=3, max_credits_per_month=9,
    )  # fmt: skip
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(30)]})
    with resource.enricher() as enricher, pytest.warns(UserWarning, match="daily"):
        enricher.enrich_dataframe(frame)
    assert api.credits() == 3


def test_what_is_in_doubt_may_be_decided_at_launch(resource):
    launched = {**FROM_ENVIRONMENT, "base_url": {"env": "SOME_URL"}, "in_doubt": "resend"}
    assert run_with(resource, launched).in_doubt == "resend"


def test_the_page_shows_no_key_that_was_written_down(tmp_path, monkeypatch):
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    resource = f"ExactBuyerResource(api_key={KEY!r}, ledger='postgresql://me:{KEY}@host/db', proxy='http://me:{KEY}@h:1')"
    (tmp_path / "plain.py").write_text(
        "import dagster as dg\nfrom eb_dagster import ExactBuyerResource\n"
        f"defs = dg.Definitions(resources={{'exactbuyer': {resource}}})\n"
    )
    query = """{ topLevelResourceDetailsOrError(resourceSelector: {
      repositoryLocationName: "plain.py", repositoryName: "__repository__", resourceName: "exactbuyer"
    }) { ... on ResourceDetails { configuredValues { key value } } } }"""
    shown = CliRunner().invoke(graphql, ["-f", str(tmp_path / "plain.py"), "-t", query])
    assert shown.exit_code == 0, shown.output
    details = json.loads(shown.output[shown.output.index("{") :])["data"]["topLevelResourceDetailsOrError"]
    values = {one["key"]: one["value"] for one in details["configuredValues"]}
    assert values["api_key"] == values["ledger"] == values["proxy"] == "********"
    assert KEY not in shown.output
