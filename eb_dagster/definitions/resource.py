"""The Dagster resource: where the API is, whose key, which ledger."""

import inspect
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack, cast

import dagster as dg
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from eb_dagster.api.rate_limit import REQUESTS_PER_MINUTE
from eb_dagster.enricher import Enricher
from eb_dagster.errors import ConfigError, did_you_mean, shown_list
from eb_dagster.settings import SETTINGS, EnricherOptions, InDoubtChoice

_MASK = "********"
"""What Dagster's pages show in place of a secret, and send back when they launch a run."""
_ABSOLUTE = ("/", "~")


def _setting(name: str, note: str = "", *, is_required: bool = False) -> FieldInfo:
    """What Dagster's pages say about a field, from the table of settings."""
    setting = SETTINGS[name]
    help_text = setting.help if is_required else setting.description
    extra: JsonDict | None = {"dagster__is_secret": True} if setting.is_secret else None
    described: FieldInfo = Field(
        description=f"{help_text} {note}".strip(),
        # The address of a database or of a proxy may hold a password.
        repr=not setting.is_secret,
        json_schema_extra=extra,
    )
    return described


class ExactBuyerResource(dg.ConfigurableResource):  # pyright: ignore[reportMissingTypeArgument]
    """ExactBuyer's bulk enrichment API and the ledger that pays for a contact once.

    Key, address, ledger and proxy are the project's: a run that tries to set them at launch fails, and what
    the launchpad masks (********) stays as it is defined. Usable outside a run too, with the same
    `dg.EnvVar` values: `resource.enricher()`.
    """

    # A value of the wrong type may be the key, or a person.
    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: Annotated[
        str, _setting("api_key", "Use dg.EnvVar, so that it is read when a run starts.", is_required=True)
    ]
    ledger: Annotated[
        str,
        _setting(
            "ledger",
            "An absolute path or a URL. It has no default: a run in a fresh container with an empty ledger would "
            "pay for everything again.",
            is_required=True,
        ),
    ]
    base_url: Annotated[str | None, _setting("base_url")] = None
    proxy: Annotated[str | None, _setting("proxy")] = None
    ca_bundle: Annotated[str | None, _setting("ca_bundle")] = None
    requests_per_minute: Annotated[float, _setting("requests_per_minute")] = REQUESTS_PER_MINUTE
    max_credits_at_risk: Annotated[int, _setting("max_credits_at_risk")] = 20_000
    max_credits_per_day: Annotated[int | None, _setting("max_credits_per_day")] = None
    max_credits_per_month: Annotated[int | None, _setting("max_credits_per_month")] = None
    timeout: Annotated[float, _setting("timeout")] = 300.0
    in_doubt: Annotated[InDoubtChoice, _setting("in_doubt")] = "hold"
    price: Annotated[float | None, _setting("price")] = None

    # The type checker goes by the fields.
    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            _refuse_unknown(type(self), settings)
            super().__init__(**settings)
            # For a run, Dagster itself makes copies that hold the values of the environment.
            caller = inspect.currentframe().f_back.f_globals.get("__name__", "")
            if caller.partition(".")[0] != "dagster":
                _check_written(type(self), settings)

    @classmethod
    def configure_at_launch(cls, **kwargs: Any) -> Any:
        """The resource with the settings that are not given here to be given at each launch."""
        _refuse_unknown(cls, kwargs)
        _check_written(cls, kwargs)
        return cast("Any", super()).configure_at_launch(**kwargs)

    def enricher(self, **options: Unpack[EnricherOptions]) -> Enricher:
        """An `Enricher` with this key and ledger. Takes the keywords of `Enricher`."""
        if any(map(_is_variable, self._settings().values())):
            # Outside a run, nobody has read the environment yet.
            return cast("ExactBuyerResource", self.process_config_and_initialize()).enricher(**options)
        chosen: dict[str, Any] = {**self._settings(), **options}
        _refuse_masks(chosen)
        _refuse_relative(chosen["ledger"])
        return Enricher(**chosen)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Replace masked values by the defined ones. Refuse another key, address, ledger or proxy.

        Dagster lets whoever launches a run override any value of a resource. With another address, or a proxy
        and its certificate, the key and the people would go there; with another ledger, everything would be
        paid for again.
        """
        try:
            declared = context.resource_def.config_schema if context.resource_def else None
        except dg.DagsterInvariantViolationError:
            # Not in a run.
            return
        if declared is None:
            return
        defined = _defaults(declared)
        self._unmask(defined)
        # Without a default, the project left the settings to the launch.
        if declared.default_provided:
            self._refuse_changes(defined)

    def _unmask(self, defined: Mapping[str, Any]) -> None:
        masked = [name for name, value in self._settings().items() if value == _MASK and name in defined]
        # The resource is frozen, but this copy was made for the run, and nobody else has it yet.
        vars(self).update({name: _read(name, defined[name]) for name in masked})
        _refuse_masks(self._settings())

    def _refuse_changes(self, defined: Mapping[str, Any]) -> None:
        fixed = ("base_url", "ca_bundle", *_secrets(type(self)))
        changed = [name for name in fixed if getattr(self, name) != _read(name, defined.get(name))]
        if changed:
            raise ConfigError(
                f"{', '.join(changed)} cannot be set at launch, because the project's resource defines that; "
                "leave it out of the launch"
            )

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}


def _defaults(declared: Any) -> dict[str, Any]:
    """What the project's resource defines. An `EnvVar` is written as Dagster writes it."""
    fields = {
        name: json.loads(field.default_value_as_json_str)
        for name, field in declared.config_type.fields.items()
        if field.default_provided
    }
    return fields | (json.loads(declared.default_value_as_json_str) if declared.default_provided else {})


