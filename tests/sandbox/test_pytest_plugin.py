"""The fixture that other projects test with, in a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import os
import pandas as pd
import pytest
import eb_dagster

LEADS = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(10)]})
pytestmark = pytest.mark.filterwarnings("ignore:the ledger is new", "ignore:.*rows are in doubt")


def test_everybody_is_found_and_billed(exactbuyer_sandbox):
    enriched = eb_dagster.enrich_dataframe(LEADS, progress=False)
    assert enriched["eb_matched"].all()
    assert exactbuyer_sandbox.credits() == 10
    assert exactbuyer_sandbox.charges()[0] == ("email", "p0@firm.example")
    eb_dagster.enrich_dataframe(LEADS, progress=False)
    assert (exactbuyer_sandbox.requests(), exactbuyer_sandbox.charged_twice()) == (1, 0)


@pytest.mark.exactbuyer(faults=["reset-after@1"], api_key="right", credits=15)
def test_faults_credits_and_the_right_key_are_chosen(exactbuyer_sandbox):
    assert os.environ["EXACTBUYER_API_KEY"] == "right"
    assert exactbuyer_sandbox.credits() == 0
    with pytest.raises(eb_dagster.Refused, match="API key"):
        eb_dagster.enrich_dataframe(LEADS[:1], api_key="wrong", ledger=exactbuyer_sandbox.bill.with_name("l.db"))
    enriched = eb_dagster.enrich_dataframe(LEADS, progress=False)
    assert exactbuyer_sandbox.requests() == 2
    exactbuyer_sandbox.fail_next("reset-after")
    other = LEADS.assign(email=LEADS["email"].str.replace("p", "q"))[:5]
    assert set(eb_dagster.enrich_dataframe(other, progress=False)["eb_status"]) == {"in_doubt"}
    more = LEADS.assign(email=LEADS["email"].str.replace("p", "r"))
    with pytest.raises(eb_dagster.Refused, match="credits"):
        eb_dagster.enrich_dataframe(more, progress=False)
"""


def test_a_project_tests_its_own_code_against_a_sandbox(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    settings = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "EB_DAGSTER_LEDGER": "/nowhere",
    }
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "eb_dagster.sandbox.pytest_plugin",
            "-q",
            "-W",
            "error",
            "--strict-markers",
            ".",
        ],
        cwd=tmp_path,
        env={**settings, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in ended.stdout, ended.stdout
