"""Whether the owner of a claim is alive."""

import subprocess
import sys
import time

import pytest

from eb_dagster.ledger.process_locks import DatabaseOwner, FileOwner
from tests.ledger.steps import ENDPOINT, JANE, known, no_session_is_left

_OTHER = """
import sys, time
from eb_dagster.ledger.known_keys import Freshness
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.ledger import Ledger
ledger = Ledger(sys.argv[1], endpoint=sys.argv[2])
key = ledger.key(Identifier("email", "jane@firm.example"))
ledger.claim([key], run="x", required=0, limits=Limits(None, 100), seen=0)
print("claimed", flush=True)
time.sleep(60)
"""


def test_a_dead_owners_claim_is_in_doubt_and_a_living_ones_is_not(ledger, where):
    other = subprocess.Popen([sys.executable, "-c", _OTHER, where, ENDPOINT], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"claimed\n"
    assert ledger.recover() == 0
    assert known(ledger, JANE).standing == "in_flight"
    other.kill()
    other.wait()
    other.stdout.close()
    deadline = time.monotonic() + 10
    while not ledger.recover() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert known(ledger, JANE).standing == "in_doubt"


def test_an_owner_whose_session_ends_at_any_time_holds_on_again(postgresql):
    import sqlalchemy as sa
    from sqlalchemy.exc import OperationalError

    url = sa.make_url(postgresql.new_database()).set(drivername="postgresql+psycopg")

    class Unlucky(DatabaseOwner):
        def hold(self) -> None:
            super().hold()
            postgresql.kill_sessions(url.database)
            assert no_session_is_left(postgresql.url(url.database))

    owner = Unlucky(url)
    with pytest.raises(OperationalError):
        owner.is_gone("0" * 32)
    DatabaseOwner.hold(owner)
    other = DatabaseOwner(url)
    assert not other.is_gone(owner.name)
    owner.leave()
    assert no_session_is_left(postgresql.url(url.database), but=1)
    assert other.is_gone(owner.name)
    other.leave()


_HOLD = """
import sys
from pathlib import Path
from eb_dagster.ledger.process_locks import FileOwner
owner = FileOwner(Path(sys.argv[1]))
print(owner.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def another_process(path):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def lock_files(path):
    return [lock_file.stem for lock_file in path.with_name("ledger.db-owners").iterdir()]


def test_a_process_that_lives_holds_its_claims_and_one_that_was_killed_does_not(path, another_process):
    name = another_process.stdout.readline().strip()
    owner = FileOwner(path)
    assert not owner.is_gone(name)
    another_process.kill()
    another_process.wait()
    assert owner.is_gone(name)
    assert lock_files(path) == [owner.name]
    owner.leave()


def test_whoever_leaves_is_gone_for_others_and_leaves_no_file(path):
    first, second = FileOwner(path), FileOwner(path)
    first.leave()
    assert second.is_gone(first.name)
    second.leave()
    assert lock_files(path) == []


def test_a_lock_that_is_left_can_be_asked_about_by_two_at_once(path, another_process):
    name = another_process.stdout.readline().strip()
    first, second = FileOwner(path), FileOwner(path)
    another_process.kill()
    another_process.wait()
    assert first.is_gone(name)
    assert second.is_gone(name)
    first.leave()
    second.leave()
