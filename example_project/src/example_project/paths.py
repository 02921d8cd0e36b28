"""Where the example reads and writes. $EXAMPLE_DATA moves all of it elsewhere."""

import os
from pathlib import Path

import dlt

_OURS = Path(__file__).parents[2] / "data"

DATA = Path(os.environ.get("EXAMPLE_DATA", _OURS)).resolve()
TABLE = DATA / "enriched_contacts.parquet"
DATABASE = DATA / "warehouse.duckdb"
LEDGER = DATA / "ledger.db"

# Where the contacts are loaded. Another target is another line here: "snowflake", "bigquery", "postgres"
# and so on, with dlt's own settings for who may enter, as in DESTINATION__POSTGRES__CREDENTIALS.
WAREHOUSE = dlt.destinations.duckdb(str(DATABASE))


def export(name: str) -> Path:
    """A file as the CRM exports it: from the data folder, else the one that comes with the project."""
    mine = DATA / name
    return mine if mine.exists() else _OURS / name
