"""Whole runs, each in a process of its own: time, CPU and peak memory, against plain scripts and floors.

As a program: `python -m tests.benchmarks.runs JOB URL FOLDER ROWS`, which prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from zlib_ng import zlib_ng

from tests.benchmarks.clocks import memory
from tests.benchmarks.payloads import lead
from tests.benchmarks.server import Running, running

# No limit on the pace, so that the code bounds the speed.
UNBOUND: Final = {"requests_per_minute": 1e6, "progress": False, "timeout": 60.0, "api_key": "no key"}


def make_leads(path: Path, rows: int) -> None:
    """A Parquet file of leads, written in pieces."""
    schema = pa.schema([("id", pa.int64()), ("email", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 100_000):
            numbers = range(start, min(start + 100_000, rows))
            writer.write_table(
                pa.table({"id": list(numbers), "email": [lead(number) for number in numbers]}, schema=schema)
            )


# Jobs, each in a process of its own


def ours(url: str, folder: Path, rows: int) -> dict[str, float]:
    """Enrich the leads with a ledger."""
    # The vendor's job has imported it before the clock runs, too.
    import pandas as pd  # noqa: F401

    from eb_dagster import Enricher

    def run() -> None:
        with Enricher(base_url=url, ledger=folder / "ledger.db", **UNBOUND) as enricher:
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
            **UNBOUND, "requests_per_minute": float(requests_per_minute),
            "partition_size": int(partition_size), "max_credits_at_risk": 200_000,
        }  # fmt: skip
        with Enricher(base_url=url, ledger=folder / "ledger.db", **settings) as enricher:
            report = enricher.enrich_parquet(folder / "leads.parquet", folder / "enriched.parquet")
        assert report.rows == rows

    return _timed(run)


def replay(url: str, folder: Path, rows: int, rounds: str) -> dict[str, float]:
    """Enrich again from the ledger alone, and flatten as many replies, by turns."""
    from eb_dagster import Enricher
    from tests.benchmarks.clocks import interleaved, ratio
    from tests.benchmarks.flatten import flatten, make_bodies

    bodies = make_bodies(4)

    def run() -> None:
        with Enricher(base_url=url, ledger=folder / "ledger.db", **UNBOUND) as enricher:
            report = enricher.enrich_parquet(folder / "leads.parquet", folder / "replayed.parquet")
        assert report.requests == 0
        assert report.rows == rows

    def flatten_as_many() -> None:
        for index in range(rows // 1000):
            flatten(bodies[index % 4])

    ours(url, folder, rows)
    seconds = interleaved(
        {"replay": run, "flatten": flatten_as_many}, rounds=int(rounds), clock=time.perf_counter
    )
    return {"replay": ratio(seconds["flatten"], seconds["replay"])}


def vendor(url: str, folder: Path, rows: int) -> dict[str, float]:
    """The vendor's Python sample in a loop, with what a user adds to it."""
    import pandas as pd
    import requests

    endpoint = url + "/v1/bulk-enrich"
    headers = {"X-API-Key": "YOUR_API_KEY"}

    def run() -> None:
        leads = pd.read_parquet(folder / "leads.parquet")["email"].tolist()
        frames = []
        for start in range(0, rows, 1000):
            data = {
                "query_list": json.dumps([
                    {"field_type": "email", "value": value} for value in leads[start : start + 1000]
                ]),
                "required_fields": json.dumps([]),
            }  # fmt: skip
            response = requests.post(endpoint, headers=headers, data=data)
            frames.append(pd.json_normalize(response.json(), "contacts"))
        table = pd.concat(frames, ignore_index=True)
        # A size is sometimes a number and sometimes a text, for which Parquet has no column.
        for name in [name for name, kind in table.dtypes.items() if pd.api.types.is_object_dtype(kind)]:
            table[name] = table[name].map(lambda value: None if value is None else json.dumps(value))
        table.to_parquet(folder / "naive.parquet")

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


