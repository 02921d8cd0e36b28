"""Buy under Dagster: its retries, and a backfill whose partitions share people."""

from typing import Any

import dagster as dg
import pandas as pd

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset
from tests.faults.cases import Place, Verdict
from tests.faults.places import listening
from tests.faults.scenes.scene import Play, Scene, leads
from tests.faults.server.people import KEY


class _Fragile(dg.IOManager):
    """Stands for the user's own code after the purchase; fails as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.kept: dict[str, Any] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        name = context.asset_key.to_user_string()
        if name == "enriched" and self.fails:
            self.fails -= 1
            raise RuntimeError("the user's own code")
        self.kept[name] = obj

    def load_input(self, context: dg.InputContext) -> Any:
        return self.kept[context.asset_key.to_user_string()]


def _materialize(
    scene: Scene, assets: list[dg.AssetsDefinition], io: _Fragile, instance: dg.DagsterInstance, **run: Any
) -> bool:
    resource = ExactBuyerResource(
        api_key=KEY, base_url=scene.settings["base_url"], ledger=scene.ledger, requests_per_minute=6_000
    )
    with listening() as heard:
        result = dg.materialize(
            assets, resources={"exactbuyer": resource, "io_manager": io}, raise_on_error=False,
            instance=instance, **run,
        )  # fmt: skip
    scene.texts += heard.texts
    return result.success


def retried(place: Place) -> Verdict:
    """What comes after the purchase fails twice, and Dagster runs the step again each time."""
    scene = Scene("77, 78 the user's code fails after the purchase, and Dagster retries", place)

    @dg.asset(name="leads")
    def upstream() -> pd.DataFrame:
        return leads(0, 60)

    enriched = build_enriched_contacts_asset(
        name="enriched", source="leads", path=None, retry_policy=dg.RetryPolicy(max_retries=3)
    )
    io = _Fragile(fails=2)
    with dg.DagsterInstance.ephemeral() as instance:
        done = _materialize(scene, [upstream, enriched], io, instance)
    scene.expect(done, "the last attempt failed too")
    scene.expect(not io.fails, "the user's code did not fail twice")
    scene.expect(scene.arrived() == 1, f"{scene.arrived()} requests, 1 was enough")
    return scene.close(leads(0, 60))


def backfill(place: Place, *, partitions: int = 50) -> Verdict:
    """Each partition is a run; nine in ten of its people are in the one before as well."""
    scene = Scene(f"76 a backfill of {partitions} partitions that share people", place)
    keys = [f"{number:02}" for number in range(partitions)]

    @dg.asset(name="leads", partitions_def=dg.StaticPartitionsDefinition(keys))
    def upstream(context: dg.AssetExecutionContext) -> pd.DataFrame:
        start = 2 * int(context.partition_key)
        return leads(start, start + 20)

    enriched = build_enriched_contacts_asset(
        name="enriched", source="leads", path=None, partitions_def=upstream.partitions_def
    )
    with dg.DagsterInstance.ephemeral() as instance:
        for key in keys:
            done = _materialize(scene, [upstream, enriched], _Fragile(), instance, partition_key=key)
            scene.expect(done, f"the run of partition {key} failed")
    everybody = 2 * partitions + 18
    events = scene.vendor.events(scene.case)
    asked = sum(len(event["values"]) for event in events if event["what"] == "asked")
    scene.expect(asked == everybody, f"{asked} were asked, there are {everybody}")
    return scene.close(leads(0, everybody))


UNDER_DAGSTER: dict[str, Play] = {
    "76 a backfill of 50 partitions": backfill,
    "77, 78 Dagster retries": retried,
}
