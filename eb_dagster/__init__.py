"""Enrich tables of contact identifiers through ExactBuyer's bulk API, and pay for each contact once.

Each folder is a room, and imports run downwards only:

    cli                   what a user types
    definitions           what Dagster sees
    spark · warehouse     what other systems see
    enricher              plan, enrich, publish
    pipeline              rows in, rows out
    ledger · settings     what was bought · what can be chosen
    contacts              a contact as columns
    api · tables          the vendor's interface · tables of any kind
    identifiers           e-mail addresses, phone numbers and profiles
    errors

`sandbox` stands apart and imports nothing from here. `docs/architecture.md` says which file to open.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from eb_dagster.contacts.schema import EnrichedContacts as EnrichedContacts
    from eb_dagster.definitions.assets import build_enriched_contacts_asset as build_enriched_contacts_asset
    from eb_dagster.definitions.checks import EnrichmentChecks as EnrichmentChecks
    from eb_dagster.definitions.component import EnrichedContactsComponent as EnrichedContactsComponent
    from eb_dagster.definitions.contact_tables import build_contact_tables_asset as build_contact_tables_asset
    from eb_dagster.definitions.materialize import Enrichment as Enrichment
    from eb_dagster.definitions.materialize import LaunchConfig as LaunchConfig
    from eb_dagster.definitions.resource import ExactBuyerResource as ExactBuyerResource
    from eb_dagster.definitions.table_components import ContactTablesComponent as ContactTablesComponent
    from eb_dagster.definitions.table_components import (
        ExactBuyerResourceComponent as ExactBuyerResourceComponent,
    )
    from eb_dagster.enricher import Enricher as Enricher
    from eb_dagster.enricher import enrich_dataframe as enrich_dataframe
    from eb_dagster.errors import Busy as Busy
    from eb_dagster.errors import ConfigError as ConfigError
    from eb_dagster.errors import EnrichError as EnrichError
    from eb_dagster.errors import InputError as InputError
    from eb_dagster.errors import LedgerError as LedgerError
    from eb_dagster.errors import OutcomeUnknown as OutcomeUnknown
    from eb_dagster.errors import OverBudget as OverBudget
    from eb_dagster.errors import Refused as Refused
    from eb_dagster.identifiers.contract import ContactIdentifiers as ContactIdentifiers
    from eb_dagster.pipeline.plan import Plan as Plan
    from eb_dagster.pipeline.report import Report as Report
    from eb_dagster.tables.query import read_query as read_query

__version__ = "0.1.0"

# Loaded when first asked for: every `dg` command imports this module, and the command line too.
_PUBLIC = {
    "Busy": "errors",
    "ConfigError": "errors",
    "ContactIdentifiers": "identifiers.contract",
    "ContactTablesComponent": "definitions.table_components",
    "EnrichError": "errors",
    "EnrichedContacts": "contacts.schema",
    "EnrichedContactsComponent": "definitions.component",
    "Enricher": "enricher",
    "Enrichment": "definitions.materialize",
    "EnrichmentChecks": "definitions.checks",
    "ExactBuyerResource": "definitions.resource",
    "ExactBuyerResourceComponent": "definitions.table_components",
    "InputError": "errors",
    "LaunchConfig": "definitions.materialize",
    "LedgerError": "errors",
    "OutcomeUnknown": "errors",
    "OverBudget": "errors",
    "Plan": "pipeline.plan",
    "Refused": "errors",
    "Report": "pipeline.report",
    "build_contact_tables_asset": "definitions.contact_tables",
    "build_enriched_contacts_asset": "definitions.assets",
    "enrich_dataframe": "enricher",
    "read_query": "tables.query",
}
__all__ = sorted(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


# Type checkers would take it that any name is there, and pass one that is misspelt.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


DagsterLibraryRegistry.register("eb-dagster", __version__, is_dagster_package=False)
