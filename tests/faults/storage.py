"""Let the disk fail during a purchase, or damage what is on it, and look at what comes of it.

Long form: `python -m tests.faults.storage --long`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import eb_dagster
from tests import compiled
from tests.faults import command
from tests.faults.counts import Counts
from tests.faults.crash_laboratory import (
    ONE_AT_A_TIME,
    SEVERAL_AT_ONCE,
    Aftermath,
    Death,
    Laboratory,
    last_line,
    why_no_strace,
)
from tests.faults.crashes import Toll
from tests.faults.images import LEDGER, ScriptedClient
from tests.faults.progress import told

# The calls that fail on a full or a dying disk.
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "openat", "rename", "unlink", "mkdir")
ERRORS = ("ENOSPC", "EIO")
# The exit codes of a victim that met an error it has a name for.
LEDGER_ERROR = 3
# 5: another error of ours, such as a table that cannot be read before anything is sent.
SAID_SO = (0, LEDGER_ERROR, 4, 5)


@dataclass
class Losses(Toll):
    """What a series of storage errors came to."""

    said: Counter[str] = field(default_factory=Counter[str])
    """What the victims said, counted by its first words."""


def plan_errors(lab: Laboratory) -> list[Death]:
    """An error at each write and fsync of clean runs: once, and from there on."""
    plans: list[Death] = []
    for scene, senders_only in ((ONE_AT_A_TIME, False), (ONE_AT_A_TIME, True), (SEVERAL_AT_ONCE, False)):
        run = lab.trace(scene, senders_only=senders_only)
        for name in CALLS:
            most = max((calls[name] for calls in run.values()), default=0)
            # The first file that is opened is the gate at which the victim waits.
            for nth in range(2 if name == "openat" else 1, most + 1):
                for error in ERRORS:
                    plans += [
                        Death(name, nth, senders_only, scene, f"error={error}", lasts=lasts)
                        for lasts in (False, True)
                    ]
    return plans


def run_into(lab: Laboratory, plans: Sequence[Death]) -> Losses:
    """Run into each error; then the next process finishes on a disk that works again."""
    started = time.monotonic()

    def run(plan: Death) -> tuple[Aftermath, str]:
        folder, victim = lab.die(plan)
        said = last_line(folder / "errors.txt") if victim.status else "nothing"
        after = lab.examine(folder, plan.scene, plan, victim)
        if after.died and plan.lasts:
            said = "waited for the disk"
        elif victim.status not in SAID_SO:
            after.faults.append(f"it ended with {victim.status}: {said}")
        return after, said.split(":")[0]

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = list(told(pool.map(run, plans), what="storage errors", of=len(plans)))
    losses = Losses.of(lab, [after for after, _ in results], time.monotonic() - started)
    losses.said = Counter(said for _, said in results)
    return losses


# Spoiled bits


@dataclass
class Spoiled(Counts):
    """What a series of flipped bits came to."""

    flips: int = 0
    refused: int = 0
    unharmed: int = 0
    told_unreadable: int = 0
    wrong_answers: int = 0
    bought_again: int = 0
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


PEOPLE = 40


def make_ledger(folder: Path) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """A ledger in which all of the input has been answered, the input and the result."""
    frame = pd.DataFrame({"email": [f"lead-{number}@flips.example" for number in range(PEOPLE)]})
    with open_enricher(folder / LEDGER, ScriptedClient(), partition_size=8) as enricher:
        enriched = enricher.enrich_dataframe(frame)
    return folder / LEDGER, frame, enriched


def open_enricher(ledger: Path, client: Any, **settings: Any) -> eb_dagster.Enricher:
    """An enricher that asks `client` in place of the API."""
    enricher = eb_dagster.Enricher(
        api_key="canary-key", base_url="http://127.0.0.1:9", ledger=ledger, progress=False,
        requests_per_minute=600_000, **settings,
    )  # fmt: skip
    enricher._client = client  # pyright: ignore
    return enricher


def flip_bits(*, seed: int, count: int) -> Spoiled:
    """Flip a bit of a ledger, use it, and compare the result. Each flip has a fresh copy."""
    compiled.share()
    lots, spoiled, started = random.Random(seed), Spoiled(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="eb-flips-"))
    try:
        ledger, frame, expected = make_ledger(folder)
        whole = ledger.read_bytes()
        used = [position for position, byte in enumerate(whole) if byte]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(count):
                # Most bytes of a small database are zero; three flips of four fall on one that is not.
                position = lots.choice(used) if number % 4 else lots.randrange(len(whole))
                bit = lots.randrange(8)
                damaged = bytearray(whole)
                damaged[position] ^= 1 << bit
                copy = folder / f"copy{number}"
                copy.mkdir(mode=0o700)
                (copy / LEDGER).write_bytes(damaged)
                (copy / LEDGER).chmod(0o600)
                _use(copy / LEDGER, frame, expected, spoiled, f"byte {position:,}, bit {bit}")
                shutil.rmtree(copy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    spoiled.seconds = time.monotonic() - started
    return spoiled


def flip_in_parallel(*, seed: int, count: int) -> Spoiled:
    """Share the flips among the processors, a few at a time; each share has a seed of its own."""
    started = time.monotonic()
    flips_a_share = 50
    shares = math.ceil(count / flips_a_share)
    spoiled = Spoiled()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(flip_bits, seed=seed + share, count=flips_a_share) for share in range(shares)]
        for future in told(running, what=f"flips, in shares of {flips_a_share}", of=shares):
            spoiled.add(future.result())
    spoiled.seconds = time.monotonic() - started
    return spoiled


def _use(ledger: Path, frame: pd.DataFrame, expected: pd.DataFrame, spoiled: Spoiled, where: str) -> None:
    spoiled.flips += 1
    client = ScriptedClient()
    try:
        with open_enricher(ledger, client) as enricher:
            enriched = enricher.enrich_dataframe(frame)
    except eb_dagster.LedgerError:
        spoiled.refused += 1
        enriched = None
    except Exception as error:
        spoiled.faults.append(f"{where}: no LedgerError but {type(error).__name__}")
        enriched = None
    if client.values:
        spoiled.bought_again += 1
        spoiled.faults.append(f"{where}: {len(client.values)} bought again")
    if enriched is None:
        return
    has_same_status = enriched["eb_status"].eq(expected["eb_status"])
    same = has_same_status & enriched["eb_full_name"].eq(expected["eb_full_name"])
    if bool(same.all()):
        spoiled.unharmed += 1
    elif set(enriched.loc[~same.fillna(False), "eb_status"]) <= {"unreadable", "in_doubt"}:
        spoiled.told_unreadable += 1
    elif not client.values:
        spoiled.wrong_answers += 1
        spoiled.faults.append(f"{where}: another answer")


# Figures


def figures(long: bool = False, *, seed: int | None = None) -> command.Rows:
    """The rows of the campaign's table."""
    seed = command.chosen_seed(seed)
    rows = [("storage: seed", str(seed))]
    faults: list[str] = []
    if (reason := why_no_strace()) is None:
        with Laboratory.opened() as lab:
            plans = plan_errors(lab)
            chosen = random.Random(seed).sample(plans, min(len(plans), 600 if long else 20))
            losses = run_into(lab, chosen)
        faults += losses.faults
        rows += [
            ("storage: errors at a call", f"{losses.planned:,} of {len(plans):,}"),
            ("storage: charged", f"{losses.charged:,}"),
            ("storage: charged twice", str(losses.charged_twice)),
            ("storage: charged and forgotten", str(losses.forgotten)),
            ("storage: in doubt afterwards", f"{losses.in_doubt:,}"),
            ("storage: said", ", ".join(f"{name} {count}" for name, count in losses.said.most_common())),
            ("storage: seconds", f"{losses.seconds:.0f}"),
        ]
    else:
        rows.append(("storage: errors at a call", f"none: {reason}"))
    spoiled = flip_in_parallel(seed=seed, count=2_000 if long else 100)
    faults += spoiled.faults
    rows += [
        ("storage: flipped bits", f"{spoiled.flips:,}"),
        ("storage: flips refused", f"{spoiled.refused:,}"),
        ("storage: flips that harmed nothing", f"{spoiled.unharmed:,}"),
        ("storage: flips told as unreadable", f"{spoiled.told_unreadable:,}"),
        ("storage: flips with a wrong answer", str(spoiled.wrong_answers)),
        ("storage: flips that bought again", str(spoiled.bought_again)),
        ("storage: flip seconds", f"{spoiled.seconds:.0f}"),
    ]
    return rows + [("storage: FAULT", fault) for fault in faults[:40]]


if __name__ == "__main__":
    command.main(__doc__, figures)
