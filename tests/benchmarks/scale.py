"""Runs and look-ups in ledgers of years: `python -m tests.benchmarks.scale fill LEDGER ENDPOINT KNOWN` makes one.

By direct inserts, with random keys, seven of ten found, four aliases a contact, no replies: what is read to know
what is known, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from eb_dagster.api.envelope import MISSED
from eb_dagster.ledger import counters
from eb_dagster.ledger.entries import (
    ALIAS,
    KEY_BYTES,
    OUTCOME,
    Keys,
    checksum,
    keys_checksum,
    pack_keys,
)
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.schema import requests
from tests.benchmarks.jobs import UNPACED
from tests.benchmarks.ledgers import ALIASES_OF_A_CONTACT, record
from tests.benchmarks.measured import SCRIPTS, run
from tests.benchmarks.payloads import lead, make_leads
from tests.benchmarks.server import Running, running
from tests.databases import PostgreSQL

ASKED: Final = 1_000
FEW: Final = 10
_REQUESTS_AT_ONCE: Final = 64


def fill(where: str, endpoint: str, known: int) -> None:
    """Fill an empty ledger, its key index included."""
    draws = np.random.default_rng(1)
    ledger = Ledger(where, endpoint=endpoint)
    for first in range(1, known // ASKED + 1, _REQUESTS_AT_ONCE):
        numbers = range(first, min(first + _REQUESTS_AT_ONCE, known // ASKED + 1))
        rows = [_request(number, endpoint, draws) for number in numbers]
        with ledger.database.transaction(is_durable=False) as connection:
            connection.execute(sa.insert(requests), rows)
        ledger.index.grow()
    ledger.index.catch_up()
    with ledger.database.transaction() as connection:
        counters.write_all(connection)
        if connection.dialect.name == "postgresql":
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('requests', 'id'), max(id)) FROM requests")
            )
    ledger.close()


def _request(number: int, endpoint: str, draws: np.random.Generator) -> dict[str, object]:
    asked_keys = draws.bytes(KEY_BYTES * ASKED)
    positions = np.where(np.arange(ASKED) % 10 < 7, np.arange(ASKED), MISSED)
    outcomes = np.zeros(ASKED, dtype=OUTCOME)
    outcomes["position"], outcomes["held"] = positions, 3
    inside = np.repeat(positions[positions >= 0], ALIASES_OF_A_CONTACT)
    aliases = np.zeros(len(inside), dtype=ALIAS)
    aliases["key"] = pack_keys(draws.bytes(KEY_BYTES * len(inside)))
    aliases["position"], aliases["held"], aliases["person"] = inside, 3, 2 * inside + 1
    found = int((positions >= 0).sum())
    return {
        "id": number, "endpoint": endpoint, "run": f"run {number // 1_000}", "owner": "", "state": "applied",
        "required": 0, "asked": ASKED, "created_at": time.time(), "answered_at": time.time(), "credits": found,
        "records_enriched": found, "asked_keys": asked_keys, "outcomes": outcomes.tobytes(),
        "aliases": aliases.tobytes(), "keys_checksum": keys_checksum(number, endpoint, 0, asked_keys),
        "outcomes_checksum": checksum(outcomes.tobytes()), "aliases_checksum": checksum(aliases.tobytes()),
    }  # fmt: skip


def half_known(ledger: Ledger, count: int) -> Keys:
    """So many keys, half of them asked before, from requests that are spread over the whole ledger."""
    newest = ledger.last_request()
    ids = np.unique(np.linspace(1, newest, min(count // 2, newest)).astype(int))
    of_each = -(-count // 2 // len(ids))
    known: list[bytes] = []
    with ledger.database.reading() as connection:
        for some in np.array_split(ids, -(-len(ids) // 200)):
            query = sa.select(requests.c.asked_keys).where(requests.c.id.in_(some.tolist()))
            known += [row.asked_keys[: KEY_BYTES * of_each] for row in connection.execute(query)]
    new = np.random.default_rng(2).bytes(KEY_BYTES * (count - count // 2))
    return pack_keys(b"".join(known)[: KEY_BYTES * (count // 2)] + new)


def look_up(ledger: Ledger, keys: Keys) -> None:
    flags = np.ones(len(keys), dtype=np.bool_)
    known = ledger.lookup(keys, required=0, alias_keys=flags)[0]
    assert int((known.standing >= 0).sum()) == len(keys) // 2


def few_in_each(url: str, ledgers: Sequence[str], rounds: int) -> list[float]:
    """Seconds of CPU to buy ten new leads, from opening a ledger to the table, for each ledger by turns."""
    from eb_dagster import Enricher

    def buy(where: str, first: int) -> None:
        leads = pa.table({"email": [lead(first + number) for number in range(FEW)]})
        settings = {"requests_per_minute": UNPACED, "progress": False, "api_key": "no key"}
        with Enricher(base_url=url, ledger=where, **settings) as enricher:
            assert enricher.enrich_dataframe(leads).num_rows == FEW
            assert enricher.report.requests == 1

    with tempfile.TemporaryDirectory() as place:
        # What is imported in the first run is measured elsewhere.
        buy(f"{place}/other.db", 0)
    seconds: dict[str, list[float]] = {where: [] for where in ledgers}
    for turn in range(rounds):
        for where in ledgers:
            seconds[where].append(_cpu(lambda: buy(where, FEW * (1 + turn))))  # noqa: B023 - called at once
    return [median(taken) for taken in seconds.values()]


def record_in_each(ledgers: Sequence[Ledger], rounds: int) -> list[float]:
    """Seconds of CPU to record a reply, for each ledger by turns."""
    seconds: list[list[float]] = [[] for _ in ledgers]
    for turn in range(rounds):
        for ledger, taken in zip(ledgers, seconds, strict=True):
            start = ASKED * (ledger.last_request() + 1_000_000 + turn)
            taken.append(_cpu(lambda: record(ledger, start, b"[]")))  # noqa: B023 - called at once
    return [median(taken) for taken in seconds]


def _cpu(step: Callable[[], object]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def measure(*, sizes: Sequence[int], many: int, rounds: int, folder: Path) -> dict[str, float]:
    """The largest ledger of SQLite against the smallest, and against an empty one."""
    with tempfile.TemporaryDirectory(dir=folder) as place, running(Path(place)) as server:
        ledgers = [f"{place}/{size}.db" for size in sizes]
        for where, size in zip(ledgers, sizes, strict=True):
            fill(where, server.endpoint, size)
        empty = Ledger(f"{place}/empty.db", endpoint=server.endpoint)
        large = Ledger(ledgers[-1], endpoint=server.endpoint)
        try:
            keys = half_known(large, many)
            seconds = _cpu(lambda: look_up(large, keys))
            recorded = record_in_each([empty, large], 2 * rounds)
        finally:
            empty.close()
            large.close()
        few = _few_in_process(server, ledgers, rounds)
    return {"scale_few": few[-1] / few[0], "scale_many": seconds, "scale_record": recorded[1] / recorded[0]}


def measure_new_process(
    *, known: int, rounds: int, folder: Path, with_postgresql: bool = True
) -> dict[str, float]:
    """Ten new leads in a new process, imports included, and a ledger that knows so many."""
    figures: dict[str, float] = {}
    # The path of a socket must be short.
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        tempfile.TemporaryDirectory(prefix="ledger") as short,
        running(Path(place)) as server,
    ):
        figures["few_sqlite"] = _in_new_processes(f"{place}/ledger.db", server, known, rounds)
        if with_postgresql:
            database = PostgreSQL(Path(short) / "data")
            try:
                where = database.database("years")
                figures["few_postgresql"] = _in_new_processes(where, server, known, rounds)
            finally:
                database.stop()
    return figures


def _in_new_processes(where: str, server: Running, known: int, rounds: int) -> float:
    fill(where, server.endpoint, known)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        leads, enriched = Path(place) / "leads.parquet", Path(place) / "enriched.parquet"
        for turn in range(rounds):
            make_leads(leads, FEW, first=FEW * turn)
            seconds.append(run(SCRIPTS / "ours.py", server.url, leads, enriched, where, UNPACED).cpu)
    return median(seconds)


def _few_in_process(server: Running, ledgers: Sequence[str], rounds: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, "few", server.url, str(rounds), *ledgers],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=True,
    )
    return json.loads(done.stdout)


def _main(job: str, *arguments: str) -> None:
    if job == "fill":
        where, endpoint, known = arguments
        fill(where, endpoint, int(known))
    else:
        url, rounds, *ledgers = arguments
        print(json.dumps(few_in_each(url, ledgers, int(rounds))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
