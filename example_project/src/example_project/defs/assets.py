import dagster as dg
import pandas as pd

from eb_dagster import build_contact_tables_asset, build_enriched_contacts_asset
from example_project import warehouse
from example_project.paths import TABLE, WAREHOUSE, export

IDENTIFIERS = {"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"}
MAX_CREDITS = 12_000

NEW = {
    "LeadId": "lead_id", "eb_full_name": "name", "eb_company_name": "new_company", "eb_job_title": "new_title",
    "eb_enriched_at": "seen_at",
}  # fmt: skip
OLD = """
    SELECT lead_id, eb_company_name AS old_company, eb_job_title AS old_title, eb_enriched_at AS bought_at
    FROM contacts
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


@dg.asset(deps=["enriched_contacts"], group_name="contacts", kinds={"dlt"})
def job_changes() -> dg.MaterializeResult:
    """Who has another company or title than when they were bought before: what a refresh is for.

    The old contact is the one in the table `contacts`, which is loaded after this.
    """
    new = warehouse.bought().select(list(NEW)).rename_columns(NEW).to_pandas()
    both = new.merge(warehouse.ask(OLD), on="lead_id")
    again = both[both["seen_at"] > pd.to_datetime(both["bought_at"], utc=True)]
    was, now = again[["old_company", "old_title"]], again[["new_company", "new_title"]]
    moved = again[(was.fillna("").to_numpy() != now.fillna("").to_numpy()).any(axis=1)]
    # Who was forgotten is in the enriched table no more, and goes from here too.
    warehouse.add_job_changes(moved, known=set(new["lead_id"]))
    return dg.MaterializeResult(metadata={"dagster/row_count": len(moved)})


# `contacts` and its five parts. A second run adds no row; who was forgotten goes.
contact_tables = build_contact_tables_asset(
    source="enriched_contacts",
    path=TABLE,
    destination=WAREHOUSE,
    dataset=warehouse.SCHEMA,
    key="LeadId",
    deps=["job_changes"],
    group_name="contacts",
)
