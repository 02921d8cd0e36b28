"""Where the example reads and writes. $EXAMPLE_DATA moves all of it elsewhere."""

import os
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DATA = Path(os.environ.get("EXAMPLE_DATA", PROJECT / "data")).resolve()
TABLE = DATA / "enriched_contacts.parquet"
DATABASE = DATA / "warehouse.duckdb"
LEDGER = DATA / "ledger.db"


def leads_file() -> Path:
    """The CRM's export: the one in the data folder, else the one that comes with the project."""
    mine = DATA / "leads.csv"
    return mine if mine.exists() else PROJECT / "data" / "leads.csv"
