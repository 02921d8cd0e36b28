from collections.abc import Iterator
from pathlib import Path

import pytest

from .campaign import Place
from .certificates import make_certificates
from .places import PostgreSQL, Vendor


@pytest.fixture(scope="session")
def faults_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def vendor(faults_folder: Path) -> Iterator[Vendor]:
    """The vendor's process, one for all."""
    one = Vendor(faults_folder / "vendor")
    yield one
    one.stop()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A real PostgreSQL, one for all. Its folder's path is short, for the sake of its socket."""
    one = PostgreSQL(tmp_path_factory.mktemp("pg") / "data")
    yield one
    one.stop()


@pytest.fixture(scope="session")
def certificates(faults_folder: Path) -> dict[str, Path]:
    return make_certificates(faults_folder / "certificates")


@pytest.fixture(scope="session", params=["SQLite", "PostgreSQL"])
def place(
    request: pytest.FixtureRequest, vendor: Vendor, faults_folder: Path, certificates: dict[str, Path]
) -> Place:
    """Where cases are run, on each database."""
    database = request.getfixturevalue("postgresql") if request.param == "PostgreSQL" else None
    return Place(vendor, database, faults_folder / request.param, certificates)


@pytest.fixture(scope="session")
def sqlite(vendor: Vendor, faults_folder: Path, certificates: dict[str, Path]) -> Place:
    """Where cases are run that need no particular database."""
    return Place(vendor, None, faults_folder / "sqlite", certificates)
