"""Look-ups in ledgers of years: `python -m tests.benchmarks.scale fill LEDGER KNOWN` makes one by direct inserts.

Random keys, seven of ten found, four aliases a contact, no replies: what a look-up reads, and nothing else.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
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
from tests.benchmarks.ledgers import ALIASES_OF_A_CONTACT, _record

ENDPOINT = "http://127.0.0.1:9/v1/bulk-enrich"
ASKED = 1_000
FEW = 10
_REQUESTS_AT_ONCE = 64
_T = TypeVar("_T")


def fill(where: str, known: int) -> None:
    """Fill an empty ledger, its key index included."""
    draws = np.random.default_rng(1)
    ledger = Ledger(where, endpoint=ENDPOINT)
    for first in range(1, known // ASKED + 1, _REQUESTS_AT_ONCE):
        numbers = range(first, min(first + _REQUESTS_AT_ONCE, known // ASKED + 1))
        with ledger.database.transaction(is_durable=False) as connection:
            connection.execute(sa.insert(requests), [_request(number, draws) for number in numbers])
        ledger.index.grow()
    ledger.index.catch_up()
    with ledger.database.transaction() as connection:
        counters.write_all(connection)
    ledger.close()


def _request(number: int, draws: np.random.Generator) -> dict[str, object]:
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
        "id": number, "endpoint": ENDPOINT, "run": f"run {number // 1_000}", "owner": "", "state": "applied",
        "required": 0, "asked": ASKED, "created_at": time.time(), "answered_at": time.time(), "credits": found,
        "records_enriched": found, "asked_keys": asked_keys, "outcomes": outcomes.tobytes(),
        "aliases": aliases.tobytes(), "keys_checksum": keys_checksum(number, ENDPOINT, 0, asked_keys),
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


def look_up(ledger: Ledger, keys: Keys, *, rounds: int) -> float:
    """Seconds of CPU, the median of some rounds."""
    flags = np.ones(len(keys), dtype=np.bool_)
    seconds: list[float] = []
    for _ in range(rounds):
        known, used = _cpu(lambda: ledger.lookup(keys, required=0, alias_keys=flags)[0])
        assert int((known.standing >= 0).sum()) == len(keys) // 2
        seconds.append(used)
    return median(seconds)


def _cpu(step: Callable[[], _T]) -> tuple[_T, float]:
    started = time.process_time()
    result = step()
    return result, time.process_time() - started


def _record_some(ledger: Ledger, rounds: int) -> float:
    start = ASKED * ledger.last_request()
    return median(_cpu(lambda: _record(ledger, start + ASKED * number, b"[]"))[1] for number in range(rounds))  # noqa: B023 - called at once


def measure(*, sizes: Sequence[int], many: int, folder: Path) -> dict[str, float]:
    """Look-ups of few keys and of many in the largest ledger, and records in it, against the smallest."""
    few: list[float] = []
    record: list[float] = []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for size in sizes:
            where = f"{place}/{size}.db"
            fill(where, size)
            ledger = Ledger(where, endpoint=ENDPOINT)
            try:
                few.append(look_up(ledger, half_known(ledger, FEW), rounds=15))
                if size == sizes[-1]:
                    figures["scale_many"] = look_up(ledger, half_known(ledger, many), rounds=1)
                record.append(_record_some(ledger, rounds=20))
            finally:
                ledger.close()
    return {**figures, "scale_few": few[-1] / few[0], "scale_record": record[-1] / record[0]}


if __name__ == "__main__":
    assert sys.argv[1] == "fill"
    fill(sys.argv[2], int(sys.argv[3]))
