from collections.abc import Iterator

import dagster as dg
import pytest


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster of one test's own, in memory."""
    with dg.DagsterInstance.ephemeral() as created:
        yield created
