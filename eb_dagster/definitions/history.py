"""With which of its earlier materializations a run of the asset is compared."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import dagster as dg

from eb_dagster.definitions.metadata import Figures, figures_in

_PAGE = 100
# Many regions materialized every day leave many records between two of one region.
_MOST_PAGES = 10


class Earlier(NamedTuple):
    """The figures of a materialization, of a Dagster partition if there are some."""

    partition: str | None
    figures: Figures


def earlier(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[Earlier]:
    """The asset's materializations, newest first, read as they are asked for."""
    cursor = None
    for _ in range(_MOST_PAGES):
        page = instance.fetch_materializations(key, limit=_PAGE, cursor=cursor)
        for made in (record.asset_materialization for record in page.records):
            if made is not None:
                yield Earlier(made.partition, figures_in(made.metadata))
        if not page.has_more:
            return
        cursor = page.cursor


def comparable(
    every: Iterable[Earlier],
    *,
    partitions: Sequence[str],
    definition: dg.PartitionsDefinition[str] | None,
) -> Iterator[Earlier]:
    """Those that are like a run of these partitions, newest first.

    Partitions in time and dynamic ones come one after another: one is compared with the newest
    materialization of each other. Static ones, such as regions, stay and differ: one is compared
    with itself as it was. Where there are both, as in days by region, with the other days of the region.
    """
    like = {_static_part(one, definition) for one in partitions}
    seen = set(partitions)
    for one in every:
        # Of an asset that was partitioned otherwise, nothing can be compared.
        if (one.partition is None) != (definition is None):
            continue
        if one.partition is not None and definition is not None:
            if _static_part(one.partition, definition) not in like:
                continue
            if not _is_static(definition):
                if one.partition in seen:
                    continue
                seen.add(one.partition)
        yield one


def _dimensions(definition: dg.PartitionsDefinition[str] | None) -> list[dg.PartitionsDefinition[str]]:
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return [one.partitions_def for one in definition.partitions_defs]
    return [] if definition is None else [definition]


def _is_static(definition: dg.PartitionsDefinition[str]) -> bool:
    return all(isinstance(one, dg.StaticPartitionsDefinition) for one in _dimensions(definition))


def _static_part(partition: str, definition: dg.PartitionsDefinition[str] | None) -> tuple[str, ...]:
    dimensions = _dimensions(definition)
    # So Dagster writes a key of several dimensions.
    keys = str(partition).split("|") if len(dimensions) > 1 else [str(partition)]
    if len(keys) != len(dimensions):
        return ("of other dimensions", str(partition))
    return tuple(
        key
        for key, one in zip(keys, dimensions, strict=True)
        if isinstance(one, dg.StaticPartitionsDefinition)
    )
