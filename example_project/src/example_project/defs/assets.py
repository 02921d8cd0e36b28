import dagster as dg
import pandas as pd

from eb_dagster import build_enriched_contacts_asset
from eb_dagster.warehouse import load_contacts
from example_project.paths import TABLE, WAREHOUSE, export

IDENTIFIERS = {"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"}
MAX_CREDITS = 12_000


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
def contacts() -> dg.MaterializeResult:
    """One row a lead that was found, with its e-mails, phones, profiles and past jobs in tables beside it.

    A second run adds no row. Who changed jobs between two purchases is in `contact_job_history`.
    """
    rows = load_contacts(TABLE, WAREHOUSE, dataset="crm", key="LeadId", history=True)
    return dg.MaterializeResult(
        metadata={"dagster/row_count": rows["contacts"], "dagster/table_name": "crm.contacts", **rows}
    )
