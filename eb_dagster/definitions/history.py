"""Which of the asset's earlier materializations a run is compared with."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import dagster as dg

from eb_dagster.definitions.metadata import Figures, figures_in

_PAGE = 100
# If many regions are materialized every day, many records lie between two of the same region.
_MOST_PAGES = 10


class Earlier(NamedTuple):
    """The figures of a materialization, and its Dagster partition if it has one."""

    partition: str | None
    figures: Figures


def earlier(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[Earlier]:
    """The asset's materializations, newest first, read as they are asked for."""
    cursor = None
    for _ in range(_MOST_PAGES):
        page = instance.fetch_materializations(key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            if (materialization := record.asset_materialization) is not None:
                yield Earlier(materialization.partition, figures_in(materialization.metadata))
        if not page.has_more:
            return
        cursor = page.cursor


def comparable(
    materializations: Iterable[Earlier],
    *,
    partitions: Sequence[str],
    definition: dg.PartitionsDefinition[str] | None,
) -> Iterator[Earlier]:
    """The materializations that a run of these partitions can be compared with, newest first.

    Time partitions and dynamic partitions come one after another, so each is compared with the newest
    materialization of the others. Static partitions, such as regions, stay and differ, so each is compared with
    its own earlier materializations. A partition of both kinds, such as a day of a region, is compared with the
    other days of its region.
    """
    # If the asset used to have partitions and has none now, or the reverse, nothing can be compared.
    alike = (
        materialization
        for materialization in materializations
        if (materialization.partition is None) == (definition is None)
    )
    if definition is None:
        return alike
    return _comparable_partitions(alike, partitions=partitions, definition=definition)


def _is_static(definition: dg.PartitionsDefinition[str]) -> bool:
    return all(isinstance(dimension, dg.StaticPartitionsDefinition) for dimension in _dimensions(definition))


def _comparable_partitions(
    materializations: Iterable[Earlier],
    *,
    partitions: Sequence[str],
    definition: dg.PartitionsDefinition[str],
) -> Iterator[Earlier]:
    static_parts = {_static_part(partition, definition) for partition in partitions}
    is_static = _is_static(definition)
    seen = set(partitions)
    for materialization in materializations:
        partition = str(materialization.partition)
        is_repeated = partition in seen and not is_static
        if is_repeated or _static_part(partition, definition) not in static_parts:
            continue
        seen.add(partition)
        yield materialization


def _dimensions(definition: dg.PartitionsDefinition[str]) -> list[dg.PartitionsDefinition[str]]:
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return [dimension.partitions_def for dimension in definition.partitions_defs]
    return [definition]


def _static_part(partition: str, definition: dg.PartitionsDefinition[str]) -> tuple[str, ...]:
    dimensions = _dimensions(definition)
    # Dagster joins the keys of several dimensions like this.
    keys = str(partition).split("|") if len(dimensions) > 1 else [str(partition)]
    if len(keys) != len(dimensions):
        return ("of other dimensions", str(partition))
    return tuple(
        key
        for key, dimension in zip(keys, dimensions, strict=True)
        if isinstance(dimension, dg.StaticPartitionsDefinition)
    )
