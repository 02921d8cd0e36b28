"""Everything that a victim would import or compile while it buys, done once before it is forked."""

from __future__ import annotations

import gc
import importlib
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import eb_dagster
from eb_dagster import sandbox
from tests import compiled

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
    compiled.share()
    # What is left, and what SQLAlchemy compiles for each statement: a first run does it, and one that only rebuilds.
    with tempfile.TemporaryDirectory(prefix="eb-crashes-") as name:
        folder = Path(name)
        leads = [{"social_profile": None, "email": f"nobody{number}@crash.example"} for number in range(8)]
        pq.write_table(pa.Table.from_pylist(leads), folder / "all.parquet")
        with sandbox.running(bill=folder / "bill.db") as api:
            for _ in range(2):
                with eb_dagster.Enricher(
                    api_key="canary-key", base_url=api.url, ledger=folder / "ledger.db", progress=False,
                    partition_size=4,
                ) as enricher:  # fmt: skip
                    enricher.enrich_parquet(folder / "all.parquet", folder / "table.parquet")
    # Else a victim's first collection would touch, and so copy, all that was imported.
    gc.collect()
    gc.freeze()
