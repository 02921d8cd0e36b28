"""A plan opens a ledger for reading only, and makes none."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

LEADS = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(30)]})
NOBODY = 65534


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_leaves_a_ledger_as_it_is(stand_in, enricher, tmp_path):
    folder = tmp_path / "folder"
    api = stand_in(match_rate=1.0)
    bought = enricher(api, ledger=folder / "ledger.db")
    bought.enrich_dataframe(LEADS[:20])
    bought.suppress([("email", "p29@firm.example")])
    bought.close()
    before = contents(folder)
    planner = enricher(api, ledger=folder / "ledger.db")
    plan = planner.plan(LEADS)
    assert (plan.matched_in_ledger, plan.suppressed, plan.to_ask) == (20, 1, 9)
    assert len(planner.explain(LEADS)) == 0
    assert planner.opening.warning is None
    # The file of a process that claims would be beside it.
    assert list(folder.glob("*-owners/*")) == []
    planner.close()
    assert contents(folder) == before


def test_a_plan_follows_a_ledger_that_others_write(stand_in, enricher):
    api = stand_in(match_rate=1.0)
    planner, buyer = enricher(api), enricher(api)
    assert planner.plan(LEADS).to_ask == 30
    buyer.enrich_dataframe(LEADS[:20])
    assert planner.plan(LEADS).to_ask == 10
    buyer.enrich_dataframe(LEADS[20:25])
    assert planner.plan(LEADS).to_ask == 5
    planner.enrich_dataframe(LEADS)
    assert planner.plan(LEADS).to_ask == 0
    assert (api.credits(), api.charged_twice()) == (30, 0)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o777, 0o444), (0o555, 0o600), (0o555, 0o444)])
def test_a_ledger_that_can_only_be_read_is_planned_by_and_nothing_is_bought_by_it(
    stand_in, enricher, folder_mode, file_mode
):
    # Another user has to reach it, so it is not below a private folder.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        ledger = folder / "ledger.db"
        api = stand_in(match_rate=1.0)
        buyer = enricher(api, ledger=ledger)
        buyer.enrich_dataframe(LEADS[:20])
        buyer.close()
        os.chown(ledger, NOBODY, NOBODY)
        os.chown(folder, NOBODY, NOBODY)
        ledger.chmod(file_mode)
        folder.chmod(folder_mode)
        script = f"""
import os, sys
import pandas as pd
import eb_dagster
leads = pd.DataFrame({{"email": [f"p{{number}}@firm.example" for number in range(30)]}})
settings = dict(api_key="k", base_url={api.url!r}, progress=False)
# What is imported at first use could not be read any more later.
eb_dagster.Enricher(ledger="{folder.parent}/nowhere/ledger.db", **settings).plan(leads)
import encodings.idna
os.setgid({NOBODY}); os.setuid({NOBODY})
with eb_dagster.Enricher(ledger={str(ledger)!r}, **settings) as enricher:
    plan = enricher.plan(leads)
    print(plan.matched_in_ledger, plan.to_ask)
    try:
        enricher.enrich_dataframe(leads)
    except eb_dagster.LedgerError as error:
        print(error)
"""
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        planned, _, refused = ended.stdout.partition("\n")
        assert planned == "20 10", ended.stderr
        assert refused.startswith("the ledger")
        assert refused.strip().endswith("Nothing was sent")
        assert api.credits() == 20


def test_a_plan_makes_no_tables_in_a_database(stand_in, enricher, postgresql):
    where = postgresql.new_database()
    api = stand_in(match_rate=1.0)
    planner = enricher(api, ledger=where)
    assert planner.plan(LEADS).to_ask == 30
    assert "new and empty" in str(planner.opening.warning)
    engine = sa.create_engine(where.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []
    enricher(api, ledger=where).enrich_dataframe(LEADS[:20])
    assert planner.plan(LEADS).to_ask == 10
