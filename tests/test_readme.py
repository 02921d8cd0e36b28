"""The README is run: every snippet, and what is made from the code is as the code has it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

import eb_dagster
from tests.readme import text, with_parts

# What sets up an environment: the check runs the one, the main job's own test the other.
SETS_UP = re.compile(r"^python3 -m venv", re.MULTILINE)

# As they read what is typed: an interactive zsh knows no comments and expands more. Quitting at the first error.
SHELLS = {
    "bash": ["bash", "-euo", "pipefail", "-s"],
    "zsh": ["zsh", "-f", "-i", "-euo", "pipefail", "-s"],
}
README_OF_EXAMPLE = Path(__file__).parents[1] / "example_project" / "README.md"
in_each_shell = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"there is no {name} here")
        )
        for name in SHELLS
    ],
)

# Run where Spark is: in tests/test_spark.py.
SPARK = "eb_dagster.spark"


def snippets(language: str, readme: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", readme or text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch, stand_in):
    """An empty folder, where the environment names a sandbox, and the leads that the README makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXACTBUYER_BASE_URL", stand_in(match_rate=1.0).url)
    monkeypatch.setenv("EXACTBUYER_API_KEY", "canary-key")
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "ledger.db"))
    Path("leads.csv").write_text(
        "Name,Work E-Mail,LinkedIn URL,Mobile\nAda,ada@firm.example,linkedin.com/in/ada-example,\n"
        "Bo,bo@firm.example,,0170 5550145\n"
    )
    with duckdb.connect("warehouse.duckdb") as warehouse:
        warehouse.sql("""CREATE TABLE leads AS SELECT Name, "Work E-Mail" AS email FROM 'leads.csv'""")
    return tmp_path


def test_what_is_made_from_the_code_is_as_the_code_has_it():
    assert with_parts(text()) == text()


def test_no_snippet_is_left_out():
    fences = re.findall(r"^```(\w*)$", text(), re.MULTILINE)
    assert set(fences[::2]) == {"python", "sh"}
    assert len(snippets("python")) == 6
    assert len(snippets("sh")) == 4
    # A call that stands in a sentence would not be run.
    sentences = re.sub(r"^```.*?^```$", "", text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"`(?:eb_dagster\.)?\w+\.load_contacts\([^`]+|`load_contacts\([^`]+", sentences) == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("snippet", [one for one in snippets("python") if SPARK not in one])
# They are dlt's own, and those of the libraries under it.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_python_snippet_runs(snippet):
    names = {}
    if "contacts.parquet" in snippet and "load_contacts" in snippet:
        leads = pd.read_csv("leads.csv", dtype=str).rename(columns={"Work E-Mail": "email"})
        leads.to_parquet("leads.parquet", index=False)
        with eb_dagster.Enricher() as enricher:
            enricher.enrich_parquet("leads.parquet", "contacts.parquet")
    exec(compile(snippet, "README.md", "exec"), names)
    if "defs" in names:
        run = names["defs"].resolve_implicit_global_asset_job_def().execute_in_process()
        assert run.success
        assert [one.name for one in names["defs"].schedules or ()] in (["every_morning"], [])
    if Path("data").exists():
        contacts = pd.read_parquet("data/enriched_contacts.parquet")
    elif "load_contacts" in names:
        with duckdb.connect("crm.duckdb") as warehouse:
            loaded = warehouse.sql(
                "SELECT name, eb_full_name FROM crm.sales.contacts ORDER BY name"
            ).fetchall()
        assert [name for name, full_name in loaded if full_name] == ["Ada", "Bo"]
        return
    elif "warehouse" in names:
        table = "crm.contacts" if "defs" in names else "contacts"
        with duckdb.connect("warehouse.duckdb") as warehouse:
            contacts = warehouse.sql(f"FROM {table}").to_arrow_table().to_pandas()
    else:
        contacts = names["contacts"]
    assert contacts["Name"].tolist() == ["Ada", "Bo"]
    assert contacts["eb_status"].tolist() == ["matched", "matched"]
    assert contacts["eb_full_name"].notna().all()


@in_each_shell
@pytest.mark.parametrize("readme", ["", README_OF_EXAMPLE.read_text("utf-8")])
def test_a_shell_can_read_every_snippet(shell, readme):
    assert snippets("sh", readme)
    for snippet in snippets("sh", readme):
        read = subprocess.run([shell, "-n"], input=snippet, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")
        # To an interactive zsh, these are words like others.
        assert not re.search(r"(^|\s)#", snippet)


def words_of(shell: str, lines: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """The lines, typed into a shell."""
    typed = folder / "typed"
    typed.write_text(lines)
    with typed.open() as lines_in:
        return subprocess.Popen(
            SHELLS[shell], cwd=folder, env={**os.environ, **environment}, stdin=lines_in,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip


@in_each_shell
@pytest.mark.parametrize("clone", [None, "/srv/a clone"])
def test_the_package_is_installed_with_its_sandbox_from_where_the_clone_is(shell, clone, tmp_path):
    (snippet,) = [one for one in snippets("sh") if "CLONE" in one]
    # Not for real: that takes a minute. They tell what they were given.
    for name in ("python3", ".venv/bin/pip"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\nprintf '%s|' {name} \"$@\"\necho\n")
        program.chmod(0o755)
    home = {"HOME": "/home/me", "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment = home if clone is None else {**home, "CLONE": clone}
    typed = words_of(shell, snippet + 'echo "$PATH"\n', tmp_path / "bin", **environment)
    said, _ = typed.communicate(timeout=60)
    assert typed.returncode == 0, said
    assert f".venv/bin/pip|install|-q|{clone or '/home/me/eb_dagster'}[sandbox]|" in said
    assert f"{tmp_path / 'bin'}/.venv/bin:" in said


@in_each_shell
@pytest.mark.parametrize("snippet", [one for one in snippets("sh") if not SETS_UP.search(one)])
def test_a_shell_snippet_runs(shell, snippet, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = snippet.replace("8765", str(port)).replace("sandbox &", f"sandbox --port {port} &")
    assert shutil.which("eb-dagster", path=Path(sys.executable).parent)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    typed = words_of(shell, lines, tmp_path, PATH=path)
    try:
        typed.wait(timeout=120)
    finally:
        # The sandbox that the snippet leaves behind.
        os.killpg(typed.pid, signal.SIGTERM)
        said, _ = typed.communicate(timeout=30)
    assert typed.returncode == 0, said
    assert "Traceback" not in said
    contacts = pd.read_csv(tmp_path / "contacts.csv")
    assert contacts["Name"].tolist() == ["Ada", "Bo"]
    assert (tmp_path / "report.html").exists()
    assert "credits charged" in said


def test_a_link_inside_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", text()):
        assert target.startswith("https://") or (Path(__file__).parents[1] / target).exists()