def _read(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    variable = cast("dict[str, str]", value)["env"]
    if variable not in os.environ:
        raise ConfigError(
            f"{name} comes from the environment variable {variable}, which is not set where this run is; "
            "set it there"
        )
    return os.environ[variable]


def _is_variable(value: object) -> bool:
    # Dagster does not export the type of `EnvVar.int`.
    return isinstance(value, dg.EnvVar | type(dg.EnvVar.int("")))


def _secrets(resource: type[ExactBuyerResource]) -> list[str]:
    extras: dict[str, Any] = {name: field.json_schema_extra for name, field in resource.model_fields.items()}
    return [name for name, extra in extras.items() if extra and extra.get("dagster__is_secret")]


def _refuse_unknown(resource: type[ExactBuyerResource], settings: Mapping[str, Any]) -> None:
    """Refuse a misspelt setting, which Dagster takes and forgets: a cap would not hold."""
    fields = sorted(resource.model_fields)
    unknown = sorted(settings.keys() - {*fields})
    if unknown:
        meant = did_you_mean(unknown, fields)
        choices = f"; check the spelling{meant}" if meant else f"; choose from {fields}"
        raise ConfigError(f"the resource has no setting {shown_list(unknown)}{choices}")


def _check_written(resource: type[ExactBuyerResource], settings: Mapping[str, Any]) -> None:
    """Check the values that are written in the code: refuse wrong ones, and warn about secrets."""
    written = {name: value for name, value in settings.items() if not _is_variable(value)}
    _refuse_masks(written)
    _refuse_yes_or_no(resource, written)
    if "ledger" in written:
        _refuse_relative(written["ledger"])
    secrets = [name for name in _secrets(resource) if _holds_secret(written.get(name))]
    if secrets:
        warnings.warn(
            f"{', '.join(secrets)} of the resource is written in the code, and Dagster keeps it, readable, "
            'in its database; give it as dg.EnvVar("NAME"), the name of an environment variable',
            stacklevel=3,
        )


def _refuse_yes_or_no(resource: type[ExactBuyerResource], settings: Mapping[str, Any]) -> None:
    """Refuse true and false for numbers: pydantic reads them as 1 and 0, and a cap of 1 is a small one."""
    wrong = [
        name
        for name, value in settings.items()
        if isinstance(value, bool) and "bool" not in str(resource.model_fields[name].annotation)
    ]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)} of the resource is true or false; give a number, or leave it out"
        )


def _holds_secret(value: object) -> bool:
    """Whether a text may be a key or hold a password. Paths, and addresses without a password, do not."""
    if not isinstance(value, str) or value.startswith(_ABSOLUTE):
        return False
    return "://" not in value or re.search(r"://[^/@]*:.*@|passw", value) is not None


def _refuse_masks(settings: Mapping[str, Any]) -> None:
    masked = [name for name, value in settings.items() if value == _MASK]
    if masked:
        raise ConfigError(
            f"{', '.join(masked)} is {_MASK}, which Dagster's pages show in place of a secret, and the project's "
            "resource does not say what it stands for; define it there as a dg.EnvVar"
        )


def _refuse_relative(ledger: str | os.PathLike[str]) -> None:
    text = os.fspath(ledger)
    scheme, is_url, rest = text.partition("://")
    if is_url and not scheme.startswith("sqlite"):
        return
    path = rest.removeprefix("/") if is_url else text
    absolute = "/" if is_url else _ABSOLUTE
    if path and not path.startswith(absolute):
        raise ConfigError(
            "ledger is a relative path, but a run does not start in the project's folder, and with a new "
            f"ledger everything is paid for again; give an absolute path, such as {Path(path).absolute()}"
        )
