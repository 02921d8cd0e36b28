"""What a person sees in a notebook: a real kernel, run by nbclient against the sandbox."""

import tempfile
from typing import Any

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

CELLS = {
    "set up": """
import pandas as pd, eb_dagster
leads = pd.DataFrame({"Work E-Mail": [f"canary{number}@firm.example" for number in range(60)]})
settings = dict(email="Work E-Mail", api_key="canary-key", partition_size=10, max_credits_at_risk=10)
enricher = eb_dagster.Enricher(**settings, max_credits=40)
""",
    "plan": "enricher.plan(leads)",
    "buy": "contacts = enricher.enrich_dataframe(leads)",
    "report": "enricher.report",
    "buy the rest": """
enricher.close()
contacts = eb_dagster.enrich_dataframe(leads, **settings)
""",
    "buy without a bar": "known = eb_dagster.enrich_dataframe(leads, **settings, progress=False)",
    "misspell": "eb_dagster.enrich_dataframe(leads, mail='Work E-Mail')",
}
SECONDS_OF_A_REPLY = 1.0


@pytest.fixture
def notebook(stand_in, tmp_path, monkeypatch) -> dict[str, Any]:
    """The outputs of each cell, when all of them were run."""
    monkeypatch.setenv("EXACTBUYER_BASE_URL", stand_in(match_rate=1.0, latency=SECONDS_OF_A_REPLY).url)
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "ledger.db"))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    cells = [new_code_cell(source.strip()) for source in CELLS.values()]
    # Between this process and the kernel, by files: a kernel's ports are open to whoever else is on the machine.
    with tempfile.TemporaryDirectory() as short:
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{short}/kernel"}})
        NotebookClient(new_notebook(cells=cells), timeout=120, allow_errors=True, config=config).execute()
    return {name: cell.outputs for name, cell in zip(CELLS, cells, strict=True)}


def shown(outputs: Any, stream: str = "stderr") -> str:
    return "".join(part.text for part in outputs if part.output_type == "stream" and part.name == stream)


def drawings(outputs: Any) -> list[str]:
    """Each state of the bar: without ipywidgets, a notebook that is run by a program keeps all of them."""
    return [part for part in shown(outputs).replace("\n", "\r").split("\r") if part.startswith("Enriching:")]


def page(outputs: Any) -> str:
    (result,) = [part for part in outputs if part.output_type == "execute_result"]
    return result.data["text/html"]


def test_a_notebook_shows_how_a_run_buys_how_far_it_is_and_what_is_missing(notebook, tmp_path):
    ledger = tmp_path / "ledger.db"
    assert shown(notebook["set up"]) == shown(notebook["plan"]) == ""
    assert "Plan: nothing was sent" in page(notebook["plan"])

    bought = shown(notebook["buy"])
    assert f"UserWarning: the ledger is new and empty ({ledger})" in bought
    assert bought.count("buys from: the sandbox at http://127.0.0.1:") == 1
    assert f"\nledger: {ledger}\ncredits left: 40 for this run\n" in bought
    assert "UserWarning: max_credits is spent: 20 rows were not asked" in bought
    assert ">Report</caption>" in page(notebook["report"])
    assert ">40<" in page(notebook["report"])

    rest = shown(notebook["buy the rest"])
    assert "UserWarning" not in rest
    assert "credits left: as many as you have, for no cap is set" in rest
    assert drawings(notebook["buy the rest"])[-1].startswith("Enriching: 100%")
    assert "requests=2, credits=20, matched=60" in drawings(notebook["buy the rest"])[-1]

    assert notebook["buy without a bar"] == []
    (error,) = notebook["misspell"]
    assert (error.ename, error.evalue) == ("TypeError", "there is no setting 'mail'; did you mean email?")


def test_the_bar_moves_before_the_first_reply_and_does_not_flood_a_notebook(notebook):
    for name, requests in (("buy", 4), ("buy the rest", 2)):
        seconds = requests * (SECONDS_OF_A_REPLY + 1)
        assert 3 <= len(drawings(notebook[name])) <= 3 + 2 * seconds
    assert any(
        "credits=0" in words and "waiting for 1 request, 1 s" in words for words in drawings(notebook["buy"])
    )


def test_no_person_and_no_key_is_in_what_is_shown_of_a_run(notebook):
    for name in ("plan", "buy", "report", "buy the rest"):
        assert "canary" not in str(notebook[name])
