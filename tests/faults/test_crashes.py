"""Processes that die while they buy, in a short form; `python -m tests.faults.crashes --long` is the long one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults import crashes
from tests.faults.crash_laboratory import (
    FINISH,
    ONE_AT_A_TIME,
    SEVERAL_AT_ONCE,
    Death,
    Laboratory,
    Scene,
    open_gate,
    wait_until,
    why_no_strace,
)

# One laboratory for all.
pytestmark = pytest.mark.xdist_group("crashes")

# Every name of a call is among them.
DEATHS = 32
FORKING = Scene("fork", (("all.parquet", "table.parquet"),), partition_size=100, max_credits_at_risk=100)


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    with Laboratory.opened() as lab:
        yield lab


@pytest.fixture
def lots(seed: int) -> random.Random:
    return random.Random(seed)


def test_a_process_killed_at_any_call_to_the_system_neither_pays_twice_nor_forgets(
    lab: Laboratory, lots: random.Random, capsys: pytest.CaptureFixture[str]
):
    if (reason := why_no_strace()) is None:
        deaths = crashes.some(crashes.plan_deaths(lab), DEATHS, lots)
    else:
        with capsys.disabled():
            print(f" [{reason}: the process is killed at its own steps instead]", end="")
        steps = [crashes.plan_steps(lab, scene) for scene in (ONE_AT_A_TIME, SEVERAL_AT_ONCE)]
        deaths = crashes.some([*steps[0], *steps[1]], DEATHS, lots)
    toll = crashes.sweep(lab, deaths)
    assert toll.faults == []
    assert (toll.charged_twice, toll.forgotten) == (0, 0)
    assert toll.planned == DEATHS
    # On a slow machine a run waits in fewer calls, and one that is planned for the last of them outlives it.
    assert toll.died >= DEATHS - 2
    assert toll.charged > 5 * toll.planned


def test_a_process_killed_at_any_of_its_own_steps_neither_pays_twice_nor_forgets(lab: Laboratory):
    toll = crashes.sweep(
        lab, [*crashes.plan_steps(lab, ONE_AT_A_TIME, 4), *crashes.plan_steps(lab, SEVERAL_AT_ONCE, 4)]
    )
    assert toll.faults == []
    assert (toll.charged_twice, toll.forgotten, toll.died) == (0, 0, 8)


def test_a_process_killed_at_a_random_moment_neither_pays_twice_nor_forgets(
    lab: Laboratory, lots: random.Random
):
    toll = crashes.kill_at_random(lab, seed=lots.randrange(2**32), times=8)
    assert toll.faults == []
    assert (toll.charged_twice, toll.forgotten, toll.died) == (0, 0, 8)


def test_the_usual_way_to_buy_pays_twice_when_it_is_killed():
    with Laboratory.opened(naive=True) as lab:
        if why_no_strace() is None:
            # The reply of the second request is there, and not stored yet.
            deaths = [Death("recvfrom", 3, scene=ONE_AT_A_TIME)]
        else:
            deaths = crashes.plan_steps(lab, ONE_AT_A_TIME, 12)
        toll = crashes.sweep(lab, deaths)
    assert toll.charged_twice > 0


def test_a_process_that_was_stopped_for_long_still_owns_what_it_asked(lab: Laboratory):
    folder = lab.new_case(SEVERAL_AT_ONCE)
    order = lab.order(folder, SEVERAL_AT_ONCE, waits=True)
    sleeper = lab.victims.start(order)
    try:
        open_gate(folder / "start", sleeper)
        wait_until(lambda: sum(lab.charged(folder).values()) > 0)
        os.kill(sleeper.pid, signal.SIGSTOP)
        other = lab.victims.start(lab.order(folder, FINISH, reports=True))
        time.sleep(1.0)
        assert not other.has_ended() or other.status == 0
        os.kill(sleeper.pid, signal.SIGCONT)
        assert (sleeper.wait(), other.wait()) == (0, 0)
    finally:
        sleeper.kill()
    after = lab.examine(folder, SEVERAL_AT_ONCE, "stopped", sleeper)
    assert after.faults == []
    assert (after.charged_twice, after.forgotten, after.in_doubt) == (0, 0, 0)


def test_a_fork_after_opening_cannot_buy_and_takes_nothing_from_its_parent():
    # Long enough for a fork while a request is out.
    with Laboratory.opened(latency=0.5) as lab:
        folder = lab.new_case(FORKING)
        victim = lab.victims.start(lab.order(folder, FORKING, forks=True))
        assert victim.wait() == 0, (folder / "errors.txt").read_text()
        told = json.loads((folder / "fork.json").read_text())
        assert told == {"child": "LedgerError", "others_took": 0}
        after = lab.examine(folder, FORKING, "forked", victim)
    assert after.faults == []
    assert (after.charged_twice, after.forgotten, after.in_doubt) == (0, 0, 0)
