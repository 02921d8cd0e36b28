import json
import re
import warnings
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from click.testing import CliRunner
from dagster_graphql.cli import ui as graphql

from eb_dagster import ConfigError, ExactBuyerResource

KEY = "canary-key-5678"
# What Dagster's pages show in place of a secret, and send back when they launch a run.
MASK = "********"
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
    assert KEY not in repr(ExactBuyerResource(api_key=KEY, ledger="/l.db", proxy=f"http://me:{KEY}@h:1"))


def test_a_ledger_has_to_be_named():
    without: dict[str, Any] = {"api_key": KEY}
    with pytest.raises(ValueError, match="ledger"):
        ExactBuyerResource(**without)


@pytest.mark.parametrize("act", [ExactBuyerResource, ExactBuyerResource.configure_at_launch])
def test_a_misspelt_setting_is_refused_as_a_cap_would_not_hold(act):
    with pytest.raises(
        ConfigError,
        match=r"no setting \['max_credit_per_day'\]; check the spelling. Did you mean 'max_credits_per_day'",
    ):
        act(api_key=dg.EnvVar("SOME_KEY"), ledger=dg.EnvVar("SOME_LEDGER"), max_credit_per_day=5)


@pytest.mark.parametrize("act", [ExactBuyerResource, ExactBuyerResource.configure_at_launch])
def test_yes_is_no_number(act):
    with pytest.raises(ConfigError, match="timeout of the resource is true or false; give a number"):
        act(api_key=dg.EnvVar("SOME_KEY"), ledger=dg.EnvVar("SOME_LEDGER"), timeout=True)


def test_it_works_outside_a_run(resource):
    with (
        resource.enricher(max_credits=3) as first,
        resource.process_config_and_initialize().enricher() as second,
    ):
        assert first.report.rows == second.report.rows == 0


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


@pytest.mark.parametrize(
    "masked", [["api_key"], ["ledger"], ["api_key", "ledger"], ["api_key", "ledger", "base_url"]]
)
def test_what_the_launchpad_masks_is_as_defined(resource, tmp_path, masked):
    launched = {**FROM_ENVIRONMENT, "base_url": {"env": "SOME_URL"}, **dict.fromkeys(masked, MASK)}
    used = run_with(resource, {**launched, "in_doubt": "resend"})
    assert (used.api_key, used.ledger) == (KEY, str(tmp_path / "ledger.db"))
    assert (used.base_url, used.in_doubt) == ("http://127.0.0.1:9", "resend")


@pytest.mark.filterwarnings("ignore:api_key of the resource is written in the code")
def test_a_mask_stands_for_what_is_written_in_code_too(tmp_path):
    written = ExactBuyerResource(api_key=KEY, ledger=str(tmp_path / "l.db"))
    used = run_with(written, {"api_key": MASK, "ledger": MASK})
    assert (used.api_key, used.ledger) == (KEY, str(tmp_path / "l.db"))


def test_a_mask_stands_for_what_a_resource_leaves_to_the_launch_only_in_part(resource, tmp_path):
    partial = type(resource).configure_at_launch(ledger=dg.EnvVar("SOME_LEDGER"))
    used = run_with(partial, {"api_key": {"env": "SOME_KEY"}, "ledger": MASK})
    assert (used.api_key, used.ledger) == (KEY, str(tmp_path / "ledger.db"))
    with pytest.raises(dg.DagsterError) as caught:
        run_with(partial, {"api_key": MASK, "ledger": MASK})
    assert_says(caught.value.__cause__, "api_key", "dg.EnvVar")


def test_a_mask_whose_variable_is_not_set_names_the_variable(resource, monkeypatch):
    monkeypatch.delenv("SOME_LEDGER")
    launched = {"api_key": MASK, "ledger": MASK, "base_url": {"env": "SOME_URL"}}
    with pytest.raises(dg.DagsterError) as caught:
        run_with(resource, launched)
    assert_says(caught.value.__cause__, "SOME_LEDGER", "set it")


@pytest.mark.parametrize("name", ["api_key", "ledger"])
def test_a_mask_that_was_copied_into_the_code_is_no_setting(tmp_path, name):
    written: dict[str, Any] = {"api_key": KEY, "ledger": str(tmp_path / "l.db"), name: MASK}
    with pytest.raises(ConfigError, match=f"{name} is .*dg.EnvVar"):
        ExactBuyerResource(**written).enricher()


