"""Everything that a victim would import or compile while it buys, done once before it is forked."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from urllib.parse import parse_qs

import pyarrow as pa
import pyarrow.parquet as pq

import eb_dagster
from eb_dagster.api.client import Reply
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


class _NobodyKnown:
    """Takes the client's place: it finds nobody."""

    def send(self, form: bytes) -> Reply:
        asked = json.loads(parse_qs(form.decode())["query_list"][0])
        contacts = [{"value": each["value"], "enriched_contact": None} for each in asked]
        body = json.dumps({"contacts": contacts, "records_enriched": 0}).encode()
        return Reply(
            status=200, body=body, encoding="", complete=True, request_left=True, retry_after=None
        )  # fmt: skip

    def abort(self) -> None:
        """Nothing is open."""


def load() -> None:
    for name in _NAMES:
        importlib.import_module(name)
    compiled.share()
    # What is left, and what SQLAlchemy compiles for each statement.
    with tempfile.TemporaryDirectory(prefix="eb-crashes-") as name:
        folder = Path(name)
        lead = {"social_profile": "linkedin.com/in/nobody", "email": "nobody@crash.example"}
        pq.write_table(pa.Table.from_pylist([lead]), folder / "all.parquet")
        for _ in range(2):
            with eb_dagster.Enricher(
                api_key="canary-key",
                base_url="http://127.0.0.1:9",
                ledger=folder / "ledger.db",
                progress=False,
            ) as enricher:
                enricher._client = _NobodyKnown()  # pyright: ignore
                enricher.enrich_parquet(folder / "all.parquet", folder / "table.parquet")
