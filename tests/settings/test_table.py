"""The table of settings, and all the places that offer a setting: each says what the table says."""

import dataclasses
import inspect
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic_core import PydanticUndefined

from eb_dagster import EnrichedContactsComponent, Enricher, ExactBuyerResource, LaunchConfig
from eb_dagster.cli import main
from eb_dagster.contacts.schema import ListsChoice
from eb_dagster.definitions.assets import AssetKeywords
from eb_dagster.definitions.table_components import ExactBuyerResourceComponent
from eb_dagster.identifiers.model import FieldType
from eb_dagster.settings import (
    KIND_KEYWORDS,
    SETTINGS,
    AssetOptions,
    EnricherOptions,
    ResourceOptions,
    Settings,
    keyword_defaults,
    read_settings,
)
from eb_dagster.settings.checks import Choice

NAMES = set(SETTINGS)
OWN_COMPONENT_FIELDS = {
    "asset",
    "source",
    "path",
    "social_profile",
    "email",
    "phone",
    "cost_center",
    "query",
    "connection_env",
    "connection_resource",
    "io_manager_key",
    "resource_key",
    "checks",
    "op",
    "max_retries",
}
# In YAML, what may be secret is named by its variable.
OF_VARIABLES = {"api_key", "ledger", "base_url", "proxy"}
OWN_RESOURCE_COMPONENT_FIELDS = {"resource_key", *(f"{name}_env" for name in OF_VARIABLES)}
OWN_LAUNCH_FIELDS = {"dry_run"}
OWN_SHELL_OPTIONS = {
    "--config",
    "--query",
    "--connection",
    "--sheet",
    "--encoding",
    "--separator",
    "--header-line",
    "--json",
    "--output",
    "--format",
    "--update",
    "--into",
    "--dataset",
    "--key",
    "--report",
    "--confirm-above",
    "--yes",
    "--force",
}
TYPES = get_type_hints(EnricherOptions, localns={"ListsChoice": ListsChoice, "FieldType": FieldType})


def words(text: str | None) -> str:
    return " ".join((text or "").split())


def shell_options():
    options = [
        parameter for parameter in main.commands["enrich"].params if parameter.param_type_name == "option"
    ]
    return {max(option.opts, key=len): option for option in options}


def is_member(value: object, kind: Any) -> bool:
    """Whether a default has the type that is declared, as far as that can be told."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    members = get_args(kind) if isinstance(kind, type(int | None)) or get_origin(kind) is Union else (kind,)
    return any(
        is_member(value, member)
        if get_origin(member) is Literal
        else isinstance(value, get_origin(member) or member)
        for member in members
    )


def test_the_table_the_keywords_and_the_checked_settings_have_the_same_names():
    assert set(EnricherOptions.__annotations__) == NAMES | set(KIND_KEYWORDS)
    assert {field.name for field in dataclasses.fields(Settings)} == NAMES


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_a_default_has_the_type_and_the_choices_of_its_keyword(setting):
    assert is_member(setting.default, TYPES[setting.name])
    if isinstance(setting.check, Choice):
        assert setting.check.choices == get_args(TYPES[setting.name])
    assert (setting.unset is not None) == (setting.default is None)


def test_enricher_documents_every_setting_as_the_table_does():
    defaults = keyword_defaults()
    assert {name: it.default for name, it in inspect.signature(Enricher).parameters.items()} == defaults
    texts = {**KIND_KEYWORDS} | {setting.name: setting.description for setting in SETTINGS.values()}
    arguments = (Enricher.__doc__ or "").partition("Args:")[2].partition("Raises:")[0]
    told = " ".join(f"{name}: {texts[name]}" for name in defaults)
    assert words(arguments) == words(told)


def test_the_resource_has_the_settings_of_a_project():
    fields = ExactBuyerResource.model_fields
    assert set(fields) == set(ResourceOptions.__annotations__)
    for name, field in fields.items():
        setting = SETTINGS[name]
        assert field.default == (PydanticUndefined if field.is_required() else setting.default)
        assert words(field.description).startswith(
            setting.help if field.is_required() else setting.description
        )
        assert field.repr is not setting.is_secret
        assert bool((field.json_schema_extra or {}).get("dagster__is_secret")) is setting.is_secret


def test_the_component_of_the_resource_has_the_settings_of_the_resource():
    plain = set(ExactBuyerResource.model_fields) - OF_VARIABLES
    assert not any(SETTINGS[name].is_secret for name in plain)
    schema = ExactBuyerResourceComponent.get_model_cls().model_json_schema()["properties"]
    assert set(schema) == {*plain, *OWN_RESOURCE_COMPONENT_FIELDS}
    types, of_the_resource = map(get_type_hints, (ExactBuyerResourceComponent, ExactBuyerResource))
    for name in plain:
        assert schema[name]["description"] == SETTINGS[name].description
        # Not given: the default is the resource's own.
        assert schema[name]["default"] is None
        assert types[name] == of_the_resource[name] | None


def test_the_asset_factory_and_the_component_have_the_settings_of_a_table():
    of_a_table = {SETTINGS[name].plain_name: SETTINGS[name] for name in AssetOptions.__annotations__}
    assert set(AssetOptions.__annotations__) <= set(AssetKeywords.__annotations__)
    schema = EnrichedContactsComponent.get_model_cls().model_json_schema()["properties"]
    assert set(schema) == {*of_a_table, *OWN_COMPONENT_FIELDS}
    for name, setting in of_a_table.items():
        default = EnrichedContactsComponent.model_fields[name].default
        assert default == setting.default
        assert schema[name]["description"] == setting.description


def test_whoever_launches_a_run_has_the_settings_that_the_table_offers_at_launch():
    fields = LaunchConfig.model_fields
    offered = {setting.plain_name: setting for setting in SETTINGS.values() if setting.is_offered_at_launch}
    assert set(fields) == {*offered, *OWN_LAUNCH_FIELDS}
    for name, setting in offered.items():
        assert fields[name].default is None
        assert words(fields[name].description).startswith(setting.help)


def test_the_shell_has_the_flags_of_the_table():
    options = shell_options()
    flags = {flag: setting for setting in SETTINGS.values() for flag in setting.flags}
    assert set(options) == {*flags, *OWN_SHELL_OPTIONS}
    for flag, setting in flags.items():
        if len(setting.flags) == 1 and setting.default:
            assert options[flag].default == setting.default


def test_a_number_of_days_has_the_same_name_everywhere():
    ages = {setting.plain_name for setting in SETTINGS.values() if setting.plain_name != setting.name}
    assert ages == {"max_age_days", "retry_misses_after_days"}
    assert ages <= set(EnrichedContactsComponent.model_fields)
    assert {f"--{age.replace('_', '-')}" for age in ages} <= set(shell_options())


def test_a_misspelt_keyword_is_refused_with_the_right_spelling():
    misspelt: Any = {"max_credit": 5}
    with pytest.raises(TypeError, match="no setting 'max_credit'; did you mean max_credits"):
        Enricher(api_key="k", **misspelt)


def test_no_repr_of_settings_shows_a_secret():
    settings = read_settings(
        api_key="canary", ledger="postgresql://me:canary@h/b", proxy="http://u:canary@h:1"
    )
    assert "canary" not in repr(settings)
