import ctypes
import os
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from eb_dagster.cli.commands import main


def test_help_answers_at_once():
    heavy = "{'pandas', 'pyarrow', 'dagster', 'sqlalchemy', 'numpy', 'tqdm', 'requests', 'pandera'}"
    code = f"import sys\ntry:\n    from eb_dagster.cli import main; main(['--help'])\nfinally:\n    print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("set()\n")
    assert "Exit codes" in ran.stdout
    assert "_EB_DAGSTER_COMPLETE=bash_source" in ran.stdout


def every_command(command, path=()):
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from every_command(below, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(every_command(main)))
def test_every_command_explains_itself_by_h_and_help_alike(path, command):
    short, long = (CliRunner().invoke(main, [*path, flag]) for flag in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    assert all(option.help for option in command.params if isinstance(option, click.Option)), path


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["enrch", "leads.csv"], "enrich"),
        (["ledger", "rezolve"], "resolve"),
        (["docter"], "doctor"),
        (["plan", "leads.csv", "--max-credit", "5"], "--max-credits"),
        (["enrich", "leads.csv", "--emial", "Mail"], "--email"),
    ],
)
def test_a_misspelt_command_or_option_is_told_what_was_meant(words, meant):
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert re.search(rf"(?i)did you mean.*{meant}", refused.output), refused.output


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="this is not glibc")
def test_a_command_has_one_heap_for_all_of_its_threads():
    code = """
import contextlib, ctypes, threading
from eb_dagster.cli import main
with contextlib.suppress(SystemExit):
    main(["doctor", "--help"])
libc = ctypes.CDLL(None)
for _ in range(8):
    thread = threading.Thread(target=libc.malloc, args=(100,))
    thread.start()
    thread.join()
libc.malloc_stats()
"""
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stderr.count("Arena ") == 1
