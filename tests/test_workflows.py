"""What runs in continuous integration, and what contributors type, agrees with the rest of the tree."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [
    path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINNED = re.compile(r"(@v\d+|@release/v\d+|@[0-9a-f]{40})$")
# Never where a stranger's pull request runs.
STRONG_PERMISSIONS = {"publish": {"id-token": "write"}, "deploy": {"pages": "write", "id-token": "write"}}

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text("utf-8"))
    # YAML 1.1 reads the key `on` as true.
    return {("on" if key is True else key): value for key, value in content.items()}


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return read(path)["jobs"]


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job.get("steps", [])


def commands(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def matrices() -> list[dict[str, list[str]]]:
    every_job = [job for path in WORKFLOWS for job in jobs(path).values()]
    return [job["strategy"]["matrix"] for job in every_job if "strategy" in job]


def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {
        function.name
        for function in functions
        if any("nox.session" in ast.unparse(decorator) for decorator in function.decorator_list)
    }


def classified_pythons() -> list[str]:
    named = [
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in PROJECT["classifiers"]
    ]
    return [match[1] for match in named if match]


def test_every_python_that_is_promised_is_tested_and_no_other():
    assert len(matrices()) == 2
    for matrix in matrices():
        assert matrix["python"] == classified_pythons()
        assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_the_lowest_python_is_the_one_that_the_package_requires():
    assert PROJECT["requires-python"] == f">={classified_pythons()[0]}"
    fixed = {
        step["with"]["python-version"]
        for path in WORKFLOWS
        for step in steps(path)
        if "setup-python" in step.get("uses", "")
    }
    assert fixed == {classified_pythons()[0], "${{ matrix.python }}"}


@each_workflow
def test_every_session_that_a_workflow_runs_is_in_the_noxfile(path):
    named = {name for command in commands(path) for name in re.findall(r"nox -s ([\w ]+)", command)}
    assert {session for names in named for session in names.split()} <= sessions()


@each_workflow
def test_every_file_that_a_workflow_runs_is_there(path):
    programs = [command.split()[0] for command in commands(path)]
    in_the_tree = [program for program in programs if "/" in program]
    assert [program for program in in_the_tree if not (ROOT / program).exists()] == []
    called = [job["uses"] for job in jobs(path).values() if "uses" in job]
    assert [name for name in called if not (ROOT / name).exists()] == []


@each_workflow
def test_every_action_is_pinned_and_leaves_no_credentials_behind(path):
    actions = [step for step in steps(path) if "uses" in step]
    assert [step["uses"] for step in actions if not PINNED.search(step["uses"])] == []
    checkouts = [step for step in actions if step["uses"].startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_workflow
def test_a_workflow_may_only_read_except_where_it_publishes(path):
    assert read(path)["permissions"] == {"contents": "read"}
    given = {name: job["permissions"] for name, job in jobs(path).items() if "permissions" in job}
    assert given == {name: STRONG_PERMISSIONS[name] for name in given}
    for name in given:
        # No code of the tree is run there.
        assert [step for step in jobs(path)[name]["steps"] if "run" in step] == []


def test_a_release_is_published_by_its_tag_alone():
    publish = read(ROOT / ".github" / "workflows" / "publish.yml")
    assert publish["on"] == {"push": {"tags": ["v*"]}}
    assert set(publish["jobs"]["publish"]["needs"]) == {"check", "build"}


def test_the_sessions_with_unlocked_versions_install_what_the_lowest_ones_are_for():
    head = (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines()[1]
    extras = re.search(r'-e "\.\[([a-z,]+)\]"', head)
    assert extras
    assert f'EXTRAS = "{extras[1]}"' in (ROOT / "noxfile.py").read_text("utf-8")


def test_contributors_are_told_every_short_command_on_one_screen():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == sessions()
    assert len(text.splitlines()) <= 50


def test_every_lock_that_is_to_be_installed_is_there():
    readers = [*WORKFLOWS, ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / ".ci" / "run"]
    named = {lock for path in readers for lock in re.findall(r"-r (\S+\.lock)", path.read_text("utf-8"))}
    assert "requirements-dev.lock" in named
    assert [lock for lock in sorted(named) if not (ROOT / lock).exists()] == []


def test_pre_commit_formats_as_the_lock_does():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    ruff = next(hook for hook in hooks if hook["repo"].endswith("/ruff-pre-commit"))
    locks = [path.read_text("utf-8") for path in ROOT.glob("requirements*.lock")]
    locked = {version for lock in locks for version in re.findall(r"^ruff==(\S+)", lock, re.MULTILINE)}
    assert locked == {ruff["rev"].removeprefix("v")}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_every_form_asks_for_no_keys_and_no_people(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [item["id"] for item in form["body"] if item["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    text = path.read_text("utf-8").lower()
    assert "people" in text
    assert "key" in text


def test_whoever_paid_twice_is_told_first_to_keep_the_ledger():
    first = read(ROOT / ".github" / "ISSUE_TEMPLATE" / "paid-twice.yml")["body"][0]
    assert first["attributes"]["value"].startswith(
        "**Stop the runs on this ledger, and keep the ledger as it is**"
    )
