"""Any table as a schema and a stream of Arrow batches; files that are written whole or not at all.

- `source`: one way to read every table
- `files`: files by their endings, in a folder or an object store
- `parquet`, `csv`, `csv_rows`, `json_lines`, `excel`: one format each; the rows of a CSV in arrays
- `header`, `encodings`: which line names the columns; which encoding a text is in
- `column`: a single column as a table of one
- `dictionaries`: columns of codes, as Arrow can write and join them
- `keyed_rows`: two tables as one, row by row by a key
- `query`, `query_drivers`, `query_types`: the rows of a query; drivers that give Arrow; types
- `object_store`, `stores`: tables in an object store; what is done with objects in each kind
- `row_files`: files that are written row by row
- `atomic_file`: a file that is either whole or absent
- `spool`, `unnamed_file`: a stream kept on disk; files without a name
"""
