"""`requirements.lock` is what a run of the example needs, `requirements-dev.lock` what the tests need.

That a lock holds all that its packages need in turn, pip checks whenever it installs from one with hashes.
"""

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXAMPLE, TESTS = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"


def pyproject(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


def locked(lock: Path) -> set[tuple[str, str]]:
    """Names and versions. A package may be there once for each version of Python."""
    return set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,]+\])?==(\S+)", lock.read_text("utf-8"), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {Requirement(text).name for text in requirements}


def package(*extras: str) -> list[str]:
    """What the package requires with these extras."""
    project = pyproject(ROOT)["project"]
    optional = (project["optional-dependencies"][extra] for extra in extras)
    return [*project["dependencies"], *chain.from_iterable(optional)]


def group(name: str) -> list[str]:
    """The requirements of a dependency group and of those that it includes."""
    entries = pyproject(ROOT)["dependency-groups"][name]
    included = (group(entry["include-group"]) for entry in entries if isinstance(entry, dict))
    return [*(entry for entry in entries if isinstance(entry, str)), *chain.from_iterable(included)]


def of_example() -> list[str]:
    return pyproject(ROOT / "example_project")["project"]["dependencies"]


def test_the_lock_of_the_example_has_what_its_project_declares():
    (ours,) = [
        requirement for requirement in map(Requirement, of_example()) if requirement.name == "eb-dagster"
    ]
    declared = names([*of_example(), *package(*ours.extras)]) - {"eb-dagster"}
    assert declared <= {name for name, _ in locked(EXAMPLE)}


def test_the_lock_of_the_tests_has_what_they_declare():
    declared = names(
        [*package(*pyproject(ROOT)["project"]["optional-dependencies"].keys() - {"spark"}), *group("dev")]
    )
    assert declared <= {name for name, _ in locked(TESTS)}


def test_the_group_of_the_example_is_what_its_project_declares_beyond_the_package():
    assert names(group("example")) == names(of_example()) - {"eb-dagster", "dagster"}


def test_the_tests_run_with_the_versions_of_the_example():
    assert locked(EXAMPLE) <= locked(TESTS)


@pytest.mark.parametrize("lock", [EXAMPLE, TESTS], ids=lambda lock: lock.name)
def test_a_lock_names_no_registry_and_no_path_and_every_package_has_hashes(lock: Path):
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert re.findall(r"^-.*", text, re.MULTILINE) == []
    for entry in re.split(r"\n(?=[a-z])", text):
        assert "--hash=sha256:" in entry
