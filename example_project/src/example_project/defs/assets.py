from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd

from eb_dagster import build_enriched_contacts_asset

DATA = Path(__file__).parents[3] / "data"
TABLE = DATA / "enriched_contacts.parquet"
DATABASE = DATA / "warehouse.duckdb"


@dg.asset(group_name="contacts", kinds={"csv"})
def leads() -> pd.DataFrame:
    """Leads as they come out of a CRM: made up, and messy."""
    return pd.read_csv(DATA / "leads.csv", dtype=str)


enriched_contacts = build_enriched_contacts_asset(
    name="enriched_contacts",
    source="leads",
    path=TABLE,
    group_name="contacts",
    identifiers={"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"},
    default_region="US",
    max_credits=12_000,
    min_match_rate=0.3,
)


@dg.asset(deps=["enriched_contacts"], group_name="contacts", kinds={"duckdb"})
def contacts() -> dg.MaterializeResult:
    """One row a person, by the identifier that answered; a second run adds no row."""
    with duckdb.connect(str(DATABASE)) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS contacts AS SELECT * FROM read_parquet($1) LIMIT 0",
            [str(TABLE)],
        )
        connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS person ON contacts (eb_query)")
        connection.execute(
            "INSERT OR REPLACE INTO contacts SELECT * FROM read_parquet($1) WHERE eb_matched "
            "QUALIFY row_number() OVER (PARTITION BY eb_query ORDER BY LeadId) = 1",
            [str(TABLE)],
        )
        rows = connection.execute("SELECT count(*) FROM contacts").fetchone()
    return dg.MaterializeResult(metadata={"dagster/row_count": rows[0] if rows else 0})
