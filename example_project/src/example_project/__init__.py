"""An example: leads from a CSV, enriched into Parquet, merged into DuckDB or another warehouse, every day."""
