"""Several processes on one ledger: they overlap, wait for each other, are stopped or killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from tests.faults import workers
from tests.faults.cases import Phase, Place, Verdict
from tests.faults.scenes.scene import Scene, leads, work


def overlapping(place: Place, *, processes: int = 4, people: int = 400, killed: int = 0) -> Verdict:
    """Processes whose people overlap; some are killed in mid-run."""
    scene = Scene(f"97 {processes} processes on overlapping input, {killed} killed", place)
    scene.vendor.script(scene.case, processing=(0.02, 0.15))
    step = people // (processes + 1)
    parts = [leads(start, start + 2 * step) for start in range(0, processes * step, step)]
    running = [scene.start(part) for part in parts]
    victims = range(0, 2 * killed, 2)
    for order, victim in enumerate(victims, 1):
        scene.await_requests(3 * order)
        running[victim].kill()
    # A killed process had some requests in flight; only the vendor knows how many.
    scene.doubt_bound = killed * people
    phases = [scene.result(process) for process in running]
    for number, phase in enumerate(phases):
        if number not in victims:
            _check_survivor(scene, number, phase, may_doubt=bool(killed))
    return scene.close(leads(0, people))


def _check_survivor(scene: Scene, number: int, phase: Phase, *, may_doubt: bool) -> None:
    scene.expect(not phase.ended, f"process {number} ended with {phase.ended}")
    if phase.frame is None:
        return
    scene.check_rows(phase)
    if not may_doubt:
        odd = set(phase.frame["eb_status"]) - {"matched", "not_found"}
        scene.expect(not odd, f"process {number} has rows that are {sorted(odd)}")


def waiting(place: Place) -> Verdict:
    """The second process waits for the first one's answer, and uses it."""
    scene = Scene("75 the second process waits for the first one's answer", place)
    scene.vendor.script(scene.case, processing=(1.0, 1.0))
    first = scene.start(leads(0, 60))
    scene.await_requests(3)
    second = scene.start(leads(0, 60))
    asking, waited = scene.result(first), scene.result(second)
    scene.expect(scene.arrived() == 3, f"{scene.arrived()} requests, 3 were enough")
    if asking.frame is not None and waited.frame is not None:
        same = asking.frame["eb_full_name"].equals(waited.frame["eb_full_name"])
        scene.expect(same, "the two did not get the same answers")
        scene.expect(waited.report["requests"] == 0, "the second one asked")
    else:
        scene.complain(f"ended with {asking.ended!r} and {waited.ended!r}")
    return scene.close(leads(0, 60))


def stopped_owner(place: Place) -> Verdict:
    """A process that is stopped for a while still owns its claims, and goes on."""
    scene = Scene("73, 92 stopped in mid-run, then continued", place, timeout=20.0)
    scene.vendor.script(scene.case, processing=(0.3, 0.3))
    first = scene.start(leads(0, 100), max_credits_at_risk=40)
    scene.await_requests(2)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    second = scene.start(leads(0, 100))
    time.sleep(2.0)
    os.kill(first.pid, signal.SIGCONT)
    stopped, other = scene.result(first), scene.result(second)
    _expect_frames(scene, stopped, other)
    return scene.close(leads(0, 100))


def late_reply(place: Place) -> Verdict:
    """A claim is taken over while its process lives; the reply that it still gets is stored and used."""
    scene = Scene("98 claim taken over, then a late reply", place, timeout=30.0)
    gate = scene.folder / "gate"
    scene.vendor.script(scene.case, gate=str(gate))
    first = scene.start(leads(0, 20))
    scene.await_requests(1)
    # The lock goes while its process lives: its session ends, or somebody removes its file.
    if place.postgresql is not None:
        place.postgresql.kill_sessions(scene.case)
    else:
        for lock in Path(f"{scene.ledger}-owners").iterdir():
            lock.unlink()
    takeover = scene.result(scene.start(leads(0, 20)))
    gate.touch()
    late = scene.result(first)
    _expect_frames(scene, late, takeover)
    told = Counter(takeover.statuses().values())
    scene.expect(told == {"in_doubt": 20}, f"after it was taken over, the claim is {dict(told)}")
    statuses = set(late.statuses().values())
    scene.expect(statuses == {"matched", "not_found"}, f"the late reply made it {sorted(statuses)}")
    scene.expect(scene.arrived() == 1, f"{scene.arrived()} requests, 1 was enough")
    # Nothing is in doubt any more, so `doubt_bound` is 0.
    return scene.close(leads(0, 20))


def _expect_frames(scene: Scene, *phases: Phase) -> None:
    ends = [phase.ended for phase in phases]
    scene.expect(not any(ends), f"ended with {ends}")


def caps(place: Place, *, processes: int = 3, daily: bool = True) -> Verdict:
    """A cap for each of several runs, and one for all of them in a day."""
    scene = Scene("caps with many senders and processes", place, max_credits=23, partition_size=7)
    scene.vendor.script(scene.case, processing=(0.0, 0.05), match_rate=0.6)
    running = [scene.start(leads(start, start + 100)) for start in range(0, processes * 100, 100)]
    for number, process in enumerate(running):
        phase = scene.result(process)
        spent = phase.report.get("credits_charged")
        scene.expect(spent == 23, f"run {number} spent {spent} of 23 credits ({phase.ended})")
    total = scene.charged().total()
    scene.expect(total == 23 * processes, f"the vendor charged {total}, {processes} runs of 23 were allowed")
    if not daily:
        return scene.close(leads(0, 300), max_credits=0)
    limits = {"max_credits": None, "max_credits_per_day": 100}
    running = [scene.start(leads(start, start + 100), **limits) for start in (300, 400, 500)]
    for process in running:
        scene.result(process)
    total = scene.charged().total()
    scene.expect(total == 100, f"the vendor charged {total} on a day for which 100 were allowed")
    return scene.close(leads(0, 600), max_credits=0)


def out_of_memory(place: Place, *, megabytes: int) -> Verdict:
    """A process gets a reply that is larger than the memory it has left."""
    scene = Scene(f"72 out of memory with {megabytes} MB left", place, max_credits_at_risk=40)
    big = {"kind": "big", "args": {"megabytes": 50}, "since": 2}
    scene.vendor.script(scene.case, faults=[big])
    scene.doubt_bound = 40
    result = scene.folder / "result"
    process = workers.start(_short_of_memory, leads(0, 100), scene.settings, result, megabytes)
    scene.results[process] = result
    scene.result(process)
    scene.expect(scene.arrived() >= 2, f"it ended after {scene.arrived()} requests already")
    return scene.close(leads(0, 100), max_credits_at_risk=20_000)


def _short_of_memory(frame: pd.DataFrame, settings: dict[str, Any], result: Path, megabytes: int) -> None:
    import resource

    held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = held_bytes + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # It may end in any way: the allocation that fails may be anywhere.
    work(frame, settings, result)
