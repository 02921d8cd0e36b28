"""The component for `dg`: the asset factory, from YAML."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from eb_dagster.assets import build_enriched_contacts_asset


class EnrichedContactsComponent(dg.Component, dg.Model, dg.Resolvable):
    """Enrich the identifiers that an asset gives into a Parquet table of contacts.

    The project defines the `ExactBuyerResource`, once, under `resource_key`.
    """

    name: str = Field(description="Name of the asset.")
    source: str = Field(description="Key of the asset that gives the identifiers, a/b/c.")
    path: str = Field(description="The Parquet table, relative to the working directory.")
    resource_key: str = Field(default="exactbuyer", description="Key of the resource.")
    group_name: str | None = Field(default=None, description="Group of the asset.")
    min_match_rate: float = Field(default=0.0, description="The check fails below it.")
    max_match_rate: float = Field(default=1.0, description="The check fails above it.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Keywords of Enricher, such as max_credits."
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """The asset and its check."""
        asset = build_enriched_contacts_asset(
            name=self.name,
            source=dg.AssetKey(self.source.split("/")),
            path=Path(self.path),
            resource_key=self.resource_key,
            group_name=self.group_name,
            min_match_rate=self.min_match_rate,
            max_match_rate=self.max_match_rate,
            settings=self.settings,
        )
        return dg.Definitions(assets=[asset])
