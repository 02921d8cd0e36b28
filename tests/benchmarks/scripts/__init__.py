"""What a user would write instead of this package: no ledger, no resuming, nobody paid for once.

Each is a program of its own: `python polars_first.py URL leads.parquet enriched.parquet`.
"""
