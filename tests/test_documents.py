"""README.md and docs/ are right: every snippet runs, every link leads somewhere, tables are as the code has them."""

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import duckdb
import pandas as pd
import pytest

import eb_dagster
from tests.documents import DOCS, FENCE, PARTS, README, ROOT, pages, part_names, snippets, with_parts

# What sets up an environment: the check runs the one, the main job's own test the other.
SETS_UP = re.compile(r"^python3 -m venv", re.MULTILINE)

# As they read what is typed: an interactive zsh knows no comments and expands more. Quitting at the first error.
SHELLS = {
    "bash": ["bash", "-euo", "pipefail", "-s"],
    "zsh": ["zsh", "-f", "-i", "-euo", "pipefail", "-s"],
}
README_OF_EXAMPLE = ROOT / "example_project" / "README.md"
EVERY_PAGE = [*pages(), README_OF_EXAMPLE]
in_each_shell = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"there is no {name} here")
        )
        for name in SHELLS
    ],
)
on_each_page = pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(ROOT)))

# In the reader's own project.
OF_THE_READER = {"src/my_project/defs/enriched.py"}

# Run where Spark is: in tests/test_spark.py.
SPARK = "eb_dagster.spark"
TEST = "def test_"


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


@on_each_page
def test_what_is_made_from_the_code_is_as_the_code_has_it(page):
    text = page.read_text("utf-8")
    assert with_parts(text) == text


def test_every_part_has_one_place():
    placed = [name for page in pages() for name in part_names(page.read_text("utf-8"))]
    assert sorted(placed) == sorted(PARTS)
    marks = [
        mark for page in pages() for mark in re.findall(r"^<!-- .*", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(marks) == 2 * len(PARTS)


def test_the_readme_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 180


def test_the_map_has_every_room_in_the_order_of_the_layers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    layers = [layer.replace(" | ", " · ") for layer in contract["layers"]]
    (drawing,) = snippets("text")
    assert re.findall(r"^(.+?)(?: {2,}.*)?$", drawing, re.MULTILINE) == layers
    assert re.findall(r"^ {4}(\S.*?)(?: {2,}.*)?$", eb_dagster.__doc__ or "", re.MULTILINE) == layers


@pytest.mark.parametrize(
    "room", sorted((ROOT / "eb_dagster").glob("*/__init__.py")), ids=lambda it: it.parent.name
)
def test_every_room_lists_its_files(room):
    said = ast.get_docstring(ast.parse(room.read_text("utf-8"))) or ""
    lists = re.findall(r"^- ((?:`\w+`(?:, )?)+): ", said, re.MULTILINE)
    named = [name for listed in lists for name in re.findall(r"\w+", listed)]
    assert sorted(named) == sorted(file.stem for file in room.parent.glob("*.py") if file != room)


def test_no_snippet_is_left_out():
    texts = [page.read_text("utf-8") for page in pages()]
    fences = [fence for text in texts for fence in re.findall(r"^\s*```(\w*)$", text, re.MULTILINE)]
    # Text is a drawing. A fence without a language would not be run.
    assert set(fences[::2]) == {"python", "sh", "text"}
    assert set(fences[1::2]) == {""}
    assert len(snippets("python")) == 15
    assert len(snippets("sh")) == 5
    assert len(snippets("text")) == 1
    # A call that stands in a sentence would not be run.
    for text in texts:
        sentences = FENCE.sub("", text)
        assert (
            re.findall(r"`(?:eb_dagster\.)?\w+\.load_contacts\([^`]+|`load_contacts\([^`]+", sentences) == []
        )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in snippets("python") if SPARK not in snippet and TEST not in snippet],
)
# They are dlt's own, and those of the libraries under it.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_python_snippet_runs(snippet):
    names = {}
    if "contacts.parquet" in snippet and "load_contacts" in snippet:
        leads = pd.read_csv("leads.csv", dtype=str).rename(columns={"Work E-Mail": "email"})
        leads.to_parquet("leads.parquet", index=False)
        with eb_dagster.Enricher() as enricher:
            enricher.enrich_parquet("leads.parquet", "contacts.parquet")
    exec(compile(snippet, "a document", "exec"), names)
    if "defs" in names:
        run = names["defs"].resolve_implicit_global_asset_job_def().execute_in_process()
        assert run.success
        assert [schedule.name for schedule in names["defs"].schedules or ()] in (["every_morning"], [])
    if Path("data").exists():
        contacts = pd.read_parquet("data/enriched_contacts.parquet")
    elif not names.keys().isdisjoint({"load_contacts", "enrich_query"}):
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


def test_the_test_of_a_job_passes(tmp_path):
    (snippet,) = [snippet for snippet in snippets("python") if TEST in snippet]
    (tmp_path / "test_job.py").write_text(snippet)
    # Named, because a package that is not installed has no plugins.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "eb_dagster.sandbox.pytest_plugin",
        "-p",
        "no:eb_dagster",
    ]
    ran = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


@in_each_shell
@on_each_page
def test_a_shell_can_read_every_snippet(shell, page):
    for fence in FENCE.finditer(page.read_text("utf-8")):
        if fence["language"] != "sh":
            continue
        read = subprocess.run([shell, "-n"], input=fence["text"], capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")
        # To an interactive zsh, these are words like others.
        assert not re.search(r"(^|\s)#", fence["text"])


def test_the_readme_of_the_example_has_snippets():
    assert len(FENCE.findall(README_OF_EXAMPLE.read_text("utf-8"))) == 2


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
    (snippet,) = [snippet for snippet in snippets("sh") if "CLONE" in snippet]
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
@pytest.mark.parametrize("snippet", [snippet for snippet in snippets("sh") if not SETS_UP.search(snippet)])
def test_a_shell_snippet_runs(shell, snippet, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = snippet.replace("8765", str(port)).replace("dagster sandbox", f"dagster sandbox --port {port}")
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
    assert (tmp_path / "report.html").exists() or "--report" not in snippet
    assert "credits charged" in said
    if "resolve" in snippet:
        assert "exit code 3" in said
        assert "up to 2 credits in 1 request" in said
        assert contacts["eb_status"].tolist() == ["matched", "matched"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@on_each_page
def test_every_link_leads_somewhere(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(file), target
        # The site has only its own pages.
        assert not page.is_relative_to(DOCS) or file.is_relative_to(DOCS), target


@on_each_page
def test_every_anchor_is_the_only_one_of_its_page(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    assert len(re.findall(r"^#+ .+$", text, re.MULTILINE)) == len(anchors(page))


def exists(file: str) -> bool:
    """The documents name files of the package from its own folder too."""
    return (ROOT / file).exists() or (ROOT / "eb_dagster" / file).exists()


@on_each_page
def test_every_file_that_a_page_names_exists(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*\w\.(?:py|md|csv|jsonl|toml|yaml))`", text))
    assert sorted(file for file in named - OF_THE_READER if not exists(file)) == []


def test_the_site_can_be_built(tmp_path):
    pytest.importorskip("mkdocs", reason="the group docs is not installed")
    pytest.importorskip("material", reason="the group docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(ROOT / "mkdocs.yml")]
    built = subprocess.run(
        [*command, "-d", str(tmp_path / "site")], capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "how-to" / "add-a-column" / "index.html").exists()
