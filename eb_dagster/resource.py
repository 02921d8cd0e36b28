"""The Dagster resource: where the API is, whose key, which ledger."""

from typing import Any

import dagster as dg
from pydantic import Field

from eb_dagster.enrich import Enricher


class ExactBuyerResource(dg.ConfigurableResource):  # pyright: ignore[reportMissingTypeArgument]
    """ExactBuyer's bulk enrichment API and the ledger that pays for a contact once.

    Usable outside a run too: `resource.process_config_and_initialize().enricher()`.
    """

    api_key: str = Field(
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="The vendor's key. Use dg.EnvVar, so that it is read when a run starts.",
    )
    ledger: str = Field(
        description="Path or database URL of the ledger. It has no default: a run in a fresh "
        "container with an empty ledger would pay for everything again.",
    )
    base_url: str | None = Field(default=None, description="The API's address; the vendor's if not given.")
    requests_per_minute: float = Field(default=198, description="Shared by all runs on the ledger.")
    max_credits_at_risk: int = Field(
        default=20_000, description="Bound on identifiers in flight plus in doubt."
    )
    timeout: float = Field(default=300.0, description="Seconds for one request.")
    in_doubt: str = Field(default="hold", description='"hold" never asks again for what may have been paid.')

    def enricher(self, **settings: Any) -> Enricher:
        """An `Enricher` with this key and ledger; the keywords are the enrichment's settings."""
        own: dict[str, Any] = {
            "api_key": self.api_key,
            "ledger": self.ledger,
            "base_url": self.base_url,
            "requests_per_minute": self.requests_per_minute,
            "max_credits_at_risk": self.max_credits_at_risk,
            "timeout": self.timeout,
            "in_doubt": self.in_doubt,
        }
        return Enricher(**{**own, **settings})
