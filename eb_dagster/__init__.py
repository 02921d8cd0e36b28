"""Enrich dataframes of contact identifiers through ExactBuyer's bulk API, and pay once.

Read the files in the order the data moves:

    identifiers → plan → wire → client → ledger → contacts → parquet

`enrich` runs that; `resource`, `assets` and `component` offer it to Dagster.
"""

__version__ = "0.1.0"
