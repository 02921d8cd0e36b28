"""Any table as a schema and a stream of Arrow batches; files that are written whole or not at all."""
