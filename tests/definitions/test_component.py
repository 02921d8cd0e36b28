import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from dagster.components.testing import create_defs_folder_sandbox
from dagster_dg_cli.cli import create_dg_cli
from pydantic import ValidationError

from eb_dagster import (
    ConfigError,
    ContactTablesComponent,
    EnrichedContactsComponent,
    ExactBuyerResource,
    ExactBuyerResourceComponent,
)

# Dagster's own, when it reads a defs.yaml.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
TYPE = "eb_dagster.EnrichedContactsComponent"
LEAST = {"asset": {"key": "enriched"}, "source": "leads", "path": "out.parquet"}


@dg.asset
def leads():
    return pd.DataFrame({"Mail": [f"p{number}@firm.example" for number in range(20)]})


class OnlyTheFirstFive(EnrichedContactsComponent):
    """Overrides what is made to be overridden."""

    def get_asset_spec(self):
        return super().get_asset_spec().merge_attributes(tags={"trial": "yes"})

    def execute(self, context, enrichment, identifiers):
        context.log.info("five only")
        yield from super().execute(context, enrichment, identifiers.head(5))


@contextmanager
def loaded(
    *attributes: dict[str, Any], component: type = EnrichedContactsComponent
) -> Iterator[tuple[Path, dg.Definitions]]:
    """The definitions that `dg` loads from a defs.yaml for each of these."""
    with create_defs_folder_sandbox() as project:
        for each in attributes:
            contents = {"type": f"{component.__module__}.{component.__name__}", "attributes": each}
            project.scaffold_component(component, defs_yaml_contents=contents)
        with project.build_all_defs() as defs:
            yield project.project_root, defs


def materialize(defs: dg.Definitions, api, tmp_path, **keywords):
    resource = ExactBuyerResource(
        api_key="key", base_url=api.url, ledger=str(tmp_path / "l.db"), requests_per_minute=60_000
    )
    enriched: Any = defs.assets
    return dg.materialize(
        [leads, *enriched], resources={"exactbuyer": resource, "sandbox": resource}, **keywords
    )


def only_asset(defs: dg.Definitions) -> dg.AssetsDefinition:
    (asset,) = list(defs.assets or [])
    assert isinstance(asset, dg.AssetsDefinition)
    return asset


def test_it_buys_into_a_parquet_table_of_the_project(stand_in, tmp_path):
    attributes = {
        **LEAST,
        "path": "data/out.parquet",
        "identifiers": {"email": ["Mail"]},
        "columns": ["job_title"],
    }
    with loaded(attributes) as (root, defs):
        assert materialize(defs, stand_in(), tmp_path).success
        table = pq.read_table(root / "data" / "out.parquet")
    assert table.num_rows == 20
    assert "eb_job_title" in table.column_names
    assert "eb_city" not in table.column_names


def test_every_attribute_reaches_the_asset():
    attributes = {
        "asset": {
            "key": "crm/enriched", "deps": ["other"], "group_name": "sales", "owners": ["team:data"],
            "tags": {"tier": "gold"}, "kinds": ["gold"], "description": "All.", "code_version": "v7",
            "metadata": {"cost": "high"}, "automation_condition": "{{ dg.AutomationCondition.eager() }}",
            "freshness_policy": "{{ dg.FreshnessPolicy.cron('0 9 * * *', datetime.timedelta(hours=2)) }}",
            "partitions_def": {"type": "daily", "start_date": "2026-01-01"},
        },
        "source": "crm/leads", "path": None, "io_manager_key": "warehouse", "resource_key": "sandbox",
        "identifiers": {"social_profile": "LinkedIn", "email": ["Work", "Home"]},
        "required_fields": ["work_email"], "default_region": "DE", "max_credits": 5, "over_budget": "refuse",
        "max_age_days": 90, "retry_misses_after_days": 30, "partition_size": 500, "aliases": ["email"],
        "prefix": "x_", "columns": ["city"], "checks": {"nothing_in_doubt": None},
        "op": {"pool": "exactbuyer", "tags": {"cpu": "2"}, "backfill_policy": {"type": "single_run"}},
        "max_retries": 3,
    }  # fmt: skip
    with loaded(attributes) as (_, defs):
        asset = only_asset(defs)
    (spec,) = asset.specs
    assert spec.key == dg.AssetKey(["crm", "enriched"])
    assert {dependency.asset_key.to_user_string() for dependency in spec.deps} == {"crm/leads", "other"}
    assert (spec.group_name, spec.owners, spec.tags["tier"], spec.kinds) == (
        "sales",
        ["team:data"],
        "gold",
        {"gold"},
    )
    assert isinstance(spec.partitions_def, dg.DailyPartitionsDefinition)
    assert spec.automation_condition is not None
    assert spec.metadata["dagster/io_manager_key"] == "warehouse"
    columns = spec.metadata["dagster/column_schema"].columns
    assert {column.name for column in columns} >= {"x_city", "x_matched"}
    assert asset.op.pool == "exactbuyer"
    assert asset.op.retry_policy.max_retries == 3
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    assert "sandbox" in asset.required_resource_keys
    assert "nothing_in_doubt" not in {spec.name for spec in asset.check_specs}


