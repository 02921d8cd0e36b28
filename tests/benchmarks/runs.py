"""What a run of our own takes in a process that has imported everything, and the floors of the same.

As a program: `python -m tests.benchmarks.runs JOB URL FOLDER ROWS`, which prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import pyarrow.parquet as pq
from zlib_ng import zlib_ng

from tests.benchmarks.jobs import UNPACED, place
from tests.benchmarks.payloads import lead
from tests.benchmarks.server import Running, running

SETTINGS: Final = {"requests_per_minute": UNPACED, "progress": False, "timeout": 60.0, "api_key": "no key"}


def ours(url: str, folder: Path, rows: int) -> dict[str, float]:
    """Enrich the leads with a ledger."""
    from eb_dagster import Enricher

    def run() -> None:
        with Enricher(base_url=url, ledger=folder / "ledger.db", **SETTINGS) as enricher:
            report = enricher.enrich_parquet(folder / "leads.parquet", folder / "enriched.parquet")
        assert report.rows == rows
        assert report.matched > rows // 2, report

    return _timed(run)


def paced(
    url: str, folder: Path, rows: int, requests_per_minute: str, partition_size: str
) -> dict[str, float]:
    """Enrich the leads at a given pace, with room for all that is in flight."""
    from eb_dagster import Enricher

    def run() -> None:
        settings = {
            **SETTINGS, "requests_per_minute": float(requests_per_minute),
            "partition_size": int(partition_size), "max_credits_at_risk": 200_000,
        }  # fmt: skip
        with Enricher(base_url=url, ledger=folder / "ledger.db", **settings) as enricher:
            report = enricher.enrich_parquet(folder / "leads.parquet", folder / "enriched.parquet")
        assert report.rows == rows

    return _timed(run)


def floors(url: str, folder: Path, rows: int) -> dict[str, float]:
    """CPU of the least that any program has to do for the same. Needs a run of `ours` in the same folder."""
    import requests

    from tests.benchmarks.flatten import typed_decode

    forms = [
        {
            "query_list": json.dumps(
                [{"field_type": "email", "value": lead(number)} for number in range(start, start + 1000)]
            )
        }
        for start in range(0, rows, 1000)
    ]
    bodies: list[bytes] = []
    plain: list[bytes] = []
    table = pq.read_table(folder / "enriched.parquet")

    def receive() -> None:
        for form in forms:
            with requests.post(url + "/v1/bulk-enrich", data=form, stream=True) as response:
                bodies.append(response.raw.read(decode_content=False))

    def inflate() -> None:
        plain.extend(zlib_ng.decompress(body, wbits=47) for body in bodies)

    def decode() -> None:
        for body in plain:
            typed_decode(body)

    def write() -> None:
        pq.write_table(
            table, folder / "floor.parquet", compression="zstd", compression_level=1, row_group_size=65_536
        )

    def store() -> None:
        with sqlite3.connect(folder / "floor.db", isolation_level=None) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE replies (id INTEGER PRIMARY KEY, body BLOB)")
            for body in bodies:
                connection.execute("INSERT INTO replies (body) VALUES (?)", (body,))

    return {step.__name__: _timed(step)["cpu"] for step in (receive, inflate, decode, write, store)}


def _timed(run: Callable[[], object]) -> dict[str, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


# Measuring


def in_process(
    job: Callable[..., dict[str, float]], server: Running, folder: Path, rows: int, *more: str
) -> dict[str, float]:
    """Run a job in a process of its own."""
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.benchmarks.runs", job.__name__, server.url, str(folder), str(rows), *more
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, **server.trust, "PYTHONWARNINGS": "ignore"},
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def measure_floors(*, rounds: int, rows: int, folder: Path) -> dict[str, float]:
    """With TLS and gzip."""
    ratios: list[float] = []
    with running(folder, tls=True) as server:
        for _ in range(rounds):
            with place(folder, server, rows) as here:
                whole = in_process(ours, server, here.folder, rows)
                floor = in_process(floors, server, here.folder, rows)
                print(f"  whole {whole}, floors {floor}", file=sys.stderr, flush=True)
                ratios.append(whole["cpu"] / sum(floor.values()))
    return {"floors": median(ratios)}


JOBS: Final[dict[str, Any]] = {job.__name__: job for job in (ours, floors, paced)}

if __name__ == "__main__":
    job, url, folder, rows, *more = sys.argv[1:]
    print(json.dumps(JOBS[job](url, Path(folder), int(rows), *more)))
