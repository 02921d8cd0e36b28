"""What a user may import is one list, and nothing else is offered."""

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import eb_dagster

FILE = Path(eb_dagster.__file__)
HEAVY = ("click", "dagster", "numpy", "pandas", "pandera", "pyarrow", "requests", "sqlalchemy")
PATHS = ("eb_dagster", "eb_dagster.errors", "eb_dagster.sandbox", "eb_dagster.spark", "eb_dagster.warehouse")


def names_for_type_checkers() -> dict[str, str]:
    """The names below `if TYPE_CHECKING:`, each with the module that it is imported from."""
    blocks = [
        node
        for node in ast.parse(FILE.read_text("utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        str(alias.asname): str(statement.module)
        for block in blocks
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def run(program: str) -> str:
    """What a new process prints."""
    return subprocess.check_output([sys.executable, "-c", program], text=True).strip()


def test_the_public_names_are_sorted_and_each_is_there_once():
    assert eb_dagster.__all__ == sorted(set(eb_dagster.__all__))


@pytest.mark.parametrize("name", eb_dagster.__all__)
def test_a_public_name_can_be_imported_and_says_what_it_is(name):
    value = getattr(eb_dagster, name)
    own = vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
    assert own
    assert not name.startswith("_")


def test_type_checkers_and_editors_are_told_every_public_name():
    assert sorted(names_for_type_checkers()) == eb_dagster.__all__


@pytest.mark.parametrize(("name", "module"), sorted(names_for_type_checkers().items()))
def test_type_checkers_look_where_the_name_comes_from(name, module):
    assert getattr(importlib.import_module(module), name) == getattr(eb_dagster, name)


def test_nothing_else_is_offered():
    offered = run("import eb_dagster; print(*(name for name in dir(eb_dagster) if not name.startswith('_')))")
    assert sorted(offered.split()) == eb_dagster.__all__


def test_a_name_that_is_not_there_is_an_attribute_error():
    misspelt = "Enriches"
    with pytest.raises(AttributeError, match=f"'eb_dagster' has no attribute '{misspelt}'"):
        getattr(eb_dagster, misspelt)


@pytest.mark.parametrize("path", PATHS)
def test_a_public_path_is_there(path):
    assert importlib.util.find_spec(path) is not None


def test_the_package_alone_loads_nothing_heavy():
    loaded = run(f"import sys, eb_dagster; print(*(name for name in {HEAVY!r} if name in sys.modules))")
    assert loaded == ""
