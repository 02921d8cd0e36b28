"""The public calls, as type checkers and so editors see them."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

CALLS = Path(__file__).with_name("typed_api.py")
ROOT = Path(__file__).parents[1]
# They read what pandas, pyarrow and dagster say of their types.
pytestmark = pytest.mark.timeout(600)

# What our calls do not show is not read: that takes a third of the time.
MYPY_SETTINGS = """\
[mypy]
ignore_missing_imports = true
follow_imports = silent

[mypy-click.*,dagster.*,dagster_shared.*,dlt.*,flask.*,pandera.*,pydantic.*,requests.*,sqlalchemy.*,urllib3.*]
follow_imports = skip
"""

Messages = dict[int, str]


def by_line(found: Iterable[tuple[int, str]]) -> Messages:
    """All messages of a line together: of an overloaded function there are several."""
    messages: Messages = {}
    for line, message in found:
        messages[line] = messages.get(line, "") + message
    return messages


def expected() -> Messages:
    """The word that each line's message must hold."""
    lines = enumerate(CALLS.read_text("utf-8").splitlines(), start=1)
    found = ((number, re.search(r"# error: (\w+)$", line)) for number, line in lines)
    return {number: match[1] for number, match in found if match}


def from_mypy(folder: Path) -> Messages:
    """The messages of mypy, by line."""
    settings = folder / "mypy.ini"
    settings.write_text(MYPY_SETTINGS)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(settings),
        "--cache-dir",
        str(folder / "cache"),
    ]
    ended = subprocess.run(
        [*command, "--no-error-summary", "--hide-error-context", str(CALLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    found = re.findall(rf"{CALLS.name}:(\d+): error: (.*)", ended.stdout)
    return by_line((int(line), message) for line, message in found)


def from_pyright(folder: Path) -> Messages:
    """The messages of pyright, by line."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(CALLS)]
    # Not in the tree, whose own settings are for its own code.
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    report = json.loads(ended.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    errors = [found for found in report["generalDiagnostics"] if found["severity"] == "error"]
    return by_line((found["range"]["start"]["line"] + 1, found["message"]) for found in errors)


CHECKERS = {
    "mypy": pytest.param(
        from_mypy,
        marks=pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy"),
    ),
    "pyright": pytest.param(
        from_pyright,
        # It would fetch one, which not every machine may.
        marks=pytest.mark.skipif(shutil.which("node") is None, reason="pyright runs on Node"),
    ),
}


@pytest.mark.parametrize("check", CHECKERS.values(), ids=CHECKERS.keys())
def test_good_calls_pass_and_wrong_ones_are_told(check, tmp_path):
    words = expected()
    messages = check(tmp_path)
    unexpected = {line: message for line, message in messages.items() if line not in words}
    assert unexpected == {}
    assert sorted(messages) == sorted(words)
    assert {line for line, word in words.items() if word not in messages[line]} == set()
