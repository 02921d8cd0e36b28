"""What assets have spent, by asset and cost center, read back from what their pages show. It asks no ledger."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg

from eb_dagster.definitions.metadata import PREFIX

COST_CENTER = "cost_center"
"""The tag of an asset that names who pays."""

_PAGE = 1_000


class Spend(NamedTuple):
    """What was spent, in credits, and in money as far as the resource had a price at that time."""

    credits: int
    cost: float


def cost_center_metadata(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dict[str, Any]:
    """The cost center of an asset, if its definition names one, as the metadata of a run."""
    tags = context.assets_def.tags_by_key.get(key, {})
    return {PREFIX + COST_CENTER: tags[COST_CENTER]} if COST_CENTER in tags else {}


def spend_by_cost_center(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey], *, since: float = 0.0
) -> dict[tuple[str, str], Spend]:
    """What the assets spent since a time (seconds since 1970), by asset and cost center; "" where none is named.

    Runs that failed or were cancelled count too. Of a run of several Dagster partitions, each has its part.
    """
    credits_by: dict[tuple[str, str], int] = defaultdict(int)
    cost_by: dict[tuple[str, str], float] = defaultdict(float)
    for key in keys:
        for metadata in _records(instance, key, since):
            named = metadata.get(PREFIX + COST_CENTER)
            place = (key.to_user_string(), "" if named is None else str(named.value))
            credits_by[place] += int(_figure(metadata, "credits_charged"))
            cost_by[place] += _figure(metadata, "cost")
    return {place: Spend(count, round(cost_by[place], 6)) for place, count in credits_by.items()}


def _figure(metadata: Mapping[str, Any], name: str) -> float:
    value = metadata.get(PREFIX + name)
    return 0.0 if value is None else float(value.value)


def _records(instance: dg.DagsterInstance, key: dg.AssetKey, since: float) -> Iterator[Mapping[str, Any]]:
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        cursor = None
        while True:
            page = fetch(
                dg.AssetRecordsFilter(asset_key=key, after_timestamp=since), limit=_PAGE, cursor=cursor
            )
            for record in page.records:
                told = record.asset_materialization or record.asset_observation
                if told is not None and PREFIX + "credits_charged" in told.metadata:
                    yield told.metadata
            if not page.has_more:
                break
            cursor = page.cursor
