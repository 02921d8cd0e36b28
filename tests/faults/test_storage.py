"""Disks that fail, tables in the making and spoiled ledgers; `python -m tests.faults.storage --long` is the long form."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eb_dagster
from tests.faults import crashes, storage
from tests.faults.crash_laboratory import (
    ONE_AT_A_TIME,
    SEVERAL_AT_ONCE,
    Death,
    Laboratory,
    why_no_strace,
)
from tests.faults.images import ScriptedClient

# One laboratory for all.
pytestmark = pytest.mark.xdist_group("storage")

needs_strace = pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    with Laboratory.opened() as lab:
        yield lab


@needs_strace
def test_a_disk_that_is_full_or_fails_at_any_write_costs_nothing_twice(lab: Laboratory, seed: int):
    # Every call that can fail is among them.
    plans = crashes.some(storage.plan_errors(lab), 16, random.Random(seed))
    losses = storage.run_into(lab, plans)
    assert losses.faults == []
    assert (losses.charged_twice, losses.forgotten) == (0, 0)
    assert losses.charged > 5 * losses.planned


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_an_intent_that_cannot_be_made_durable_is_not_sent(lab: Laboratory, error: str):
    # From its first fsync on, nothing is ever durable.
    folder, victim = lab.die(Death("fdatasync", 1, scene=ONE_AT_A_TIME, result=f"error={error}", lasts=True))
    assert victim.status == storage.LEDGER_ERROR
    assert lab.charged(folder) == Counter()


@needs_strace
def test_a_table_that_cannot_be_written_leaves_the_old_one(lab: Laboratory):
    # The last to be synced is the folder of the second table, and before it that table itself.
    syncs = max(calls["fsync"] for calls in lab.trace(SEVERAL_AT_ONCE).values())
    death = Death("fsync", syncs - 1, scene=SEVERAL_AT_ONCE, result="error=EIO")
    folder, victim = lab.die(death)
    assert victim.status in storage.SAID_SO
    assert pq.read_table(folder / "table.parquet").num_rows == SEVERAL_AT_ONCE.leads // 2
    after = lab.examine(folder, SEVERAL_AT_ONCE, death, victim)
    assert after.faults == []
    assert (after.charged_twice, after.forgotten, after.in_doubt) == (0, 0, 0)


def test_a_flipped_bit_in_the_ledger_is_refused_or_harmless(seed: int):
    spoiled = storage.flip_bits(seed=seed, count=60)
    assert spoiled.faults == []
    assert (spoiled.wrong_answers, spoiled.bought_again) == (0, 0)
    assert spoiled.refused > 0
    assert spoiled.unharmed > 0


def test_what_a_killed_writer_left_behind_is_cleared_by_the_next_one(lab: Laboratory):
    steps = range(lab.count_steps(ONE_AT_A_TIME), 1, -2)
    for step in steps:
        folder, victim = lab.die(Death("step", step, scene=ONE_AT_A_TIME))
        if list(folder.glob(".table.parquet.*.tmp")):
            break
    else:
        pytest.fail("no writer was killed at work")
    after = lab.examine(folder, ONE_AT_A_TIME, "torn", victim)
    assert after.faults == []
    assert list(folder.glob(".table.parquet.*")) == []


def test_a_reader_sees_the_old_table_or_the_new_one_and_nothing_between(tmp_path: Path):
    frame = pd.DataFrame({"email": [f"lead-{number}@readers.example" for number in range(2_000)]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "all.parquet")
    pq.write_table(pa.Table.from_pandas(frame[:1_000]), tmp_path / "first.parquet")
    seen: Counter[int] = Counter()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            if (tmp_path / "table.parquet").exists():
                # One that opens it once: by its path, pyarrow opens a table several times.
                with pq.ParquetFile(tmp_path / "table.parquet") as opened:
                    seen[len(opened.read(columns=["eb_status"]))] += 1

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        with storage.open_enricher(tmp_path / "ledger.db", ScriptedClient()) as enricher:
            for _ in range(3):
                for source in ("first", "all"):
                    enricher.enrich_parquet(tmp_path / f"{source}.parquet", tmp_path / "table.parquet")
    finally:
        # Else a failure would keep the process from ever ending.
        stop.set()
    for reader in readers:
        reader.join()
    assert set(seen) == {1_000, 2_000}


def test_a_reader_that_opened_the_old_table_keeps_it(tmp_path: Path):
    frame = pd.DataFrame({"email": [f"lead-{number}@readers.example" for number in range(20)]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "all.parquet")
    with storage.open_enricher(tmp_path / "ledger.db", ScriptedClient()) as enricher:
        enricher.enrich_parquet(tmp_path / "all.parquet", tmp_path / "table.parquet")
        with pq.ParquetFile(tmp_path / "table.parquet") as opened:
            enricher.enrich_parquet(tmp_path / "all.parquet", tmp_path / "table.parquet")
            assert opened.read().num_rows == 20


@pytest.mark.parametrize("spoil", ["cut", "text"])
def test_a_ledger_that_is_no_database_any_more_is_refused(tmp_path: Path, spoil: str):
    ledger, frame, _ = storage.make_ledger(tmp_path)
    whole = ledger.read_bytes()
    ledger.write_bytes({"cut": whole[: len(whole) // 2], "text": b"not a database\n" * 9}[spoil])
    client = ScriptedClient()
    with pytest.raises(eb_dagster.LedgerError), storage.open_enricher(ledger, client) as enricher:
        enricher.enrich_dataframe(frame)
    assert client.values == []