def assert_says(error, *words):
    assert isinstance(error, ConfigError)
    assert all(word in str(error) for word in words), error
    assert KEY not in str(error)


# What is written in code


@dg.asset(required_resource_keys={"exactbuyer"})
def looked_at(): ...


def used(**written):
    """Define the resource as a project does, and run something that takes it; give the warnings."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        exactbuyer = ExactBuyerResource(**written)
        assert dg.materialize([looked_at], resources={"exactbuyer": exactbuyer}).success
        exactbuyer.process_config_and_initialize()
    return warned


FROM_VARIABLES: dict[str, Any] = {"api_key": dg.EnvVar("SOME_KEY"), "ledger": dg.EnvVar("SOME_LEDGER")}


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ({}, None),
        ({"api_key": KEY}, "api_key"),
        ({"ledger": f"postgresql://me:{KEY}@host/db"}, "ledger"),
        ({"ledger": f"postgresql://host/db?password={KEY}"}, "ledger"),
        ({"api_key": KEY, "ledger": f"postgresql://me:{KEY}@host/db"}, "api_key, ledger"),
        ({"ledger": "postgresql://me@host/db"}, None),
        ({"ledger": "postgresql:///db?host=/run/postgresql"}, None),
        ({"ledger": "/data/ledger.db"}, None),
        ({"ledger": "~/ledger.db"}, None),
    ],
)
def test_a_secret_that_is_written_in_code_is_warned_of_once(written, named, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("SOME_LEDGER", str(tmp_path / "ledger.db"))
    warned = used(**{**FROM_VARIABLES, **written})
    assert len(warned) == (named is not None)
    for warning in warned:
        assert str(warning.message).startswith(f"{named} of the resource is written in the code")
        assert KEY not in str(warning.message)
        # Where it is written.
        assert warning.filename == __file__


def test_a_secret_that_a_partial_resource_writes_in_code_is_warned_of_too():
    with pytest.warns(UserWarning, match="api_key of the resource is written") as warned:
        ExactBuyerResource.configure_at_launch(api_key=KEY)
    assert KEY not in str(warned[0].message)


@pytest.mark.filterwarnings("ignore:api_key of the resource is written in the code")
def test_dagster_does_keep_what_is_written_in_code(tmp_path):
    resource = ExactBuyerResource(api_key=KEY, ledger=str(tmp_path / "l.db"))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert dg.materialize([looked_at], resources={"exactbuyer": resource}, instance=instance).success
        (run,) = instance.get_runs()
        assert KEY in str(instance.get_job_snapshot(str(run.job_snapshot_id)))


KEY_FROM_VARIABLE: dict[str, Any] = {"api_key": dg.EnvVar("SOME_KEY")}


@pytest.mark.parametrize("prefix", ["", "./", "sqlite:///", "sqlite+pysqlite:///"])
@pytest.mark.parametrize(
    "act",
    [
        lambda ledger: ExactBuyerResource(**KEY_FROM_VARIABLE, ledger=ledger),
        lambda ledger: ExactBuyerResource.configure_at_launch(**KEY_FROM_VARIABLE, ledger=ledger),
        lambda _: ExactBuyerResource(**FROM_VARIABLES).enricher(),
    ],
    ids=["defined", "defined in part", "in the environment"],
)
def test_a_relative_ledger_is_refused_with_the_absolute_path(prefix, act, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("SOME_LEDGER", f"{prefix}data/ledger.db")
    with pytest.raises(ConfigError, match=f"such as {re.escape(str(tmp_path))}/data/ledger.db. Nothing"):
        act(f"{prefix}data/ledger.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("per_day", [3, dg.EnvVar.int("SOME_CAP")], ids=["written", "variable"])
def test_it_carries_the_budgets_of_day_and_month(stand_in, tmp_path, monkeypatch, per_day):
    monkeypatch.setenv("SOME_CAP", "3")
    api = stand_in()
    resource = ExactBuyerResource(
        api_key=KEY, base_url=api.url, ledger=str(tmp_path / "l.db"), requests_per_minute=60_000,
        max_credits_per_day=per_day, max_credits_per_month=9,
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
    values = {entry["key"]: entry["value"] for entry in details["configuredValues"]}
    assert values["api_key"] == values["ledger"] == values["proxy"] == "********"
    assert KEY not in shown.output
