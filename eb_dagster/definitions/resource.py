"""The Dagster resource: where the API is, whose key, which ledger."""

import inspect
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import dagster as dg
from pydantic import ConfigDict, Field

from eb_dagster.enricher import Enricher
from eb_dagster.errors import ConfigError

_MASK = "********"
"""What Dagster's pages show in place of a secret, and send back when they launch a run."""
_ABSOLUTE = ("/", "~")


class ExactBuyerResource(dg.ConfigurableResource):  # pyright: ignore[reportMissingTypeArgument]
    """ExactBuyer's bulk enrichment API and the ledger that pays for a contact once.

    Key, address, ledger and proxy are the project's: a run that tries to set them at launch fails, and what
    the launchpad masks (********) stays as it is defined. Usable outside a run too, with the same
    `dg.EnvVar` values: `resource.enricher()`.
    """

    # What is wrong by its type may be the key, or a person.
    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: str = Field(
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="The vendor's key. Use dg.EnvVar, so that it is read when a run starts.",
    )
    ledger: str = Field(
        description="Absolute path or database URL of the ledger. It has no default: a run in a fresh "
        "container with an empty ledger would pay for everything again.",
        # A database URL may carry a password.
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
    )
    base_url: str | None = Field(default=None, description="The API's address; the vendor's if not given.")
    proxy: str | None = Field(
        default=None,
        description="HTTP proxy to the API, http://host:port; $EB_DAGSTER_PROXY if not given.",
        # It may carry a password.
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
    )
    ca_bundle: str | None = Field(
        default=None,
        description="PEM file of authorities to trust beside the usual ones; $EB_DAGSTER_CA_BUNDLE if not given.",
    )
    requests_per_minute: float = Field(default=198, description="Shared by all runs on the ledger.")
    max_credits_at_risk: int = Field(
        default=20_000, description="Bound on identifiers in flight plus in doubt."
    )
    max_credits_per_day: int | None = Field(
        default=None, description="Credits that all runs on the ledger may spend in a day of UTC."
    )
    max_credits_per_month: int | None = Field(
        default=None, description="Credits that all runs on the ledger may spend in a month of UTC."
    )
    timeout: float = Field(default=300.0, description="Seconds for one request.")
    in_doubt: Literal["hold", "resend"] = Field(
        default="hold",
        description='"hold" never asks again for what may have been paid; "resend" does, but not within a run.',
    )

    # The type checker goes by the fields.
    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            # Dagster makes copies of its own for a run, from what the environment says.
            caller = inspect.currentframe().f_back.f_globals.get("__name__", "")
            if caller.partition(".")[0] != "dagster":
                _check_written(type(self), settings)

    @classmethod
    def configure_at_launch(cls, **kwargs: Any) -> Any:
        """The same, with the settings that are not given here to be given at each launch."""
        _check_written(cls, kwargs)
        return cast("Any", super()).configure_at_launch(**kwargs)

    def enricher(self, **settings: Any) -> Enricher:
        """An `Enricher` with this key and ledger; the keywords are the enrichment's settings."""
        if any(map(_is_variable, self._settings().values())):
            # Outside a run, nobody has read the environment yet.
            return cast("ExactBuyerResource", self.process_config_and_initialize()).enricher(**settings)
        chosen = {**self._settings(), **settings}
        _refuse_masks(chosen)
        _refuse_relative(chosen["ledger"])
        return Enricher(**chosen)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Take what the launchpad masked as it is defined; refuse another key, address, ledger or proxy.

        Dagster lets whoever launches a run override any value of a resource: with another address, or a
        proxy and its certificate, the key and the people would go there; with another ledger, everything
        is paid for again.
        """
        try:
            declared = context.resource_def.config_schema if context.resource_def else None
        except dg.DagsterInvariantViolationError:
            # Not in a run.
            return
        if declared is None:
            return
        defined = _defaults(declared)
        masked = [name for name, value in self._settings().items() if value == _MASK and name in defined]
        # Frozen for everybody else: this copy was made for the run, and nobody has it yet.
        vars(self).update({name: _read(name, defined[name]) for name in masked})
        _refuse_masks(self._settings())
        if not declared.default_provided:
            # What is configured at launch is the launch's.
            return
        fixed = ("base_url", "ca_bundle", *_secrets(type(self)))
        changed = [name for name in fixed if getattr(self, name) != _read(name, defined.get(name))]
        if changed:
            raise ConfigError(
                f"{', '.join(changed)} cannot be set at launch: the project's resource defines "
                "that. Leave it out of the launch"
            )

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}


def _defaults(declared: Any) -> dict[str, Any]:
    """What the project's resource defines: an `EnvVar` as Dagster writes it."""
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
    # Dagster does not export the type of the latter.
    return isinstance(value, dg.EnvVar | type(dg.EnvVar.int("")))


def _secrets(resource: type[ExactBuyerResource]) -> list[str]:
    extras: dict[str, Any] = {name: field.json_schema_extra for name, field in resource.model_fields.items()}
    return [name for name, extra in extras.items() if extra and extra.get("dagster__is_secret")]


def _check_written(resource: type[ExactBuyerResource], settings: Mapping[str, Any]) -> None:
    """Refuse or warn of what is written in the code itself."""
    written = {name: value for name, value in settings.items() if not _is_variable(value)}
    _refuse_masks(written)
    if "ledger" in written:
        _refuse_relative(written["ledger"])
    secrets = [name for name in _secrets(resource) if _holds_secret(written.get(name))]
    if secrets:
        warnings.warn(
            f"{', '.join(secrets)} of the resource is written in the code, and Dagster keeps it, readable, "
            'in its database; give it as dg.EnvVar("NAME"), the name of an environment variable',
            stacklevel=3,
        )


def _holds_secret(value: object) -> bool:
    """A path and an address without a password may stand anywhere."""
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
    if path and not path.startswith("/" if is_url else _ABSOLUTE):
        raise ConfigError(
            "ledger is a relative path, but a run does not start in the project's folder, and with a new "
            f"ledger everything is paid for again; give an absolute path, such as {Path(path).absolute()}"
        )