@pytest.mark.parametrize("name", ["max_age_days", "retry_misses_after_days"])
@pytest.mark.parametrize("age", [0, -1])
def test_an_age_that_is_none_is_refused_where_the_definitions_load(name, age):
    with pytest.raises(Exception, match="while building") as caught, loaded({**LEAST, name: age}):
        raise AssertionError
    assert isinstance(caught.value.__cause__, ConfigError)
    assert f"{name} is {age}; choose a number of days above 0, such as 90" in str(caught.value.__cause__)


def test_columns_are_named_by_their_kind_and_a_cost_center_pays(stand_in, tmp_path):
    attributes = {**LEAST, "email": "Mail", "cost_center": "sales"}
    with loaded(attributes) as (_, defs):
        assert only_asset(defs).tags_by_key[dg.AssetKey("enriched")]["cost_center"] == "sales"
        result = materialize(defs, stand_in(match_rate=1.0), tmp_path)
    metadata = result.asset_materializations_for_node("enriched")[0].metadata
    assert metadata["exactbuyer/credits_charged"].value == 20
    assert metadata["exactbuyer/cost_center"].value == "sales"
    with (
        pytest.raises(Exception, match="while building") as caught,
        loaded({**attributes, "identifiers": {}}),
    ):
        raise AssertionError
    assert "identifiers and email both name columns" in str(caught.value.__cause__)


MISSPELT = [
    ({"max_credit": 5}, "max_credit at", "there is no field 'max_credit'. Did you mean 'max_credits'?"),
    (
        {"checks": {"match_rat": {}}},
        "match_rat at",
        "there is no field 'match_rat'. Did you mean 'match_rate'?",
    ),
    ({"checks": {"match_rate": {"mn": 0.1}}}, "mn at", "there is no field 'mn'. Did you mean 'min'?"),
    ({"colour": "red"}, "colour at", "there is no field 'colour'; choose from ['aliases', "),
]


@pytest.mark.parametrize(("attributes", "place", "message"), MISSPELT)
def test_a_misspelt_field_is_told_with_its_line_and_what_was_meant(attributes, place, message):
    with pytest.raises(ValidationError) as caught:
        EnrichedContactsComponent.resolve_from_dict({**LEAST, **attributes})
    told = str(caught.value)
    assert place in told
    assert message in told


def test_the_other_components_tell_it_too():
    with pytest.raises(ValidationError, match="Did you mean 'api_key_env'"):
        ExactBuyerResourceComponent.resolve_from_dict({"api_key_en": "SOME_KEY"})
    with pytest.raises(ValidationError, match="Did you mean 'dataset'"):
        ContactTablesComponent.resolve_from_dict({"source": "a", "path": "b", "datset": "c"})


def test_several_live_in_one_project_and_bring_no_resource(stand_in, tmp_path):
    more = {**LEAST, "asset": {"key": "more"}, "path": "more.parquet", "resource_key": "sandbox"}
    both = [{**attributes, "identifiers": {"email": "Mail"}} for attributes in (LEAST, more)]
    with loaded(*both) as (_, defs):
        assert not defs.resources
        api = stand_in()
        assert materialize(defs, api, tmp_path).success
        assert api.charged_twice() == 0


def test_execute_and_the_spec_can_be_overridden(stand_in, tmp_path):
    attributes = {**LEAST, "identifiers": {"email": "Mail"}}
    with loaded(attributes, component=OnlyTheFirstFive) as (root, defs):
        asset = only_asset(defs)
        assert next(iter(asset.specs)).tags["trial"] == "yes"
        assert materialize(defs, stand_in(), tmp_path).success
        assert pq.read_metadata(root / "out.parquet").num_rows == 5


