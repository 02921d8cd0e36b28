from collections.abc import Sequence

import dagster as dg
import pytest

from eb_dagster.definitions.history import Earlier, comparable

REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])
DAYS = dg.DailyPartitionsDefinition("2026-01-01")
KINDS = {
    "none": None,
    "days": DAYS,
    "files": dg.DynamicPartitionsDefinition(name="files"),
    "regions": REGIONS,
    "days by region": dg.MultiPartitionsDefinition({"day": DAYS, "region": REGIONS}),
}


def like(kind: str, made: Sequence[str | None], partitions: list[str]) -> list[int]:
    """Which of the materializations `made`, the newest first, count for a run of these partitions."""
    every = [Earlier(partition, {"at": index}) for index, partition in enumerate(made)]
    found = comparable(every, partitions=partitions, definition=KINDS[kind])
    return [int(earlier.figures["at"]) for earlier in found]


def test_without_partitions_every_materialization_counts():
    assert like("none", [None, None, None], []) == [0, 1, 2]


def test_days_are_compared_with_the_newest_of_each_other_day():
    made = ["2026-01-02", "2026-01-03", "2026-01-02", "2026-01-01", "2026-01-02"]
    assert like("days", made, ["2026-01-04"]) == [0, 1, 3]
    assert like("days", made, ["2026-01-02"]) == [1, 3]
    assert like("days", made, ["2026-01-02", "2026-01-03"]) == [3]


def test_so_are_dynamic_partitions():
    assert like("files", ["b.csv", "a.csv", "b.csv"], ["c.csv"]) == [0, 1]


def test_a_region_is_compared_with_itself_as_it_was():
    assert like("regions", ["us", "eu", "us", "us"], ["us"]) == [0, 2, 3]
    assert like("regions", ["us", "us"], ["eu"]) == []


def test_days_by_region_are_compared_with_the_other_days_of_the_region():
    made = ["2026-01-02|eu", "2026-01-02|us", "2026-01-02|us", "2026-01-01|us"]
    today = dg.MultiPartitionKey({"day": "2026-01-03", "region": "us"})
    assert like("days by region", made, [today]) == [1, 3]
    assert like("days by region", made, ["2026-01-02|us"]) == [3]


@pytest.mark.parametrize(
    ("kind", "made", "partitions"),
    [
        ("none", ["eu"], []),
        ("regions", [None], ["eu"]),
        ("days by region", ["eu", "2026-01-02"], ["2026-01-03|eu"]),
    ],
)
def test_what_was_partitioned_otherwise_does_not_count(kind, made, partitions):
    assert like(kind, made, partitions) == []
