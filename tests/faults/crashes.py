"""Kill processes that buy, at every call and at random times, and look at what the next one finds.

Long form: `python -m tests.faults.crashes --long`.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from tests.faults import command
from tests.faults.counts import Counts
from tests.faults.crash_laboratory import (
    ONE_AT_A_TIME,
    SEVERAL_AT_ONCE,
    Aftermath,
    Death,
    Laboratory,
    Scene,
    open_gate,
    why_no_strace,
)
from tests.faults.progress import told

# All that can change a file or a socket, or read from it. `fcntl` is how SQLite locks.
CALLS = (
    "write",
    "pwrite64",
    "writev",
    "sendto",
    "sendmsg",
    "recvfrom",
    "recvmsg",
    "read",
    "pread64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "openat",
    "unlink",
    "unlinkat",
    "ftruncate",
    "fcntl",
    "flock",
    "mkdir",
    "fchmod",
    "fchown",
    "connect",
    "socket",
)
# Each run makes hundreds of these calls, which only take or drop a lock, so only each fourth is tried.
STRIDES = {"fcntl": 4}
# The calls by which the naive client sends, receives and stores.
NAIVE_CALLS = ("sendto", "recvfrom", "pwrite64", "fdatasync", "connect")
ATTEMPTS = 6
T = TypeVar("T")


@dataclass
class Toll(Counts):
    """What a series of deaths or errors came to."""

    planned: int = 0
    died: int = 0
    charged: int = 0
    charged_twice: int = 0
    forgotten: int = 0
    in_doubt: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @classmethod
    def of(cls, lab: Laboratory, aftermaths: Sequence[Aftermath], seconds: float) -> Self:
        toll = cls(planned=len(aftermaths), seconds=seconds)
        for after in aftermaths:
            # Counted again now that all is quiet: the stand-in may have charged after the next run began.
            after.charged = lab.charged(after.folder)
            toll.died += after.died
            toll.charged += len(after.charged)
            toll.charged_twice += after.charged_twice
            toll.forgotten += after.forgotten
            toll.in_doubt += after.in_doubt
            toll.faults += [f"{after.death}: {fault}" for fault in [*after.faults, *after.broken_promises]]
        return toll


def plan_deaths(lab: Laboratory, *, naive: bool = False) -> list[Death]:
    """A death at each call of clean runs: by any thread, and by the senders alone."""
    kinds = [(ONE_AT_A_TIME, False), (ONE_AT_A_TIME, True), (SEVERAL_AT_ONCE, False)]
    deaths: list[Death] = []
    # The naive client has no senders of its own.
    for scene, senders_only in kinds[:1] if naive else kinds:
        runs = [lab.trace(scene, senders_only=senders_only) for _ in range(2)]
        for name in CALLS:
            # Calls are counted for each thread. A count that both runs reached can be reached again.
            most = min(max((calls[name] for calls in run.values()), default=0) for run in runs)
            places = range(1, most + 1, STRIDES.get(name, 1))
            deaths += [Death(name, nth, senders_only, scene) for nth in places]
    return deaths


def plan_steps(lab: Laboratory, scene: Scene, most: int | None = None) -> list[Death]:
    """Deaths at a process's own steps, evenly spread. They need no `strace`."""
    # Threads take turns in any order, so the last few steps may not be reached.
    steps = int(lab.count_steps(scene) * 0.95)
    wanted = steps if most is None else min(most, steps)
    return [Death("step", 1 + index * steps // wanted, scene=scene) for index in range(wanted)]


def sweep(lab: Laboratory, deaths: Iterable[Death]) -> Toll:
    """Run into each death and see what is left."""

    def run_into(death: Death) -> Aftermath:
        attempts = ATTEMPTS
        while True:
            folder, victim = lab.die(death)
            after = lab.examine(folder, death.scene, death, victim)
            attempts -= 1
            if after.died or after.faults or not attempts:
                return after
            # Threads share their work differently in each run, and none got that far in this one.
            death = replace(death, nth=max(1, death.nth - 1))

    planned = list(deaths)
    toll = _all_of(lab, run_into, planned)
    toll.calls = Counter(death.name for death in planned)
    return toll


def kill_at_random(lab: Laboratory, *, seed: int, times: int) -> Toll:
    """Kill at a random time, wherever the process happens to be."""
    lots = random.Random(seed)
    scenes = (ONE_AT_A_TIME, SEVERAL_AT_ONCE)
    usual = {scene.name: _usual_seconds(lab, scene) for scene in scenes}

    def kill(plan: tuple[Scene, float]) -> Aftermath:
        scene, share = plan
        attempts = ATTEMPTS
        while True:
            folder = lab.new_case(scene)
            victim = lab.victims.start(lab.order(folder, scene, waits=True))
            open_gate(folder / "start", victim)
            with contextlib.suppress(TimeoutError):
                victim.wait(share * usual[scene.name])
            victim.kill()
            after = lab.examine(folder, scene, f"{scene.name}: killed after {share:.3f} of its time", victim)
            attempts -= 1
            if after.died or after.faults or not attempts:
                return after
            # The machine may have been less busy than before, and the process faster.
            share *= 0.7

    plans = [(lots.choice(scenes), lots.random()) for _ in range(times)]
    return _all_of(lab, kill, plans)


def _usual_seconds(lab: Laboratory, scene: Scene) -> float:
    def clean_run() -> float:
        folder = lab.new_case(scene)
        victim = lab.victims.start(lab.order(folder, scene, waits=True))
        open_gate(folder / "start", victim)
        started = time.monotonic()
        victim.wait()
        return time.monotonic() - started

    return min(clean_run() for _ in range(3))


def _all_of(lab: Laboratory, act: Callable[[T], Aftermath], plans: Sequence[T]) -> Toll:
    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="undertaker") as pool:
        aftermaths = list(told(pool.map(act, plans), what="deaths", of=len(plans)))
    return Toll.of(lab, aftermaths, time.monotonic() - started)


def short_form(*, seed: int) -> dict[str, Toll]:
    """Some of everything; the seed says which."""
    return _campaign(seed=seed, calls=48, steps=6, moments=8, naive=10)


def long_form(*, seed: int) -> dict[str, Toll]:
    """Every call, and 500 random times."""
    return _campaign(seed=seed, calls=None, steps=200, moments=500, naive=None)


def _campaign(
    *, seed: int, calls: int | None, steps: int, moments: int, naive: int | None
) -> dict[str, Toll]:
    lots = random.Random(seed)
    tolls: dict[str, Toll] = {}
    reason = why_no_strace()
    with Laboratory.opened() as lab:
        if reason is None:
            tolls["calls"] = sweep(lab, some(plan_deaths(lab), calls, lots))
        else:
            steps += 400 if calls is None else calls
        half = steps // 2
        tolls["steps"] = sweep(
            lab, plan_steps(lab, ONE_AT_A_TIME, half) + plan_steps(lab, SEVERAL_AT_ONCE, half)
        )
        tolls["moments"] = kill_at_random(lab, seed=seed, times=moments)
    with Laboratory.opened(naive=True) as lab:
        if reason is None:
            # The careful client has to prove itself between the reply and the store.
            deaths = [death for death in plan_deaths(lab, naive=True) if death.name in NAIVE_CALLS]
        else:
            deaths = plan_steps(lab, ONE_AT_A_TIME)
        tolls["naive"] = sweep(lab, some(deaths, naive, lots))
    return tolls


def some(deaths: list[Death], most: int | None, lots: random.Random) -> list[Death]:
    """All, or as many as wanted, with every name of a call among them."""
    if most is None or most >= len(deaths):
        return deaths
    by_name: dict[str, list[Death]] = {}
    for death in deaths:
        by_name.setdefault(death.name, []).append(death)
    chosen = [lots.choice(group) for group in by_name.values()]
    rest = [death for death in deaths if death not in chosen]
    return [*chosen, *lots.sample(rest, max(0, most - len(chosen)))]


def figures(long: bool = False, *, seed: int | None = None) -> command.Rows:
    """The rows of the campaign's table."""
    seed = command.chosen_seed(seed)
    tolls = long_form(seed=seed) if long else short_form(seed=seed)
    naive = tolls.pop("naive")
    ours = Toll()
    for toll in tolls.values():
        ours.add(toll)
    reason = why_no_strace()
    rows = [
        ("crashes: seed", str(seed)),
        ("crashes: traced by", "strace" if reason is None else f"own steps only ({reason})"),
        *(
            (f"crashes: killed of planned, {name}", f"{toll.died:,} of {toll.planned:,}")
            for name, toll in tolls.items()
        ),
        ("crashes: charged", f"{ours.charged:,}"),
        ("crashes: charged twice", str(ours.charged_twice)),
        ("crashes: charged and forgotten", str(ours.forgotten)),
        ("crashes: in doubt afterwards", f"{ours.in_doubt:,}"),
        ("crashes: other faults", str(len(ours.faults))),
        ("crashes: naive client, charged twice", f"{naive.charged_twice:,} in {naive.died:,} deaths"),
        ("crashes: seconds", f"{ours.seconds + naive.seconds:.0f}"),
    ]
    return rows + [("crashes: FAULT", fault) for fault in ours.faults[:20]]


if __name__ == "__main__":
    command.main(__doc__, figures)