def test_every_field_says_what_it_is():
    schema = EnrichedContactsComponent.get_model_cls().model_json_schema()
    checks = schema["$defs"]["MatchRateModel"]["properties"]
    silent = [
        name for name, field in {**schema["properties"], **checks}.items() if "description" not in field
    ]
    assert silent in ([], ["asset"]), "Dagster keeps the description of an asset's own attributes"


# As `dg` sees it


@pytest.fixture
def dg_in_project(tmp_path, monkeypatch):
    """Run `dg` in an empty project, in this process."""
    project = tmp_path / "project"
    package = project / "src" / "my_project"
    (package / "defs").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "defs" / "__init__.py").touch()
    (project / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "my_project"\n'
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project / "src"))

    def run(*words: str):
        return CliRunner().invoke(create_dg_cli(), list(words))

    yield run, package / "defs"
    for name in [name for name in sys.modules if name.startswith("my_project")]:
        del sys.modules[name]


def test_dg_scaffolds_one_that_is_valid(dg_in_project):
    run, defs = dg_in_project
    done = run("scaffold", "defs", TYPE, "buyers", "--source", "crm/leads")
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((defs / "buyers" / "defs.yaml").read_text())
    assert written["attributes"]["asset"]["key"] == "buyers"
    assert written["attributes"]["source"] == "crm/leads"
    assert "dry_run" in (defs / "buyers" / "defs.yaml").read_text()
    asked = run(
        "scaffold", "defs", TYPE, "asked", "--source", "leads_table", "--email", "Mail", "--phone", "Cell",
        "--query", "SELECT * FROM leads", "--connection-env", "CRM",
    )  # fmt: skip
    assert asked.exit_code == 0, asked.output
    written = yaml.safe_load((defs / "asked" / "defs.yaml").read_text())["attributes"]
    assert written["identifiers"] == {"email": "Mail", "phone": "Cell"}
    assert (written["query"], written["connection_env"]) == ("SELECT * FROM leads", "CRM")
    checked = run("check", "yaml")
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("path", [("max_credits", "max_credit"), ("severity", "severty")])
def test_dg_names_a_misspelt_field(dg_in_project, path):
    run, defs = dg_in_project
    right, wrong = path
    attributes = {**LEAST, "max_credits": 5, "checks": {"match_rate": {"severity": "WARN"}}}
    text = yaml.safe_dump({"type": TYPE, "attributes": attributes}).replace(right, wrong)
    (defs / "buyers").mkdir()
    (defs / "buyers" / "defs.yaml").write_text(text)
    checked = run("check", "yaml")
    assert checked.exit_code == 1
    assert wrong in checked.output


@pytest.mark.parametrize("age", [0, -1])
def test_dg_names_an_age_that_is_none(dg_in_project, age):
    run, defs = dg_in_project
    (defs / "buyers").mkdir()
    attributes = {**LEAST, "max_age_days": age, "retry_misses_after_days": None}
    (defs / "buyers" / "defs.yaml").write_text(yaml.safe_dump({"type": TYPE, "attributes": attributes}))
    checked = run("check", "yaml")
    assert checked.exit_code == 1
    assert "max_age_days" in checked.output


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_credits": -1}, "max_credits"),
        ({"default_region": "Germany"}, "default_region"),
        ({"partition_size": 2000}, "partition_size"),
        ({"over_budget": "never"}, "over_budget"),
        ({"identifiers": {"mail": "Mail"}}, "identifiers"),
    ],
)
def test_dg_shows_where_a_wrong_value_stands(dg_in_project, wrong, named):
    run, defs = dg_in_project
    (defs / "buyers").mkdir()
    text = yaml.safe_dump({"type": TYPE, "attributes": {**LEAST, **wrong}}, sort_keys=False)
    (defs / "buyers" / "defs.yaml").write_text(text)
    line = next(number for number, words in enumerate(text.splitlines(), 1) if named in words)
    checked = run("check", "yaml")
    assert checked.exit_code == 1
    assert f"defs.yaml:{line}" in checked.output, checked.output


def test_dg_lists_it(dg_in_project):
    run, _ = dg_in_project
    assert TYPE in run("list", "components", "--json").output
