"""The Dagster resource: where the API is, whose key, which ledger."""

import json
import os
from typing import Any, Literal, cast

import dagster as dg
from pydantic import ConfigDict, Field

from eb_dagster.enrich import Enricher
from eb_dagster.errors import ConfigError

_FIXED = ("api_key", "base_url", "ledger", "proxy", "ca_bundle")


class ExactBuyerResource(dg.ConfigurableResource):  # pyright: ignore[reportMissingTypeArgument]
    """ExactBuyer's bulk enrichment API and the ledger that pays for a contact once.

    Key, address, ledger and proxy are the project's: a run that tries to set them at launch fails. Usable
    outside a run too, with the same `dg.EnvVar` values: `resource.enricher()`.
    """

    # What is wrong by its type may be the key, or a person.
    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: str = Field(
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="The vendor's key. Use dg.EnvVar, so that it is read when a run starts.",
    )
    ledger: str = Field(
        description="Path or database URL of the ledger. It has no default: a run in a fresh "
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

    def enricher(self, **settings: Any) -> Enricher:
        """An `Enricher` with this key and ledger; the keywords are the enrichment's settings."""
        if any(isinstance(getattr(self, name), dg.EnvVar) for name in type(self).model_fields):
            # Outside a run, nobody has read the environment yet.
            return cast("ExactBuyerResource", self.process_config_and_initialize()).enricher(**settings)
        own: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        return Enricher(**{**own, **settings})

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Refuse a key, an address, a ledger or a proxy that came with the run.

        Dagster lets whoever launches a run override any value of a resource: with another address, or a
        proxy and its certificate, the key and the people would go there; with another ledger, everything
        is paid for again.
        """
        try:
            declared = context.resource_def.config_schema if context.resource_def else None
        except dg.DagsterInvariantViolationError:
            # Not in a run.
            return
        if declared is None or not declared.default_provided:
            return
        defined = json.loads(declared.default_value_as_json_str)
        given = cast("dict[str, Any]", context.resource_config or {})
        changed = [name for name in _FIXED if given.get(name) != _read(defined.get(name))]
        if changed:
            raise ConfigError(
                f"{', '.join(changed)} cannot be set at launch: the project's resource defines "
                "that. Leave it out of the launch"
            )


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        # So Dagster writes an EnvVar.
        return os.environ.get(cast("dict[str, str]", value).get("env", ""))
    return value
