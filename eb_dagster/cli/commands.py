"""`eb-dagster …`: the commands of the shell.

The plan, the report, or with --json one JSON object go to stdout; everything else goes to stderr. What is
slow to import is imported where it is used, so that --help answers at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

import click

from eb_dagster import __version__
from eb_dagster.cli.dbt import dbt_sources
from eb_dagster.cli.doctor import doctor
from eb_dagster.cli.enrich import enrich, plan
from eb_dagster.cli.groups import Commands
from eb_dagster.cli.init import init
from eb_dagster.cli.ledger import ledger
from eb_dagster.cli.outcome import EXIT_CODES as EXIT_CODES
from eb_dagster.cli.people import forget, reject, suppress
from eb_dagster.cli.sandbox import sandbox

_EXIT_CODE_LINES: Final = "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())
# In glibc's malloc.h.
_M_ARENA_MAX: Final = -8
# A line with \b keeps click from wrapping the paragraph below it.
_EPILOG: Final = f"""\b
Exit codes:
{_EXIT_CODE_LINES}
\b
Completion of commands, options and column names, for bash (zsh and fish likewise):
  eval "$(_EB_DAGSTER_COMPLETE=bash_source eb-dagster)"
"""


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eb-dagster")
def main() -> None:
    """Buy contacts for e-mail addresses, phone numbers and profiles from ExactBuyer, each once."""
    # Read when Arrow is imported. Its own pool keeps what was freed, which is a tenth of a run's memory. The process
    # of the command is ours to choose for; a library leaves it to its user.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Read when NumPy is imported: it starts threads that multiply matrices, of which there are none here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _share_one_heap()


def _share_one_heap() -> None:
    """Have all threads take memory from one place, where glibc is there to be told.

    Each thread that sends has its own otherwise, and what it frees stays there: another fifth of a run's memory.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        import ctypes

        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


for command in (forget, reject, suppress):
    ledger.add_command(command)
for command in (init, doctor, plan, enrich, sandbox, ledger, dbt_sources):
    main.add_command(command)
