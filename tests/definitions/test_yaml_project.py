"""A project that is YAML alone: the resource, the enriched table of a query, and the tables of a warehouse."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from eb_dagster import ContactTablesComponent, EnrichedContactsComponent, ExactBuyerResourceComponent

pytest.importorskip("dlt")

# Dagster's own, when it reads a defs.yaml, and dlt's.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ROWS = 25
RESOURCE = {
    "base_url_env": "SANDBOX_URL", "api_key_env": "SANDBOX_KEY", "ledger_env": "SANDBOX_LEDGER",
    "requests_per_minute": 60000, "max_credits_per_day": 1000,
}  # fmt: skip
ENRICHED = {
    "asset": {"key": "crm/enriched"}, "source": ["leads_table", "other_table"],
    "query": "SELECT id, mail FROM leads", "connection_env": "CRM", "path": "data/enriched.parquet",
    "identifiers": {"email": "mail"},
}  # fmt: skip
TABLES = {
    "source": "crm/enriched", "path": "data/enriched.parquet", "destination_env": "WAREHOUSE", "dataset": "sales",
    "key": "id", "key_prefix": "sales", "asset_attributes": {"group_name": "sales", "owners": ["team:data"]},
}  # fmt: skip


@pytest.fixture
def environment(stand_in, tmp_path, monkeypatch):
    """The variables that the YAML names."""
    api = stand_in(match_rate=1.0)
    crm = tmp_path / "crm.db"
    database = sqlite3.connect(crm)
    database.execute("CREATE TABLE leads (id INTEGER, mail TEXT)")
    database.executemany("INSERT INTO leads VALUES (?, ?)", [(n, f"p{n}@firm.example") for n in range(ROWS)])
    database.commit()
    database.close()
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    for name, value in {
        "SANDBOX_URL": api.url, "SANDBOX_KEY": "canary-key-88", "SANDBOX_LEDGER": str(tmp_path / "ledger.db"),
        "CRM": f"sqlite:///{crm}", "WAREHOUSE": f"duckdb:///{tmp_path / 'w.duckdb'}", "DAGSTER_HOME": str(home),
        "HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return api, tmp_path


def test_a_project_of_yaml_alone_buys_and_loads_by_dg_launch(environment):
    api, folder = environment
    project = folder / "project"
    defs = project / "src" / "my_project" / "defs"
    defs.mkdir(parents=True)
    (project / "src" / "my_project" / "__init__.py").touch()
    (defs / "__init__.py").touch()
    (project / "src" / "my_project" / "definitions.py").write_text(
        "from pathlib import Path\nfrom dagster import definitions, load_from_defs_folder\n\n\n"
        "@definitions\ndef defs():\n    return load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (project / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "my_project"\n'
    )
    for name, component, attributes in (
        ("exactbuyer", "ExactBuyerResourceComponent", RESOURCE),
        ("enriched", "EnrichedContactsComponent", ENRICHED),
        ("tables", "ContactTablesComponent", TABLES),
    ):
        (defs / name).mkdir()
        (defs / name / "defs.yaml").write_text(
            yaml.safe_dump({"type": f"eb_dagster.{component}", "attributes": attributes})
        )
    assert "successfully" in dg_command(project, "check", "yaml")
    dg_command(project, "launch", "--assets", "crm/enriched,sales/contacts,sales/contact_emails")
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as warehouse:
        assert warehouse.execute("SELECT count(*) FROM sales.contacts").fetchall() == [(ROWS,)]
        assert warehouse.execute("SHOW TABLES FROM sales").fetchall()[0] == ("_dlt_loads",)
    assert api.credits() == ROWS
    stored = b"".join(file.read_bytes() for file in (folder / "home").rglob("*") if file.is_file())
    assert b"canary-key-88" not in stored


def dg_command(project: Path, *words: str) -> str:
    program = str(Path(sys.executable).with_name("dg"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project / "src"), *sys.path])}
    done = subprocess.run(
        [program, *words],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.usefixtures("environment")
def test_definitions_point_into_the_users_yaml_and_name_no_secret():
    with create_defs_folder_sandbox() as project:
        for component, attributes in (
            (ExactBuyerResourceComponent, RESOURCE), (EnrichedContactsComponent, ENRICHED),
            (ContactTablesComponent, TABLES),
        ):  # fmt: skip
            contents = {"type": f"eb_dagster.{component.__name__}", "attributes": attributes}
            project.scaffold_component(component, defs_yaml_contents=contents)
        with project.build_all_defs() as defs:
            graph = defs.resolve_asset_graph()
            node = graph.get(dg.AssetKey(["sales", "contacts"]))
            assert node.group_name == "sales"
            assert node.owners == ["team:data"]
            assert graph.get(dg.AssetKey(["crm", "enriched"])).parent_keys == {
                dg.AssetKey("leads_table"), dg.AssetKey("other_table"),
            }  # fmt: skip
            references = node.metadata["dagster/code_references"].code_references
            assert references[0].file_path.endswith("defs.yaml")
            assert defs.resources is not None
            assert "exactbuyer" in defs.resources
            assert "canary-key-88" not in repr(defs.resources["exactbuyer"])


def test_every_field_says_what_it_is():
    for component in (ExactBuyerResourceComponent, ContactTablesComponent):
        schema = component.get_model_cls().model_json_schema()
        silent = [name for name, field in schema["properties"].items() if "description" not in field]
        assert silent in ([], ["asset_attributes"])
