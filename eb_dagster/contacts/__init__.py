"""Contacts: the one table of columns, and how any shape of a contact comes into it.

- `schema`: the one table of columns, and every schema that is made from it
- `contact`: a contact in the vendor's plain shape
- `parser`: reads a contact of the plain shape
- `tolerant_parser`: reads a contact of any shape, and hands it to `parser`
- `damaged_json`: JSON that only a lenient reader takes
- `flatten`: contacts as Arrow columns
- `enriched_tables`: tables that were enriched before: recognized, and their added columns read back
"""
