import subprocess
import sys

import pytest

from eb_dagster.ledger.process_locks import FileOwner

_HOLD = """
import sys
from pathlib import Path
from eb_dagster.ledger.process_locks import FileOwner
owner = FileOwner(Path(sys.argv[1]))
print(owner.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def another_process(ledger):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def lock_files(ledger):
    return [path.stem for path in ledger.with_name("ledger.db-owners").iterdir()]


def test_a_process_that_lives_holds_its_claims_and_one_that_was_killed_does_not(ledger, another_process):
    name = another_process.stdout.readline().strip()
    owner = FileOwner(ledger)
    assert not owner.is_gone(name)
    another_process.kill()
    another_process.wait()
    assert owner.is_gone(name)
    assert lock_files(ledger) == [owner.name]
    owner.leave()


def test_whoever_leaves_is_gone_for_others_and_leaves_no_file(ledger):
    first, second = FileOwner(ledger), FileOwner(ledger)
    first.leave()
    assert second.is_gone(first.name)
    second.leave()
    assert lock_files(ledger) == []


def test_a_lock_that_is_left_can_be_asked_about_by_two_at_once(ledger, another_process):
    name = another_process.stdout.readline().strip()
    first, second = FileOwner(ledger), FileOwner(ledger)
    another_process.kill()
    another_process.wait()
    assert first.is_gone(name)
    assert second.is_gone(name)
    first.leave()
    second.leave()
