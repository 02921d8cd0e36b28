"""All that knows Dagster.

- `resource`: the resource: where the API is, whose key, which ledger
- `assets`: the asset factory: what Dagster needs to know before anything runs
- `materialize`: a run of the asset, and what Dagster is told of it
- `upstream`: the table that an upstream asset gives
- `table_source`: sources that are a query, or a function of the user's
- `checks`: the asset's own checks
- `history`: the earlier materializations that a run is compared with
- `metadata`: what the asset's page shows
- `spend`: what assets have spent, read from their pages
- `contact_tables`: the tables of a warehouse as assets
- `component`, `table_components`: YAML: of the asset; of the resource and the warehouse's tables
- `spelling`: a misspelt field in YAML is told with the one that was meant
"""
