"""Try an installed wheel: `python -P tests/smoke.py`, with the Python of an environment that has nothing else.

It needs the extra `sandbox`, and nothing of the tests'.
"""

import csv
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import eb_dagster
from eb_dagster import sandbox

TREE = Path(__file__).resolve().parents[1]
PATHS = ("eb_dagster", "eb_dagster.errors", "eb_dagster.sandbox")
LEADS = "email\nada@firm.example\nbo@firm.example\nada@firm.example\n"
PEOPLE = 2


def main() -> None:
    """Import it, ask its version, and buy two people twice: the second time, they cost nothing."""
    for path in PATHS:
        importlib.import_module(path)
    for name in eb_dagster.__all__:
        getattr(eb_dagster, name)
    installed = Path(eb_dagster.__file__).resolve()
    expect(not installed.is_relative_to(TREE / "eb_dagster"), f"{installed} is the tree's, not the wheel's")
    expect((installed.parent / "py.typed").exists(), "the wheel has no py.typed")
    version = command("--version", folder=Path.cwd())
    expect(eb_dagster.__version__ in version, f"--version says {version}")
    with tempfile.TemporaryDirectory() as name:
        enrich_twice(Path(name))
    print(f"eb-dagster {eb_dagster.__version__} works on Python {sys.version.split()[0]}, {sys.platform}")


def enrich_twice(folder: Path) -> None:
    (folder / "leads.csv").write_text(LEADS, encoding="utf-8")
    with sandbox.running(bill=folder / "bill.db", match_rate=1.0) as api:
        os.environ.update(
            EXACTBUYER_BASE_URL=api.url,
            EXACTBUYER_API_KEY="sandbox",
            EB_DAGSTER_LEDGER=str(folder / "ledger.db"),
        )
        for run in ("first", "second"):
            command("enrich", "leads.csv", "-o", "contacts.csv", "--yes", folder=folder)
            expect(api.credits() == PEOPLE, f"after the {run} run, {api.credits()} credits are billed")
    with (folder / "contacts.csv").open(encoding="utf-8-sig", newline="") as file:
        statuses = [row["eb_status"] for row in csv.DictReader(file)]
    expect(statuses == ["matched"] * 3, f"the rows are {statuses}")


def command(*arguments: str, folder: Path) -> str:
    """What the installed command prints."""
    program = shutil.which("eb-dagster", path=sysconfig.get_path("scripts"))
    if program is None:
        raise SystemExit("there is no command eb-dagster")
    ended = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    expect(ended.returncode == 0, f"eb-dagster {arguments[0]} failed: {ended.stderr}")
    return ended.stdout


def expect(is_so: bool, problem: str) -> None:
    if not is_so:
        raise SystemExit(problem)


if __name__ == "__main__":
    main()
