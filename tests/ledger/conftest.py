from contextlib import closing

import pytest

from eb_dagster.ledger.ledger import Ledger
from tests.ledger.people import JANE, JOHN, leads
from tests.ledger.steps import ENDPOINT


@pytest.fixture
def ledger(where):
    with closing(Ledger(where, endpoint=ENDPOINT)) as it:
        yield it


@pytest.fixture
def bought(stand_in, enricher, where, tmp_path):
    """Jane and John, bought into one table; gives the API, a way to open enrichers, and the table."""
    api = stand_in(match_rate=1.0)

    def start(**settings):
        return enricher(api, ledger=where, **settings)

    leads(JANE, JOHN).to_parquet(tmp_path / "leads.parquet", index=False)
    start().enrich_parquet(tmp_path / "leads.parquet", tmp_path / "out.parquet")
    return api, start, tmp_path / "out.parquet"
