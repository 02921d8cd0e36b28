import dagster as dg
import duckdb
import pandas as pd

from eb_dagster import build_enriched_contacts_asset
from example_project.paths import DATABASE, TABLE, leads_file

IDENTIFIERS = {"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"}
MAX_CREDITS = 12_000


@dg.asset(group_name="contacts", kinds={"csv"})
def leads() -> pd.DataFrame:
    """Leads as they come out of a CRM: made up, and messy."""
    return pd.read_csv(leads_file(), dtype=str)


enriched_contacts = build_enriched_contacts_asset(
    name="enriched_contacts",
    source="leads",
    path=TABLE,
    group_name="contacts",
    identifiers=IDENTIFIERS,
    default_region="US",
    max_credits=MAX_CREDITS,
    min_match_rate=0.3,
)


@dg.asset(deps=["enriched_contacts"], group_name="contacts", kinds={"duckdb"})
def contacts() -> dg.MaterializeResult:
    """One row a person, whatever identifier found them; a second run adds no row."""
    with duckdb.connect(str(DATABASE)) as warehouse:
        warehouse.execute("CREATE OR REPLACE TEMP TABLE bought AS " + BOUGHT, [str(TABLE)])
        warehouse.execute("CREATE TABLE IF NOT EXISTS contacts AS FROM bought LIMIT 0")
        warehouse.execute("CREATE UNIQUE INDEX IF NOT EXISTS one_row_a_person ON contacts (person)")
        warehouse.execute("INSERT OR REPLACE INTO contacts FROM bought")
        (rows,) = warehouse.execute("SELECT count(*) FROM contacts").fetchone() or (0,)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "dagster/table_name": "contacts"})


# The identifier that found a person may be another one next time; their profile is not.
BOUGHT = """
    SELECT coalesce(eb_linkedin_url, eb_work_email, eb_query) AS person, *
    FROM read_parquet($1) WHERE eb_matched
    QUALIFY row_number() OVER (PARTITION BY person ORDER BY eb_enriched_at DESC, LeadId) = 1
"""
