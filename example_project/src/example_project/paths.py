"""Where the example reads and writes. $EXAMPLE_DATA moves all of it elsewhere."""

import os
from pathlib import Path

_OURS = Path(__file__).parents[2] / "data"

DATA = Path(os.environ.get("EXAMPLE_DATA", _OURS)).resolve()
TABLE = DATA / "enriched_contacts.parquet"
LEDGER = DATA / "ledger.db"
# Any that dlt knows: postgresql://…, snowflake://…, bigquery://…
WAREHOUSE = os.environ.get("EXAMPLE_WAREHOUSE", f"duckdb:///{DATA / 'warehouse.duckdb'}")


def export(name: str) -> Path:
    """A file as the CRM exports it: from the data folder, else the one that comes with the project."""
    mine = DATA / name
    return mine if mine.exists() else _OURS / name
