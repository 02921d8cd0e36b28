"""The short commands: `nox -l` lists them, `nox -s lint` runs one, and what follows `--` goes to it.

nox, and not make or just, because it is Python: whoever works on this has it, on Windows too.
What the tests need takes 1.4 GB, so most sessions use `.venv`; CONTRIBUTING.md says how to make it.
"""

import os
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
# On Linux and macOS; on Windows.
LOCKED_COMMANDS = (".venv/bin/{}", ".venv/Scripts/{}.exe")
# What the tests need that are run in an environment of another program's.
PYTEST = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
EXTRAS = "azure,encryption,excel,names,postgresql,sandbox,telemetry,warehouse"

nox.options.sessions = ["lint", "types", "tests"]


def locked(session: nox.Session, command: str) -> str:
    """The path of a command of `.venv`."""
    places = [ROOT / place.format(command) for place in LOCKED_COMMANDS]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        session.error(f"there is no {command} in .venv; make .venv as CONTRIBUTING.md says")
    return str(found)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, layout and which room imports which."""
    session.run(locked(session, "ruff"), "check", ".")
    session.run(locked(session, "ruff"), "format", "--check", ".")
    session.run(locked(session, "lint-imports"))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types, of the package strictly."""
    session.run(locked(session, "pyright"), *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests, or those named after `--`."""
    session.run(locked(session, "python"), "-m", "pytest", *session.posargs)


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Run the tests, and list the lines that none of them reaches."""
    session.run(locked(session, "python"), "-m", "pytest", "--cov", "--cov-report=term", *session.posargs)


@nox.session
def dbt(session: nox.Session) -> None:
    """Test with dbt, whose pins need an environment of their own."""
    session.install("-e", f".[{EXTRAS}]", *PYTEST)
    # From 1.12 on, dbt-core brings a parser that pip has to fetch from elsewhere than the registry.
    session.install("dagster-dbt>=0.29", "dbt-core>=1.10,<1.12", "dbt-duckdb>=1.10,<2")
    session.run(
        "python", "-m", "pytest", "-n0", "--timeout=900", "-W", "ignore", "tests/definitions/test_dbt.py"
    )


@nox.session
def airflow(session: nox.Session) -> None:
    """Run the example's DAG by Airflow, whose pins need an environment of their own."""
    run_orchestrator(session, "apache-airflow>=3")


@nox.session
def prefect(session: nox.Session) -> None:
    """Run the example's flow by Prefect, in an environment of its own."""
    run_orchestrator(session, "prefect>=3")


@nox.session(venv_backend="none")
def azure(session: nox.Session) -> None:
    """Test object stores with Azurite, which npm installs."""
    folder = session.create_tmp()
    session.run("npm", "install", "--prefix", folder, "azurite", external=True)
    azurite = Path(folder, "node_modules", ".bin", "azurite-blob").resolve()
    session.run(
        locked(session, "python"),
        "-m",
        "pytest",
        "tests/tables/test_stores.py",
        env={"EB_DAGSTER_AZURITE": str(azurite)},
    )


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documents into `build/site`."""
    session.run(locked(session, "mkdocs"), "build", "--strict", *session.posargs)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Run the campaign of faults in its long form, which takes hours; `-- --short` takes minutes."""
    session.run(locked(session, "python"), "-m", "tests.faults", *session.posargs)


@nox.session(venv_backend="none")
def benchmarks(session: nox.Session) -> None:
    """Measure every goal of speed and memory; `-- --long` for the figures of the documents."""
    session.run(locked(session, "python"), "-m", "tests.benchmarks", *session.posargs)


@nox.session(venv_backend="none")
def measures(session: nox.Session) -> None:
    """Print how the code reads, in figures; `-- --places` lists where a limit is not held."""
    session.run(locked(session, "python"), "-m", "tests.measures", *session.posargs)


@nox.session(python="3.11", venv_backend="venv")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest version of each dependency."""
    session.install("-U", "pip>=25.1")
    install_for_tests(session, "-c", "tests/lowest.txt")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(venv_backend="venv")
def newest(session: nox.Session) -> None:
    """Run the tests with the newest version of each dependency, on the Python that runs nox."""
    session.install("-U", "pip>=25.1")
    install_for_tests(session, "--upgrade")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(venv_backend="venv")
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into `dist`, check them, and try the wheel in a clean environment."""
    session.install("build", "check-wheel-contents", "twine")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(DIST))
    wheel = next(DIST.glob("*.whl"))
    session.run("twine", "check", "--strict", *(str(path) for path in DIST.iterdir()))
    session.run("check-wheel-contents", str(wheel))
    clean = Path(session.create_tmp()) / "clean"
    session.run("python", "-m", "venv", "--clear", str(clean))
    python = str(clean / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", f"{wheel}[sandbox]", external=True)
    session.run(python, "-P", str(ROOT / "tests" / "smoke.py"), external=True)


def install_for_tests(session: nox.Session, *options: str) -> None:
    """Install the package, the example and what the tests need."""
    session.install(*options, "-e", f".[{EXTRAS}]", "-e", "example_project", "--group", "dev")


def run_orchestrator(session: nox.Session, program: str) -> None:
    """Run the example's file for a program that starts jobs, against the sandbox."""
    session.install("-e", ".[sandbox,warehouse]", "duckdb", program, *PYTEST)
    session.run(
        "python", "-m", "pytest", "-n0", "--timeout=900", "-W", "ignore", "tests/test_orchestrators.py"
    )
