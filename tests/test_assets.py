from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset, sandbox

KEY = "canary-key-1234"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def run(stand_in, tmp_path: Path, upstream: object, *, instance, faults=(), **settings):
    api = stand_in(faults=list(faults))

    @dg.asset
    def leads():
        return upstream

    asset = build_enriched_contacts_asset(
        name="enriched", source="leads", path=tmp_path / "out.parquet", **settings
    )
    resource = ExactBuyerResource(
        api_key=KEY, base_url=api.url, ledger=str(tmp_path / "l.db"), requests_per_minute=60_000
    )
    assert KEY not in repr(resource)
    return dg.materialize(
        [leads, asset], resources={"exactbuyer": resource}, raise_on_error=False, instance=instance
    )


def people(count: int = 30) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(count)]})


def test_a_dataframe_becomes_a_parquet_table_with_metadata(stand_in, instance, tmp_path):
    result = run(stand_in, tmp_path, people(), instance=instance)
    (made,) = result.asset_materializations_for_node("enriched")
    assert made.metadata["dagster/row_count"].value == 30
    assert made.metadata["exactbuyer/credits_charged"].value > 0
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 30
    (check,) = result.get_asset_check_evaluations()
    assert check.passed


def test_a_path_is_streamed(stand_in, instance, tmp_path):
    people().to_parquet(tmp_path / "in.parquet", index=False)
    assert run(stand_in, tmp_path, tmp_path / "in.parquet", instance=instance).success
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 30


def test_a_match_rate_out_of_bounds_fails_the_check(stand_in, instance, tmp_path):
    (check,) = run(
        stand_in, tmp_path, people(), instance=instance, min_match_rate=0.999
    ).get_asset_check_evaluations()
    assert not check.passed


@pytest.mark.parametrize("kind", ["401", "403"])
def test_a_refusal_is_not_retried_and_says_nothing_of_people(stand_in, instance, tmp_path, kind):
    result = run(
        stand_in, tmp_path, people(), faults=[sandbox.Fault(kind, 1, 9)],
        retry_policy=dg.RetryPolicy(max_retries=3), instance=instance,
    )  # fmt: skip
    events = instance.all_logs(result.run_id)
    assert not result.success
    kinds = [event.dagster_event_type for event in events]
    assert dg.DagsterEventType.STEP_FAILURE in kinds
    assert dg.DagsterEventType.STEP_RESTARTED not in kinds
    assert "p1@firm.example" not in repr(events)
    assert KEY not in repr(events)
    assert instance.fetch_observations(dg.AssetKey("enriched"), limit=1).records
