from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eb_dagster.tables.parquet import write_parquet
from tests.warehouse.enriched_tables import enriched

if TYPE_CHECKING:
    from tests.warehouse.warehouses import Warehouse


@pytest.fixture(params=["duckdb", "postgresql"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    # Where dlt is not installed, this file is imported all the same.
    from tests.warehouse.warehouses import duckdb_warehouse, postgresql_warehouse

    if request.param == "duckdb":
        return duckdb_warehouse(tmp_path)
    return postgresql_warehouse(request.getfixturevalue("postgresql"))


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Path]:
    def write(people: dict[int, dict[str, Any] | None], **more: Any) -> Path:
        table = enriched(people, **more)
        path = tmp_path / "enriched.parquet"
        write_parquet(table.to_batches(max_chunksize=5), path, schema=table.schema)
        return path

    return write
