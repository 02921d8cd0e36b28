"""How fast and how small the ledger is, also when it remembers ten million identifiers.

As a program: `python -m tests.benchmarks.ledgers JOB URL LEDGER KNOWN`, which prints its figures as JSON.
The ledger of ten million lies where fsync costs nothing, if there is such a place: its layout is
measured, not a disk. Its speed and size are measured on a disk, with replies as long as real ones.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.benchmarks.clocks import forget_high_water_mark, memory, quick_folder
from tests.benchmarks.payloads import FOUND, lead, make_template

ALIASES_OF_A_CONTACT: Final = 4


def _identifiers(start: int, count: int, kind: Any = "email") -> list[Any]:
    from eb_dagster.identifiers.model import Identifier

    return [Identifier(kind, lead(number)) for number in range(start, start + count)]


def _record(ledger: Any, start: int, body: bytes, encoding: str = "") -> tuple[float, float]:
    """One partition's life, through the ledger's own functions. Seconds of intent and reply, and of all."""
    from eb_dagster.api.envelope import MISSED, pack_fields
    from eb_dagster.ledger.entries import pack_aliases, pack_outcomes
    from eb_dagster.ledger.ledger import Limits

    keys = [ledger.key(identifier) for identifier in _identifiers(start, 1000)]
    found = [index for index in range(1000) if index % 10 < FOUND * 10]
    held = pack_fields(("email", "work_email"))
    count = ALIASES_OF_A_CONTACT * len(found)
    noise = random.Random(start).randbytes(16 * count)
    positions = [index if index % 10 < FOUND * 10 else MISSED for index in range(1000)]
    begun = time.perf_counter()
    last = ledger.last_request()
    claim = ledger.claim(keys, run="benchmark", required=0, limits=Limits(None, 10**9), seen=last)
    ledger.record(claim.request_id, http_status=200, encoding=encoding, complete=True, body=body)
    stored = time.perf_counter()
    ledger.apply(
        claim.request_id, outcomes=pack_outcomes(positions, [held] * 1000), records_enriched=len(found),
        aliases=pack_aliases(
            [noise[16 * index : 16 * index + 16] for index in range(count)],
            [found[index // ALIASES_OF_A_CONTACT] for index in range(count)],
            [held] * count, list(range(count)),
        ),
    )  # fmt: skip
    return stored - begun, time.perf_counter() - begun


def speed(url: str, where: str, known: int) -> dict[str, float]:
    """Record so many, each reply as long as a real one that came with gzip."""
    from eb_dagster.ledger.ledger import Ledger

    echoes = [lead(number).encode() for number in range(1000)]
    bodies = [gzip.compress(make_template(seed).reply(echoes), 6) for seed in range(4)]
    ledger = Ledger(where, endpoint=url + "/v1/bulk-enrich")
    seconds = [
        _record(ledger, start, bodies[start // 1000 % len(bodies)], "gzip") for start in range(0, known, 1000)
    ]
    ledger.close()
    durable = sorted(seconds_until_durable for seconds_until_durable, _ in seconds)
    return {
        "rate": known / sum(whole for _, whole in seconds),
        "p99": 1000 * durable[int(0.99 * (len(durable) - 1))],
    }


def build(url: str, where: str, known: int) -> dict[str, float]:
    """Fill an empty ledger. The first and the last partitions tell what recording costs."""
    from eb_dagster.ledger.ledger import Ledger

    seconds: list[float] = []
    ledger = Ledger(where, endpoint=url + "/v1/bulk-enrich")
    for start in range(0, known, 1000):
        begun = time.process_time()
        _record(ledger, start, b"[]")
        seconds.append(time.process_time() - begun)
    ledger.close()
    few = max(len(seconds) // 50, 3)
    # Not the very first, which prepare the statements.
    return {"record": median(seconds[-few:]) / median(seconds[few : 2 * few])}


def look_up(url: str, where: str, known: int) -> dict[str, float]:
    """A tenth as many identifiers as are known, half of them new."""
    from eb_dagster.ledger.ledger import Ledger

    ledger = Ledger(where, endpoint=url + "/v1/bulk-enrich")
    many = known // 10
    numbers = [2 * known * index // many for index in range(many)]
    keys = [ledger.key(identifier) for number in numbers for identifier in _identifiers(number, 1)]
    random.Random(1).shuffle(keys)
    before = memory("VmRSS")
    forget_high_water_mark()
    begun = time.perf_counter()
    found, _ = ledger.lookup(keys, required=0, alias_keys=keys)
    seconds = time.perf_counter() - begun
    assert len(found) == many // 2
    return {"known_seconds": seconds, "known_memory": memory("VmHWM") - before}


def small_run(url: str, where: str, known: int) -> dict[str, float]:
    """A hundred new leads, from opening the ledger to the table."""
    import pandas as pd

    from eb_dagster import Enricher
    from tests.benchmarks.runs import UNBOUND

    frame = pd.DataFrame({"email": [lead(known + number) for number in range(100)]})
    # What the first run in a process imports is told by the start-up goals.
    with Enricher(base_url=url, ledger=f"{where}.other", **UNBOUND) as enricher:
        enricher.enrich_dataframe(frame[:1])
    begun = time.perf_counter()
    with Enricher(base_url=url, ledger=where, **UNBOUND) as enricher:
        enriched = enricher.enrich_dataframe(frame)
    assert enriched["eb_matched"].notna().all()
    return {"small_run": time.perf_counter() - begun}


def measure(*, known: int, folder: Path) -> dict[str, float]:
    import tempfile

    from tests.benchmarks.server import running

    figures: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(dir=quick_folder() or folder) as place,
        running(folder, gzip=True) as server,
    ):
        for job in (build, look_up, small_run):
            figures |= _in_process(job, server.url, f"{place}/ledger.db", known)
    return figures


def measure_speed(*, requests: int, folder: Path, with_postgresql: bool = True) -> dict[str, float]:
    import tempfile

    from tests.databases import PostgreSQL

    figures: dict[str, float] = {}
    known = 1000 * requests
    with tempfile.TemporaryDirectory(dir=folder) as place:
        told = _in_process(speed, "http://127.0.0.1:9", f"{place}/ledger.db", known)
        size = sum(file.stat().st_size for file in Path(place).glob("ledger.db*") if file.is_file())
        figures |= {f"sqlite_{name}": figure for name, figure in told.items()}
        figures["sqlite_bytes"] = size / known
    if not with_postgresql:
        return figures
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="ledger") as place:
        server = PostgreSQL(Path(place) / "data")
        try:
            url = server.database("speed")
            before = server.size("speed")
            told = _in_process(speed, "http://127.0.0.1:9", url, known)
            figures |= {f"postgresql_{name}": figure for name, figure in told.items()}
            figures["postgresql_bytes"] = (server.size("speed") - before) / known
        finally:
            server.stop()
    return figures


def _in_process(job: Callable[..., Any], url: str, where: str, known: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, job.__name__, url, where, str(known)],
        stdout=subprocess.PIPE,
        env=dict(os.environ),
        check=True,
    )
    return json.loads(done.stdout)


JOBS: Final[dict[str, Any]] = {job.__name__: job for job in (build, look_up, small_run, speed)}

if __name__ == "__main__":
    job, url, where, known = sys.argv[1:]
    print(json.dumps(JOBS[job](url, where, int(known))))
