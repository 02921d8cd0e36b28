"""What the ledger remembers after a power cut, in a short form; `python -m tests.faults.images --long` is the long one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.faults import images
from tests.faults.crash_laboratory import why_no_strace

# What is recorded takes longer than what looks at it.
pytestmark = pytest.mark.xdist_group("images")


@pytest.fixture(scope="module")
def recordings() -> Sequence[images.Recording]:
    if (reason := why_no_strace()) is not None:
        pytest.skip(f"no power cuts without a record of every call: {reason}")
    return images.record_all()


def test_a_recording_tells_every_request_and_every_promise(recordings: Sequence[images.Recording]):
    for recording in recordings:
        sent = {person for event in recording.events for person in event.people}
        assert recording.charged <= sent
        kinds = {event.kind for event in recording.events}
        assert kinds >= {"create", "write", "sync", "sync_folder", "unlink", "leave", "owner"}


def test_the_whole_recording_is_the_whole_ledger(recordings: Sequence[images.Recording]):
    for recording in recordings:
        disk = images.Disk()
        for event in recording.events:
            disk.pass_event(event)
        files = disk.left_by_a_power_cut(random.Random(0))
        # The last process copied the log into the database and synced it.
        assert files[images.LEDGER].startswith(b"SQLite format 3\0")
        assert len(files[images.LEDGER]) % 4096 == 0


def test_a_power_cut_at_any_time_forgets_no_request(recordings: Sequence[images.Recording], seed: int):
    tally = images.look_in_parallel(recordings, seed=seed, count=80)
    assert tally.faults == []
    assert (tally.forgotten, tally.charged_twice, tally.refused) == (0, 0, 0)
    assert tally.images >= 80
    assert len(tally.distinct) > 40
    assert tally.left > 5 * tally.images


@pytest.mark.parametrize("promise", ["NORMAL", "OFF"])
def test_a_ledger_with_a_weaker_promise_would_forget(
    recordings: Sequence[images.Recording], promise: images.Promise, seed: int
):
    weaker = recordings[0].without_syncs(promise)
    tally = images.look_at_all(weaker, seed=seed, count=30)
    assert tally.forgotten > 0
    assert tally.charged_twice > 0
