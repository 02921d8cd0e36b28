"""The files for Airflow and Prefect, run by them against the sandbox. Each is in an environment of its own: `nox -s airflow`, `nox -s prefect`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest

FOLDER = Path(__file__).parents[1] / "example_project" / "deployment"
PEOPLE = 12
# They report nothing to their makers, and a loaded machine is no fault.
QUIET = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240",
    "DO_NOT_TRACK": "1",
}
COMMANDS = {
    "airflow": [["airflow", "db", "migrate"], ["airflow", "dags", "test", "contacts"]],
    "prefect": [["python", "prefect_flow.py"]],
}
FILES = {"airflow": "airflow_dag.py", "prefect": "prefect_flow.py"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["airflow", "prefect"])
def test_its_file_loads_the_contacts_and_a_second_run_pays_for_nobody(name, stand_in, tmp_path):
    if find_spec(name) is None:
        pytest.skip(f"needs an environment of its own: nox -s {name}")
    api = stand_in(match_rate=1.0)
    database = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(database)) as warehouse:
        warehouse.execute(
            "CREATE TABLE leads AS SELECT n AS lead_id, 'p' || n || '@firm.example' AS email "
            f"FROM range({PEOPLE}) t(n)"
        )
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(FOLDER / FILES[name], dags)
    environment = {
        **os.environ, **QUIET,
        "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow"), "PREFECT_HOME": str(tmp_path / "prefect"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags), "WAREHOUSE": f"duckdb:///{database}",
        "EXACTBUYER_API_KEY": "canary-key", "EXACTBUYER_BASE_URL": api.url, "EB_DAGSTER_LEDGER": str(tmp_path / "ledger.db"),
    }  # fmt: skip
    for _ in range(2):
        for program, *words in COMMANDS[name]:
            command = [str(Path(sys.executable).with_name(program)), *words]
            done = subprocess.run(command, env=environment, cwd=dags, capture_output=True, text=True)
            assert done.returncode == 0, (done.stdout + done.stderr)[-4_000:]
            assert "@firm.example" not in done.stdout + done.stderr
        with duckdb.connect(str(database)) as warehouse:
            found = warehouse.execute("SELECT count(*), count(DISTINCT lead_id) FROM crm.contacts").fetchall()
        assert found == [(PEOPLE, PEOPLE)]
        assert api.credits() == PEOPLE
