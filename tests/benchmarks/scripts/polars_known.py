"""Join the leads with the contacts that were bought before, in Polars."""

import sys

import polars as pl

leads_file, contacts_file, enriched_file = sys.argv[1:]
leads = pl.read_parquet(leads_file)
contacts = pl.read_parquet(contacts_file)
leads.join(contacts, on="email", how="left").write_parquet(enriched_file)
