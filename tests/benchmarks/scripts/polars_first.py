"""Ask for every lead from threads, decode all replies in Polars, write Parquet."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import requests

url, leads_file, enriched_file = sys.argv[1:]
session = requests.Session()

place = pl.Struct({"city": pl.String, "region": pl.String, "country": pl.String})
company = pl.Struct({"name": pl.String, "size": pl.String, "industry": pl.String})
job = pl.Struct({"title": pl.String, "levels": pl.List(pl.String)})
contact = pl.Struct(
    {
        "full_name": pl.String,
        "first_name": pl.String,
        "last_name": pl.String,
        "gender": pl.String,
        "current_work_email": pl.String,
        "current_personal_email": pl.String,
        "work_emails": pl.List(pl.String),
        "personal_emails": pl.List(pl.String),
        "phone_numbers": pl.List(pl.Struct({"E164": pl.String})),
        "social_profiles": pl.List(pl.Struct({"network": pl.String, "url": pl.String})),
        "location": place,
        "employment": pl.Struct(
            {
                "name": pl.String,
                "domain": pl.String,
                "size": pl.String,
                "industry": pl.String,
                "linkedin_url": pl.String,
                "profile_pic_url": pl.String,
                "job": job,
            }
        ),
        "education": pl.List(
            pl.Struct(
                {
                    "school": pl.Struct({"name": pl.String, "domain": pl.String}),
                    "degrees": pl.List(pl.String),
                    "start_date": pl.String,
                    "end_date": pl.String,
                }
            )
        ),
        "experiences": pl.List(
            pl.Struct(
                {
                    "company": company,
                    "title": pl.String,
                    "start_date": pl.String,
                    "end_date": pl.String,
                    "location": place,
                    "summary": pl.String,
                }
            )
        ),
    }
)
firm = [
    "company_name",
    "company_domain",
    "company_size",
    "company_industry",
    "company_linkedin_url",
    "photo_url",
    "job",
]
reply = pl.Struct({"contacts": pl.List(pl.Struct({"value": pl.String, "enriched_contact": contact}))})


def ask(emails: pl.Series) -> pl.DataFrame:
    query = json.dumps([{"field_type": "email", "value": email} for email in emails])
    response = session.post(
        url + "/v1/bulk-enrich", headers={"X-API-Key": "no key"}, data={"query_list": query}, timeout=300
    )
    response.raise_for_status()
    entries = (
        pl.DataFrame({"reply": [response.text]})
        .select(pl.col("reply").str.json_decode(reply).struct.field("contacts").explode())
        .unnest("contacts")
    )
    return (
        entries.unnest("enriched_contact")
        .unnest("location")
        .with_columns(pl.col("employment").struct.rename_fields(firm))
        .unnest("employment")
        .with_columns(
            job_title=pl.col("job").struct.field("title"),
            job_level=pl.col("job").struct.field("levels").list.first(),
            phones=pl.col("phone_numbers").list.eval(pl.element().struct.field("E164")),
            emails=pl.col("work_emails").list.concat("personal_emails"),
        )
        .drop("job", "phone_numbers", "work_emails", "personal_emails")
    )


leads = pl.read_parquet(leads_file)
with ThreadPoolExecutor(8) as pool:
    contacts = pl.concat(pool.map(ask, (batch["email"] for batch in leads.iter_slices(1000))))
leads.join(contacts, left_on="email", right_on="value", how="left").write_parquet(enriched_file)
