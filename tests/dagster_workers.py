"""A partitioned Dagster project and the processes that run it: many partitions, one ledger.

Each partition is a run of its own. Everything is told by the environment, as in a container.
"""

import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster import EnrichmentChecks, ExactBuyerResource, build_enriched_contacts_asset

KEYS = [f"day-{number:02}" for number in range(50)]
OWN = 6
"""How many people of each partition are in no other."""
SHARED = 24
"""How many people of each partition are in three others too."""
_STEP = 6
PACE = 120
"""Requests a minute of all processes together."""
FOLDER = "EB_WORKERS_FOLDER"


def people(key: str) -> list[str]:
    """The rows of a partition, in an order of its own."""
    index = KEYS.index(key)
    own = [f"{key}.{number}@own.example" for number in range(OWN)]
    shared = [f"p{(_STEP * index + number) % (_STEP * len(KEYS))}@shared.example" for number in range(SHARED)]
    rows = [*own, *shared]
    random.Random(key).shuffle(rows)
    return rows


def everybody() -> set[str]:
    return {person for key in KEYS for person in people(key)}


def write_leads(folder: Path) -> None:
    for key in KEYS:
        pq.write_table(pa.table({"email": people(key)}), folder / "leads" / f"{key}.parquet")


class LeadsFolder(dg.ConfigurableIOManager):
    """Passes on the path of a partition's Parquet file."""

    folder: str

    def load_input(self, context: dg.InputContext) -> str:
        return f"{self.folder}/leads/{context.partition_key}.parquet"

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise NotImplementedError


def _note_process(context: dg.AssetExecutionContext, enrichment: Any, identifiers: Any) -> Iterator[Any]:
    """Write down the number of this process, so that a test can kill it; then enrich as usual."""
    (Path(os.environ[FOLDER]) / "processes" / context.partition_key).write_text(str(os.getpid()))
    yield from enrichment.materialize(context, identifiers)


def definitions() -> dg.Definitions:
    folder, partitions = Path(os.environ[FOLDER]), dg.StaticPartitionsDefinition(KEYS)
    leads = dg.AssetSpec("leads", partitions_def=partitions).with_io_manager_key("leads_folder")
    enriched = build_enriched_contacts_asset(
        name="enriched", source="leads", path=folder / "enriched", partitions_def=partitions,
        partition_size=15, execute=_note_process,
        # Each is one more event in Dagster's own database, which is what these runs wait for.
        checks=dict.fromkeys(EnrichmentChecks.model_fields),
    )  # fmt: skip
    resource = ExactBuyerResource(
        api_key=dg.EnvVar("EXACTBUYER_API_KEY"), base_url=dg.EnvVar("EXACTBUYER_BASE_URL"),
        ledger=dg.EnvVar("EB_DAGSTER_LEDGER"), timeout=30.0, requests_per_minute=PACE,
    )  # fmt: skip
    return dg.Definitions(
        assets=[leads, enriched],
        jobs=[dg.define_asset_job("enrich", selection=["enriched"])],
        resources={"exactbuyer": resource, "leads_folder": LeadsFolder(folder=str(folder))},
    )  # fmt: skip


def enrich() -> dg.JobDefinition:
    return definitions().resolve_job_def("enrich")


def run(keys: Iterable[str], *, in_steps: bool = False) -> None:
    """Run these partitions one after the other, each as the re-execution of its failed run if there is one.

    With `in_steps`, in processes that Dagster starts for the step of each; else in this one.
    """
    # Forked from a process that has imported everything.
    forked = {"start_method": {"forkserver": {"preload_modules": [__name__]}}}
    executor = {"multiprocess": forked} if in_steps else {"in_process": {}}
    with dg.DagsterInstance.get() as instance:
        for key in keys:
            tags = {"dagster/partition": key}
            of_partition = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.FAILURE])
            failed = instance.get_runs(of_partition, limit=1)
            dg.execute_job(
                dg.reconstructable(enrich), instance, {"execution": {"config": executor}}, tags,
                reexecution_options=dg.ReexecutionOptions(failed[0].run_id) if failed else None,
            )  # fmt: skip
