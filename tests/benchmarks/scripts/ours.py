"""The same with this package."""

import sys

from eb_dagster import Enricher

url, leads_file, enriched_file, ledger, rate = sys.argv[1:]
with Enricher(
    base_url=url, ledger=ledger, api_key="no key", requests_per_minute=float(rate), progress=False
) as enricher:
    enricher.enrich_parquet(leads_file, enriched_file)
