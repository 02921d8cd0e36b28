"""`tests/lowest.txt` cannot go stale: it names each floor of pyproject.toml, and no other version."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def floors() -> dict[str, str]:
    """The first version of each direct dependency, as pyproject.toml writes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = [
        *project["dependencies"],
        *(requirement for extra in project["optional-dependencies"].values() for requirement in extra),
    ]
    found: dict[str, str] = {}
    for requirement in listed:
        parts = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z,]+\])?>=([0-9.]+)", requirement)
        assert parts, f"{requirement}: the tests know only name>=version"
        found[parts[1]] = parts[2]
    return found


def pinned() -> dict[str, str]:
    lines = (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def release(version: str) -> list[int]:
    """2.2 is 2.2.0."""
    return ([int(part) for part in version.split(".")] + [0, 0, 0])[:3]


def test_the_lowest_versions_are_the_floors():
    assert {name: release(version) for name, version in pinned().items()} == {
        name: release(version) for name, version in floors().items()
    }


def test_its_head_says_how_to_run_it():
    head = (ROOT / "tests" / "lowest.txt").read_text("utf-8").partition("click==")[0]
    assert "-c tests/lowest.txt" in head
    assert "--group dev" in head
