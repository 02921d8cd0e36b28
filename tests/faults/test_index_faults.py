"""Deaths and damage in the key index; `python -m tests.faults.index_faults --long` is the long form."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from eb_dagster.ledger import key_segments
from tests.faults import index_faults
from tests.faults.index_faults import Toll
from tests.ledger.index_steps import small_segments


@pytest.fixture(autouse=True)
def with_small_segments() -> Iterator[None]:
    with small_segments():
        yield


def test_a_death_or_a_spoiled_bit_in_the_index_makes_nobody_unknown(tmp_path: Path, seed: int):
    template = index_faults.in_files(tmp_path)
    tolls = index_faults.run_all(template, tmp_path, long=False, lots=random.Random(seed))
    total = index_faults.sum_up(list(tolls.values()))
    assert total.faults == []
    assert (total.unknown, total.wrong, total.paid_twice) == (0, 0, 0)
    assert total.cases > 18


def test_a_campaign_against_an_index_without_checksums_finds_who_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(key_segments.Segment, "row_checksum", lambda *_: 1)
    template = index_faults.in_files(tmp_path)
    toll = Toll()
    lots = random.Random(1)
    while not toll.unknown and toll.cases < 60:
        toll.add(index_faults.run_flips(template, count=3, lots=lots))
    assert toll.unknown
    assert toll.paid_twice
