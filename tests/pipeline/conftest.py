"""A vendor that knows who it is told, and tables of a few people."""

from collections.abc import Callable, Iterator

import pandas as pd
import pytest

from eb_dagster import Enricher
from tests.people import COLUMNS, Vendor, vendor

FIRM = "Corp Inc."
NAMED = {"name": "name", "company": "company"}


@pytest.fixture
def api() -> Iterator[Vendor]:
    with vendor() as running:
        yield running


@pytest.fixture
def enrich(api: Vendor, where: str) -> Callable[..., pd.DataFrame]:
    """Enrich rows of (name, profile, e-mail, phone), with one ledger for all."""

    def run(*rows: tuple[str, ...], company: str = FIRM, **settings) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=COLUMNS, dtype=str).replace("", None).assign(company=company)
        with Enricher(
            api_key="key",
            base_url=api.url,
            ledger=where,
            requests_per_minute=60_000,
            progress=False,
            **settings,
        ) as enricher:
            enriched = enricher.enrich_dataframe(frame)
            enriched.attrs["report"] = enricher.report
            return enriched

    return run


@pytest.fixture
def named(enrich) -> Callable[..., pd.DataFrame]:
    """The same, with names that are compared."""
    return lambda *rows, **settings: enrich(*rows, person=NAMED, **settings)
