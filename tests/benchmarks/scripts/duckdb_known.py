"""Join the leads with the contacts that were bought before, in DuckDB."""

import sys

import duckdb

leads_file, contacts_file, enriched_file = sys.argv[1:]
duckdb.sql(f"""
    COPY (FROM '{leads_file}' LEFT JOIN '{contacts_file}' USING (email))
    TO '{enriched_file}' (FORMAT parquet, COMPRESSION zstd)
""")
