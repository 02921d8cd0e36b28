import csv
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from dagster_dg_cli.cli import create_dg_cli

from eb_dagster import Enricher

PROJECT = Path(__file__).parents[1] / "example_project"
# In days: a moment, so that whatever was bought before is old.
AT_ONCE = 1e-8
# Dagster's own, when it reads a defs.yaml.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
]


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
        "EXACTBUYER_API_KEY": "sandbox", "DAGSTER_HOME": home, "HOME": home,
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    before = sorted(PROJECT.rglob("data/*"))
    yield api, data
    assert sorted(PROJECT.rglob("data/*")) == before


@pytest.fixture
def definitions(example):  # noqa: ARG001 - it sets where everything is
    """The definitions, loaded for this data folder."""
    yield importlib.import_module("example_project.definitions").defs()
    for name in [name for name in sys.modules if name.startswith("example_project")]:
        del sys.modules[name]


def command(*words: str) -> str:
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dg_command(*words: str) -> str:
    return command(str(Path(sys.executable).with_name("dg")), *words)


def enrich(definitions: dg.Definitions, **launched) -> dict:
    """Run the daily job and return the figures of the enrichment."""
    job = definitions.resolve_job_def("enrich_contacts")
    config = {"ops": {"enriched_contacts": {"config": launched}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=config)
    (made,) = result.asset_materializations_for_node("enriched_contacts")
    return {name: value.value for name, value in made.metadata.items()}


def ask(data: Path, query: str) -> list[tuple]:
    with duckdb.connect(str(data / "warehouse.duckdb")) as warehouse:
        return warehouse.execute(query).fetchall()


@pytest.mark.usefixtures("definitions")
def test_dg_finds_nothing_wrong(monkeypatch):
    monkeypatch.chdir(PROJECT)
    checked = CliRunner().invoke(create_dg_cli(), ["check", "yaml"])
    assert "validated successfully" in checked.output, checked.output
    assert "loaded successfully" in dg_command("check", "defs")


def test_dg_launch_makes_every_table(example):
    _, data = example
    dg_command("launch", "--assets", "*")
    assert pq.read_metadata(data / "enriched_contacts.parquet").num_rows == 300
    assert pq.read_metadata(data / "enriched_attendees.parquet").num_rows == 60
    assert ask(data, "SELECT count(*) > 0 FROM contacts") == [(True,)]


def test_the_main_job_shows_plan_report_paths_and_five_rows(example, monkeypatch):
    _, data = example
    monkeypatch.setenv("EXACTBUYER_BASE_URL", "http://127.0.0.1:0")
    shown = command(sys.executable, str(PROJECT / "run.py"))
    for words in ("credits at most", "credits_charged", str(data / "enriched_contacts.parquet"), "company"):
        assert words in shown
    assert "DEBUG" not in shown
    assert (data / "sandbox-bill.db").exists()


def test_a_port_that_is_taken_is_told_with_another_one(example, monkeypatch):
    api, _ = example
    monkeypatch.setenv("EXACTBUYER_BASE_URL", api.url)
    words = [sys.executable, str(PROJECT / "run.py")]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    port = urlsplit(api.url).port or 0
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"port {port} is taken, most likely by a sandbox that runs already: use that, stop it, or choose another "
        f"port, as in EXACTBUYER_BASE_URL=http://127.0.0.1:{port + 1}"
    )


def test_a_second_run_costs_nothing_and_adds_no_row(example, definitions):
    api, data = example
    enrich(definitions)
    before = api.requests(), api.credits(), ask(data, "SELECT count(*) FROM contacts")
    assert enrich(definitions)["exactbuyer/credits_charged"] == 0
    assert before == (api.requests(), api.credits(), ask(data, "SELECT count(*) FROM contacts"))
    assert ask(data, "SELECT count(*) FROM contacts GROUP BY lead_id HAVING count(*) > 1") == []


def test_the_sensor_enriches_new_leads_only(example, definitions):
    api, data = example
    sensor = definitions.resolve_sensor_def("new_leads")

    def tick(cursor):
        with dg.build_sensor_context(cursor=cursor, definitions=definitions) as context:
            (sensor_data := sensor.evaluate_tick(context))
        return len(sensor_data.run_requests), sensor_data.cursor

    asked, cursor = tick(None)
    assert asked == 1
    enrich(definitions)
    assert tick(cursor) == (0, cursor)
    with (data / "leads.csv").open("a", encoding="utf-8") as leads:
        leads.writelines(f"N{number},New,,new{number}@canary.example,\n" for number in range(5))
    asked, _ = tick(cursor)
    assert asked == 1
    before = api.credits(), api.requests()
    enrich(definitions)
    assert 0 < api.credits() - before[0] <= 5
    assert api.requests() - before[1] == 1


