"""Enrich dataframes of contact identifiers through ExactBuyer's bulk API, and pay once.

Read the files in the order the data moves:

    identifiers → plan → wire → client → ledger → contacts → parquet

`enrich` runs that; `resource`, `assets` and `component` offer it to Dagster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from eb_dagster.assets import build_enriched_contacts_asset as build_enriched_contacts_asset
    from eb_dagster.checks import EnrichmentChecks as EnrichmentChecks
    from eb_dagster.component import EnrichedContactsComponent as EnrichedContactsComponent
    from eb_dagster.enrich import Enricher as Enricher
    from eb_dagster.enrich import enrich_dataframe as enrich_dataframe
    from eb_dagster.errors import Busy as Busy
    from eb_dagster.errors import ConfigError as ConfigError
    from eb_dagster.errors import EnrichError as EnrichError
    from eb_dagster.errors import InputError as InputError
    from eb_dagster.errors import LedgerError as LedgerError
    from eb_dagster.errors import OutcomeUnknown as OutcomeUnknown
    from eb_dagster.errors import OverBudget as OverBudget
    from eb_dagster.errors import Refused as Refused
    from eb_dagster.materialize import Enrichment as Enrichment
    from eb_dagster.materialize import LaunchConfig as LaunchConfig
    from eb_dagster.plan import Plan as Plan
    from eb_dagster.report import Report as Report
    from eb_dagster.resource import ExactBuyerResource as ExactBuyerResource

__version__ = "0.1.0"

# Loaded when first asked for: every `dg` command imports this module, and the command line too.
_PUBLIC = {
    "Busy": "errors",
    "ConfigError": "errors",
    "ContactIdentifiers": "identifiers",
    "EnrichError": "errors",
    "EnrichedContacts": "contacts",
    "EnrichedContactsComponent": "component",
    "Enricher": "enrich",
    "Enrichment": "materialize",
    "EnrichmentChecks": "checks",
    "ExactBuyerResource": "resource",
    "InputError": "errors",
    "LaunchConfig": "materialize",
    "LedgerError": "errors",
    "OutcomeUnknown": "errors",
    "OverBudget": "errors",
    "Plan": "plan",
    "Refused": "errors",
    "Report": "report",
    "build_enriched_contacts_asset": "assets",
    "enrich_dataframe": "enrich",
}
__all__ = sorted(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]


DagsterLibraryRegistry.register("eb-dagster", __version__, is_dagster_package=False)
