import csv
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

PROJECT = Path(__file__).parents[1] / "example_project"
ASSETS = {"leads", "enriched_contacts", "contacts"}


@pytest.fixture
def example(stand_in, tmp_path, monkeypatch):
    """The example project with 300 leads, data of its own, and a sandbox on a free port."""
    data, home = tmp_path / "data", tmp_path / "home"
    data.mkdir()
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with (PROJECT / "data" / "leads.csv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))[:301]
    with (data / "leads.csv").open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(rows)
    api = stand_in()
    for name, value in {
        "EXAMPLE_DATA": data, "EXACTBUYER_BASE_URL": api.url, "EB_DAGSTER_LEDGER": tmp_path / "ledger.db",
        "DAGSTER_HOME": home, "HOME": home, "DAGSTER_DISABLE_TELEMETRY": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    before = sorted(PROJECT.rglob("data/*"))
    yield api, data
    assert sorted(PROJECT.rglob("data/*")) == before


def command(*words: str) -> str:
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dg_command(*words: str) -> str:
    return command(str(Path(sys.executable).with_name("dg")), *words)


def rows_in(data: Path, table: str) -> int:
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as warehouse:
        (count,) = warehouse.execute(f"SELECT count(*) FROM {table}").fetchone()
    return count


@pytest.mark.usefixtures("example")
def test_dg_finds_nothing_wrong():
    assert "validated successfully" in dg_command("check", "yaml")
    assert "loaded successfully" in dg_command("check", "defs")


@pytest.mark.usefixtures("example")
def test_dg_lists_the_component():
    assert "eb_dagster.EnrichedContactsComponent" in dg_command("list", "components")


def test_dg_launch_makes_the_tables_and_a_second_one_costs_nothing(example):
    api, data = example
    dg_command("launch", "--assets", "*")
    bill, rows = (api.requests(), api.credits()), rows_in(data, "contacts")
    assert pq.read_metadata(data / "enriched_contacts.parquet").num_rows == 300
    assert 0 < rows <= bill[1]
    dg_command("launch", "--assets", ",".join(sorted(ASSETS)))
    assert (api.requests(), api.credits()) == bill
    assert rows_in(data, "contacts") == rows


def test_the_main_job_shows_plan_report_paths_and_five_rows(example):
    _, data = example
    bill = data / "sandbox-bill.db"
    os.environ["EXACTBUYER_BASE_URL"] = "http://127.0.0.1:0"
    shown = command(sys.executable, str(PROJECT / "run.py"))
    for words in ("credits at most", "credits_charged", str(data / "enriched_contacts.parquet"), "company"):
        assert words in shown
    assert "DEBUG" not in shown
    assert bill.exists()
