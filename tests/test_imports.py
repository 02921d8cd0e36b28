"""What a process does not load that does not need it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster import sandbox

HEAVY = (
    "dagster",
    "pandas",
    "pandera",
    "email_validator",
    "sqlalchemy",
    "requests",
    "urllib3",
    "pyarrow",
    "numpy",
    "numpy.ma",
)
PROGRAM = f"""
import json, sys
{{}}
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
WITH_ENRICHER = """
import pyarrow.parquet as pq
from eb_dagster import Enricher
settings = dict(api_key="canary-key", base_url=sys.argv[1], ledger="ledger.db", progress=False)
with Enricher(**settings, requests_per_minute=60_000) as enricher:
    {}
"""
PLAN = WITH_ENRICHER.format('enricher.plan(pq.ParquetFile("leads.parquet").read())')
RUN = WITH_ENRICHER.format('enricher.enrich_parquet("leads.parquet", "enriched.parquet")')


def loaded_by(code: str, *arguments: str, folder: Path) -> list[str]:
    """Which of the heavy libraries a new process has loaded after this code."""
    program = [sys.executable, "-c", PROGRAM.format(code), *arguments]
    ended = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    columns = {
        "email": [f"person{number}@firm.example" for number in range(20)] + ["nobody", None],
        "phone": ["+1 512 555 0100", *[None] * 21],
        "segment": pa.array(["a", None] * 11).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "leads.parquet")
    return tmp_path


def test_buying_a_parquet_table_loads_neither_pandas_nor_dagster(
    stand_in: Callable[..., sandbox.Sandbox], leads: Path
):
    loaded = loaded_by(RUN, stand_in(match_rate=0.7).url, folder=leads)
    assert pq.read_metadata(leads / "enriched.parquet").num_rows == 22
    assert loaded == ["sqlalchemy", "requests", "urllib3", "pyarrow", "numpy"]


def test_what_sends_nothing_does_not_load_what_sends(stand_in: Callable[..., sandbox.Sandbox], leads: Path):
    url = stand_in(match_rate=0.7).url
    plan_of_new_rows = loaded_by(PLAN, url, folder=leads)
    loaded_by(RUN, url, folder=leads)
    # Read back from the ledger, and then from the columns that were kept.
    known, known_from_columns = (loaded_by(RUN, url, folder=leads) for _ in range(2))
    plan_of_known_rows = loaded_by(PLAN, url, folder=leads)
    assert pq.read_metadata(leads / "enriched.parquet").num_rows == 22
    for loaded in (plan_of_new_rows, known, known_from_columns, plan_of_known_rows):
        assert loaded == ["sqlalchemy", "pyarrow", "numpy"]


WITHOUT_REQUESTS = """
from eb_dagster.ledger.ledger import Ledger
sys.modules["requests"] = None
try:
    {}
except ImportError:
    ledger = Ledger("ledger.db", endpoint=sys.argv[1])
    assert ledger.last_request() == 0
else:
    raise AssertionError
""".format(RUN.replace("\n", "\n    "))


def test_if_what_sends_cannot_be_loaded_nothing_is_claimed(
    stand_in: Callable[..., sandbox.Sandbox], leads: Path
):
    api = stand_in(match_rate=0.7)
    assert "requests" in loaded_by(WITHOUT_REQUESTS, api.url, folder=leads)
    assert (leads / "ledger.db").exists()


ENRICH_CSV = """
from eb_dagster.cli import main
for _ in range(3):
    try:
        main(["enrich", "leads.csv", "-o", "enriched.csv", "--ledger", "ledger.db", "--base-url", sys.argv[1], "-y"])
    except SystemExit as ended:
        assert not ended.code
"""


def test_the_command_enriches_a_csv_without_pandas_and_dagster(
    stand_in: Callable[..., sandbox.Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EXACTBUYER_API_KEY", "canary-key")
    rows = "".join(f"{number},person{number}@firm.example\n" for number in range(20))
    (tmp_path / "leads.csv").write_text("id,email\n" + rows)
    loaded = loaded_by(ENRICH_CSV, stand_in(match_rate=0.7).url, folder=tmp_path)
    assert len((tmp_path / "enriched.csv").read_text().splitlines()) == 21
    # A whole line, with the separators that the file does not have, is no plain address.
    assert loaded == ["email_validator", "sqlalchemy", "requests", "urllib3", "pyarrow", "numpy"]