def receive(url: str, _folder: Path, rows: int) -> dict[str, float]:
    """CPU of our client for each reply, and of requests' `.content`, by turns."""
    import requests

    from eb_dagster.api.client import Client, Reply
    from eb_dagster.api.envelope import encode_form
    from eb_dagster.identifiers.model import Identifier
    from tests.benchmarks.clocks import interleaved, ratio

    form = encode_form([Identifier("email", lead(number)) for number in range(1000)], required_fields=[])
    client = Client(base_url=url, api_key="no key", timeout=60.0)
    session = requests.Session()
    headers = {"X-API-Key": "no key", "Content-Type": "application/x-www-form-urlencoded"}

    def with_requests() -> None:
        assert session.post(url + "/v1/bulk-enrich", data=form, headers=headers).content

    def with_ours() -> None:
        reply = client.send(form)
        assert isinstance(reply, Reply)
        assert len(reply.body) > 10_000

    with_requests()
    with_ours()
    seconds = interleaved({"ours": with_ours, "requests": with_requests}, rounds=max(rows // 1000, 5))
    return {"receive": ratio(seconds["ours"], seconds["requests"])}


def _timed(run: Callable[[], object]) -> dict[str, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": memory("VmHWM") if sys.platform == "linux" else 0.0,
    }


# Measuring


def in_process(
    job: Callable[..., dict[str, float]], server: Running, folder: Path, rows: int, *more: str
) -> dict[str, float]:
    """Run a job in a process of its own."""
    trust = {"SSL_CERT_FILE": str(server.authority), "REQUESTS_CA_BUNDLE": str(server.authority)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.runs",
            job.__name__,
            server.url,
            str(folder),
            str(rows),
            *more,
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, **(trust if server.authority else {})},
        check=True,
    )
    return json.loads(done.stdout)


def measure(
    *, rounds: int, rows: int, folder: Path, encodings: tuple[str, ...] = ("gzip", "plain")
) -> dict[str, float]:
    """End to end, with TLS."""
    figures: dict[str, float] = {}
    for encoding in encodings:
        with running(folder, gzip=encoding == "gzip", tls=True) as server:
            wall, cpu, floor, speed = [], [], [], []
            for _ in range(rounds):
                with fresh_folder(folder, rows) as place:
                    own_figures = in_process(ours, server, place, rows)
                    vendor_figures = in_process(vendor, server, place, rows)
                    wall.append(vendor_figures["wall"] / own_figures["wall"])
                    cpu.append(vendor_figures["cpu"] / own_figures["cpu"])
                    speed.append(rows / own_figures["wall"])
                    if encoding == "gzip":
                        least = in_process(floors, server, place, rows)
                        floor.append(own_figures["cpu"] / sum(least.values()))
            figures |= {f"wall_{encoding}": median(wall), f"cpu_{encoding}": median(cpu)}
            if encoding == "gzip":
                figures |= {"floors": median(floor), "rows_a_second": median(speed)}
                figures |= in_process(receive, server, folder, 10_000)
                with fresh_folder(folder, rows) as place:
                    figures |= in_process(replay, server, place, rows, str(rounds))
    return figures


def measure_memory(*, sizes: tuple[int, int, int], folder: Path) -> dict[str, float]:
    """Peak memory of runs of three sizes, and what the larger two take of time and disk."""
    figures: dict[str, float] = {}
    peaks = []
    with running(folder, gzip=True, tls=True) as server:
        for rows, size in zip(sizes, ("250k", "1m", "10m"), strict=True):
            with fresh_folder(folder, rows) as place:
                taken = in_process(ours, server, place, rows)
                peaks.append(taken["peak"])
                figures |= {
                    f"memory_{size}": taken["peak"],
                    f"cpu_{size}": taken["cpu"] / rows * 1e6,
                    f"wall_{size}": taken["wall"] / rows * 1e6,
                    f"ledger_{size}": (place / "ledger.db").stat().st_size / rows,
                    f"table_{size}": (place / "enriched.parquet").stat().st_size / rows,
                }
                print(f"{rows:,} rows: {taken}", file=sys.stderr, flush=True)
    return figures | {"memory_growth": peaks[1] / peaks[0], "memory": peaks[2]}


def measure_start_up(*, rounds: int) -> dict[str, float]:
    """Seconds of CPU of fresh interpreters."""
    import resource

    programs = {
        "bare": ["-c", "pass"],
        "theirs": ["-c", "import dagster, pandas"],
        "ours": ["-c", "import eb_dagster; eb_dagster.Enricher"],
        "help": ["-c", "from eb_dagster.cli import main; main(['--help'])"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *program], stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    took = {name: median(values) for name, values in seconds.items()}
    return {"start_up": took["ours"] / took["theirs"], "help": took["help"] - took["bare"]}


class fresh_folder:  # noqa: N801 - reads as the function it stands for
    """A folder with leads, gone at the end."""

    def __init__(self, inside: Path, rows: int) -> None:
        self._path = Path(tempfile.mkdtemp(dir=inside))
        make_leads(self._path / "leads.parquet", rows)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


JOBS: Final[dict[str, Any]] = {job.__name__: job for job in (ours, vendor, floors, receive, replay, paced)}

if __name__ == "__main__":
    job, url, folder, rows, *more = sys.argv[1:]
    print(json.dumps(JOBS[job](url, Path(folder), int(rows), *more)))
