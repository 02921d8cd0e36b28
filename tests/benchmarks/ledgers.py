"""How fast and how small the ledger is, on a disk, with replies as long as real ones.

As a program: `python -m tests.benchmarks.ledgers LEDGER KNOWN`, which prints its figures as JSON.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.payloads import FOUND, lead, make_template
from tests.databases import PostgreSQL

ALIASES_OF_A_CONTACT: Final = 4


def _identifiers(start: int, count: int, kind: Any = "email") -> list[Any]:
    from eb_dagster.identifiers.model import Identifier

    return [Identifier(kind, lead(number)) for number in range(start, start + count)]


def record(ledger: Any, start: int, body: bytes, encoding: str = "") -> tuple[float, float]:
    """One partition's life, through the ledger's own functions. Seconds of intent and reply, and of all."""
    from eb_dagster.api.envelope import MISSED, pack_fields
    from eb_dagster.ledger.budget import Limits
    from eb_dagster.ledger.entries import pack_aliases, pack_outcomes

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


def speed(where: str, known: int) -> dict[str, float]:
    """Record that many identifiers, with replies as long as real ones that came with gzip."""
    from eb_dagster.ledger.ledger import Ledger

    echoes = [lead(number).encode() for number in range(1000)]
    bodies = [gzip.compress(make_template(seed).reply(echoes), 6) for seed in range(4)]
    ledger = Ledger(where, endpoint="http://127.0.0.1:9/v1/bulk-enrich")
    seconds = [
        record(ledger, start, bodies[start // 1000 % len(bodies)], "gzip") for start in range(0, known, 1000)
    ]
    ledger.close()
    durable = sorted(seconds_until_durable for seconds_until_durable, _ in seconds)
    return {
        "rate": known / sum(whole for _, whole in seconds),
        "p99": 1000 * durable[int(0.99 * (len(durable) - 1))],
    }


def measure(*, requests: int, folder: Path, with_postgresql: bool = True) -> dict[str, float]:
    figures: dict[str, float] = {}
    known = 1000 * requests
    with tempfile.TemporaryDirectory(dir=folder) as place:
        told = _in_process(f"{place}/ledger.db", known)
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
            told = _in_process(url, known)
            figures |= {f"postgresql_{name}": figure for name, figure in told.items()}
            figures["postgresql_bytes"] = (server.size("speed") - before) / known
        finally:
            server.stop()
    return figures


def _in_process(where: str, known: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, where, str(known)],
        stdout=subprocess.PIPE,
        env=dict(os.environ),
        check=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(speed(sys.argv[1], int(sys.argv[2]))))
