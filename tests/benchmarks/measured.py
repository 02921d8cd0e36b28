"""What a program takes, its start and imports included: `run(FILE, …)`.

As a program it starts another one. A process counts its peak from before its start, when it still is a copy of the
one that starts it; so that has to be a small one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SCRIPTS: Final = Path(__file__).parent / "scripts"
COMMAND: Final = ("-c", "from eb_dagster.cli import main; main()")
_KB_A_UNIT: Final = 1 / 1024 if sys.platform == "darwin" else 1


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds, seconds of CPU, and the most MB at one time."""

    wall: float
    cpu: float
    peak: float


def run(*arguments: object, environment: Mapping[str, str] | None = None) -> Took:
    """Run a program of Python: what stands behind `python` on its command line."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        # A script imports the package that stands beside these benchmarks, whatever is installed.
        # Nor is it compiled anew each time, as no installed package is.
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "PYTHONDONTWRITEBYTECODE": "",
            **(environment or {}),
        },
        check=True,
    )
    return Took(**json.loads(done.stdout))


def _main(arguments: list[str]) -> None:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss * _KB_A_UNIT / 1024
    print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": peak}))


if __name__ == "__main__":
    _main(sys.argv[1:])
