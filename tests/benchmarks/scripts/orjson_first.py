"""Ask for every distinct lead from threads, read each reply with orjson into Arrow, and give each row its contact."""

import sys
from concurrent.futures import ThreadPoolExecutor

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import requests

url, leads_file, enriched_file = sys.argv[1:]
session = requests.Session()

texts = pa.list_(pa.string())
profile = pa.struct([("network", pa.string()), ("url", pa.string())])
lists = {"emails": texts, "phones": texts, "social_profiles": pa.list_(profile)}
schema = pa.schema([
    (name, lists.get(name, pa.string()))
    for name in (
        "full_name", "first_name", "last_name", "gender", "work_email", "personal_email", "emails", "phones",
        "social_profiles", "city", "region", "country", "job_title", "job_level", "company_name",
        "company_domain", "company_size", "company_industry", "company_linkedin_url", "photo_url",
        "education", "experiences",
    )
])  # fmt: skip


def ask(emails: list[str]) -> pa.Table:
    query = orjson.dumps([{"field_type": "email", "value": email} for email in emails])
    response = session.post(
        url + "/v1/bulk-enrich", headers={"X-API-Key": "no key"}, data={"query_list": query}, timeout=300
    )
    response.raise_for_status()
    entries = orjson.loads(response.content)["contacts"]
    rows = [flatten(entry["enriched_contact"] or {}) for entry in entries]
    columns = [
        pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    echoes = pa.array([entry["value"] for entry in entries])
    return pa.table([echoes, *columns], names=["value", *schema.names])


def as_json(value: object) -> str | None:
    return orjson.dumps(value).decode() if value else None


def flatten(contact: dict) -> tuple:
    place = contact.get("location") or {}
    firm = contact.get("employment") or {}
    job = firm.get("job") or {}
    size = firm.get("size")
    return (
        contact.get("full_name"), contact.get("first_name"), contact.get("last_name"), contact.get("gender"),
        contact.get("current_work_email"), contact.get("current_personal_email"),
        [*contact.get("work_emails", ()), *contact.get("personal_emails", ())],
        [phone["E164"] for phone in contact.get("phone_numbers", ())],
        contact.get("social_profiles"),
        place.get("city"), place.get("region"), place.get("country"),
        job.get("title"), next(iter(job.get("levels", ())), None),
        firm.get("name"), firm.get("domain"), None if size is None else str(size), firm.get("industry"),
        firm.get("linkedin_url"), firm.get("profile_pic_url"),
        as_json(contact.get("education")), as_json(contact.get("experiences")),
    )  # fmt: skip


leads = pq.read_table(leads_file)
distinct = leads["email"].unique().to_pylist()
batches = [distinct[start : start + 1000] for start in range(0, len(distinct), 1000)]
with ThreadPoolExecutor(8) as pool:
    contacts = pa.concat_tables(pool.map(ask, batches))
answers = contacts.drop(["value"]).take(pc.index_in(leads["email"], contacts["value"]))
table = pa.table([*leads.columns, *answers.columns], names=[*leads.schema.names, *schema.names])
pq.write_table(table, enriched_file, compression="zstd")
