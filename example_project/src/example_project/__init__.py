"""An example: leads from a CSV, enriched into Parquet, loaded into DuckDB, every day."""
