import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import PostgreSQL

from .campaign import run_cases
from .cases import Place, Verdict
from .certificates import make_certificates
from .places import VendorProcess
from .table import Fault


@pytest.fixture(scope="session")
def faults_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def vendor(faults_folder: Path) -> Iterator[VendorProcess]:
    """The vendor's process, one for all."""
    process = VendorProcess(faults_folder / "vendor")
    yield process
    process.stop()


@pytest.fixture(scope="session")
def certificates(faults_folder: Path) -> dict[str, Path]:
    return make_certificates(faults_folder / "certificates")


class Verdicts:
    """The verdicts on all cases that were chosen, which are run several at once."""

    def __init__(self, cases: dict[tuple[str, str], tuple[Fault, Place]]) -> None:
        self._futures = dict(zip(cases, run_cases(list(cases.values()), at_once=3), strict=True))

    def on(self, fault: Fault, database: str) -> Verdict:
        return self._futures[fault.name, database].result()


@pytest.fixture(scope="session")
def verdicts(
    request: pytest.FixtureRequest, vendor: VendorProcess, postgresql: PostgreSQL, faults_folder: Path,
    certificates: dict[str, Path],
) -> Verdicts:  # fmt: skip
    cases: dict[tuple[str, str], tuple[Fault, Place]] = {}
    for item in request.session.items:
        chosen = getattr(item, "callspec", None)
        if chosen is not None and isinstance(case := chosen.params.get("case"), tuple):
            fault, database = case
            place = Place(
                vendor,
                postgresql if database == "PostgreSQL" else None,
                faults_folder / database,
                certificates,
            )
            cases[fault.name, database] = (fault, place)
    return Verdicts(cases)


@pytest.fixture(scope="session")
def on_sqlite(vendor: VendorProcess, faults_folder: Path, certificates: dict[str, Path]) -> Place:
    """Where cases are run that do not depend on the database."""
    return Place(vendor, None, faults_folder / "sqlite", certificates)


@pytest.fixture(scope="session")
def on_postgresql(
    vendor: VendorProcess, postgresql: PostgreSQL, faults_folder: Path, certificates: dict[str, Path]
) -> Place:
    """Where cases are run on PostgreSQL."""
    return Place(vendor, postgresql, faults_folder / "postgresql", certificates)


@pytest.fixture
def seed(capsys: pytest.CaptureFixture[str]) -> int:
    # The tests draw the same each time; EB_DAGSTER_SEED=0 draws anew, as the long form does.
    seed = int(os.environ.get("EB_DAGSTER_SEED", "20261124")) or random.SystemRandom().randrange(1, 2**32)
    with capsys.disabled():
        print(f" [EB_DAGSTER_SEED={seed}]", end="")
    return seed