def test_the_monthly_refresh_stays_inside_its_budget_and_finds_job_changes(example, definitions):
    api, data = example
    schedule = definitions.resolve_schedule_def("monthly_refresh")
    (request,) = schedule.evaluate_tick(dg.build_schedule_context()).run_requests
    assert request.run_config["ops"]["enriched_contacts"]["config"] == {
        "max_age_days": 90.0,
        "max_credits": 2000,
        "dry_run": False,
    }
    enrich(definitions)
    ask(data, "UPDATE contacts SET eb_company_name = 'Old Corp'")
    before = api.credits()
    enrich(definitions, max_age_days=AT_ONCE, max_credits=7)
    assert api.credits() - before == 7
    changes = ask(data, "SELECT old_company, new_company, old_title = new_title FROM job_changes")
    assert 0 < len(changes) <= 7
    assert {old for old, _, _ in changes} == {"Old Corp"}
    assert "Old Corp" not in {new for _, new, _ in changes}
    enrich(definitions)
    assert len(ask(data, "FROM job_changes")) == len(changes)


def test_a_forgotten_person_is_gone_from_the_warehouse_after_the_next_run(example, definitions):
    api, data = example
    enrich(definitions)
    ask(data, "UPDATE contacts SET eb_company_name = 'Old Corp'")
    enrich(definitions, max_age_days=AT_ONCE, max_credits=7)
    ((person, leads, moved),) = ask(
        data,
        "SELECT eb_linkedin_url, count(*), count(j.lead_id) FROM contacts LEFT JOIN job_changes j USING (lead_id) "
        "WHERE eb_linkedin_url IS NOT NULL GROUP BY 1 ORDER BY 3 DESC LIMIT 1",
    )
    assert moved > 0
    counts = "SELECT (SELECT count(*) FROM contacts), (SELECT count(*) FROM job_changes)"
    ((rows, changes),) = ask(data, counts)
    with Enricher(base_url=api.url) as enricher:
        enricher.forget("social_profile", person)
    enrich(definitions)
    assert ask(data, counts) == [(rows - leads, changes - moved)]


def test_the_contacts_can_be_loaded_alone(example, definitions):
    _, data = example
    enrich(definitions)
    (data / "warehouse.duckdb").unlink()
    alone = definitions.resolve_asset_graph().get(dg.AssetKey("contacts")).assets_def
    assert dg.materialize([alone], selection=["contacts"]).success
    assert ask(data, "SELECT count(*) > 0 FROM contacts") == [(True,)]


def test_another_warehouse_is_one_line_of_configuration(example, postgresql, monkeypatch, request):
    _, data = example
    url = urlsplit(postgresql.new_database())
    # On a socket. In dlt's own form, an address has a host and a password.
    address = f"postgresql://{url.username or 'postgres'}:none@localhost{url.path}?{url.query}"
    monkeypatch.setenv("EXAMPLE_WAREHOUSE", address)
    definitions = request.getfixturevalue("definitions")

    def rows(query: str) -> list[tuple]:
        return postgresql.run(query, name=url.path.strip("/"))

    enrich(definitions)
    ((before,),) = rows("SELECT count(*) FROM main.contacts")
    assert before > 0
    rows("UPDATE main.contacts SET eb_company_name = 'Old Corp' RETURNING 1")
    enrich(definitions, max_age_days=AT_ONCE, max_credits=7)
    assert rows("SELECT count(*) FROM main.contacts") == [(before,)]
    assert {old for (old,) in rows("SELECT old_company FROM main.job_changes")} == {"Old Corp"}
    assert not (data / "warehouse.duckdb").exists()


def test_the_ten_lines_buy_from_a_warehouse_and_load_into_it(stand_in, tmp_path, monkeypatch):
    warehouse = tmp_path / "crm_warehouse.duckdb"
    with duckdb.connect(str(warehouse)) as database:
        database.execute(
            "CREATE TABLE leads AS SELECT n AS id, 'p' || n || '@firm.example' AS email FROM range(20) t(n)"
        )
    api = stand_in(match_rate=1.0)
    for name, value in {
        "WAREHOUSE": f"duckdb:///{warehouse}", "EXACTBUYER_API_KEY": "sandbox", "EXACTBUYER_BASE_URL": api.url,
        "EB_DAGSTER_LEDGER": tmp_path / "ledger.db",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    copy = tmp_path / "definitions.py"
    copy.write_text((PROJECT / "ten_lines" / "definitions.py").read_text())
    spec = importlib.util.spec_from_file_location("ten_lines", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for _ in range(2):
        assert module.defs.resolve_implicit_global_asset_job_def().execute_in_process().success
        with duckdb.connect(str(warehouse)) as database:
            assert database.execute("SELECT count(*), count(DISTINCT id) FROM crm.contacts").fetchall() == [
                (20, 20)
            ]
    assert api.credits() == 20
