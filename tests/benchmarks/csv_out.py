"""What writing an enriched table as CSV takes, formulas defused."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Final

import pyarrow.parquet as pq

from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.tables.csv import write_text
from tests.benchmarks.jobs import place
from tests.benchmarks.server import running

# As many rows as a run hands over at a time.
_BATCH_ROWS: Final = 8_192


def measure(*, rounds: int, rows: int, folder: Path) -> dict[str, float]:
    with running(folder) as server, place(folder, server, rows) as here:
        here.ours()
        table = pq.read_table(here.folder / "ours.parquet")
        seconds: list[float] = []
        for _ in range(rounds):
            started = time.process_time()
            write_text(
                table.to_batches(_BATCH_ROWS), here.folder / "enriched.csv", columns=table.schema.names,
                ours=arrow_schema().names, separator=",", has_mark=False,
            )  # fmt: skip
            seconds.append(time.process_time() - started)
    return {"csv": 1e6 * median(seconds) / rows}
