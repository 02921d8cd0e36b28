"""Everything that a victim would import while it buys, imported once before it is forked."""

from __future__ import annotations

import importlib

# Reached lazily by the package or its dependencies while a table is bought and published.
_NAMES = (
    "eb_dagster.enricher",
    "encodings.idna",
    "encodings.punycode",
    "http.cookiejar",
    "netrc",
    "pandas",
    "pandera.pandas",
    "pyarrow.parquet",
    "pyarrow.compute",
    "phonenumbers",
    "email_validator",
    "requests",
    "stringprep",
    "tqdm.auto",
    "sqlite3",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.sqlite.pysqlite",
)


def load() -> None:
    for name in _NAMES:
        importlib.import_module(name)
    import pandas as pd

    from eb_dagster.identifiers.columns import find_layout
    from eb_dagster.identifiers.rows import read_rows

    # The checks of a dataframe load their engine when they are first used.
    frame = pd.DataFrame({"email": ["nobody@crash.example"]})
    read_rows(frame, find_layout(["email"], None), default_region=None)
