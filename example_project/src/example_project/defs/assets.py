from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import duckdb
import pandas as pd

from eb_dagster import build_enriched_contacts_asset
from example_project.paths import DATABASE, TABLE, export

IDENTIFIERS = {"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"}
MAX_CREDITS = 12_000

# The identifier that found a person may be another one next time; their profile is not.
BOUGHT = """
    CREATE TEMP TABLE bought AS
    SELECT coalesce(eb_linkedin_url, eb_work_email, eb_query) AS person, *
    FROM read_parquet($1) WHERE eb_matched
    QUALIFY row_number() OVER (PARTITION BY person ORDER BY eb_enriched_at DESC, LeadId) = 1
"""
CHANGES = """
    SELECT person, new.eb_full_name AS name, old.eb_company_name AS old_company, old.eb_job_title AS old_title,
           new.eb_company_name AS new_company, new.eb_job_title AS new_title, new.eb_enriched_at AS seen_at
    FROM bought AS new JOIN contacts AS old USING (person)
    WHERE new.eb_enriched_at > old.eb_enriched_at AND (
        new.eb_company_name IS DISTINCT FROM old.eb_company_name
        OR new.eb_job_title IS DISTINCT FROM old.eb_job_title
    )
"""


@dg.asset(group_name="contacts", kinds={"csv"})
def leads() -> pd.DataFrame:
    """Leads as they come out of a CRM: made up, and messy."""
    return pd.read_csv(export("leads.csv"), dtype=str)


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
def job_changes() -> dg.MaterializeResult:
    """Who has another company or title than when they were bought before: what a refresh is for.

    The old contact is the one in the table `contacts`, which is loaded after this.
    """
    with warehouse() as database:
        database.execute(f"CREATE TABLE IF NOT EXISTS job_changes AS {CHANGES} LIMIT 0")
        added = database.execute(f"INSERT INTO job_changes {CHANGES}").fetchone()
        return loaded(database, "job_changes", added=added[0] if added else 0)


@dg.asset(deps=["enriched_contacts", "job_changes"], group_name="contacts", kinds={"duckdb"})
def contacts() -> dg.MaterializeResult:
    """One row a person, whatever identifier found them; a second run adds no row."""
    with warehouse() as database:
        database.execute("INSERT OR REPLACE INTO contacts FROM bought")
        return loaded(database, "contacts")


@contextmanager
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    """The database with what was bought this time as the table `bought`."""
    with duckdb.connect(str(DATABASE)) as database:
        database.execute(BOUGHT, [str(TABLE)])
        database.execute("CREATE TABLE IF NOT EXISTS contacts AS FROM bought LIMIT 0")
        database.execute("CREATE UNIQUE INDEX IF NOT EXISTS one_row_a_person ON contacts (person)")
        yield database


def loaded(database: duckdb.DuckDBPyConnection, table: str, **more: int) -> dg.MaterializeResult:
    (rows,) = database.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "dagster/table_name": table, **more})
